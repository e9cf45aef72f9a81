"""Transformations that bound the updates: by element, by leaf, or all together."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import NonNegative, Positive, Real
from gradtx.core.transformation import transformation
from gradtx.core.tree import global_norm, least, map_leaves, rms

__all__ = ["clip", "clip_by_block_rms", "clip_by_bounds", "clip_by_global_norm"]

Tree = Any


@transformation
def clip_by_bounds(lower: Real | None = None, upper: Real | None = None) -> Any:
    """Keep every element between two bounds: min(max(u, lower), upper).

    Args:
      lower: the lower bound, or None for none. A float, an array or a schedule.
      upper: the upper bound, likewise. AdaBound's two bounds are schedules that close in on one rate.
    """
    return None, lambda updates, state, params=None: (map_leaves(lambda u: jnp.clip(u, lower, upper), updates), state)


@transformation
def clip(max_delta: NonNegative) -> Any:
    """Keep every element in [−max_delta, max_delta].

    Args:
      max_delta: the bound, in units of the updates.
    """

    def bound(u: jax.Array) -> jax.Array:
        if jnp.iscomplexobj(u):
            raise TypeError("clip has no meaning for complex updates; use clip_by_global_norm")
        return jnp.clip(u, -max_delta, max_delta)

    return None, lambda updates, state, params=None: (map_leaves(bound, updates), state)


def _at_most(limit: Any, size: jax.Array) -> jax.Array:
    """min(1, limit / size), also where both are 0; one number, so that each element costs one multiplication."""
    return limit / jnp.maximum(size, jnp.maximum(limit, least(size.dtype)))


@transformation
def clip_by_global_norm(max_norm: NonNegative) -> Any:
    """Shorten the updates to a global norm of at most c, all leaves together: u·min(1, c/‖u‖).

    The norm is taken in float32 or wider and does not overflow, so the direction is kept for gradients at 1e30, too.

    Args:
      max_norm: c, in units of the updates.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_global_norm(1.0)
    >>> tx.update(jnp.array([3e30, 4e30]), tx.init(jnp.zeros(2)))[0].round(6)
    Array([0.6, 0.8], dtype=float32)
    """

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        factor = _at_most(max_norm, global_norm(updates))
        return map_leaves(lambda u: factor * u, updates), state

    return None, update


@transformation
def clip_by_block_rms(threshold: Positive) -> Any:
    """Shorten each leaf to a root mean square of at most d: u·min(1, d/RMS(u)).

    Args:
      threshold: d.

    Source: Shazeer & Stern 2018, section 6, https://arxiv.org/abs/1804.04235
    """
    return None, lambda updates, state, params=None: (
        map_leaves(lambda u: _at_most(threshold, rms(u)) * u, updates),
        state,
    )

"""MARS: Adam of gradients that are corrected by how they have changed since the step before."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative, Positive
from gradtx.core.combine import chain
from gradtx.core.transformation import transformation
from gradtx.core.tree import least, map_leaves, norm, zeros_like
from gradtx.formulas.adam import scale_by_adam
from gradtx.scaling import add_decayed_weights, scale_by_learning_rate

__all__ = ["clip_by_block_norm", "extrapolate", "mars"]

Tree = Any


class ExtrapolateState(NamedTuple):
    """The updates of the step before."""

    last: Tree  # like the parameters


@transformation
def extrapolate(strength: NonNegative) -> Any:
    """Go on in the direction in which the updates changed: u + s·(u − u₋₁), u₋₁ those of the step before, 0 at first.

    Args:
      strength: s.

    State: one slot per parameter.
    """

    def update(updates: Tree, state: ExtrapolateState, params: Tree = None) -> tuple[Tree, ExtrapolateState]:
        ahead = map_leaves(lambda u, last: u + strength * (u - last), updates, state.last)
        return ahead, ExtrapolateState(map_leaves(lambda u, last: u, updates, state.last))

    return lambda params: ExtrapolateState(zeros_like(params)), update


@transformation
def clip_by_block_norm(max_norm: Positive) -> Any:
    """Shorten each leaf to a norm of at most c: u·min(1, c/‖u‖).

    Args:
      max_norm: c, in units of the updates.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """

    def shorten(u: jax.Array) -> jax.Array:
        size = norm(u)
        return (max_norm / jnp.maximum(size, max_norm + least(size.dtype))) * u

    return None, lambda updates, state, params=None: (map_leaves(shorten, updates), state)


@transformation
def mars(
    learning_rate: NonNegative = 3e-3,
    b1: Decay = 0.95,
    b2: Decay = 0.99,
    gamma: NonNegative = 0.025,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """AdamW of gradients with less noise: c = g + γ·β₁/(1−β₁)·(g − g₋₁), shortened to a norm of 1 in each leaf, takes
    the place of g. This is MARS-AdamW with the gradient of the last step at the last parameters (MARS-approx).

    The authors give vectors to AdamW: `partition` does.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      gamma: γ; 0 is AdamW of shortened gradients.
      eps: ε.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    State: three slots per parameter.

    Source: Yuan et al. 2024, https://arxiv.org/abs/2411.10438

    >>> import gradtx
    >>> gradtx.mars(b1=0.5, gamma=0.25).formula
    chain(
        extrapolate(strength=0.25),
        clip_by_block_norm(max_norm=1.0),
        scale_by_adam(b1=0.5, b2=0.99),
        add_decayed_weights(),
        scale_by_learning_rate(learning_rate=0.003),
    )
    """
    return chain(
        extrapolate(gamma * b1 / (1 - b1)),
        clip_by_block_norm(1.0),
        scale_by_adam(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

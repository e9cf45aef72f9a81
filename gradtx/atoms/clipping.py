"""Transformations that bound the updates per element, per unit, per leaf or globally, and gradients per example."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import Decay, NonNegative, Positive, Real
from gradtx.core.build import initialize, run
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import average, bounded, global_norm, least, norm, overall, ratio, rms
from gradtx.core.roles import Slot
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import LeafError, as_float32, is_none, map_leaves, map_with_path, present, zeros_like

__all__ = [
    "adaptive_grad_clip",
    "clip",
    "clip_by_block_norm",
    "clip_by_block_rms",
    "clip_by_bounds",
    "clip_by_ema",
    "clip_by_global_norm",
    "clip_preconditioner",
    "clip_rate",
    "normalize_by_update_norm",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "unitwise_norm",
]

Tree = Any


@transformation
def clip_by_bounds(lower: Real | None = None, upper: Real | None = None) -> Any:
    """Keep every element between two bounds: min(max(u, lower), upper).

    Args:
      lower: the lower bound; a float, an array or a schedule, or None for no bound.
      upper: the upper bound, likewise. AdaBound's two bounds are schedules that converge to the same value.
    """
    return leafwise(emit=lambda u: jnp.clip(u, lower, upper))


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

    return leafwise(emit=bound)


def _at_most(limit: Any, size: jax.Array) -> jax.Array:
    """min(1, limit / size), also where both are 0; a single factor, so that each element costs one multiplication."""
    limit = jnp.minimum(limit, jnp.finfo(size.dtype).max)  # the limit may be infinite
    return limit / jnp.maximum(size, jnp.maximum(limit, least(size.dtype)))


@transformation
def clip_by_global_norm(max_norm: NonNegative) -> Any:
    """Scale the updates down to a global norm of at most c, over all leaves together: u·min(1, c/‖u‖).

    The norm is taken in float32 or wider and does not overflow, so the direction is kept even for gradients of 1e30.

    Args:
      max_norm: c, in units of the updates.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_global_norm(1.0)
    >>> tx.update(jnp.array([3e30, 4e30]), tx.init(jnp.zeros(2)))[0].round(6)
    Array([0.6, 0.8], dtype=float32)
    """

    return leafwise(
        together=(lambda u: norm(u), overall),
        numbers=lambda t: _at_most(max_norm, t),
        emit=lambda u, n: n * u,
    )


@transformation
def clip_by_block_norm(max_norm: Positive) -> Any:
    """Scale each leaf down to a norm of at most c: u·min(1, c/‖u‖).

    Args:
      max_norm: c, in units of the updates.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """

    return leafwise(before=lambda u: _at_most(max_norm, norm(u)), emit=lambda u, x: x * u)


@transformation
def clip_by_block_rms(threshold: Positive) -> Any:
    """Scale each leaf down to a root mean square of at most d: u·min(1, d/RMS(u)).

    Args:
      threshold: d.

    Source: Shazeer & Stern 2018, section 6, https://arxiv.org/abs/1804.04235
    """

    return leafwise(before=lambda u: _at_most(threshold, rms(u)), emit=lambda u, x: x * u)


# By unit


def unitwise_norm(x: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """The 2-norm of each unit (each output of a layer), broadcast to every element of the unit.

    Args:
      x: an array.
      axis: the axes that a unit extends over. The default suits kernels with the outputs last: all axes of a vector,
        the first axis of two or three, the first three of four, the first four of five.

    Returns:
      A real array of the same shape, in float32 or wider.

    Raises:
      LeafError: more than five axes, and no `axis`.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.unitwise_norm(jnp.array([[3.0, 0.0], [4.0, 1.0]])).tolist()
    [[5.0, 1.0], [5.0, 1.0]]
    """
    x = as_float32(x)
    if not x.size:
        return jnp.zeros(x.shape, x.real.dtype)
    if axis is None and x.ndim > 5:
        raise LeafError(f"units are not known for the shape {x.shape}; give axis")
    if axis is None:
        whole = sum(n != 1 for n in x.shape) <= 1  # a vector, with or without axes of length 1
        axis = tuple(range(x.ndim)) if whole else (0,) if x.ndim < 4 else tuple(range(x.ndim - 1))
    axes = tuple(i % x.ndim for i in ((axis,) if isinstance(axis, int) else axis))
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    units = jnp.transpose(x, (*kept, *axes)).reshape(math.prod(x.shape[i] for i in kept), -1)
    sizes = jax.vmap(norm)(units).reshape([1 if i in axes else n for i, n in enumerate(x.shape)])
    return jnp.broadcast_to(sizes, x.shape)


@transformation
def adaptive_grad_clip(clipping: NonNegative, eps: NonNegative = 1e-3, axis: Any = None) -> Any:
    """Clip the update of each unit to at most λ times the norm of its parameters: u·min(1, λ·max(‖θ‖, ε)/‖u‖).

    Args:
      clipping: λ; 0.01 for large batches.
      eps: ε; lets units that are zero move.
      axis: the axes that a unit extends over; see `unitwise_norm`.

    Needs the parameters.

    Source: Brock et al. 2021, https://arxiv.org/abs/2102.06171

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adaptive_grad_clip(0.5)
    >>> u, p = jnp.array([[3.0, 0.25], [4.0, 0.25]]), jnp.ones((2, 2))
    >>> tx.update(u, tx.init(p), p)[0].tolist()  # the first unit from 5 to 0.5·√2
    [[0.424..., 0.25], [0.565..., 0.25]]
    """

    def factor(u: jax.Array, p: jax.Array) -> jax.Array:
        limit, size = clipping * jnp.maximum(unitwise_norm(p, axis), eps), unitwise_norm(u, axis)
        longer = size > limit
        return jnp.where(longer, limit / jnp.where(longer, size, 1), 1)  # exactly 1: u stays u

    return leafwise(before=factor, emit=lambda u, x: x * u)


# By example


def per_example_global_norm_clip(grads: Tree, l2_norm_clip: Any) -> tuple[Tree, jax.Array]:
    """Clip the gradient of each example to a norm of at most C and sum the results, as differential privacy requires.

    For differentially private gradient descent, divide the sum by the number of examples B and pass it through
    `chain(add_noise((σ·C/B)**2, gamma=0.0, key=key), sgd(η))`.

    Args:
      grads: a tree of gradients with the examples along the first axis, as `jax.vmap(jax.grad(loss), …)` gives it.
      l2_norm_clip: C.

    Returns:
      The sum over the examples, and how many of them were clipped. Examples whose gradient is zero are not counted.

    Raises:
      LeafError: a leaf has no first axis, or its length is not that of the others.

    Source: Abadi et al. 2016, https://arxiv.org/abs/1607.00133

    >>> import gradtx, jax.numpy as jnp
    >>> total, shortened = gradtx.per_example_global_norm_clip({"w": jnp.array([[3.0, 4.0], [0.6, 0.8]])}, 1.0)
    >>> total["w"].round(3).tolist(), shortened.item()
    ([1.2..., 1.6...], 1)
    """
    _check_examples("per_example_global_norm_clip", grads)
    sizes = jax.vmap(global_norm)(grads)
    factors = _at_most(l2_norm_clip, sizes)

    def total(g: Any) -> Any:
        return jnp.tensordot(factors, as_float32(g), axes=1) if present(g) else g

    return jax.tree.map(total, grads, is_leaf=is_none), jnp.sum(sizes > l2_norm_clip)


def per_example_layer_norm_clip(grads: Tree, global_l2_norm_clip: Any, uniform: bool = True) -> tuple[Tree, Tree]:
    """Clip the gradient of each example leaf by leaf and sum the results; the limits combine to C: √ΣCᵢ² = C.

    Args:
      grads: a tree of gradients with the examples along the first axis.
      global_l2_norm_clip: C.
      uniform: Cᵢ = C/√K for K leaves; False for Cᵢ = C·√(share of the leaf in the number of parameters).

    Returns:
      The sum over the examples, and for each leaf how many of them were clipped.

    Raises:
      LeafError: a leaf has no first axis, or its length is not that of the others.

    Source: McMahan et al. 2018, https://arxiv.org/abs/1710.06963
    """
    _check_examples("per_example_layer_norm_clip", grads)
    structure: Any
    leaves, structure = jax.tree.flatten(grads)
    sizes = [1 if uniform else math.prod(np.shape(g)[1:]) for g in leaves]
    limits = [global_l2_norm_clip * math.sqrt(size / (sum(sizes) or 1)) for size in sizes]
    pairs = [per_example_global_norm_clip(g, limit) for g, limit in zip(leaves, limits, strict=True)]
    return structure.unflatten([total for total, _ in pairs]), structure.unflatten([number for _, number in pairs])


def _check_examples(owner: str, grads: Tree) -> None:
    first: tuple[int, ...] = next((np.shape(g) for g in jax.tree.leaves(grads) if present(g)), ())

    def check(path: str, g: Any) -> None:
        if present(g) and (not np.shape(g) or np.shape(g)[:1] != first[:1]):
            raise LeafError(
                f"{owner}: the first axis of every leaf is for the examples; leaf '{path}' has the shape "
                f"{np.shape(g)}, the first leaf {first}"
            )

    map_with_path(check, grads)


@transformation
def normalize_by_update_norm(scale_factor: Real = 1.0, eps: NonNegative = 1e-6) -> Any:
    """Divide the updates by their global norm: s·u / (‖u‖ + ε). Zero stays zero. (Optax divides by (‖u‖ + ε)/s.)

    Args:
      scale_factor: s, of any sign.
      eps: ε.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.normalize_by_update_norm(-2.0, eps=0.0)
    >>> tx.update(jnp.array([3e30, 4e30]), tx.init(jnp.zeros(2)))[0].round(6).tolist()
    [-1.2..., -1.6...]
    """

    return leafwise(
        together=(lambda u: norm(u), overall),
        numbers=lambda t: scale_factor * ratio(1, t + eps),
        emit=lambda u, n: n * u,
    )


@transformation
def clip_preconditioner(preconditioner: Transformation, threshold: Positive = 1.0) -> Any:
    """Scale a preconditioner r down, leaf by leaf, where r·u would have a root mean square above d:
    r·min(1, d/RMS(r·u)).

    `clip_by_block_rms` bounds the output of an optimizer. This bounds the step that the latest gradient alone would
    take, so that steps are shorter when gradients are suddenly larger than those the preconditioner has averaged.
    (Formerly named `clip_rate`.)

    Args:
      preconditioner: the transformation that computes r from the updates u, such as `inverse_rms`.
      threshold: d.

    Source: Wortsman et al. 2023, section 3, https://arxiv.org/abs/2304.13013
    """

    def clipped(r: jax.Array, u: jax.Array) -> jax.Array:
        return r * (threshold / jnp.maximum(rms(r * bounded(u)), threshold))

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        scales, state = run(preconditioner, updates, state, params, extra_args)
        return map_leaves(clipped, scales, updates), state

    return lambda params: initialize(preconditioner, params), update


clip_rate = clip_preconditioner


class ClipByEmaState(NamedTuple):
    """The average, used as the bound."""

    ema: Slot


@transformation
def clip_by_ema(decay: Decay) -> Any:
    """Bound each element above by its own exponential moving average: min(u, a), a ← β·a + (1−β)·u.

    Args:
      decay: β.

    State: one slot per parameter.
    """

    return leafwise(
        init=lambda p: ClipByEmaState(zeros_like(p)),
        advance=lambda s, u: ClipByEmaState(average(decay, s.ema, u)),
        emit=lambda s, u: jnp.minimum(u, s.ema),
    )

"""Statistics of matrices in the memory of vectors: Adafactor's factored second moment, SM3's cover."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import Fraction, NonNegative, Real
from gradtx.core.hyperparameters import increment
from gradtx.core.recompute import apart, cheap
from gradtx.core.transformation import transformation
from gradtx.core.tree import (
    abs_squared,
    as_float32,
    bounded_or_nan,
    is_none,
    least,
    map_some,
    mean_square,
    no_wider,
    present,
    real_like,
    sqrt,
    zeros_like,
)

__all__ = ["covering_sum", "scale_by_factored_rms"]

Tree = Any


class FactoredState(NamedTuple):
    """Rows and columns of the averaged squares, or the squares themselves."""

    count: jax.Array  # type: ignore[assignment]  # int32, steps taken
    row: Tree  # for factored leaves: |g|² averaged over the largest axis; None for the others
    column: Tree  # for factored leaves: |g|² averaged over the second largest axis; None for the others
    second_moment: Tree  # for the leaves that are not factored; None for the others


def _factored_axes(shape: tuple[int, ...], smallest: int) -> tuple[int, int] | None:
    """The second largest and the largest axis, or None if the former is too small."""
    if len(shape) < 2:
        return None
    *_, second, largest = np.argsort(shape, kind="stable")
    return (int(second), int(largest)) if shape[second] >= smallest else None


@transformation
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: NonNegative = 0.8,
    step_offset: Real = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: NonNegative = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Divide by a root mean square that a matrix keeps as the product of a row and a column, n + m numbers for n·m.

    V ≈ r·cᵀ / mean(r), each an average with β₂ₜ = 1 − t^−0.8, over the two largest axes of a leaf.

    Args:
      factored: False keeps a full second moment for every leaf.
      decay_rate: 0.8, the exponent in β₂ₜ.
      step_offset: t counts from the step after this one (fine-tuning). Earlier steps count as t = 1.
      min_dim_size_to_factor: smaller matrices keep a full second moment.
      epsilon: added to |g|².
      decay_rate_fn: β₂ₜ as a function of t − 1 and `decay_rate`, where it is to be another one.

    Source: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235
    """

    def axes(p: Any) -> tuple[int, int] | None:
        return _factored_axes(np.shape(p), min_dim_size_to_factor) if factored else None

    def init(params: Tree) -> FactoredState:
        params = real_like(params)

        def only(chosen: Any, shrink: Any) -> Tree:
            return zeros_like(jax.tree.map(lambda p: shrink(p) if chosen(p) else None, params))

        return FactoredState(
            count=jnp.zeros((), jnp.int32),
            row=only(axes, lambda p: _without(p, axes(p)[1])),  # type: ignore[index]
            column=only(axes, lambda p: _without(p, axes(p)[0])),  # type: ignore[index]
            second_moment=only(lambda p: not axes(p), lambda p: p),
        )

    def update(updates: Tree, state: FactoredState, params: Tree = None) -> tuple[Tree, FactoredState]:
        t = jnp.maximum(state.count - step_offset + 1, 1)
        t = jnp.asarray(t, float)
        decay = 1 - t**-decay_rate if decay_rate_fn is None else decay_rate_fn(t - 1, decay_rate)

        def blend(old: jax.Array, new: jax.Array) -> jax.Array:
            return decay * old + (1 - decay) * new

        row = map_some(lambda r, g: blend(r, mean_square(g, axes(g)[1]) + epsilon), state.row, updates)  # type: ignore[index]
        column = map_some(lambda c, g: blend(c, mean_square(apart(g), axes(g)[0]) + epsilon), state.column, updates)  # type: ignore[index]
        second_moment = map_some(lambda v, g: blend(v, abs_squared(g) + epsilon), state.second_moment, updates)

        def factored_rate(g: jax.Array, r: jax.Array, c: jax.Array) -> jax.Array:
            second, largest = axes(g)  # type: ignore[misc]
            mean = jnp.mean(r, second - (second > largest), keepdims=True) + least(r.dtype)
            return bounded_or_nan(g) / jnp.expand_dims(sqrt(r / mean), largest) / jnp.expand_dims(sqrt(c), second)

        by_factors = map_some(functools.partial(cheap, factored_rate), updates, row, column)
        by_moment = map_some(functools.partial(cheap, lambda g, v: bounded_or_nan(g) / sqrt(v)), updates, second_moment)
        updates = jax.tree.map(lambda a, b: b if a is None else a, by_factors, by_moment, is_leaf=is_none)
        return updates, FactoredState(increment(state.count), row, column, second_moment)

    return init, update


class CoveringSumState(NamedTuple):
    """For each leaf a vector for each of its axes."""

    maxima: Tree  # tuples of vectors, real; of a leaf with fewer than two axes the sum itself


@transformation
def covering_sum(decay: Fraction = 1.0) -> Any:
    """`running_sum` of u ≥ 0 from above, in the memory of one vector for each axis: s = u + minᵢ mᵢ.

    mᵢ is the maximum of s over all axes but i: what was largest in this row, in this column. For leaves with fewer than
    two axes it is the running sum itself.

    Args:
      decay: β; below 1 an average instead of a sum, s = (1−β)·u + β·minᵢ mᵢ.

    State: one number for each row, each column, … of each leaf.

    Source: Anil et al. 2019, https://arxiv.org/abs/1901.11150

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.covering_sum()
    >>> _, state = tx.update(jnp.array([[1.0, 0.0], [0.0, 2.0]]), tx.init(jnp.zeros((2, 2))))
    >>> tx.update(jnp.zeros((2, 2)), state)[0].tolist()  # nothing comes, and nothing is below the sum so far
    [[1.0, 1.0], [1.0, 2.0]]
    """

    def axes(p: Any) -> tuple[int, ...]:
        return tuple(range(np.ndim(p)))

    def init(params: Tree) -> CoveringSumState:
        def vectors(p: Any) -> tuple[Any, ...]:
            one = zeros_like(p)
            return tuple(jnp.zeros(one.shape[i], one.dtype) for i in axes(p)) if one.ndim > 1 else (one,)

        return CoveringSumState(jax.tree.map(vectors, real_like(params)))

    def covered(u: jax.Array, maxima: tuple[jax.Array, ...]) -> jax.Array:
        share = jnp.where(jnp.asarray(decay) == 1, 1, 1 - decay)
        along = [jnp.expand_dims(m, _others(i, u.ndim)) for i, m in enumerate(maxima)] if u.ndim > 1 else maxima
        return no_wider(share * u + decay * functools.reduce(jnp.minimum, along), [u])

    def shrunk(s: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.max(s, _others(i, s.ndim), initial=0) for i in axes(s)) if s.ndim > 1 else (s,)

    def update(updates: Tree, state: CoveringSumState, params: Tree = None) -> tuple[Tree, CoveringSumState]:
        def new(u: Any, maxima: Any) -> Any:
            return covered(as_float32(u), maxima) if present(u) else None

        sums = jax.tree.map(new, updates, state.maxima, is_leaf=is_none)
        kept = jax.tree.map(lambda s, old: old if s is None else shrunk(s), sums, state.maxima, is_leaf=is_none)
        return sums, CoveringSumState(kept)

    return init, update


def _others(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


def _without(p: Any, axis: int) -> Any:
    return jax.eval_shape(lambda x: jnp.sum(x, axis), p)

"""Adafactor's factored second moment: a row and a column instead of a matrix."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import NonNegative, Real
from gradtx.core.hyperparameters import increment
from gradtx.core.transformation import transformation
from gradtx.core.tree import (
    abs_squared,
    as_float32,
    bounded,
    is_none,
    least,
    map_leaves,
    no_wider,
    present,
    real_like,
    sqrt,
    zeros_like,
)

__all__ = ["scale_by_factored_rms"]

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
) -> Any:
    """Divide by a root mean square that a matrix keeps as the product of a row and a column, n + m numbers for n·m.

    V ≈ r·cᵀ / mean(r), each an average with β₂ₜ = 1 − t^−0.8, over the two largest axes of a leaf.

    Args:
      factored: False keeps a full second moment for every leaf.
      decay_rate: 0.8, the exponent in β₂ₜ.
      step_offset: t counts from the step after this one (fine-tuning). Earlier steps count as t = 1.
      min_dim_size_to_factor: smaller matrices keep a full second moment.
      epsilon: added to |g|².

    Source: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235
    """

    def axes(p: Any) -> tuple[int, int] | None:
        return _factored_axes(np.shape(p), min_dim_size_to_factor) if factored else None

    def average(x: jax.Array, axis: int) -> jax.Array:
        return jnp.sum(x / x.shape[axis], axis)  # divided first: the sum of large squares would overflow

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
        decay = 1 - jnp.asarray(t, float) ** -decay_rate

        def blend(old: jax.Array, new: jax.Array) -> jax.Array:
            return decay * old + (1 - decay) * new

        squares = map_leaves(lambda g: abs_squared(g) + epsilon, updates)
        row = _map_some(lambda r, s: blend(r, average(s, axes(s)[1])), state.row, squares)  # type: ignore[index]
        column = _map_some(lambda c, s: blend(c, average(s, axes(s)[0])), state.column, squares)  # type: ignore[index]
        second_moment = _map_some(blend, state.second_moment, squares)

        def factored_rate(g: jax.Array, r: jax.Array, c: jax.Array) -> jax.Array:
            second, largest = axes(g)  # type: ignore[misc]
            mean = jnp.mean(r, second - (second > largest), keepdims=True) + least(r.dtype)
            return bounded(g) / jnp.expand_dims(sqrt(r / mean), largest) / jnp.expand_dims(sqrt(c), second)

        by_factors = _map_some(factored_rate, updates, row, column)
        by_moment = _map_some(lambda g, v: bounded(g) / sqrt(v), updates, second_moment)
        updates = jax.tree.map(lambda a, b: b if a is None else a, by_factors, by_moment, is_leaf=is_none)
        return updates, FactoredState(increment(state.count), row, column, second_moment)

    return init, update


def _without(p: Any, axis: int) -> Any:
    return jax.eval_shape(lambda x: jnp.sum(x, axis), p)


def _map_some(f: Any, *trees: Tree) -> Tree:
    """Map over leaves of different shapes; None where any of them is None."""

    def apply(*xs: Any) -> Any:
        if not all(map(present, xs)):
            return None
        wide = list(map(as_float32, xs))
        return no_wider(f(*wide), wide)

    return jax.tree.map(apply, *trees, is_leaf=is_none)

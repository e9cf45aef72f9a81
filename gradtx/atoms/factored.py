"""Matrix statistics stored as vectors: Adafactor's factored second moment, SM3's cover."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import Fraction, NonNegative, Real
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, aside, average, increment, least, most, sqrt, squared
from gradtx.core.roles import Factored, Slot, Weight
from gradtx.core.transformation import transformation
from gradtx.core.tree import real_like, zeros_like

__all__ = ["covering_sum", "scale_by_factored_rms"]


class FactoredState(NamedTuple):
    """Row and column means of the averaged squares, or the averaged squares themselves."""

    count: Weight  # int32, gradients seen
    row: Factored  # for factored leaves: |g|² averaged over the largest axis; None for the others
    column: Factored  # for factored leaves: |g|² averaged over the second largest axis; None for the others
    second_moment: Slot  # for the leaves that are not factored; None for the others


def _factored_axes(shape: tuple[int, ...], smallest: int) -> tuple[int, int] | None:
    """The second largest and the largest axis, or None if the former is too small."""
    if len(shape) < 2:
        return None
    *_, second, largest = np.argsort(shape, kind="stable")
    return (int(second), int(largest)) if shape[second] >= smallest else None


def _mean_square(x: jax.Array, axis: int) -> jax.Array:
    """The mean of |x|² along an axis, real and bounded as `abs_squared` is.

    The bound comes last: XLA then reads x itself instead of writing bounded squares to memory for both means to share.
    """
    return jnp.minimum(jnp.sum(squared(x), axis) / x.shape[axis], most(x.dtype) ** 2)


def _bounded_or_nan(x: jax.Array) -> jax.Array:
    """Like `bounded`, but infinite entries become NaN.

    By arithmetic alone: XLA:CPU does not fuse a `select` or `clamp` into a sum, but writes its result to memory first.
    """
    return x / jnp.maximum(jnp.abs(x) / most(x.dtype), 1)


@transformation
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: NonNegative = 0.8,
    step_offset: Real = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: NonNegative = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Divide by a root mean square stored, for a matrix, as one row and one column: n + m numbers instead of n·m.

    V ≈ r·cᵀ / mean(r), where r and c are averages with β₂ₜ = 1 − t^−0.8, over the two largest axes of a leaf.

    Args:
      factored: False keeps a full second moment for every leaf.
      decay_rate: the exponent in β₂ₜ, 0.8 above.
      step_offset: number of steps before t starts to count (for fine-tuning); until then, t = 1.
      min_dim_size_to_factor: smaller matrices keep a full second moment.
      epsilon: added to |g|².
      decay_rate_fn: a function of t − 1 and `decay_rate` to compute β₂ₜ instead.

    Source: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235
    """

    def axes(p: Any) -> Any:
        return _factored_axes(np.shape(p), min_dim_size_to_factor) if factored else None

    def init(p: jax.Array) -> FactoredState:
        p = real_like(p)
        if not axes(p):
            return FactoredState(0, None, None, zeros_like(p))
        rows, columns = axes(p)
        return FactoredState(0, zeros_like(_first(p, columns)), zeros_like(_first(p, rows)), None)

    def decay(s: FactoredState) -> Any:
        t = jnp.maximum(s.count - step_offset + 1, 1).astype(float)
        return 1 - t**-decay_rate if decay_rate_fn is None else decay_rate_fn(t - 1, decay_rate)

    def squares(g: jax.Array) -> Any:
        if not axes(g):
            return abs_squared(g) + epsilon
        rows, columns = axes(g)
        return _mean_square(g, columns) + epsilon, aside(lambda g: _mean_square(g, rows), g) + epsilon

    def advance(s: FactoredState, g: jax.Array, n: Any, x: Any) -> FactoredState:
        if not axes(g):
            return s._replace(second_moment=average(n, s.second_moment, x))
        return s._replace(row=average(n, s.row, x[0]), column=average(n, s.column, x[1]))

    def emit(s: FactoredState, g: jax.Array) -> jax.Array:
        if not axes(g):
            return _bounded_or_nan(g) / sqrt(s.second_moment)
        rows, columns = axes(g)
        r, c = jnp.expand_dims(s.row, columns), jnp.expand_dims(s.column, rows)
        total = jnp.mean(r, rows, keepdims=True) + least(r.dtype)
        return _bounded_or_nan(g) / sqrt(r / total) / sqrt(c)

    return leafwise(
        init=init,
        numbers=decay,
        count=lambda s: s._replace(count=increment(s.count)),
        before=squares,
        advance=advance,
        emit=emit,
    )


class CoveringSumState(NamedTuple):
    """For each leaf, one vector per axis."""

    maxima: Factored  # tuples of real vectors; for a leaf with fewer than two axes, the sum itself


@transformation
def covering_sum(decay: Fraction = 1.0) -> Any:
    """An upper bound on the `running_sum` of u ≥ 0 that stores only one vector per axis: s = u + minᵢ mᵢ.

    mᵢ is the maximum of the previous s over all axes but i: the largest entry of each row, of each column. For leaves
    with fewer than two axes, s is the running sum itself.

    Args:
      decay: β; below 1 an average instead of a sum, s = (1−β)·u + β·minᵢ mᵢ.

    State: one number for each row, each column, … of each leaf.

    Source: Anil et al. 2019, https://arxiv.org/abs/1901.11150

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.covering_sum()
    >>> _, state = tx.update(jnp.array([[1.0, 0.0], [0.0, 2.0]]), tx.init(jnp.zeros((2, 2))))
    >>> tx.update(jnp.zeros((2, 2)), state)[0].tolist()  # a zero update: no entry is below the sum so far
    [[1.0, 1.0], [1.0, 2.0]]
    """

    def covered(s: CoveringSumState, u: jax.Array) -> Any:
        share = jnp.where(jnp.asarray(decay) == 1, 1, 1 - decay)
        along = [jnp.expand_dims(m, _others(i, u)) for i, m in enumerate(s.maxima)] if u.ndim > 1 else s.maxima
        return share * u + decay * functools.reduce(jnp.minimum, along)

    def shrunk(x: jax.Array, shrink: Callable[[jax.Array, Any], jax.Array] = _largest) -> CoveringSumState:
        return CoveringSumState(tuple(shrink(x, _others(i, x)) for i in range(x.ndim)) if x.ndim > 1 else (x,))

    return leafwise(
        init=lambda p: CoveringSumState(zeros_like(shrunk(real_like(p), _first).maxima)),
        before=covered,
        advance=lambda x: shrunk(x),
        emit=lambda x: x,
    )


def _others(axis: int, x: jax.Array) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != axis)


def _first(x: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
    """An array with the shape and sharding of x reduced over `axes`. (XLA would take minutes to reduce zeros.)"""
    return _largest(x[tuple(slice(1 if i in np.atleast_1d(axes) else None) for i in range(x.ndim))], axes)


def _largest(x: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
    return jnp.max(x, axes, initial=0)

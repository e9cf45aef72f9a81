"""Averages, norms and counts that optimizers are built from, for writing one without this library's atoms.

Everything is computed in float32 or wider. An average has the dtype that its two leaves promote to.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.numerics import abs_squared, increment, least, rms
from gradtx.core.tree import as_float32, no_wider
from gradtx.tree.arithmetic import leafwise

__all__ = [
    "bias_correction",
    "safe_increment",
    "safe_int32_increment",
    "safe_norm",
    "safe_root_mean_squares",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
]

Tree = Any


# Averages


def update_moment(updates: Tree, moments: Tree, decay: Any, order: Any) -> Tree:
    """The next average of a power: (1 − β)·gᵖ + β·m, with β = `decay` and p = `order`."""
    return _average(updates, moments, lambda g, t: (1 - decay) * g**order + decay * t)


def update_moment_per_elem_norm(updates: Tree, moments: Tree, decay: Any, order: Any) -> Tree:
    """`update_moment`, with |g| for complex g, so that the moments are real. Real g keep their signs."""

    def power(g: jax.Array) -> jax.Array:
        return abs_squared(g) ** (order / 2) if jnp.iscomplexobj(g) else g**order

    return _average(updates, moments, lambda g, t: (1 - decay) * power(g) + decay * t)


def update_infinity_moment(updates: Tree, moments: Tree, decay: Any, eps: Any) -> Tree:
    """The next decaying maximum: max(|g| + ε, β·m)."""
    return _average(updates, moments, lambda g, t: jnp.maximum(jnp.abs(g) + eps, decay * t))


def bias_correction(moment: Tree, decay: Any, count: Any) -> Tree:
    """Bias correction of an average that starts at 0: m/(1 − βᵗ), without cancellation. t = 0 counts as t = 1.

    Args:
      decay: β.
      count: t, the number of updates that the average has seen.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> gradtx.tree.bias_correction(jnp.array([0.001, 0.002]), decay=0.999, count=1).round(3).tolist()
    [1.0, 2.0]
    """
    weight = -jnp.expm1(jnp.maximum(count, 1) * jnp.log1p(decay - 1))
    return leafwise(lambda t: no_wider(as_float32(t) / weight, [jnp.asarray(t)]), moment)


# Norms and counts


def safe_norm(x: Any, min_norm: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> jax.Array:
    """max(‖x‖, min_norm) of one array, with derivative 0 where the bound applies. It overflows only if the norm does.

    Args:
      x: an array.
      min_norm: the lower bound, at least 0.
      ord: as in `jnp.linalg.norm`, but not 0.
      axis: likewise.
      keepdims: likewise.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> float(gradtx.safe_norm(jnp.array([3e20, 4e20]), 0.0) / 1e20)
    5.0...
    >>> jax.grad(gradtx.safe_norm)(jnp.zeros(2), 0.0).tolist()
    [0.0, 0.0]
    """
    x = as_float32(x)
    # Scaled by the largest entry: any norm is that of the scaled array times the scale.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=least(x.dtype)))
    scaled = x / largest
    length = jnp.linalg.norm(scaled, ord=ord, axis=axis, keepdims=True) * largest
    low = length <= min_norm
    scaled = jnp.where(low, 1, scaled)  # so that the derivative is finite
    length = jnp.where(low, min_norm, jnp.linalg.norm(scaled, ord=ord, axis=axis, keepdims=True) * largest)
    return length if keepdims else jnp.squeeze(length, axis=axis)


def safe_root_mean_squares(x: Any, min_rms: Any) -> jax.Array:
    """max(√mean|x|², min_rms) of one array, with derivative 0 where the bound applies.

    >>> import gradtx, jax.numpy as jnp
    >>> float(gradtx.safe_root_mean_squares(jnp.array([3.0, -3.0]), 1.0))
    3.0
    """
    root = rms(as_float32(x))
    return jnp.where(root <= min_rms, min_rms, root)


def safe_increment(count: Any) -> jax.Array:
    """count + 1, saturating at the largest number of its dtype instead of wrapping or becoming infinite.

    Raises:
      ValueError: the count is neither an integer nor a float.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.safe_increment(jnp.array([7, 127], "int8")).tolist()
    [8, 127]
    """
    count = jnp.asarray(count)
    if jnp.issubdtype(count.dtype, jnp.integer):
        return increment(count)
    if not jnp.issubdtype(count.dtype, jnp.floating):
        raise ValueError(f"safe_increment: a count is an integer or a float, got one of dtype {count.dtype}")
    return jnp.minimum(count + 1, jnp.finfo(count.dtype).max)


safe_int32_increment = safe_increment


# Parts


def _average(updates: Tree, moments: Tree, f: Callable[..., Any]) -> Tree:
    """Computed in float32 or wider; the result has the dtype that the two leaves promote to."""

    def leaf(g: Any, t: Any) -> Any:
        row = [jnp.asarray(g), jnp.asarray(t)]
        return no_wider(f(*map(as_float32, row)), row)

    return leafwise(leaf, updates, moments)

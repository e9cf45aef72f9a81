"""The building blocks of schedules: the remaining part of a stretch of steps, weighted means, products of factors.

`remaining` falls from exactly 1 to exactly 0, and `between` with weight 1 or 0 is exactly one of its values: a schedule
keeps its last value after its end, and a stretch may have length 0.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import Duration, number_of_steps

DURATION = get_args(Duration)[1]


def between(start: Any, end: Any, weight: Any) -> Any:
    """weight·start + (1 − weight)·end, exactly `start` at weight 1 and `end` at 0; a schedule if the weight is one."""
    return weight * start + (1.0 - weight) * end


def remaining(count: jax.Array, begin: Any, end: Any) -> jax.Array:
    """The fraction left of the steps from `begin` to `end`: 1 before them, exactly 0 after them, a jump if none."""
    first, last = int32(begin), int32(end)
    left = (last - jnp.clip(count, first, last)) + 1.0 * (end - last)
    whole = (count < first) | ((count == first) & (end > begin))  # not left to a division, which XLA may approximate
    return jnp.asarray(jnp.where(whole, 1.0, left / jnp.where(end > begin, 1.0 * (end - begin), 1.0)), float)


def half_cosine(left: jax.Array) -> jax.Array:
    """½(1 + cos(π(1 − left))), written as sin²(π/2·left) so that nothing cancels near 0."""
    return jnp.sin(jnp.pi / 2 * left) ** 2


EASINGS: dict[str, Callable[[jax.Array], jax.Array]] = {"linear": lambda left: left, "cosine": half_cosine}


def interpolate(count: jax.Array, interpolate_type: str, init_value: Any, pairs: list[tuple[Any, Any]]) -> jax.Array:
    """η₀·∏ᵢ (from 1 before boundary i−1 to sᵢ at boundary i)."""
    value, begin = spread(init_value, count), 0
    for end, scale in pairs:
        value = value * between(1.0, scale, EASINGS[interpolate_type](remaining(count, begin, end)))
        begin = end
    return value


def scaled_at(init_value: Any, pairs: list[tuple[float, Any]]) -> Callable[[jax.Array], jax.Array]:
    """η₀·∏ {scale : boundary ≤ t}."""

    def factors(count: jax.Array) -> list[jax.Array]:
        return [jnp.where(count >= int32(boundary), scale, 1.0) for boundary, scale in pairs]

    return lambda count: math.prod(factors(count), start=spread(init_value, count))


def spread(value: Any, count: jax.Array) -> jax.Array:
    """The value for each of the counts."""
    return value + jnp.zeros(jnp.shape(count))


def elapsed(count: jax.Array, begin: float = 0) -> jax.Array:
    """Steps since `begin`, 0 before it."""
    return jnp.maximum(count, int32(begin)) - int32(begin)


def part_of(fraction: Any, steps: int) -> jax.Array:
    """⌊fraction·steps⌋; a product that misses a whole number by rounding counts as that number."""
    return jnp.floor(fraction * float(steps) * (1 + 2**-22))


def bounded_power(base: Any, exponent: jax.Array) -> jax.Array:
    """base^exponent; growth stops at the square root of the largest float, where the derivative is finite, too."""
    limit = 0.5 * math.log(float(jnp.finfo(exponent.dtype).max)) / jnp.maximum(jnp.log(base), 1e-30)
    return base ** jnp.minimum(exponent, jax.lax.stop_gradient(limit))


def int32(steps: Any) -> Any:
    """A number of steps limited to int32, so that it can be compared with counts; traced ones are left alone."""
    return min(steps, np.iinfo(np.int32).max) if isinstance(steps, int) else steps


# Checks of static arguments. A schedule's body runs at its first use, when its other numbers may be traced.


def increasing(owner: str, name: str, steps: Sequence[Any]) -> list[float]:
    """Numbers of steps in order, or a ValueError."""
    numbers = [number_of_steps(owner, name, step, DURATION) for step in steps]
    if numbers != sorted(numbers):
        raise ValueError(f"{owner}: {name} must be in increasing order, got {numbers}")
    return numbers


def check_easing(owner: str, interpolate_type: str) -> None:
    """Raise a ValueError for an unknown way to interpolate."""
    if interpolate_type not in EASINGS:
        raise ValueError(f"{owner}: interpolate_type must be 'linear' or 'cosine', got {interpolate_type!r}")


def sorted_pairs(owner: str, boundaries_and_scales: dict[Any, Any] | None) -> list[tuple[float, Any]]:
    """Boundaries in order, each with its scale, or a ValueError."""
    name = "boundaries_and_scales"
    given = (boundaries_and_scales or {}).items()
    pairs = [(number_of_steps(owner, name, boundary, DURATION), scale) for boundary, scale in given]
    for _, scale in pairs:
        if isinstance(scale, (int, float)) and not scale >= 0:
            raise ValueError(f"{owner}: the scales of {name} must be at least 0, got {scale!r}")
    return sorted(pairs, key=lambda pair: pair[0])

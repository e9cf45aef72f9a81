"""Schedules with a single formula, and piecewise schedules."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Duration, Interval, NonNegative, Positive, Real
from gradtx.core.schedule import schedule
from gradtx.schedules.shapes import (
    between,
    bounded_power,
    check_easing,
    elapsed,
    half_cosine,
    increasing,
    int32,
    interpolate,
    remaining,
    scaled_at,
    sorted_pairs,
    spread,
)

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "exponential_decay",
    "factor_schedule",
    "inverse_power_decay",
    "linear_schedule",
    "multi_step_schedule",
    "natural_exponential_decay",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
]


# A single formula


@schedule
def constant_schedule(value: Real) -> Any:
    """The same value at every step.

    >>> import gradtx
    >>> gradtx.constant_schedule(0.5)([0, 1000]).tolist()
    [0.5, 0.5]
    """
    return lambda count: spread(value, count)


@schedule
def polynomial_schedule(
    init_value: Real, end_value: Real, power: NonNegative, transition_steps: Duration, transition_begin: Duration = 0
) -> Any:
    """From one value to another along a power of the remaining time: η_T + (η₀ − η_T)·(1 − t/T)^p, η_T after T.

    Args:
      power: p; 1 is a straight line, larger values end flatter.
      transition_steps: T; 0 is a jump (Optax stays at η₀).
      transition_begin: steps at η₀ before t starts.

    >>> import gradtx
    >>> gradtx.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4)([0, 2, 4, 99]).tolist()
    [1.0, 0.25, 0.0, 0.0]
    """
    end = transition_begin + transition_steps
    return lambda count: between(init_value, end_value, remaining(count, transition_begin, end) ** power)


@schedule
def linear_schedule(
    init_value: Real, end_value: Real, transition_steps: Duration, transition_begin: Duration = 0
) -> Any:
    """A straight line from one value to another: η₀ + (η_T − η₀)·t/T, η_T after T. See `polynomial_schedule`.

    >>> import gradtx
    >>> gradtx.linear_schedule(0.0, 1.0, transition_steps=4, transition_begin=10)([10, 11, 12, 99]).tolist()
    [0.0, 0.25, 0.5, 1.0]
    """
    return polynomial_schedule(init_value, end_value, 1.0, transition_steps, transition_begin)


@schedule
def cosine_decay_schedule(
    init_value: Real, decay_steps: Duration, alpha: Real = 0.0, exponent: NonNegative = 1.0
) -> Any:
    """Decay along half a period of a cosine: η₀·(α + (1 − α)·(½(1 + cos(πt/T)))^p), α·η₀ after T.

    Args:
      decay_steps: T; with 0 it is α·η₀ throughout (Optax raises).
      alpha: α, the fraction of η₀ that is left at the end.
      exponent: p.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983

    >>> import gradtx
    >>> gradtx.cosine_decay_schedule(1.0, decay_steps=10, alpha=0.5)([0, 10, 99]).tolist()
    [1.0, 0.5, 0.5]
    """
    return lambda count: between(
        init_value, alpha * init_value, half_cosine(remaining(count, 0, decay_steps)) ** exponent
    )


@schedule
def exponential_decay(
    init_value: Real,
    transition_steps: Interval,
    decay_rate: Positive,
    transition_begin: Duration = 0,
    staircase: bool = False,
    end_value: Real | None = None,
) -> Any:
    """Exponential decay by the factor `decay_rate` over every T steps: η₀·rate^(t/T).

    Args:
      transition_steps: T, above 0.
      decay_rate: rate; above 1 the value grows.
      transition_begin: steps at η₀ before t starts.
      staircase: decay only at whole multiples of T: η₀·rate^⌊t/T⌋.
      end_value: a lower bound if `decay_rate` is below 1, else an upper bound. None for no bound.

    >>> import gradtx
    >>> gradtx.exponential_decay(1.0, 10, 0.5, staircase=True)([0, 9, 10, 20]).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """

    def value(count: jax.Array) -> Any:
        t = elapsed(count, transition_begin)
        periods = t // int32(transition_steps) if staircase else t / float(transition_steps)
        decayed = init_value * bounded_power(decay_rate, jnp.asarray(periods, float))
        if end_value is None:
            return decayed
        return jnp.where(decay_rate < 1, jnp.maximum(decayed, end_value), jnp.minimum(decayed, end_value))

    return value


@schedule
def natural_exponential_decay(init_value: Real, rate: NonNegative) -> Any:
    """Exponential decay to the base e: η₀·e^(−λt).

    Args:
      rate: λ, per step.

    >>> import gradtx
    >>> gradtx.natural_exponential_decay(1.0, rate=0.1)([0, 10]).round(2).tolist()
    [1.0, 0.37...]
    """
    return lambda count: init_value * jnp.exp(-rate * elapsed(count))


@schedule
def inverse_power_decay(init_value: Real, rate: NonNegative, power: NonNegative = 0.5) -> Any:
    """Inverse polynomial decay, without an end: η₀·(βt + 1)^(−α). With α = ½ it is the inverse square root.

    Args:
      rate: β, per step.
      power: α; between ½ and 1 stochastic gradient descent converges on convex problems.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762: `warmup(inverse_power_decay(peak, 1 / n), n)`

    >>> import gradtx
    >>> gradtx.inverse_power_decay(1.0, rate=1.0)([0, 3, 15]).tolist()
    [1.0, 0.5, 0.25]
    """
    return lambda count: init_value * (rate * elapsed(count) + 1.0) ** -power


@schedule
def factor_schedule(init_value: Real, factor: Positive, end_value: Real = 0.0) -> Any:
    """Exponential decay by a factor at every step, down to a floor: max(η_min, η₀·αᵗ).

    Args:
      factor: α.
      end_value: η_min.

    >>> import gradtx
    >>> gradtx.factor_schedule(2.0, factor=0.5, end_value=0.25)([0, 1, 2, 99]).tolist()
    [2.0, 1.0, 0.5, 0.25]
    """
    decay = exponential_decay(init_value, 1, factor)
    return lambda count: jnp.maximum(decay(count), end_value)


# Piecewise


@schedule
def piecewise_constant_schedule(init_value: Real, boundaries_and_scales: dict[int, float] | None = None) -> Any:
    """Constant between boundaries, multiplied by a factor at each: η₀·∏ {sᵢ : bᵢ ≤ t}.

    Args:
      boundaries_and_scales: {bᵢ: sᵢ}, step to factor; a negative factor raises a ValueError.

    >>> import gradtx
    >>> gradtx.piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.5})([0, 9, 10, 20]).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """
    return scaled_at(init_value, sorted_pairs("piecewise_constant_schedule", boundaries_and_scales))


@schedule
def multi_step_schedule(init_value: Real, milestones: Sequence[int], factor: NonNegative = 0.1) -> Any:
    """Constant, multiplied by one factor at each milestone: η₀·α^(number of milestones ≤ t). torch's MultiStepLR.

    Args:
      milestones: steps in increasing order; one that occurs twice counts twice.
      factor: α.

    >>> import gradtx
    >>> gradtx.multi_step_schedule(1.0, [10, 20], factor=0.5)([0, 10, 20]).tolist()
    [1.0, 0.5, 0.25]
    """
    return scaled_at(init_value, [(m, factor) for m in increasing("multi_step_schedule", "milestones", milestones)])


@schedule
def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Real, boundaries_and_scales: dict[int, float] | None = None
) -> Any:
    """Interpolate the points (0, η₀), (b₁, η₀·s₁), (b₂, η₀·s₁·s₂), … by straight lines or half cosines.

    Args:
      interpolate_type: "linear" or "cosine"; another raises a ValueError.
      boundaries_and_scales: {bᵢ: sᵢ}, step to factor; a negative factor raises a ValueError.

    >>> import gradtx
    >>> gradtx.piecewise_interpolate_schedule("linear", 1.0, {4: 0.5, 8: 0.5})([0, 2, 4, 6, 8]).tolist()
    [1.0, 0.75, 0.5, 0.375, 0.25]
    """
    owner = "piecewise_interpolate_schedule"
    check_easing(owner, interpolate_type)
    pairs = sorted_pairs(owner, boundaries_and_scales)
    return lambda count: interpolate(count, interpolate_type, init_value, pairs)

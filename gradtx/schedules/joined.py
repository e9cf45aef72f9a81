"""Schedules one after another, and a warm-up before any of them."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Duration, Interval, NonNegative, Positive, Real, number_of_steps
from gradtx.core.schedule import as_schedule, schedule
from gradtx.schedules.decays import constant_schedule, cosine_decay_schedule, exponential_decay, polynomial_schedule
from gradtx.schedules.shapes import DURATION, between, increasing, int32, remaining

__all__ = [
    "join_schedules",
    "sgdr_schedule",
    "warmup",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]


# One after another


@schedule
def join_schedules(schedules: Sequence[Any], boundaries: Sequence[float]) -> Any:
    """One schedule after another: sᵢ(t − bᵢ) from boundary bᵢ to the next. Each counts from 0.

    A schedule is evaluated only at counts within its own stretch: what it does elsewhere does not matter.

    Args:
      schedules: schedules, functions of the count, or numbers.
      boundaries: the steps at which the second, third, … take over, one fewer than schedules; two may be equal.

    >>> import gradtx
    >>> gradtx.join_schedules([1.0, gradtx.linear_schedule(0.5, 0.0, 10)], [100])([0, 99, 100, 105]).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """
    bounds = increasing("join_schedules", "boundaries", boundaries)
    if len(schedules) != len(bounds) + 1:
        raise ValueError(f"join_schedules: {len(schedules)} schedules need one boundary less, got {len(bounds)}")
    parts = [as_schedule(s) if callable(s) else constant_schedule(s) for s in schedules]
    stretches = list(pairwise([0, *map(int32, bounds), None]))

    def value(count: jax.Array) -> jax.Array:
        joined: Any = 0.0
        for part, (begin, end) in zip(parts, stretches, strict=True):
            mine = count >= begin if end is None else (count >= begin) & (count < end)
            joined = jnp.where(mine, part(jnp.where(mine, count, begin) - begin), joined)
        return joined

    return value


@schedule
def warmup(schedule: Any, warmup_steps: Duration, init_value: Real = 0.0, peak_value: Real | None = None) -> Any:
    """A linear warm-up before any schedule: η₀ + (s(0) − η₀)·t/W for t < W, then s(t − W).

    Args:
      schedule: s; a schedule, a function of the count, or a number. For another kind of rise, use `join_schedules`.
      warmup_steps: W; with 0 it is s itself.
      peak_value: where the rise ends, if not at s(0).

    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677

    >>> import gradtx
    >>> gradtx.warmup(gradtx.piecewise_constant_schedule(1.0, {10: 0.5}), 4)([0, 2, 4, 13, 14]).tolist()
    [0.0, 0.5, 1.0, 1.0, 0.5]
    """
    after = as_schedule(schedule) if callable(schedule) else constant_schedule(schedule)

    def rise(count: jax.Array) -> jax.Array:
        peak = after(jnp.zeros_like(count)) if peak_value is None else peak_value
        return between(init_value, peak, remaining(count, 0, warmup_steps))

    return join_schedules([rise, after], [warmup_steps])


@schedule
def warmup_constant_schedule(init_value: Real, peak_value: Real, warmup_steps: Duration) -> Any:
    """A linear warm-up, then constant: η₀ + (η − η₀)·t/W, η after W (with W = 0, too, where Optax stays at η₀).

    >>> import gradtx
    >>> gradtx.warmup_constant_schedule(0.0, 1.0, warmup_steps=4)([0, 1, 4, 99]).tolist()
    [0.0, 0.25, 1.0, 1.0]
    """
    return warmup(peak_value, warmup_steps, init_value)


@schedule
def warmup_cosine_decay_schedule(
    init_value: Real,
    peak_value: Real,
    warmup_steps: Duration,
    decay_steps: Duration,
    end_value: Real = 0.0,
    exponent: NonNegative = 1.0,
) -> Any:
    """A linear warm-up, then half a cosine: η_T + (η − η_T)·(½(1 + cos(π(t−W)/(T−W))))^p for t ≥ W, η_T after T.

    Args:
      warmup_steps: W.
      decay_steps: T, warm-up included; with T = W, the warm-up ends in a drop to η_T, and less raises a ValueError.
      exponent: p.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983

    >>> import gradtx
    >>> gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 4, decay_steps=20, end_value=0.5)([0, 2, 4, 20, 99]).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.5]
    """
    length = decay_steps - warmup_steps
    if length < 0:
        raise ValueError(f"warmup_cosine_decay_schedule: decay_steps is below warmup_steps by {-length}")
    decay = between(peak_value, end_value, cosine_decay_schedule(1.0, length, exponent=exponent))
    return warmup(decay, warmup_steps, init_value, peak_value)


@schedule
def warmup_exponential_decay_schedule(
    init_value: Real,
    peak_value: Real,
    warmup_steps: Duration,
    transition_steps: Interval,
    decay_rate: Positive,
    transition_begin: Duration = 0,
    staircase: bool = False,
    end_value: Real | None = None,
) -> Any:
    """A linear warm-up, then `exponential_decay`: η·rate^((t−W)/T) for t ≥ W. `transition_begin` counts from W.

    >>> import gradtx
    >>> gradtx.warmup_exponential_decay_schedule(0.0, 1.0, 4, 10, decay_rate=0.5)([0, 2, 4, 14]).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return warmup(decay, warmup_steps, init_value, peak_value)


@schedule
def warmup_stable_decay_schedule(
    init_value: Real,
    peak_value: Real,
    warmup_steps: Duration,
    stable_steps: Duration,
    decay_steps: Duration,
    end_value: Real = 0.0,
    power: NonNegative = 1.0,
) -> Any:
    """A linear warm-up, then constant, then a decay: η_T + (η − η_T)·(1 − t/D)^p, t counted from the decay's start.

    Args:
      decay_steps: D, of the decay alone; η_T after it.
      power: p; 1 is a straight line.

    Source: Hu et al. 2024, https://arxiv.org/abs/2404.06395; straight: Hägele et al. 2024,
    https://arxiv.org/abs/2405.18392

    >>> import gradtx
    >>> gradtx.warmup_stable_decay_schedule(0.0, 1.0, 4, stable_steps=10, decay_steps=2)([2, 4, 14, 15, 16]).tolist()
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    decay = polynomial_schedule(peak_value, end_value, power, decay_steps, stable_steps)
    return warmup(decay, warmup_steps, init_value, peak_value)


@schedule
def sgdr_schedule(cosine_kwargs: Sequence[dict[str, Any]]) -> Any:
    """Warm restarts: cosine decays one after another.

    Args:
      cosine_kwargs: a list with the arguments of `warmup_cosine_decay_schedule` for each cycle, which is its
        `decay_steps` long; anything else raises a ValueError.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983

    >>> import gradtx
    >>> cycles = [{"init_value": 0.0, "peak_value": p, "warmup_steps": 0, "decay_steps": 10} for p in (1.0, 0.5)]
    >>> gradtx.sgdr_schedule(cycles)([0, 10, 20]).tolist()
    [1.0, 0.5, 0.0]
    """
    if not isinstance(cosine_kwargs, (list, tuple)) or not all("decay_steps" in cycle for cycle in cosine_kwargs):
        raise ValueError("sgdr_schedule: cosine_kwargs must be a list of dictionaries with 'decay_steps' in each")
    lengths = [
        number_of_steps("sgdr_schedule", "decay_steps", cycle["decay_steps"], DURATION) for cycle in cosine_kwargs
    ]
    return join_schedules([warmup_cosine_decay_schedule(**c) for c in cosine_kwargs], list(accumulate(lengths))[:-1])

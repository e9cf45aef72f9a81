"""Schedules that rise and fall: one cycle, triangles, cosines with restarts."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Fraction, Period, Positive, Real, Steps
from gradtx.core.schedule import schedule
from gradtx.schedules.shapes import (
    between,
    bounded_power,
    check_easing,
    half_cosine,
    int32,
    interpolate,
    part_of,
    remaining,
)

__all__ = [
    "cosine_onecycle_schedule",
    "cosine_restarts_schedule",
    "cyclic_schedule",
    "linear_onecycle_schedule",
    "onecycle_schedule",
]

LAST_COUNT = 2**31 - 1


# One cycle


@schedule
def linear_onecycle_schedule(
    transition_steps: Steps,
    peak_value: Real,
    pct_start: Fraction = 0.3,
    pct_final: Fraction = 0.85,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Any:
    """One cycle in three straight lines: from η/d up to η, back to η/d, and down to η/(d·f).

    Args:
      transition_steps: T, the length of the cycle.
      pct_start: where the peak is, as a fraction of T, rounded down to a step.
      pct_final: where it is back at η/d, likewise; a value below `pct_start` raises a ValueError.
      div_factor: d.
      final_div_factor: f.

    Source: Smith & Topin 2018, https://arxiv.org/abs/1708.07120

    >>> import gradtx
    >>> gradtx.linear_onecycle_schedule(8, 1.0, 0.25, 0.5, div_factor=4.0, final_div_factor=2.0)([0, 2, 4, 8]).tolist()
    [0.25, 1.0, 0.25, 0.125]
    """
    if isinstance(pct_start, float) and isinstance(pct_final, float) and pct_final < pct_start:
        raise ValueError("linear_onecycle_schedule: pct_final must not be below pct_start")

    def value(count: jax.Array) -> Any:
        peak, back = part_of(pct_start, transition_steps), part_of(pct_final, transition_steps)
        pairs = [(peak, div_factor), (back, 1 / div_factor), (transition_steps, 1 / final_div_factor)]
        return interpolate(count, "linear", peak_value / div_factor, pairs)

    return value


@schedule
def cosine_onecycle_schedule(
    transition_steps: Steps,
    peak_value: Real,
    pct_start: Fraction = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Any:
    """One cycle in two half cosines: from η/d up to η, and down to η/(d·f). See `linear_onecycle_schedule`.

    >>> import gradtx
    >>> gradtx.cosine_onecycle_schedule(8, 1.0, 0.5, div_factor=4.0, final_div_factor=2.0)([0, 4, 8]).tolist()
    [0.25, 1.0, 0.125]
    """

    def value(count: jax.Array) -> Any:
        pairs = [
            (part_of(pct_start, transition_steps), div_factor),
            (transition_steps, 1 / (div_factor * final_div_factor)),
        ]
        return interpolate(count, "cosine", peak_value / div_factor, pairs)

    return value


@schedule
def onecycle_schedule(
    total_steps: Period,
    peak_value: Real,
    pct_start: Fraction = 0.3,
    interpolate_type: str = "cosine",
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
    three_phase: bool = False,
) -> Any:
    """One cycle with a peak that may lie between two steps: from η/d up to η, and down to η/(d·f). torch's OneCycleLR.

    The steps are 0, …, T−1: η at p·T−1, η/(d·f) at T−1 and after it. (torch fails after step T.)

    Args:
      total_steps: T.
      pct_start: p.
      interpolate_type: "cosine" or "linear"; another raises a ValueError.
      div_factor: d.
      final_div_factor: f.
      three_phase: fall back to η/d in as many steps as the rise took, at 2·p·T−2, and go on to the end from there; p
        above ½ then raises a ValueError.

    Source: Smith & Topin 2018, https://arxiv.org/abs/1708.07120

    >>> import gradtx
    >>> gradtx.onecycle_schedule(9, 1.0, 1 / 3, "linear", 4.0, final_div_factor=2.0)([0, 2, 8, 99]).tolist()
    [0.25, 1.0, 0.125, 0.125]
    """
    check_easing("onecycle_schedule", interpolate_type)
    if three_phase and isinstance(pct_start, float) and pct_start > 0.5:
        raise ValueError("onecycle_schedule: with three phases pct_start must not be above 0.5")

    def value(count: jax.Array) -> Any:
        peak, end = pct_start * float(total_steps) - 1.0, total_steps - 1
        down = [(2.0 * peak, 1 / div_factor), (end, 1 / final_div_factor)]
        if not three_phase:
            down = [(end, 1 / (div_factor * final_div_factor))]
        return interpolate(count, interpolate_type, peak_value / div_factor, [(peak, div_factor), *down])

    return value


# Repeating


@schedule
def cyclic_schedule(
    init_value: Real,
    peak_value: Real,
    up_steps: Period = 2000,
    down_steps: Steps | None = None,
    cycle_factor: Positive = 1.0,
    step_factor: Positive = 1.0,
) -> Any:
    """Repeating triangles: up from η₀ to η in straight lines and down again, of height (η − η₀)·c^k·sᵗ in cycle k.

    torch's CyclicLR: its "triangular" is the default, "triangular2" has c = ½, "exp_range" has s = gamma. Its momentum
    is the same with the roles changed: `cyclic_schedule(max_momentum, base_momentum, …)`.

    Args:
      up_steps: steps of the rise.
      down_steps: steps of the fall; None for as many. With 0 it drops without reaching the peak.
      cycle_factor: c, applied once for each completed cycle.
      step_factor: s, applied once for each earlier step.

    Source: Smith 2017, https://arxiv.org/abs/1506.01186

    >>> import gradtx
    >>> gradtx.cyclic_schedule(0.0, 1.0, 2, cycle_factor=0.5)([0, 1, 2, 3, 4, 5, 6]).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5]
    """
    fall = up_steps if down_steps is None else down_steps
    length = int32(up_steps + fall)

    def value(count: jax.Array) -> Any:
        cycle, step = count // length, count % length
        height = jnp.where(
            step < int32(up_steps), 1.0 - remaining(step, 0, up_steps), remaining(step, up_steps, length)
        )
        factors = bounded_power(cycle_factor, 1.0 * cycle) * bounded_power(step_factor, 1.0 * count)
        return init_value + (peak_value - init_value) * height * factors

    return value


@schedule
def cosine_restarts_schedule(
    init_value: Real,
    decay_steps: Period,
    length_factor: Period = 1,
    peak_factor: Positive = 1.0,
    alpha: Real = 0.0,
) -> Any:
    """Repeating cosine decays with warm restarts: η₀·(α + (1 − α)·m^k·½(1 + cos(πτ/(T·n^k)))) at step τ of cycle k.

    torch's CosineAnnealingWarmRestarts and Keras's CosineDecayRestarts. To specify each cycle separately, see
    `sgdr_schedule`.

    Args:
      decay_steps: T, the length of the first cycle.
      length_factor: n, a whole number: each cycle is n times as long as the one before.
      peak_factor: m, multiplies the height at each restart.
      alpha: α, the fraction of η₀ that a cycle falls to.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983

    >>> import gradtx
    >>> gradtx.cosine_restarts_schedule(1.0, 10, length_factor=2)([0, 5, 10, 20, 30]).round(2).tolist()
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    lengths = [decay_steps]
    while length_factor > 1 and sum(lengths) <= LAST_COUNT:  # 31 cycles at most
        lengths.append(lengths[-1] * length_factor)

    def place(count: jax.Array) -> tuple[Any, Any, Any]:
        """The cycle, the step in it and its length."""
        if length_factor == 1:
            return count // int32(decay_steps), count % int32(decay_steps), decay_steps
        starts = jnp.asarray([sum(lengths[:k]) for k in range(len(lengths))])
        cycle = jnp.sum(count[..., None] >= starts, axis=-1) - 1
        return cycle, count - starts[cycle], jnp.asarray(lengths, float)[cycle]

    def value(count: jax.Array) -> Any:
        cycle, step, length = place(count)
        height = bounded_power(peak_factor, 1.0 * cycle) * half_cosine((length - step) / length)
        return between(1.0, alpha, height) * init_value

    return value

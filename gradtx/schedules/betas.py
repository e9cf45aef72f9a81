"""Schedules for decays and bounds inside optimizers: NAdam's momentum, ADOPT's bound."""

from typing import Any

import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative, Real
from gradtx.core.schedule import schedule

__all__ = ["after_first_step", "power_schedule", "warming_momentum_schedule"]


@schedule
def warming_momentum_schedule(b1: Decay, momentum_decay: NonNegative = 4e-3, ahead: int = 0) -> Any:
    """The momentum of torch's NAdam, μₜ = β₁·(1 − ½·0.96^(ψ·t)), t = count + 1 + ahead. Rises from about β₁/2 to β₁.

    Args:
      b1: β₁.
      momentum_decay: ψ.
      ahead: steps to look ahead.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ

    >>> import gradtx
    >>> float(gradtx.warming_momentum_schedule(0.9, momentum_decay=0.0)(0)).__round__(4)
    0.45
    """
    return lambda count: b1 * (1 - 0.5 * 0.96 ** ((count + 1.0 + ahead) * momentum_decay))


@schedule
def after_first_step(value: Real) -> Any:
    """0 at the first step, then `value`. As the decay of an average, it makes the average start at its first input.

    Args:
      value: the value from the second step on.

    >>> import gradtx
    >>> gradtx.after_first_step(0.9)([0, 1, 2]).tolist()
    [0.0, 0.8999999761581421, 0.8999999761581421]
    """
    return lambda count: jnp.where(count > 0, value, 0.0)


@schedule
def power_schedule(exponent: NonNegative) -> Any:
    """A power of the step count, countᵖ: a bound that widens slowly, from 0.

    Args:
      exponent: p.

    >>> import gradtx
    >>> gradtx.power_schedule(0.25)([0, 1, 16]).tolist()
    [0.0, 1.0, 2.0]
    """
    return lambda count: jnp.asarray(count, float) ** exponent

"""The bounds of AdaBound, which tighten over the steps."""

from typing import Any

from gradtx.core.arguments import Positive
from gradtx.core.schedule import schedule

__all__ = ["lower_bound_schedule", "upper_bound_schedule"]


@schedule
def lower_bound_schedule(gamma: Positive) -> Any:
    """AdaBound's lower bound, relative to the final step size: 1 − 1/(γt + 1), t = count + 1. Rises from about 0 to 1.

    Args:
      gamma: γ, how fast it approaches 1.

    Source: Luo et al. 2019, https://arxiv.org/abs/1902.09843

    >>> import gradtx
    >>> float(gradtx.lower_bound_schedule(0.5)(1))
    0.5
    """
    return lambda count: gamma * (count + 1.0) / (gamma * (count + 1.0) + 1)


@schedule
def upper_bound_schedule(gamma: Positive) -> Any:
    """AdaBound's upper bound, relative to the final step size: 1 + 1/(γt), t = count + 1. Falls from about 1/γ to 1.

    Args:
      gamma: γ, how fast it approaches 1.

    Source: Luo et al. 2019, https://arxiv.org/abs/1902.09843

    >>> import gradtx
    >>> float(gradtx.upper_bound_schedule(0.5)(1))
    2.0
    """
    return lambda count: (gamma * (count + 1.0) + 1) / (gamma * (count + 1.0))

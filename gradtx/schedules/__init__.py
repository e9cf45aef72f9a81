"""Schedules: the value of a hyperparameter as a formula of the step count t = 0, 1, 2, …

`init_value` is η₀, `end_value` η_T, `peak_value` η: any numbers, the leaves of the schedule. Numbers of steps are
integers and part of its structure. Schedules combine: `join_schedules`, `warmup`, and arithmetic,
`0.5 * cosine_decay_schedule(…)`.
"""

from gradtx.schedules.decays import (
    constant_schedule,
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    exponential_decay,
    factor_schedule,
    inverse_power_decay,
    linear_onecycle_schedule,
    linear_schedule,
    multi_step_schedule,
    natural_exponential_decay,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
)
from gradtx.schedules.joined import (
    join_schedules,
    sgdr_schedule,
    warmup,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
    warmup_stable_decay_schedule,
)

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "factor_schedule",
    "inverse_power_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "multi_step_schedule",
    "natural_exponential_decay",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]

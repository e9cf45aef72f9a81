"""Schedules: the value of a hyperparameter as a function of the step count t = 0, 1, 2, …

`init_value` is η₀, `end_value` η_T, `peak_value` η: any numbers, the leaves of the schedule. Numbers of steps are
integers and part of its structure. Schedules combine: `join_schedules`, `warmup`, and arithmetic,
`0.5 * cosine_decay_schedule(…)`.

All of Optax's schedules have the same names here. Those that torch and Keras name differently, for base value η₀:

    StepLR                       exponential_decay(η₀, step_size, gamma, staircase=True)
    MultiStepLR                  multi_step_schedule(η₀, milestones, gamma)
    ExponentialLR                factor_schedule(η₀, gamma)
    ConstantLR                   join_schedules([factor·η₀, η₀], [total_iters])
    LinearLR                     linear_schedule(start_factor·η₀, end_factor·η₀, total_iters)
    PolynomialLR                 polynomial_schedule(η₀, 0, power, total_iters)
    CosineAnnealingLR            cosine_decay_schedule(η₀, T_max, eta_min/η₀); past T_max torch's rises again
    CosineAnnealingWarmRestarts  cosine_restarts_schedule(η₀, T_0, T_mult, alpha=eta_min/η₀)
    CyclicLR                     cyclic_schedule(base_lr, max_lr, step_size_up, step_size_down)
    OneCycleLR                   onecycle_schedule(total_steps, max_lr, pct_start)
    LambdaLR                     η₀ * as_schedule(lr_lambda)
    MultiplicativeLR             factor_schedule, or a schedule of the cumulative products of its factors
    SequentialLR                 join_schedules(schedules, milestones)
    ChainedScheduler             the product of the schedules, all but one of base value 1: a * b
    ReduceLROnPlateau            reduce_on_plateau, a transformation

    ExponentialDecay             exponential_decay(η₀, decay_steps, decay_rate, staircase=staircase)
    InverseTimeDecay             inverse_power_decay(η₀, decay_rate/decay_steps, power=1)
    PolynomialDecay              polynomial_schedule(η₀, end, power, decay_steps)
    PiecewiseConstantDecay       join_schedules(values, [b + 1 for b in boundaries])
    CosineDecay                  cosine_decay_schedule(η₀, decay_steps, alpha), with a warm-up:
                                 warmup_cosine_decay_schedule(η₀, target, W, W + decay_steps, alpha·target)
    CosineDecayRestarts          cosine_restarts_schedule(η₀, first_decay_steps, t_mul, m_mul, alpha)
"""

from gradtx.schedules.betas import after_first_step, power_schedule, warming_momentum_schedule
from gradtx.schedules.bounds import lower_bound_schedule, upper_bound_schedule
from gradtx.schedules.cycles import (
    cosine_onecycle_schedule,
    cosine_restarts_schedule,
    cyclic_schedule,
    linear_onecycle_schedule,
    onecycle_schedule,
)
from gradtx.schedules.decays import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    factor_schedule,
    inverse_power_decay,
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
    "after_first_step",
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "cosine_restarts_schedule",
    "cyclic_schedule",
    "exponential_decay",
    "factor_schedule",
    "inverse_power_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "lower_bound_schedule",
    "multi_step_schedule",
    "natural_exponential_decay",
    "onecycle_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "power_schedule",
    "sgdr_schedule",
    "upper_bound_schedule",
    "warming_momentum_schedule",
    "warmup",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]

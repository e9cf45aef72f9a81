"""Wrappers: transformations that go around an optimizer, or last in a chain.

accumulate                 one step from many small batches
ema_params, lookahead      averages of the parameters, which eval_params reads
schedule_free, sam, mechanize, cautious
conditionally_transform, switch_at
apply_if_finite            guards: skip harmful steps
inject_hyperparams         hyperparameters that can be set in a running loop
monitor, snapshot          measurements during training
flatten, matrices_and_others
"""

from gradtx.wrappers.accumulate import (
    ApplyEvery,
    MultiSteps,
    MultiStepsState,
    accumulate,
    apply_every,
    skip_large_updates,
    skip_not_finite,
)
from gradtx.wrappers.apply_if_finite import apply_if_finite, skip_spikes
from gradtx.wrappers.cautious import cautious
from gradtx.wrappers.conditionally_transform import (
    ConditionallyMaskState,
    ConditionallyTransformState,
    conditionally_mask,
    conditionally_transform,
    selective_transform,
)
from gradtx.wrappers.ema_params import AverageState, ema_params, swa_params
from gradtx.wrappers.eval_params import eval_params
from gradtx.wrappers.flatten import flatten
from gradtx.wrappers.inject_hyperparams import inject_hyperparams
from gradtx.wrappers.lookahead import LookaheadParams, LookaheadState, lookahead
from gradtx.wrappers.matrices_and_others import matrices_and_others
from gradtx.wrappers.mechanize import mechanize
from gradtx.wrappers.monitor import metrics, monitor
from gradtx.wrappers.sam import SAMState, normalize, sam
from gradtx.wrappers.schedule_free import ScheduleFreeState, schedule_free, schedule_free_eval_params
from gradtx.wrappers.snapshot import measure_with_ema, snapshot
from gradtx.wrappers.switch_at import SwitchState, switch_at

__all__ = [
    "ApplyEvery",
    "AverageState",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "LookaheadParams",
    "LookaheadState",
    "MultiSteps",
    "MultiStepsState",
    "SAMState",
    "ScheduleFreeState",
    "SwitchState",
    "accumulate",
    "apply_every",
    "apply_if_finite",
    "cautious",
    "conditionally_mask",
    "conditionally_transform",
    "ema_params",
    "eval_params",
    "flatten",
    "inject_hyperparams",
    "lookahead",
    "matrices_and_others",
    "measure_with_ema",
    "mechanize",
    "metrics",
    "monitor",
    "normalize",
    "sam",
    "schedule_free",
    "schedule_free_eval_params",
    "selective_transform",
    "skip_large_updates",
    "skip_not_finite",
    "skip_spikes",
    "snapshot",
    "swa_params",
    "switch_at",
]

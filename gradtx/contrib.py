"""The names that scripts written for Optax take from `optax.contrib`; at home they are in `gradtx` itself."""

from gradtx.formulas.delayed import acprop, adopt, scale_by_acprop, scale_by_adopt
from gradtx.formulas.distance import dog, dowg, mechanize
from gradtx.formulas.dual_averaging import madgrad, scale_by_madgrad
from gradtx.formulas.orthogonal import muon, scale_by_muon
from gradtx.formulas.parameter_free import cocob, dadapt_adamw, prodigy, scale_by_cocob
from gradtx.formulas.second_order import hutchinson_estimator_diag_hessian, sophia
from gradtx.formulas.two_averages import ademamix, scale_by_ademamix, scale_by_simplified_ademamix, simplified_ademamix
from gradtx.momentum_models import momo, momo_adam
from gradtx.scaling import reduce_on_plateau
from gradtx.schedulefree import (
    ScheduleFreeState,
    schedule_free,
    schedule_free_adamw,
    schedule_free_eval_params,
    schedule_free_sgd,
)
from gradtx.sharpness import SAMState, normalize, sam

__all__ = [
    "SAMState",
    "ScheduleFreeState",
    "acprop",
    "ademamix",
    "adopt",
    "cocob",
    "dadapt_adamw",
    "dog",
    "dowg",
    "hutchinson_estimator_diag_hessian",
    "madgrad",
    "mechanize",
    "momo",
    "momo_adam",
    "muon",
    "normalize",
    "prodigy",
    "reduce_on_plateau",
    "sam",
    "scale_by_acprop",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_cocob",
    "scale_by_madgrad",
    "scale_by_muon",
    "scale_by_simplified_ademamix",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "simplified_ademamix",
    "sophia",
]

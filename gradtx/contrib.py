"""The names that scripts written for Optax import from `optax.contrib`; in this library they all belong to `gradtx`."""

from gradtx.atoms.hutchinson import hutchinson_estimator_diag_hessian
from gradtx.atoms.learning_rate import reduce_on_plateau
from gradtx.optimizers.acprop import acprop, scale_by_acprop
from gradtx.optimizers.ademamix import ademamix, scale_by_ademamix, scale_by_simplified_ademamix, simplified_ademamix
from gradtx.optimizers.adopt import adopt, scale_by_adopt
from gradtx.optimizers.cocob import cocob, scale_by_cocob
from gradtx.optimizers.dog import dog, dowg
from gradtx.optimizers.madgrad import madgrad, scale_by_madgrad
from gradtx.optimizers.momo import momo, momo_adam
from gradtx.optimizers.muon import muon, scale_by_muon
from gradtx.optimizers.prodigy import dadapt_adamw, prodigy
from gradtx.optimizers.schedule_free_adamw import schedule_free_adamw, schedule_free_sgd
from gradtx.optimizers.sophia import sophia
from gradtx.wrappers.mechanize import mechanize
from gradtx.wrappers.sam import SAMState, normalize, sam
from gradtx.wrappers.schedule_free import ScheduleFreeState, schedule_free, schedule_free_eval_params

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

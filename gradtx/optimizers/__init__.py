"""The optimizers: each is a formula of a few lines over the atoms, in a file of its own name.

A file holds the method of one paper and its closest relatives: whole optimizers (`adam`, `adamw`), and the same
without the learning rate (`scale_by_adam`). Arguments that many optimizers share are explained once, in README's
glossary.
"""

from gradtx.optimizers.acprop import acprop, scale_by_acprop
from gradtx.optimizers.adabelief import adabelief, scale_by_belief
from gradtx.optimizers.adabound import adabound, adaboundw, amsbound, amsboundw
from gradtx.optimizers.adadelta import adadelta, scale_by_adadelta
from gradtx.optimizers.adafactor import adafactor
from gradtx.optimizers.adagrad import adagrad
from gradtx.optimizers.adam import adam, adamw, scale_by_adam
from gradtx.optimizers.adam_atan2 import adam_atan2
from gradtx.optimizers.adamax import adamax, adamaxw, scale_by_adamax
from gradtx.optimizers.adamod import adamod
from gradtx.optimizers.adan import adan, scale_by_adan
from gradtx.optimizers.ademamix import ademamix, scale_by_ademamix, scale_by_simplified_ademamix, simplified_ademamix
from gradtx.optimizers.adopt import adopt, scale_by_adopt
from gradtx.optimizers.amsgrad import amsgrad, scale_by_amsgrad
from gradtx.optimizers.cocob import cocob, scale_by_cocob
from gradtx.optimizers.dog import dog, dowg, scale_by_distance_over_gradients, scale_by_dog, scale_by_dowg
from gradtx.optimizers.fromage import fromage
from gradtx.optimizers.lamb import lamb
from gradtx.optimizers.laprop import laprop
from gradtx.optimizers.lars import lars
from gradtx.optimizers.lbfgs import lbfgs, scale_by_lbfgs
from gradtx.optimizers.lion import lion, scale_by_lion
from gradtx.optimizers.madgrad import madgrad, scale_by_madgrad
from gradtx.optimizers.mars import extrapolate, mars
from gradtx.optimizers.momo import momentum_model, momo, momo_adam
from gradtx.optimizers.muon import muon, scale_by_muon
from gradtx.optimizers.nadam import nadam, nadamw, scale_by_nadam
from gradtx.optimizers.noisy_sgd import noisy_sgd
from gradtx.optimizers.novograd import divide_by_average_norm, novograd, scale_by_novograd
from gradtx.optimizers.optimistic import (
    optimistic_adam,
    optimistic_adam_v2,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from gradtx.optimizers.padam import padam
from gradtx.optimizers.polyak_sgd import polyak_sgd, scale_by_polyak
from gradtx.optimizers.prodigy import dadapt_adamw, prodigy
from gradtx.optimizers.qhadam import qhadam, scale_by_qhadam
from gradtx.optimizers.radam import radam, rectify, scale_by_radam
from gradtx.optimizers.rmsprop import rmsprop
from gradtx.optimizers.rprop import rprop, scale_by_rprop
from gradtx.optimizers.schedule_free_adamw import schedule_free_adamw, schedule_free_sgd
from gradtx.optimizers.sgd import sgd
from gradtx.optimizers.sign_sgd import sign_sgd, signum
from gradtx.optimizers.sm3 import scale_by_sm3, sm3
from gradtx.optimizers.sophia import inverse_curvature, scale_by_sophia, sophia
from gradtx.optimizers.stable_adamw import stable_adamw
from gradtx.optimizers.yogi import scale_by_yogi, yogi

__all__ = [
    "acprop",
    "adabelief",
    "adabound",
    "adaboundw",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adam_atan2",
    "adamax",
    "adamaxw",
    "adamod",
    "adamw",
    "adan",
    "ademamix",
    "adopt",
    "amsbound",
    "amsboundw",
    "amsgrad",
    "cocob",
    "dadapt_adamw",
    "divide_by_average_norm",
    "dog",
    "dowg",
    "extrapolate",
    "fromage",
    "inverse_curvature",
    "lamb",
    "laprop",
    "lars",
    "lbfgs",
    "lion",
    "madgrad",
    "mars",
    "momentum_model",
    "momo",
    "momo_adam",
    "muon",
    "nadam",
    "nadamw",
    "noisy_sgd",
    "novograd",
    "optimistic_adam",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "padam",
    "polyak_sgd",
    "prodigy",
    "qhadam",
    "radam",
    "rectify",
    "rmsprop",
    "rprop",
    "scale_by_acprop",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_adan",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_amsgrad",
    "scale_by_belief",
    "scale_by_cocob",
    "scale_by_distance_over_gradients",
    "scale_by_dog",
    "scale_by_dowg",
    "scale_by_lbfgs",
    "scale_by_lion",
    "scale_by_madgrad",
    "scale_by_muon",
    "scale_by_nadam",
    "scale_by_novograd",
    "scale_by_optimistic_gradient",
    "scale_by_polyak",
    "scale_by_qhadam",
    "scale_by_radam",
    "scale_by_rprop",
    "scale_by_simplified_ademamix",
    "scale_by_sm3",
    "scale_by_sophia",
    "scale_by_yogi",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "sgd",
    "sign_sgd",
    "signum",
    "simplified_ademamix",
    "sm3",
    "sophia",
    "stable_adamw",
    "yogi",
]

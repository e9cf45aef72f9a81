"""Tuning: how to find good hyperparameters.

lr_range_test           raises the learning rate from step to step and suggests one
sweep                   many settings in one compilation, and a table of the results
uniform, log_uniform    the distributions that a sweep samples from
"""

from gradtx.tuning.lr_range_test import LRRangeTest, lr_range_test
from gradtx.tuning.spaces import log_uniform, uniform
from gradtx.tuning.sweep import SweepResult, sweep

__all__ = [
    "LRRangeTest",
    "SweepResult",
    "log_uniform",
    "lr_range_test",
    "sweep",
    "uniform",
]

"""Tuning: how to find the numbers to train with.

lr_range_test           raises the learning rate from step to step and suggests one
sweep                   many settings in one compile, and the table of what came out
uniform, log_uniform    what a sweep draws its samples from
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

"""Training: a compiled step, a compiled loop, when to stop, and how to find the numbers to train with.

make_step        a jitted, donating training step; the optimizer goes through it as a pytree
minimize         the whole loop compiled, with its history
EarlyStopping    watches a validation loss and keeps the best parameters
lr_range_test    raises the rate from step to step and suggests one
sweep            many settings in one compile, and the table of what came out
"""

from gradtx.training.early_stopping import EarlyStopping
from gradtx.training.lr_range_test import LRRangeTest, lr_range_test
from gradtx.training.minimize import History, Minimum, minimize
from gradtx.training.spaces import log_uniform, uniform
from gradtx.training.step import Step, make_step
from gradtx.training.sweep import SweepResult, sweep

__all__ = [
    "EarlyStopping",
    "History",
    "LRRangeTest",
    "Minimum",
    "Step",
    "SweepResult",
    "log_uniform",
    "lr_range_test",
    "make_step",
    "minimize",
    "sweep",
    "uniform",
]

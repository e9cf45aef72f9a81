"""Training: a compiled step, a compiled loop, and when to stop.

make_step        a jitted, donating training step, to which the optimizer is passed as a pytree
minimize         the whole loop, compiled, with its history
EarlyStopping    watches a validation loss and keeps the best parameters
"""

from gradtx.training.early_stopping import EarlyStopping
from gradtx.training.minimize import History, Minimum, minimize
from gradtx.training.step import Step, make_step

__all__ = [
    "EarlyStopping",
    "History",
    "Minimum",
    "Step",
    "make_step",
    "minimize",
]

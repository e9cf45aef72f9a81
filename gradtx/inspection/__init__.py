"""Optimizers by name, and a table of what any of them keeps for a model, with sizes."""

from gradtx.inspection.describe import Description, describe
from gradtx.inspection.registry import get, optimizers

__all__ = [
    "Description",
    "describe",
    "get",
    "optimizers",
]

"""Optimizers by name, and a table of what any one keeps and costs for a model."""

from gradtx.inspection.describe import Description, describe
from gradtx.inspection.registry import get, optimizers

__all__ = [
    "Description",
    "describe",
    "get",
    "optimizers",
]

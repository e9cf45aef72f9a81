"""What there is and what it costs: optimizers by name, and a table of any one for a model."""

from gradtx.inspection.describe import Description, describe
from gradtx.inspection.registry import get, optimizers

__all__ = [
    "Description",
    "describe",
    "get",
    "optimizers",
]

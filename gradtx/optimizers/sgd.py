"""Gradient descent, with and without momentum."""

from typing import Any

from gradtx.atoms.averages import trace
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["sgd"]


@optimizer
def sgd(
    learning_rate: NonNegative,
    momentum: Decay | None = None,
    nesterov: bool = False,
    accumulator_dtype: Dtype | None = None,
) -> Any:
    """Gradient descent, θ ← θ − η·g; with momentum, b ← μ·b + g, θ ← θ − η·b. For full batches and minibatches alike.

    Args:
      learning_rate: η.
      momentum: μ; None for plain descent, without state.
      nesterov: Nesterov's accelerated gradient: θ ← θ − η·(g + μ·b).
      accumulator_dtype: dtype of b.

    Source: Robbins & Monro 1951, https://doi.org/10.1214/aoms/1177729586; momentum: Polyak 1964,
    https://doi.org/10.1016/0041-5553(64)90137-5; Nesterov's form: Sutskever et al. 2013,
    https://proceedings.mlr.press/v28/sutskever13.html

    >>> import gradtx
    >>> gradtx.sgd(0.1, momentum=0.9).formula
    chain(trace(decay=0.9), scale_by_learning_rate(learning_rate=0.1))
    """
    if momentum is None:
        return chain(scale_by_learning_rate(learning_rate))
    return chain(trace(momentum, nesterov, accumulator_dtype), scale_by_learning_rate(learning_rate))

"""AdaGrad: divide by the root of the sum of all squared gradients."""

from typing import Any

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import scale_by_rss
from gradtx.core.arguments import NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["adagrad"]


@optimizer
def adagrad(
    learning_rate: NonNegative,
    initial_accumulator_value: NonNegative = 0.1,
    eps: NonNegative = 1e-7,
    *,
    eps_in_sqrt: bool = True,
) -> Any:
    """Per-element step sizes that shrink as squared gradients add up: s ← s + g², θ ← θ − η·g/√(s + ε).

    Args:
      learning_rate: η.
      initial_accumulator_value: initial value of s (torch: 0).
      eps: ε.
      eps_in_sqrt: False for torch's √s + ε.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html

    >>> import gradtx
    >>> gradtx.adagrad(0.1).formula
    chain(scale_by_rss(), scale_by_learning_rate(learning_rate=0.1))
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt),
        scale_by_learning_rate(learning_rate),
    )

"""SM3: AdaGrad with a number for each row and each column instead of each element.

preconditioner = chain( square, covering_sum, inverse_root )      1 / √ of a bound on the sum of squares
"""

from typing import Any

from gradtx.atoms.averages import ema, saturate
from gradtx.atoms.factored import covering_sum
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.core.arguments import Decay, Fraction, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["scale_by_sm3", "sm3"]


@transformation
def scale_by_sm3(b1: Decay = 0.9, b2: Fraction = 1.0, eps: NonNegative = 1e-8) -> Any:
    """The average of gradients, each divided by the root of a bound on the sum of squares. See `sm3`.

    Args:
      b1: β₁, decay of the average.
      b2: β₂; below 1, squares are averaged instead of summed.
      eps: ε, inside the root.

    State: one slot per parameter, and a number for each row, each column, … of each leaf.

    Source: Anil et al. 2019, https://arxiv.org/abs/1901.11150
    """
    preconditioner = chain(square(), covering_sum(b2), inverse_root(eps=0.0, eps_root=eps))
    return chain(product(saturate(), preconditioner), ema(b1, debias=False))


@optimizer
def sm3(learning_rate: NonNegative, momentum: Decay = 0.9) -> Any:
    """AdaGrad in little memory: the sum of squares is replaced by a bound from one number per row, column, …:
    s = g² + minᵢ mᵢ, with mᵢ the maximum of s over all axes but i; m ← β·m + (1−β)·g/√(s + ε), θ ← θ − η·m.

    Args:
      learning_rate: η; may be a schedule.
      momentum: β.

    State: one slot per parameter (the average), and a number for each row, each column, … of each leaf. Scalars and
    empty leaves are treated like any other; so are complex ones, with |g|² for g².

    Source: Anil et al. 2019 (SM3-II), https://arxiv.org/abs/1901.11150

    >>> import gradtx
    >>> gradtx.scale_by_sm3().formula
    chain(
        product(
            saturate(),
            chain(square(), covering_sum(), inverse_root(eps=0.0, eps_root=1e-08)),
        ),
        ema(decay=0.9, debias=False),
    )
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))

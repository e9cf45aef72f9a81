"""Steps along a sign: that of the gradient (signSGD) or of its average (Signum)."""

from typing import Any

from gradtx.atoms.averages import scale_by_momentum
from gradtx.atoms.directions import scale_by_sign
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["sign_sgd", "signum"]


@optimizer
def sign_sgd(learning_rate: NonNegative) -> Any:
    """Move every element by the same amount, against the sign of its gradient: θ ← θ − η·sign(g).

    Args:
      learning_rate: η, in units of the parameters.

    Source: Bernstein et al. 2018, https://arxiv.org/abs/1802.04434

    >>> import gradtx
    >>> gradtx.sign_sgd(1e-3).formula
    chain(scale_by_sign(), scale_by_learning_rate(learning_rate=0.001))
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@optimizer
def signum(learning_rate: NonNegative, beta: Decay = 0.9, accumulator_dtype: Dtype | None = None) -> Any:
    """Move every element by the same amount, against the sign of its momentum: m ← β·m + (1−β)·g, θ ← θ − η·sign(m).

    Args:
      learning_rate: η, in units of the parameters.
      beta: β.
      accumulator_dtype: dtype of m.

    State: one slot per parameter.

    Source: Bernstein et al. 2018, https://arxiv.org/abs/1802.04434

    >>> import gradtx
    >>> gradtx.signum(1e-3).formula
    chain(scale_by_momentum(), scale_by_sign(), scale_by_learning_rate(learning_rate=0.001))
    """
    momentum = scale_by_momentum(beta, accumulator_dtype=accumulator_dtype)
    return chain(momentum, scale_by_sign(), scale_by_learning_rate(learning_rate))

"""Padam: AMSGrad with a power of its preconditioner, between SGD and Adam."""

from typing import Any

from gradtx.atoms.averages import running_max, scale_by_momentum
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import corrected_preconditioner, inverse_root, power
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer

__all__ = ["padam"]


@optimizer
def padam(
    learning_rate: NonNegative = 0.1,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    partial: NonNegative = 0.125,
    eps: NonNegative = 1e-8,
) -> Any:
    """AMSGrad with its preconditioner raised to the power 2p, between momentum and AMSGrad: x ← max(x, v),
    θ ← θ − η·√(1−β₂ᵗ)/(1−β₁ᵗ)·m/(√x + ε)²ᵖ.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      partial: p; ½ is AMSGrad, 0 momentum.
      eps: ε.

    State: three slots per parameter.

    Source: Chen et al. 2020, https://arxiv.org/abs/1806.06763, with the corrections of the authors' code,
    https://github.com/uclaml/Padam

    >>> import gradtx
    >>> gradtx.padam().formula.transformations[0].transformations[1]
    chain(
        square(),
        ema(decay=0.999, debias=False),
        running_max(),
        inverse_root(),
        power(exponent=0.25),
        bias_correction(decay=0.999, power=-0.5),
        bias_correction(decay=0.9),
    )
    """
    preconditioner = corrected_preconditioner(b1, b2, running_max(), inverse_root(eps), power(2.0 * partial))
    return chain(product(scale_by_momentum(b1), preconditioner), scale_by_learning_rate(learning_rate))

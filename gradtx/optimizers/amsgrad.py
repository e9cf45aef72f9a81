"""AMSGrad: Adam with the largest second moment so far."""

from typing import Any

from gradtx.atoms.averages import bias_correction, ema, running_max, scale_by_momentum
from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["amsgrad", "scale_by_amsgrad"]


@transformation
def scale_by_amsgrad(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Any:
    """Adam's direction times 1 / (√(x/(1−β₂ᵗ)) + ε), where x is the largest v so far. See `amsgrad`.

    State: three slots per parameter.

    Source: Reddi et al. 2018, https://arxiv.org/abs/1904.09237
    """
    corrected = [bias_correction(b2)] if bias_correction_nu else []
    return product(
        direction(b1, accumulator_dtype=mu_dtype) if bias_correction_mu else scale_by_momentum(b1, False, mu_dtype),
        chain(square(), ema(b2, debias=False), running_max(), *corrected, inverse_root(eps, eps_root)),
    )


@optimizer
def amsgrad(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Any:
    """Adam that divides by the largest root mean square so far: x ← max(x, v), θ ← θ − η·m̂/(√(x/(1−β₂ᵗ)) + ε).

    The maximum is taken before bias correction, as in the paper and in torch. Optax takes it afterwards, which is this
    formula with `running_max()` after `bias_correction(b2)`: early, overcorrected values then persist.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      bias_correction_mu: False for m in place of m̂, as in the paper.
      bias_correction_nu: False for √x + ε, as in the paper.

    Source: Reddi et al. 2018, https://arxiv.org/abs/1904.09237

    >>> import gradtx
    >>> gradtx.amsgrad(1e-3).formula
    chain(scale_by_amsgrad(), scale_by_learning_rate(learning_rate=0.001))
    """
    return chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        scale_by_learning_rate(learning_rate),
    )

"""NAdam: Adam with Nesterov momentum."""

from typing import Any

from gradtx.atoms.directions import nesterov_direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation
from gradtx.optimizers.adam import adam, adamw
from gradtx.schedules.betas import warming_momentum_schedule

__all__ = ["nadam", "nadamw", "scale_by_nadam"]


@transformation
def scale_by_nadam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    momentum_decay: NonNegative | None = None,
) -> Any:
    """NAdam's direction, [β₁·m/(1−β₁ᵗ⁺¹) + (1−β₁)·g/(1−β₁ᵗ)], times Adam's preconditioner.

    Arguments as for `nadam`. State: two slots per parameter.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    now = ahead = b1
    if momentum_decay is not None:
        now, ahead = (warming_momentum_schedule(b1, momentum_decay, ahead) for ahead in (0, 1))
    return product(nesterov_direction(b1, now, ahead, mu_dtype), inverse_rms(b2, eps, eps_root))


@optimizer
def nadam(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = True,
    momentum_decay: NonNegative | None = None,
) -> Any:
    """Adam with Nesterov momentum: θ ← θ − η·[β₁·m/(1−β₁ᵗ⁺¹) + (1−β₁)·g/(1−β₁ᵗ)]/(√v̂ + ε).

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      nesterov: False for plain Adam.
      momentum_decay: ψ of torch's variant, where μₜ = β₁·(1 − ½·0.96^(ψ·t)) replaces β₁ in the numerator (torch:
        4e-3); None for constant β₁.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ

    >>> import gradtx
    >>> gradtx.nadam(2e-3, momentum_decay=4e-3)
    nadam(learning_rate=0.002, momentum_decay=0.004)
    """
    if not nesterov:
        return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype)
    return chain(
        scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay),
        scale_by_learning_rate(learning_rate),
    )


@optimizer
def nadamw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
    momentum_decay: NonNegative | None = None,
) -> Any:
    """NAdam with decoupled weight decay, as in AdamW.

    Args:
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    The others as for `nadam`.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ; Loshchilov & Hutter 2019,
    https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.nadamw(1e-3).formula
    chain(
        scale_by_nadam(),
        add_decayed_weights(weight_decay=0.0001),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    if not nesterov:
        return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask)
    return chain(
        scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

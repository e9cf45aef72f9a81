"""LaProp: divide by the root mean square first, then average."""

from typing import Any

from gradtx.atoms.averages import ema, saturate
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer

__all__ = ["laprop"]


@optimizer
def laprop(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adam that normalises the gradients before averaging them, not afterwards: m ← β₁·m + (1−β₁)·g/(√v̂ + ε),
    θ ← θ − η·(m̂ + λ·θ).

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    Source: Ziyin et al. 2020, https://arxiv.org/abs/2002.04839

    >>> import gradtx
    >>> gradtx.laprop(4e-4).formula
    chain(
        product(saturate(), inverse_rms(eps=1e-15)),
        ema(decay=0.9),
        add_decayed_weights(),
        scale_by_learning_rate(learning_rate=0.0004),
    )
    """
    return chain(
        product(saturate(), inverse_rms(b2, eps)),
        ema(b1),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

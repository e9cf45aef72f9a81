"""StableAdamW: AdamW with update clipping, for gradients that are far larger than expected."""

from typing import Any

from gradtx.atoms.clipping import clip_preconditioner
from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer

__all__ = ["stable_adamw"]


@optimizer
def stable_adamw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-2,
    mask: Any = None,
) -> Any:
    """AdamW with update clipping, which shortens the step of a leaf whose gradient is far larger than √v̂:
    r = 1/(√v̂ + ε), θ ← θ − η·(m̂·r/max(1, RMS(g·r)) + λ·θ), with the root mean square over the leaf.

    (In the paper, the weight decay is reduced by the same factor.)

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    Source: Wortsman et al. 2023, https://arxiv.org/abs/2304.13013

    >>> import gradtx
    >>> gradtx.stable_adamw(1e-3).formula
    chain(
        product(
            chain(scale_by_momentum(), bias_correction(decay=0.9)),
            clip_preconditioner(preconditioner=inverse_rms(b2=0.99)),
        ),
        add_decayed_weights(weight_decay=0.01),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        product(direction(b1), clip_preconditioner(inverse_rms(b2, eps))),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

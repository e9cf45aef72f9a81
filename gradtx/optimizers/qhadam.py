"""QHAdam: Adam with quasi-hyperbolic averages, in the direction and in the preconditioner."""

from typing import Any

from gradtx.atoms.averages import ema, saturate
from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Fraction, NonNegative
from gradtx.core.combine import add, chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["qhadam", "scale_by_qhadam"]


@transformation
def scale_by_qhadam(
    b1: Decay = 0.995,
    b2: Decay = 0.999,
    nu1: Fraction = 0.7,
    nu2: Fraction = 1.0,
    eps: NonNegative = 1e-8,
) -> Any:
    """(ν₁·m̂ + (1−ν₁)·g) / (√(ν₂·v̂ + (1−ν₂)·g²) + ε). See `qhadam`. State: two slots per parameter.

    Source: Ma & Yarats 2019, https://arxiv.org/abs/1810.06801
    """
    blend = add(chain(direction(b1), scale(nu1)), chain(saturate(), scale(1 - nu1)))
    squares = add(chain(ema(b2), scale(nu2)), scale(1 - nu2))
    return product(blend, chain(square(), squares, inverse_root(eps)))


@optimizer
def qhadam(
    learning_rate: NonNegative,
    b1: Decay = 0.995,
    b2: Decay = 0.999,
    nu1: Fraction = 0.7,
    nu2: Fraction = 1.0,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adam that mixes the current gradient into the momentum and its square into the second moment:
    θ ← θ − η·((ν₁·m̂ + (1−ν₁)·g)/(√(ν₂·v̂ + (1−ν₂)·g²) + ε) + λ·θ).

    ν₁ = ν₂ = 1 is AdamW, ν₁ = 0, ν₂ = 1 RMSprop; the defaults are those that the authors recommend.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      nu1: ν₁, the weight of the momentum against the gradient.
      nu2: ν₂, the weight of the second moment against g².
      eps: ε.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    Source: Ma & Yarats 2019, https://arxiv.org/abs/1810.06801

    >>> import gradtx
    >>> gradtx.scale_by_qhadam().formula
    product(
        add(
            chain(
                chain(scale_by_momentum(decay=0.995), bias_correction(decay=0.995)),
                scale(step_size=0.7),
            ),
            chain(saturate(), scale(step_size=0.30000000000000004)),
        ),
        chain(
            square(),
            add(chain(ema(decay=0.999), scale(step_size=1.0)), scale(step_size=0.0)),
            inverse_root(),
        ),
    )
    """
    return chain(
        scale_by_qhadam(b1, b2, nu1, nu2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

"""Directions that blend averages of the gradient, a short one with a long one or with the gradient itself.

ademamix              m̂ + α·m of a far longer memory
simplified_ademamix   a heavy ball + α·g
qhadam                ν·m̂ + (1−ν)·g, and the same of the squares
grokfast              g + λ·m, in front of any optimizer
"""

from typing import Any

from gradtx.core.arguments import Decay, Dtype, Fraction, NonNegative, Real
from gradtx.core.combine import add, chain, identity, product
from gradtx.core.transformation import transformation
from gradtx.formulas.adam import direction
from gradtx.formulas.delayed import after_first_step
from gradtx.scaling import add_decayed_weights, scale, scale_by_learning_rate
from gradtx.statistics import ema, inverse_rms, inverse_root, saturate, scale_by_momentum, square, trace

__all__ = [
    "ademamix",
    "grokfast",
    "qhadam",
    "scale_by_ademamix",
    "scale_by_qhadam",
    "scale_by_simplified_ademamix",
    "simplified_ademamix",
]


# AdEMAMix


@transformation
def scale_by_ademamix(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Real = 6.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
) -> Any:
    """A short and a long average, with Adam's rate: (m̂₁ + α·m₂) / (√(v̂ + ε_root) + ε). See `ademamix`.

    State: three slots per parameter.

    Source: Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137
    """
    long = chain(scale_by_momentum(b3, accumulator_dtype=mu_dtype), scale(alpha))
    return product(add(direction(b1, accumulator_dtype=mu_dtype), long), inverse_rms(b2, eps, eps_root))


@transformation
def ademamix(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Real = 5.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """AdamW that also remembers very old gradients: θ ← θ − η·((m̂₁ + α·m₂)/(√v̂ + ε) + λ·θ).

    The long average m₂ is not corrected for its start, so that it fills slowly. The paper warms α up, and β₃ too:
    give schedules.

    Args:
      learning_rate: η.
      b1: β₁ of the short average.
      b2: β₂ of the squares.
      b3: β₃ of the long average; 0.999 suits short runs better.
      alpha: α, the weight of the long average.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of both averages.
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    Source: Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137

    >>> import gradtx
    >>> gradtx.scale_by_ademamix(alpha=5.0).formula
    product(
        add(
            chain(scale_by_momentum(), bias_correction(decay=0.9)),
            chain(scale_by_momentum(decay=0.9999), scale(step_size=5.0)),
        ),
        inverse_rms(),
    )
    """
    return chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def scale_by_simplified_ademamix(
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Real = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> Any:
    """A heavy ball and the gradient, with Adam's rate: (b + α·g) / (√(v̂ + ε_root) + ε), b ← β₁·b + g.

    State: two slots per parameter.

    Source: Morwani et al. 2025, https://arxiv.org/abs/2502.02431
    """
    return product(add(trace(b1), chain(saturate(), scale(alpha))), inverse_rms(b2, eps, eps_root))


@transformation
def simplified_ademamix(
    learning_rate: NonNegative,
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Real = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """AdEMAMix with one average: b ← β₁·b + g, θ ← θ − η·((b + α·g)/(√v̂ + ε) + λ·θ).

    b is a sum, 1/(1−β₁) times an average: η is as much smaller than Adam's.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      alpha: α, the weight of the gradient itself.
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    Source: Morwani et al. 2025, https://arxiv.org/abs/2502.02431

    >>> import gradtx
    >>> gradtx.scale_by_simplified_ademamix(alpha=2.0).formula
    product(
        add(trace(decay=0.99), chain(saturate(), scale(step_size=2.0))),
        inverse_rms(b2=0.95),
    )
    """
    return chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


# Quasi-hyperbolic Adam


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


@transformation
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
    """Adam whose momentum and second moment are each blended with what they average:
    θ ← θ − η·((ν₁·m̂ + (1−ν₁)·g)/(√(ν₂·v̂ + (1−ν₂)·g²) + ε) + λ·θ).

    ν₁ = ν₂ = 1 is AdamW, ν₁ = 0, ν₂ = 1 RMSprop; the defaults are those that the authors recommend.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      nu1: ν₁, the share of the momentum.
      nu2: ν₂, the share of the second moment.
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


# In front of an optimizer


@transformation
def grokfast(decay: Decay = 0.98, strength: NonNegative = 2.0) -> Any:
    """Amplify what is slow in the gradients: g + λ·m, m ← α·m + (1−α)·g, m starting from the first gradient.

    Goes in front of an optimizer: `chain(grokfast(), adamw(1e-3))`.

    Args:
      decay: α.
      strength: λ.

    State: one slot per parameter.

    Source: Lee et al. 2024, https://arxiv.org/abs/2405.20233

    >>> import gradtx
    >>> gradtx.grokfast().formula
    add(
        identity(),
        chain(ema(decay=after_first_step(value=0.98), debias=False), scale(step_size=2.0)),
    )
    """
    return add(identity(), chain(ema(after_first_step(decay), debias=False), scale(strength)))

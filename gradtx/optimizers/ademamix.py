"""AdEMAMix: a short average of the gradients plus a much longer one."""

from typing import Any

from gradtx.atoms.averages import saturate, scale_by_momentum, trace
from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["ademamix", "scale_by_ademamix", "scale_by_simplified_ademamix", "simplified_ademamix"]


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
    """A short and a long average, with Adam's preconditioner: (m̂₁ + α·m₂) / (√(v̂ + ε_root) + ε). See `ademamix`.

    State: three slots per parameter.

    Source: Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137
    """
    long = chain(scale_by_momentum(b3, accumulator_dtype=mu_dtype), scale(alpha))
    return product(add(direction(b1, accumulator_dtype=mu_dtype), long), inverse_rms(b2, eps, eps_root))


@optimizer
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
    """AdamW with a second, much longer average m₂ of the gradients: θ ← θ − η·((m̂₁ + α·m₂)/(√v̂ + ε) + λ·θ).

    The long average m₂ is not bias-corrected, so it builds up slowly. The paper also warms up α and β₃: pass
    schedules for that.

    Args:
      learning_rate: η.
      b1: β₁, decay of the short average.
      b2: β₂, decay of the average of squares.
      b3: β₃, decay of the long average; 0.999 suits short runs better.
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
    """Heavy-ball momentum plus gradient, with Adam's preconditioner: (b + α·g) / (√(v̂ + ε_root) + ε), b ← β₁·b + g.

    State: two slots per parameter.

    Source: Morwani et al. 2025, https://arxiv.org/abs/2502.02431
    """
    return product(add(trace(b1), chain(saturate(), scale(alpha))), inverse_rms(b2, eps, eps_root))


@optimizer
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
    """AdEMAMix with a single momentum: b ← β₁·b + g, θ ← θ − η·((b + α·g)/(√v̂ + ε) + λ·θ).

    b is a sum, 1/(1−β₁) times an average, so η must be smaller than Adam's by the same factor.

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

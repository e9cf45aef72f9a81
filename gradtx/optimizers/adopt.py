"""ADOPT: Adam whose preconditioner excludes the current gradient.

scale_by_adopt = chain( product( identity, 1 / √ of the average before this step ), clip, momentum )
"""

from typing import Any

from gradtx.atoms.averages import delayed_ema, saturate, scale_by_momentum
from gradtx.atoms.clipping import clip_by_bounds
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation
from gradtx.schedules.betas import after_first_step, power_schedule

__all__ = ["adopt", "scale_by_adopt"]

FOURTH_ROOT = power_schedule(0.25)


@transformation
def scale_by_adopt(
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: NonNegative = 1e-6,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Real = FOURTH_ROOT,
) -> Any:
    """Momentum of preconditioned gradients: m ← β₁·m + (1−β₁)·clip(g/max(√v, ε), ±c(t)). See `adopt`.

    State: two slots per parameter.

    Source: Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853
    """
    # max(√v, ε) is the root of max(v, ε²). The first gradient only initialises v: it is scaled by 1/√∞ = 0.
    preconditioner = chain(
        square(),
        delayed_ema(after_first_step(b2)),
        clip_by_bounds(lower=eps * eps),
        inverse_root(eps=0.0),
    )
    bounds = [clip_by_bounds(-1.0 * clip_value_fn, clip_value_fn)] if use_clipping else []
    return chain(product(saturate(), preconditioner), *bounds, scale_by_momentum(b1, nesterov, mu_dtype))


@optimizer
def adopt(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: NonNegative = 1e-6,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Real = FOURTH_ROOT,
) -> Any:
    """Adam that converges with any β₂: each gradient is divided by the root mean square of earlier ones, then averaged:
    m ← β₁·m + (1−β₁)·clip(g/max(√v, ε), ±c), θ ← θ − η·m, v ← β₂·v + (1−β₂)·g².

    The first gradient initialises v and moves nothing.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε, the smallest divisor.
      mu_dtype: dtype of m.
      nesterov: look ahead: β₁·m + (1−β₁)·u with the m just computed.
      use_clipping: False for no clipping.
      clip_value_fn: c as a function of the number t of earlier steps; by default t^¼.

    Source: Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853

    >>> import gradtx
    >>> gradtx.scale_by_adopt(use_clipping=False).formula.transformations[0]
    product(
        saturate(),
        chain(
            square(),
            delayed_ema(decay=after_first_step(value=0.9999)),
            clip_by_bounds(lower=1e-12),
            inverse_root(eps=0.0),
        ),
    )
    """
    return chain(
        scale_by_adopt(
            b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn
        ),
        scale_by_learning_rate(learning_rate),
    )

"""NovoGrad: Adam with one second moment for each layer."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.atoms.averages import trace
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, sqrt
from gradtx.core.roles import Factored
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import real_like, zeros_like
from gradtx.schedules.betas import after_first_step

__all__ = ["divide_by_average_norm", "novograd", "scale_by_novograd"]


class AverageNormState(NamedTuple):
    """For each leaf, the average ν of ‖u‖²."""

    squared_norm: Factored  # a number for each leaf


@transformation
def divide_by_average_norm(decay: Decay = 0.25, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """Divide each leaf by the root of an average of its squared norm: u/(√(ν + ε_root) + ε), ν ← β·ν + (1−β)·‖u‖².

    Args:
      decay: β; `after_first_step(β)` makes ν start from the first ‖u‖² instead of 0.
      eps: ε.
      eps_root: ε_root, inside the root.

    State: one number for each leaf.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286
    """

    return leafwise(
        init=lambda p: AverageNormState(jnp.zeros((), zeros_like(real_like(p)).dtype)),
        before=lambda g: jnp.sum(abs_squared(g)),
        advance=lambda s, x: AverageNormState(average(decay, s.squared_norm, x)),
        emit=lambda s, g: bounded(g) / (sqrt(s.squared_norm, eps_root) + eps),
    )


@transformation
def scale_by_novograd(
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
) -> Any:
    """Heavy-ball momentum over normalised gradients with weight decay: m ← β₁·m + (g/(√ν + ε) + λ·θ). See `novograd`.

    State: one slot per parameter, one number for each leaf. Needs the parameters.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286
    """
    return chain(
        divide_by_average_norm(after_first_step(b2), eps, eps_root),
        add_decayed_weights(weight_decay),
        trace(b1, accumulator_dtype=mu_dtype),
    )


@optimizer
def novograd(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
) -> Any:
    """Adam with one second moment per layer, applied before the momentum: ν ← β₂·ν + (1−β₂)·‖g‖²,
    m ← β₁·m + (g/(√ν + ε) + λ·θ), θ ← θ − η·m.

    Args:
      learning_rate: η.
      b1: β₁; the momentum is a decaying sum, not an average.
      b2: β₂; ν starts from the first ‖g‖².
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ, added before the momentum.

    State: one slot per parameter, one number for each leaf. Needs the parameters.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286

    >>> import gradtx
    >>> gradtx.scale_by_novograd().formula
    chain(
        divide_by_average_norm(decay=after_first_step(value=0.25)),
        add_decayed_weights(),
        trace(decay=0.9),
    )
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay),
        scale_by_learning_rate(learning_rate),
    )

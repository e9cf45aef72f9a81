"""One rate for each layer, from norms of its parameters and gradients: Fromage, NovoGrad.

(LARS is in `descent`, LAMB in `adam`, distance over gradients in `distance`.)
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, sqrt
from gradtx.core.roles import Factored
from gradtx.core.transformation import transformation
from gradtx.core.tree import real_like, zeros_like
from gradtx.formulas.delayed import after_first_step
from gradtx.scaling import (
    add_decayed_weights,
    proximal_weight_decay,
    scale_by_learning_rate,
    scale_by_trust_ratio,
)
from gradtx.statistics import trace

__all__ = [
    "divide_by_average_norm",
    "fromage",
    "novograd",
    "scale_by_novograd",
]

# Fromage


@transformation
def fromage(learning_rate: NonNegative, min_norm: NonNegative = 1e-6) -> Any:
    """Each layer moves by a share of its own norm, and is then shortened by as much as it has grown:
    θ ← (θ − η·‖θ‖/‖g‖·g) / √(1 + η²).

    Args:
      learning_rate: η, relative; 0.01 is a good first guess everywhere.
      min_norm: norms below this count as this.

    Needs the parameters.

    Source: Bernstein et al. 2020, https://arxiv.org/abs/2002.03432

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.fromage(0.75)
    >>> x = jnp.array([4.0, 0.0])
    >>> updates, _ = tx.update(jnp.array([0.0, 9.0]), tx.init(x), x)
    >>> [f"{p:.3f}" for p in x + updates]  # a turn: its norm is still 4
    ['3.200', '-2.400']
    """
    growth = learning_rate**2 / (1 + (1 + learning_rate**2) ** 0.5)  # √(1 + η²) − 1, without its cancellation
    return chain(
        scale_by_trust_ratio(min_norm),
        scale_by_learning_rate(learning_rate),
        proximal_weight_decay(growth),
    )


# NovoGrad


class AverageNormState(NamedTuple):
    """For each leaf the average ν of ‖u‖²."""

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
    """A heavy ball of normalised gradients with weight decay: m ← β₁·m + (g/(√ν + ε) + λ·θ). See `novograd`.

    State: one slot per parameter, one number for each leaf. Needs the parameters.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286
    """
    return chain(
        divide_by_average_norm(after_first_step(b2), eps, eps_root),
        add_decayed_weights(weight_decay),
        trace(b1, accumulator_dtype=mu_dtype),
    )


@transformation
def novograd(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
) -> Any:
    """Adam's second moment for whole layers, and before the momentum: ν ← β₂·ν + (1−β₂)·‖g‖²,
    m ← β₁·m + (g/(√ν + ε) + λ·θ), θ ← θ − η·m.

    Args:
      learning_rate: η.
      b1: β₁, of a sum, not an average.
      b2: β₂; ν starts from the first ‖g‖².
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ, seen by the momentum.

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

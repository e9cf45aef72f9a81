"""AdaBelief: Adam whose preconditioner measures how far gradients are from their momentum."""

from typing import Any, NamedTuple

import jax

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, seen, sqrt, unseen
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import real_like, zeros_like

__all__ = ["adabelief", "scale_by_belief"]


class BeliefState(NamedTuple):
    """The momentum m and the variance s around it, with the weights for their bias correction."""

    momentum: Slot
    variance: Slot  # real
    momentum_weight: Weight  # 1−β₁ᵗ
    variance_weight: Weight  # 1−β₂ᵗ


@transformation
def scale_by_belief(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam's direction times 1 / (√ŝ + ε), s ← β₂·s + (1−β₂)·(g − m)² + ε_root. See `adabelief`.

    An atom of its own, because direction and preconditioner share one momentum. State: two slots per parameter.

    Source: Zhuang et al. 2020, https://arxiv.org/abs/2010.07468
    """

    def init(p: jax.Array) -> BeliefState:
        return BeliefState(zeros_like(p), zeros_like(real_like(p)), unseen(b1), unseen(b2))

    def count(s: BeliefState) -> BeliefState:
        return s._replace(momentum_weight=seen(b1, s.momentum_weight), variance_weight=seen(b2, s.variance_weight))

    def advance(s: BeliefState, g: jax.Array) -> BeliefState:
        m = average(b1, s.momentum, bounded(g))
        v = b2 * s.variance + ((1 - b2) * abs_squared(g - m) + eps_root)  # with v + ε_root, XLA computes v twice
        return s._replace(momentum=m, variance=v)

    def emit(s: BeliefState, g: jax.Array) -> jax.Array:
        m, weight = s.momentum, s.momentum_weight
        m_hat, v_hat = m / weight, s.variance / s.variance_weight
        if nesterov:
            m_hat = b1 * m / seen(b1, weight) + (1 - b1) * bounded(g) / weight
        return m_hat / (sqrt(v_hat) + eps)

    return leafwise(init=init, count=count, advance=advance, emit=emit)


@optimizer
def adabelief(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam with the variance of the gradients around their momentum in place of v, so that steps are long where
    gradients are as predicted: s ← β₂·s + (1−β₂)·(g − m)² + ε_root, θ ← θ − η·m̂/(√ŝ + ε).

    Args:
      learning_rate: η.
      b1: β₁; g − m uses the new m.
      b2: β₂.
      eps: ε, outside the root.
      eps_root: added to s at every step.
      nesterov: NAdam's direction.

    Source: Zhuang et al. 2020, https://arxiv.org/abs/2010.07468

    >>> import gradtx
    >>> gradtx.adabelief(1e-3).formula
    chain(scale_by_belief(), scale_by_learning_rate(learning_rate=0.001))
    """
    return chain(scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov), scale_by_learning_rate(learning_rate))

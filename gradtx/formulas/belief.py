"""AdaBelief: the rate from how far gradients are from what the momentum expects."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import transformation
from gradtx.core.tree import abs_squared, bounded, map_leaves, real_like, sqrt, zeros_like
from gradtx.scaling import scale_by_learning_rate
from gradtx.statistics import momentum_of

__all__ = ["adabelief", "scale_by_belief"]

Tree = Any


class BeliefState(NamedTuple):
    """The momentum m and the variance s around it, with the weights that correct them."""

    momentum: Tree  # like the parameters
    variance: Tree  # like the parameters, real
    momentum_weight: jax.Array  # 0-d, 1−β₁ᵗ
    variance_weight: jax.Array  # 0-d, 1−β₂ᵗ


@transformation(elementwise=True)
def scale_by_belief(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam's direction times 1 / (√ŝ + ε), s ← β₂·s + (1−β₂)·(g − m)² + ε_root. See `adabelief`.

    An atom of its own, because direction and rate share one momentum. State: two slots per parameter.

    Source: Zhuang et al. 2020, https://arxiv.org/abs/2010.07468
    """

    def init(params: Tree) -> BeliefState:
        unseen = (jnp.zeros(jnp.shape(b), float) for b in (b1, b2))
        return BeliefState(zeros_like(params), zeros_like(real_like(params)), *unseen)

    def update(updates: Tree, state: BeliefState, params: Tree = None) -> tuple[Tree, BeliefState]:
        m = momentum_of(b1, state.momentum, updates)
        # ε_root is added before the last sum: ending a state in "+ constant" makes XLA compute it twice, from a copy.
        s = map_leaves(lambda s, g, m: b2 * s + ((1 - b2) * abs_squared(g - m) + eps_root), state.variance, updates, m)
        m_weight, s_weight = (b * w + (1 - b) for b, w in ((b1, state.momentum_weight), (b2, state.variance_weight)))

        # Both directions are a·m + b·g.
        correct, a, b = 1 / s_weight, 1 / m_weight, 0.0
        if nesterov:
            a, b = b1 / (b1 * m_weight + (1 - b1)), (1 - b1) / m_weight
        u = map_leaves(lambda m, s, g: (a * m + b * bounded(g)) / (sqrt(correct * s) + eps), m, s, updates)
        return u, BeliefState(m, s, m_weight, s_weight)

    return init, update


@transformation
def adabelief(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
) -> Any:
    """Long steps where gradients are as expected: s ← β₂·s + (1−β₂)·(g − m)² + ε_root, θ ← θ − η·m̂/(√ŝ + ε).

    Args:
      learning_rate: η.
      b1: β₁; the surprise g − m is taken of the new m.
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

"""Adan: Nesterov's momentum from an average of the gradients and one of their changes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.weight_decay import proximal_weight_decay
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, after, average, bounded, seen, sqrt, unseen
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import real_like, zeros_like

__all__ = ["adan", "scale_by_adan"]


class AdanState(NamedTuple):
    """The averages m of g, v of its changes d and n of (g + (1−β₂)·d)², with the weights for their bias correction."""

    momentum: Slot
    change: Slot
    second_moment: Slot  # real
    last: Slot  # the gradients of the previous step
    momentum_weight: Weight  # 1−β₁ᵗ
    change_weight: Weight  # 1−β₂ᵗ
    second_moment_weight: Weight  # 1−β₃ᵗ


@transformation
def scale_by_adan(
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> Any:
    """Nesterov's momentum from averages of g and of its changes, divided by a root mean square of both. See `adan`.

    An atom of its own, because direction and preconditioner share the changes. State: four slots per parameter.

    Source: Xie et al. 2022, https://arxiv.org/abs/2208.06677
    """

    def init(p: jax.Array) -> AdanState:
        m, v, n, last = zeros_like(p), zeros_like(p), zeros_like(real_like(p)), zeros_like(p)
        return AdanState(m, v, n, last, unseen(b1), unseen(b2), unseen(b3))

    def count(s: AdanState) -> AdanState:
        return s._replace(
            momentum_weight=seen(b1, s.momentum_weight),
            change_weight=seen(b2, s.change_weight),
            second_moment_weight=seen(b3, s.second_moment_weight),
        )

    def advance(s: AdanState, g: jax.Array, n: Any) -> AdanState:
        d = jnp.where(n, g - s.last, 0)  # the first gradient has no change
        m = average(b1, s.momentum, bounded(g))
        v = average(b2, s.change, bounded(d))
        n = average(b3, s.second_moment, abs_squared(g + (1 - b2) * d))
        return s._replace(momentum=m, change=v, second_moment=n, last=after(g, v, n))

    def emit(s: AdanState) -> jax.Array:
        m_hat, v_hat = s.momentum / s.momentum_weight, s.change / s.change_weight
        n_hat = s.second_moment / s.second_moment_weight
        return (m_hat + (1 - b2) * v_hat) / (sqrt(n_hat, eps_root) + eps)

    return leafwise(init=init, numbers=lambda s: s.momentum_weight > 0, count=count, advance=advance, emit=emit)


@optimizer
def adan(
    learning_rate: NonNegative,
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adaptive Nesterov momentum: with the change d = g − g₋₁ and averages m of g, v of d, n of (g + (1−β₂)·d)²,
    θ ← (θ − η·(m̂ + (1−β₂)·v̂)/(√n̂ + ε)) / (1 + η·λ).

    Weight decay follows the paper. (Optax decays as AdamW does, θ − η·(u + λ·θ).)

    Args:
      learning_rate: η; larger than Adam's.
      b1: β₁, decay of m.
      b2: β₂, decay of v.
      b3: β₃, decay of n.
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ; 0.02 in the paper.
      mask: which leaves decay; see `masked`.

    State: four slots per parameter.

    Source: Xie et al. 2022, https://arxiv.org/abs/2208.06677

    >>> import gradtx
    >>> gradtx.adan(1e-3, weight_decay=0.5).formula
    chain(
        scale_by_adan(eps_root=1e-08),
        scale_by_learning_rate(learning_rate=0.001),
        proximal_weight_decay(weight_decay=0.0005),
    )
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root),
        scale_by_learning_rate(learning_rate),
        proximal_weight_decay(learning_rate * weight_decay, mask),
    )

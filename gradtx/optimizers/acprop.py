"""ACProp: AdaBelief's preconditioner, taken from earlier gradients only and applied to the gradient itself."""

from typing import Any

from gradtx.atoms.averages import delayed_ema, saturate, scale_by_momentum
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import add, chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["acprop", "scale_by_acprop"]


@transformation
def scale_by_acprop(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-16, eps_root: NonNegative = 1e-16) -> Any:
    """g / (√ŝ + ε) with AdaBelief's s from the previous step, s ← β₂·s + (1−β₂)·(g − m)² + ε_root. See `acprop`.

    State: two slots per parameter.

    Source: Zhuang et al. 2021, https://arxiv.org/abs/2110.05454
    """
    surprise = add(saturate(), chain(scale_by_momentum(b1), scale(-1.0)))
    preconditioner = chain(surprise, square(), delayed_ema(b2, unseen=1.0, eps=eps_root), inverse_root(eps))
    return product(saturate(), preconditioner)


@optimizer
def acprop(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Gradient descent with AdaBelief's preconditioner, taken from earlier gradients only: θ ← θ − η·g/(√ŝ + ε), then
    s ← β₂·s + (1−β₂)·(g − m)² + ε_root, with the m just computed. The first step divides by 1.

    (Optax uses the m of the previous step; g − m is then larger by a factor of 1/β₁, and every step smaller by β₁.)

    Args:
      learning_rate: η.
      b1: β₁, decay of m.
      b2: β₂, decay of s.
      eps: ε, outside the root.
      eps_root: added to s at every step.
      weight_decay: λ, decoupled as in AdamW.
      mask: which leaves decay; see `masked`.

    Source: Zhuang et al. 2021, https://arxiv.org/abs/2110.05454

    >>> import gradtx
    >>> gradtx.acprop(1e-3).formula
    chain(
        scale_by_acprop(),
        add_decayed_weights(),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_acprop(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

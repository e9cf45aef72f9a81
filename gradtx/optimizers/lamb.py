"""LAMB: Adam with a trust ratio for each layer."""

from typing import Any

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.trust_ratio import scale_by_trust_ratio
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer
from gradtx.optimizers.adam import scale_by_adam

__all__ = ["lamb"]


@optimizer
def lamb(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adam with a trust ratio per layer, for large batches: u = m̂/(√v̂ + ε) + λ·θ, θ ← θ − η·‖θ‖/‖u‖·u for each leaf.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    Source: You et al. 2020, https://arxiv.org/abs/1904.00962

    >>> import gradtx
    >>> gradtx.lamb(1e-3).formula
    chain(
        scale_by_adam(eps=1e-06),
        add_decayed_weights(),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )

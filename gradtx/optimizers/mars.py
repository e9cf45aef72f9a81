"""MARS: AdamW on variance-reduced gradients, corrected by their change since the previous step."""

from typing import Any

from gradtx.atoms.clipping import clip_by_block_norm
from gradtx.atoms.directions import difference
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import add, chain, identity
from gradtx.core.transformation import optimizer, transformation
from gradtx.optimizers.adam import scale_by_adam

__all__ = ["extrapolate", "mars"]


@transformation
def extrapolate(strength: NonNegative) -> Any:
    """Extrapolate the change in the updates: u + s·(u − u₋₁), where u₋₁ are those of the previous step, 0 at first.

    Args:
      strength: s.

    State: one slot per parameter.

    Source: Yuan et al. 2024, https://arxiv.org/abs/2411.10438 (its variance-reduced gradient)
    """
    return add(identity(), chain(difference(), scale(strength)))


@optimizer
def mars(
    learning_rate: NonNegative = 3e-3,
    b1: Decay = 0.95,
    b2: Decay = 0.99,
    gamma: NonNegative = 0.025,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """AdamW on variance-reduced gradients: c = g + γ·β₁/(1−β₁)·(g − g₋₁), clipped to norm 1 in each leaf, replaces g.

    This is MARS-AdamW with g₋₁ taken at the previous parameters (MARS-approx). The authors use plain AdamW for
    vectors; `partition` does that.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      gamma: γ; 0 is AdamW on clipped gradients.
      eps: ε.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    State: three slots per parameter.

    Source: Yuan et al. 2024, https://arxiv.org/abs/2411.10438

    >>> import gradtx
    >>> gradtx.mars(b1=0.5, gamma=0.25).formula
    chain(
        extrapolate(strength=0.25),
        clip_by_block_norm(max_norm=1.0),
        scale_by_adam(b1=0.5, b2=0.99),
        add_decayed_weights(),
        scale_by_learning_rate(learning_rate=0.003),
    )
    """
    return chain(
        extrapolate(gamma * b1 / (1 - b1)),
        clip_by_block_norm(1.0),
        scale_by_adam(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

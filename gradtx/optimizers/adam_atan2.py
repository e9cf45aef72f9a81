"""Adam-atan2: an arctangent in place of ε."""

from typing import Any

from gradtx.atoms.directions import arctan
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative, Positive
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer
from gradtx.optimizers.adam import scale_by_adam

__all__ = ["adam_atan2"]


@optimizer
def adam_atan2(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    a: Positive = 1.27,
    b: Positive = 1.0,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adam with an arctangent in place of ε: θ ← θ − η·(a·atan2(m̂, b·√v̂) + λ·θ). Steps do not depend on the scale of
    the gradients, however small they are.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      a: the size of a step; 1.27 ≈ 4/π makes it η where m̂ = √v̂.
      b: the ratio m̂/√v̂ around which the arctangent starts to flatten.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    Source: Everett et al. 2024, section 5, https://arxiv.org/abs/2407.05872

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam_atan2(1.0)
    >>> [tx.update(g, tx.init(g), g)[0].item() for g in (jnp.array(1e-12), jnp.array(1e12))]
    [-0.997..., -0.997...]
    """
    return chain(
        scale_by_adam(b1, b2, eps=0.0),
        scale(1.0 / b),
        arctan(),
        scale(a),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

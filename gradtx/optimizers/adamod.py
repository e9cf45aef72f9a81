"""AdaMod: Adam's step sizes, bounded by their own moving average."""

from typing import Any

from gradtx.atoms.averages import scale_by_momentum
from gradtx.atoms.clipping import clip_by_ema
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.preconditioners import corrected_preconditioner, inverse_root
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer

__all__ = ["adamod"]


@optimizer
def adamod(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    b3: Decay = 0.9999,
    eps: NonNegative = 1e-8,
) -> Any:
    """Adam whose per-element step sizes r are bounded by their own long-term average s:
    r = η·√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε), s ← β₃·s + (1−β₃)·r, θ ← θ − min(r, s)·m.

    The average starts from zero, so it also acts as a warm-up.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      b3: β₃, decay of s.
      eps: ε.

    State: three slots per parameter.

    Source: Ding et al. 2019, https://arxiv.org/abs/1910.12249

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamod(0.1, b3=0.5)
    >>> round(tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0].item(), 3)  # half of Adam's
    -0.05
    """
    preconditioner = chain(
        corrected_preconditioner(b1, b2, inverse_root(eps)),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        clip_by_ema(b3),
    )
    return chain(product(scale_by_momentum(b1), preconditioner), scale(-1.0))

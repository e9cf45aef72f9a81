"""Lion: the sign of a blend of momentum and gradient."""

from typing import Any

from gradtx.atoms.averages import scale_by_momentum
from gradtx.atoms.clipping import clip_by_bounds
from gradtx.atoms.directions import scale_by_sign, scale_by_smooth_sign
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative, OpenDecay
from gradtx.core.combine import add, chain
from gradtx.core.transformation import optimizer, transformation

__all__ = ["lion", "scale_by_lion"]


@transformation
def scale_by_lion(
    b1: Decay = 0.9,
    b2: OpenDecay = 0.99,
    mu_dtype: Dtype | None = None,
    *,
    mode: str = "hard",
    smooth_beta: NonNegative = 1.0,
) -> Any:
    """The sign of a blend of momentum and gradient: sign(β₁·m + (1−β₁)·g), then m ← β₂·m + (1−β₂)·g.

    The blend is computed from the new momentum, m' = β₂·m + (1−β₂)·g, as
    β₁·m + (1−β₁)·g = (β₁/β₂)·m' + (1−β₁/β₂)·g, so that the old one can be overwritten in place.

    Args:
      b1: β₁.
      b2: β₂, greater than 0.
      mu_dtype: dtype of m.
      mode: the sign function: "hard" for the sign itself, "smooth" for tanh(β·x), "refined" for x clipped to ±1.
      smooth_beta: β of "smooth".

    State: one slot per parameter.

    Raises:
      ValueError: `mode` is none of these.

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675
    """
    signs = {"hard": scale_by_sign(), "smooth": scale_by_smooth_sign(smooth_beta), "refined": clip_by_bounds(-1.0, 1.0)}
    if mode not in signs:
        raise ValueError(f"scale_by_lion: mode is one of {', '.join(map(repr, signs))}, got {mode!r}")
    ratio = b1 / b2
    momentum = chain(scale_by_momentum(b2, accumulator_dtype=mu_dtype), scale(ratio))
    return chain(add(momentum, scale(1 - ratio)), signs[mode])


@optimizer
def lion(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: OpenDecay = 0.99,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 1e-3,
    mask: Any = None,
) -> Any:
    """The sign of a blend of momentum and gradient, so that every element moves by the same amount:
    θ ← θ − η·(sign(β₁·m + (1−β₁)·g) + λ·θ).

    Args:
      learning_rate: η; about a tenth of AdamW's.
      b1: β₁, the share of the momentum in the blend.
      b2: β₂, decay of the momentum; greater than 0.
      mu_dtype: dtype of m.
      weight_decay: λ; about ten times AdamW's.
      mask: which leaves decay; see `masked`.

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675

    >>> import gradtx
    >>> gradtx.scale_by_lion(b1=0.5, b2=0.5).formula
    chain(
        add(chain(scale_by_momentum(decay=0.5), scale(step_size=1.0)), scale(step_size=0.0)),
        scale_by_sign(),
    )
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

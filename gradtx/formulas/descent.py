"""Gradient descent and its relatives without a rate per element: momentum, signs, layer-wise rates."""

from typing import Any

from gradtx.clipping import clip_by_bounds
from gradtx.core.arguments import Decay, Dtype, NonNegative, OpenDecay
from gradtx.core.combine import add, chain
from gradtx.core.select import masked
from gradtx.core.transformation import transformation
from gradtx.scaling import (
    add_decayed_weights,
    scale,
    scale_by_learning_rate,
    scale_by_sign,
    scale_by_smooth_sign,
    scale_by_trust_ratio,
)
from gradtx.statistics import scale_by_momentum, trace

__all__ = ["lars", "lion", "scale_by_lion", "sgd"]


@transformation
def sgd(
    learning_rate: NonNegative,
    momentum: Decay | None = None,
    nesterov: bool = False,
    accumulator_dtype: Dtype | None = None,
) -> Any:
    """Gradient descent, θ ← θ − η·g; with momentum, b ← μ·b + g, θ ← θ − η·b. Full, stochastic or minibatch alike.

    Args:
      learning_rate: η.
      momentum: μ; None for plain descent, without state.
      nesterov: Nesterov's accelerated gradient: θ ← θ − η·(g + μ·b).
      accumulator_dtype: dtype of b.

    Source: Robbins & Monro 1951, https://doi.org/10.1214/aoms/1177729586; momentum: Polyak 1964,
    https://doi.org/10.1016/0041-5553(64)90137-5; Nesterov's form: Sutskever et al. 2013,
    https://proceedings.mlr.press/v28/sutskever13.html

    >>> import gradtx
    >>> gradtx.sgd(0.1, momentum=0.9).formula
    chain(trace(decay=0.9), scale_by_learning_rate(learning_rate=0.1))
    """
    if momentum is None:
        return chain(scale_by_learning_rate(learning_rate))
    return chain(trace(momentum, nesterov, accumulator_dtype), scale_by_learning_rate(learning_rate))


@transformation
def lars(
    learning_rate: NonNegative,
    weight_decay: NonNegative = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: NonNegative = 0.001,
    eps: NonNegative = 0.0,
    trust_ratio_mask: Any = True,
    momentum: Decay = 0.9,
    nesterov: bool = False,
) -> Any:
    """Layer-wise rates for large batches: each leaf moves in proportion to its own norm, b ← μ·b + η·c·‖θ‖/‖u‖·u with
    u = g + λ·θ.

    Args:
      learning_rate: η.
      weight_decay: λ.
      weight_decay_mask: which leaves decay; see `masked`.
      trust_coefficient: c.
      eps: added to ‖u‖.
      trust_ratio_mask: which leaves are scaled by their trust ratio.
      momentum: μ.
      nesterov: look ahead, as in `sgd`.

    Source: You et al. 2017, https://arxiv.org/abs/1708.03888

    >>> import gradtx
    >>> gradtx.lars(0.1, trust_ratio_mask="*kernel")
    lars(learning_rate=0.1, trust_ratio_mask='*kernel')
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps), trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )


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

    It is written from the new momentum, m' = β₂·m + (1−β₂)·g, as β₁·m + (1−β₁)·g = (β₁/β₂)·m' + (1−β₁/β₂)·g. The old
    one can then be overwritten in place.

    Args:
      b1: β₁.
      b2: β₂, greater than 0.
      mu_dtype: dtype of m.
      mode: what stands for the sign: "hard" for the sign, "smooth" for tanh(β·x), "refined" for x bounded by ±1.
      smooth_beta: β of "smooth".

    State: one slot per parameter.

    Raises:
      ValueError: another mode.

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675
    """
    signs = {"hard": scale_by_sign(), "smooth": scale_by_smooth_sign(smooth_beta), "refined": clip_by_bounds(-1.0, 1.0)}
    if mode not in signs:
        raise ValueError(f"scale_by_lion: mode is one of {', '.join(map(repr, signs))}, got {mode!r}")
    ratio = b1 / b2
    momentum = chain(scale_by_momentum(b2, accumulator_dtype=mu_dtype), scale(ratio))
    return chain(add(momentum, scale(1 - ratio)), signs[mode])


@transformation
def lion(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: OpenDecay = 0.99,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 1e-3,
    mask: Any = None,
) -> Any:
    """Every element moves by the same amount, in the direction of a sign: θ ← θ − η·(sign(β₁·m + (1−β₁)·g) + λ·θ).

    Args:
      learning_rate: η; about a tenth of AdamW's.
      b1: β₁, of the blend that is taken the sign of.
      b2: β₂, of the momentum that is kept; greater than 0.
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

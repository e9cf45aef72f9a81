"""Adafactor: Adam's preconditioner stored as one row and one column per matrix."""

from typing import Any

import jax.numpy as jnp

from gradtx.atoms.averages import ema
from gradtx.atoms.clipping import clip_by_block_rms
from gradtx.atoms.factored import scale_by_factored_rms
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.trust_ratio import scale_by_param_block_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative, Positive, Real
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["adafactor"]


@optimizer
def adafactor(
    learning_rate: NonNegative | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: NonNegative = 0.8,
    decay_offset: Real = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Positive | None = 1.0,
    momentum: Decay | None = None,
    dtype_momentum: Dtype = jnp.float32,
    weight_decay_rate: NonNegative | None = None,
    eps: NonNegative = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
) -> Any:
    """Adam's preconditioner stored as one row and one column per matrix; updates are clipped, and scaled by the size of
    each parameter.

    Args:
      learning_rate: η, relative to the size of each parameter if `multiply_by_parameter_scale`; None for 1.
      min_dim_size_to_factor: smaller matrices keep a full second moment.
      decay_rate: c in β₂ₜ = 1 − t^−c.
      decay_offset: the number of steps not counted in t.
      multiply_by_parameter_scale: multiply updates by the root mean square of each parameter.
      clipping_threshold: d, the largest root mean square of a leaf's update; None for no bound.
      momentum: decay of an average of the updates; None for none. It averages before the learning rate is applied, so
        that a schedule is not smeared over time (Optax averages after it; the two agree for a constant learning rate).
      dtype_momentum: dtype of that average.
      weight_decay_rate: λ, not multiplied by η; None for none.
      eps: added to g².
      factored: False keeps full second moments.
      weight_decay_mask: which leaves decay; see `masked`.

    Source: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235

    >>> import gradtx
    >>> gradtx.adafactor(1e-2, clipping_threshold=None, multiply_by_parameter_scale=False).formula
    chain(
        scale_by_factored_rms(),
        scale_by_learning_rate(learning_rate=0.01, flip_sign=False),
        scale(step_size=-1.0),
    )
    """
    stages = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        stages.append(clip_by_block_rms(clipping_threshold))
    if momentum is not None:
        stages.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if learning_rate is not None:
        stages.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        stages.append(scale_by_param_block_rms())
    if weight_decay_rate is not None:
        stages.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*stages, scale(-1.0))

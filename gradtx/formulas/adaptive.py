"""A rate for each element from the size of its gradients, without momentum: AdaGrad, RMSprop, Adadelta, Adafactor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.clipping import clip_by_block_rms
from gradtx.core.arguments import Decay, Dtype, NonNegative, Positive, Real
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, least
from gradtx.core.roles import Slot
from gradtx.core.transformation import transformation
from gradtx.core.tree import real_like, zeros_like
from gradtx.factored import scale_by_factored_rms
from gradtx.scaling import add_decayed_weights, scale, scale_by_learning_rate, scale_by_param_block_rms
from gradtx.statistics import ema, scale_by_rms, scale_by_rss, scale_by_stddev, trace

__all__ = ["adadelta", "adafactor", "adagrad", "rmsprop", "scale_by_adadelta"]


@transformation
def adagrad(
    learning_rate: NonNegative,
    initial_accumulator_value: NonNegative = 0.1,
    eps: NonNegative = 1e-7,
    *,
    eps_in_sqrt: bool = True,
) -> Any:
    """Rates that fall with all that was seen: s ← s + g², θ ← θ − η·g/√(s + ε).

    Args:
      learning_rate: η.
      initial_accumulator_value: what s starts from (torch: 0).
      eps: ε.
      eps_in_sqrt: False for torch's √s + ε.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html

    >>> import gradtx
    >>> gradtx.adagrad(0.1).formula
    chain(scale_by_rss(), scale_by_learning_rate(learning_rate=0.1))
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def rmsprop(
    learning_rate: NonNegative,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Real = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Decay | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Any:
    """Divide by a running root mean square: v ← γ·v + (1−γ)·g², θ ← θ − η·g/√(v + ε).

    Args:
      learning_rate: η.
      decay: γ (torch: 0.99).
      eps: ε.
      initial_scale: what v starts from.
      eps_in_sqrt: False for torch's √v + ε.
      centered: divide by the standard deviation instead, √(v − m² + ε).
      momentum: a heavy ball behind it, on the scaled steps; None for none.
      nesterov: look ahead, as in `sgd`.
      bias_correction: correct v for its start from zero.

    Source: Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf

    >>> import gradtx
    >>> gradtx.rmsprop(1e-3, centered=True, momentum=0.9).formula
    chain(scale_by_stddev(), scale_by_learning_rate(learning_rate=0.001), trace(decay=0.9))
    """
    scaled = scale_by_stddev if centered else scale_by_rms
    stages = [
        scaled(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
    ]
    return chain(*stages) if momentum is None else chain(*stages, trace(momentum, nesterov))


class AdadeltaState(NamedTuple):
    """The averages s of squared gradients and x of squared updates."""

    squared_gradient: Slot  # real
    squared_update: Slot  # real


@transformation
def scale_by_adadelta(rho: Decay = 0.9, eps: NonNegative = 1e-6) -> Any:
    """Scale by the ratio of two root mean squares, of the steps and of the gradients: u = √(x + ε)/√(s + ε)·g.

    Args:
      rho: ρ, the decay of s (of g²) and of x (of u²).
      eps: ε.

    State: two slots per parameter.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701
    """

    def init(p: jax.Array) -> AdadeltaState:
        return AdadeltaState(zeros_like(real_like(p)), zeros_like(real_like(p)))

    def advance(s: AdadeltaState, g: jax.Array) -> AdadeltaState:
        squared = average(rho, s.squared_gradient, abs_squared(g))
        step = (s.squared_update + eps) / (squared + eps + least(squared.dtype)) * abs_squared(g)
        return AdadeltaState(squared, average(rho, s.squared_update, step))

    def emit(s: AdadeltaState, g: jax.Array) -> jax.Array:
        # From the new x, so that the old one can be overwritten: solving the average for the x before gives
        # x + ε = (x' + ρ·ε)·(s + ε) / (ρ·(s + ε) + (1−ρ)·g²), without cancellation.
        below = average(rho, s.squared_gradient + eps, abs_squared(g))
        return bounded(g) * jnp.sqrt((s.squared_update + rho * eps) / (below + least(below.dtype)))

    return leafwise(init=init, advance=advance, emit=emit)


@transformation
def adadelta(
    learning_rate: NonNegative = 1.0,
    rho: Decay = 0.9,
    eps: Positive = 1e-6,
    weight_decay: NonNegative | None = None,
    weight_decay_mask: Any = None,
) -> Any:
    """Steps in the units of the parameters, so that no rate has to be set: θ ← θ − η·√(x + ε)/√(s + ε)·g.

    Args:
      learning_rate: η, a factor that the paper does not have.
      rho: ρ.
      eps: ε; it sets the size of the first steps.
      weight_decay: λ, added to the gradient as λ·θ; None for none (Optax's 0 would read the parameters for nothing).
      weight_decay_mask: which leaves decay; see `masked`.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701

    >>> import gradtx
    >>> gradtx.adadelta(rho=0.95)
    adadelta(rho=0.95)
    """
    stages = [scale_by_adadelta(rho, eps), scale_by_learning_rate(learning_rate)]
    if weight_decay is not None:
        stages.insert(0, add_decayed_weights(weight_decay, weight_decay_mask))
    return chain(*stages)


@transformation
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
    """Adaptive rates in the memory of a row and a column per matrix; updates bounded, in units of the parameter.

    Args:
      learning_rate: η; None for 1, with a rate relative to the size of each parameter.
      min_dim_size_to_factor: smaller matrices keep a full second moment.
      decay_rate: c in β₂ₜ = 1 − t^−c.
      decay_offset: steps that do not count in t.
      multiply_by_parameter_scale: steps relative to the root mean square of each parameter.
      clipping_threshold: d, the largest root mean square of a leaf's update; None for no bound.
      momentum: decay of an average of the updates; None for none. It averages before the rate is applied, so that a
        schedule is not smeared over time (Optax averages after it; the two agree for constant rates).
      dtype_momentum: its dtype.
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

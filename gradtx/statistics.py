"""Atoms that keep a statistic of the updates: averages, sums and maxima, and what turns them into a rate.

A direction is an average of the gradients; a rate is a chain that starts from |g|² or |g| and ends in an inverse:

    chain(square(), ema(b2, debias=False), bias_correction(b2), inverse_root(eps))      1 / (√v̂ + ε)
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.clipping import clip_by_bounds
from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain, identity, product
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, least, seen, sqrt
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import transformation
from gradtx.core.tree import full_like, zeros_like
from gradtx.scaling import scale

__all__ = [
    "absolute",
    "bias_correction",
    "decaying_max",
    "ema",
    "inverse_rms",
    "inverse_root",
    "reciprocal",
    "running_max",
    "running_sum",
    "saturate",
    "scale_by_momentum",
    "scale_by_rms",
    "scale_by_rss",
    "scale_by_stddev",
    "square",
    "trace",
]

# Averages


class EmaState(NamedTuple):
    """The average."""

    ema: Slot


@transformation
def ema(decay: Decay, debias: bool = True, accumulator_dtype: Dtype | None = None, *, initial_value: Real = 0.0) -> Any:
    """The exponential moving average of the updates: a ← β·a + (1−β)·u.

    Args:
      decay: β.
      debias: divide by 1−βᵗ, so that the average of a constant is the constant (`bias_correction`).
      accumulator_dtype: dtype of the average; by default that of the parameters, float32 at least.
      initial_value: what the average starts from.

    State: one slot per parameter.
    """
    if debias:
        return chain(
            ema(decay, debias=False, accumulator_dtype=accumulator_dtype, initial_value=initial_value),
            bias_correction(decay),
        )

    return leafwise(
        init=lambda p: EmaState(full_like(p, initial_value, accumulator_dtype)),
        advance=lambda s, u: EmaState(average(decay, s.ema, u)),
        emit=lambda s: s.ema,
    )


class MomentumState(NamedTuple):
    """The averaged gradient m."""

    momentum: Slot


@transformation
def scale_by_momentum(decay: Decay = 0.9, nesterov: bool = False, accumulator_dtype: Dtype | None = None) -> Any:
    """Momentum as Adam has it, an average of the gradients: m ← β·m + (1−β)·g.

    Args:
      decay: β.
      nesterov: look ahead, β·m + (1−β)·g with the m just computed.
      accumulator_dtype: dtype of m; by default that of the parameters, float32 at least.

    State: one slot per parameter. For the heavy ball, b ← μ·b + g, see `trace`.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """

    return leafwise(
        init=lambda p: MomentumState(zeros_like(p, accumulator_dtype)),
        advance=lambda s, g: MomentumState(average(decay, s.momentum, bounded(g))),
        emit=lambda s, g: average(decay, s.momentum, g) if nesterov else s.momentum,
    )


class TraceState(NamedTuple):
    """The decaying sum b of gradients."""

    trace: Slot


@transformation
def trace(decay: Decay, nesterov: bool = False, accumulator_dtype: Dtype | None = None) -> Any:
    """The heavy ball: b ← μ·b + g, a decaying sum of the gradients.

    Args:
      decay: μ.
      nesterov: g + μ·b, with the b just computed.
      accumulator_dtype: dtype of b; by default that of the parameters, float32 at least.

    State: one slot per parameter.

    Source: Polyak 1964, https://doi.org/10.1016/0041-5553(64)90137-5; Nesterov's form as in Sutskever et al. 2013,
    https://proceedings.mlr.press/v28/sutskever13.html
    """

    return leafwise(
        init=lambda p: TraceState(zeros_like(p, accumulator_dtype)),
        advance=lambda s, g: TraceState(decay * s.trace + bounded(g)),
        emit=lambda s, g: decay * s.trace + g if nesterov else s.trace,
    )


class BiasCorrectionState(NamedTuple):
    """The weight that the average has seen."""

    weight: Weight  # the average, with the same decay, of ones


@transformation
def bias_correction(decay: Decay, power: Real = 1.0, *, initial_weight: Real = 0.0) -> Any:
    """Divide an average that started from zero by the weight it has seen: u / (1−βᵗ).

    The weight is the same average taken of ones, w ← β·w + (1−β). It has no cancellation (1−β² of β = 0.999 loses four
    digits in float32), and stays right when β is a schedule: then 1−∏βᵢ.

    Args:
      decay: β of the average to be corrected.
      power: u / wᵖ; −½ multiplies by √(1−βᵗ), as AdaBound needs it.
      initial_weight: w before the first step; 1−β makes it run one step ahead, 1−βᵗ⁺¹, as NAdam needs it.

    Source: Kingma & Ba 2015, section 3, https://arxiv.org/abs/1412.6980
    """

    def numbers(s: BiasCorrectionState) -> Any:
        weight = seen(decay, s.weight)
        return weight, weight**power

    return leafwise(
        init=lambda p: BiasCorrectionState(initial_weight + jnp.zeros(jnp.shape(decay))),
        numbers=numbers,
        count=lambda n: BiasCorrectionState(n[0]),
        emit=lambda u, n: u / n[1],
    )


# What is averaged, and sums and maxima


@transformation
def saturate() -> Any:
    """u, with |u| bounded where its square would overflow (2e16 in float32), as `square` bounds it.

    It stands where the gradient itself is the direction: numerator and denominator of g/√v then see the same spike.
    Infinite and NaN elements stay what they are.
    """
    return leafwise(emit=lambda u: bounded(u))


@transformation
def square() -> Any:
    """|u|², real for complex updates. Finite for finite u: see `saturate`."""
    return leafwise(emit=lambda u: abs_squared(u))


@transformation
def absolute() -> Any:
    """|u|, real for complex updates."""
    return leafwise(emit=lambda u: jnp.abs(u))


class RunningSumState(NamedTuple):
    """The sum."""

    sum: Slot


@transformation
def running_sum(initial_value: Real = 0.0) -> Any:
    """The sum of all updates so far: s ← s + u.

    Args:
      initial_value: what the sum starts from.

    State: one slot per parameter.
    """

    return leafwise(
        init=lambda p: RunningSumState(full_like(p, initial_value)),
        advance=lambda s, u: RunningSumState(s.sum + u),
        emit=lambda s: s.sum,
    )


class MaximumState(NamedTuple):
    """The maximum."""

    maximum: Slot


@transformation
def running_max() -> Any:
    """The largest update so far, element by element: x ← max(x, u), from 0. State: one slot per parameter."""
    return _maximum(lambda x, u: jnp.maximum(x, u))


@transformation
def decaying_max(decay: Decay, eps: NonNegative = 0.0) -> Any:
    """A maximum that forgets: x ← max(β·x, u + ε), from 0. State: one slot per parameter.

    Args:
      decay: β.
      eps: ε, what x cannot fall below.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """
    return _maximum(lambda x, u: jnp.maximum(decay * x, u + eps))


def _maximum(larger: Any) -> Any:
    return leafwise(
        init=lambda p: MaximumState(zeros_like(p)),
        advance=lambda s, u: MaximumState(larger(s.maximum, u)),
        emit=lambda s: s.maximum,
    )


# From a statistic to a rate


@transformation
def inverse_root(eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """1 / (√(u + ε_root) + ε), finite at 0 even without any ε.

    Behind `square` its derivative at g = 0 is finite, too: gradients through an update have no NaN.

    Args:
      eps: ε, outside the root (Adam, torch).
      eps_root: ε_root, inside the root (Adagrad and RMSprop as in Optax and TensorFlow).
    """
    return leafwise(emit=lambda u: 1 / (sqrt(u, eps_root) + eps))


@transformation
def reciprocal(eps: NonNegative = 0.0) -> Any:
    """1 / (u + ε) of non-negative updates; finite at 0 even without ε.

    Args:
      eps: ε.
    """

    return leafwise(emit=lambda u: 1 / (u + (eps + least(u.dtype))))


@transformation
def inverse_rms(b2: Decay = 0.999, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """Adam's rate, the inverse root mean square of the gradients: 1 / (√(v̂ + ε_root) + ε), v ← β₂·v + (1−β₂)·|g|².

    Args:
      b2: β₂.
      eps: ε.
      eps_root: ε_root.

    State: one slot per parameter, real.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return chain(square(), ema(b2, debias=False), bias_correction(b2), inverse_root(eps, eps_root))


@transformation
def scale_by_rms(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Real = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Any:
    """Divide by the root mean square of the gradients: g / √(v + ε), v ← γ·v + (1−γ)·|g|².

    Args:
      decay: γ.
      eps: ε.
      initial_scale: what v starts from.
      eps_in_sqrt: ε inside the root (TensorFlow, Optax); False puts it outside, √v + ε (torch).
      bias_correction: correct v for its start from zero.

    State: one slot per parameter.

    Source: Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
    """
    mean_square = ema(decay, debias=bias_correction, initial_value=initial_scale)
    return product(saturate(), chain(square(), mean_square, _inverse_root(eps, eps_in_sqrt)))


@transformation
def scale_by_stddev(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Real = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Any:
    """Divide by the standard deviation of the gradients: g / √(v − |m|² + ε), with the averages v of |g|², m of g.

    Arguments as for `scale_by_rms`. State: two slots per parameter.

    Source: Graves 2013, https://arxiv.org/abs/1308.0850
    """
    variance = add(
        chain(square(), ema(decay, debias=bias_correction, initial_value=initial_scale)),
        chain(ema(decay, debias=bias_correction), square(), scale(-1.0)),
    )
    # Rounding can leave a variance of −1e-7·v.
    rate = chain(variance, clip_by_bounds(lower=0.0), _inverse_root(eps, eps_in_sqrt))
    return chain(saturate(), product(identity(), rate))


@transformation
def scale_by_rss(
    initial_accumulator_value: NonNegative = 0.1, eps: NonNegative = 1e-7, *, eps_in_sqrt: bool = True
) -> Any:
    """Divide by the root of the sum of all squared gradients: g / √(s + ε), s ← s + |g|².

    Args:
      initial_accumulator_value: what s starts from.
      eps: ε.
      eps_in_sqrt: ε inside the root (Optax); False puts it outside, √s + ε (torch).

    State: one slot per parameter.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html
    """
    total = running_sum(initial_accumulator_value)
    return product(saturate(), chain(square(), total, _inverse_root(eps, eps_in_sqrt)))


def _inverse_root(eps: Any, eps_in_sqrt: bool) -> Any:
    return inverse_root(eps=0.0, eps_root=eps) if eps_in_sqrt else inverse_root(eps=eps)

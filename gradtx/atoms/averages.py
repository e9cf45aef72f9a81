"""Atoms that keep a statistic of the updates: averages, sums and maxima.

A direction is an average of the gradients; a preconditioner starts from an average, a sum or a maximum of their sizes
(`preconditioners`)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import average, bounded, seen
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import transformation
from gradtx.core.tree import full_like, zeros_like

__all__ = [
    "additive_average",
    "bias_correction",
    "decaying_max",
    "delayed_ema",
    "ema",
    "running_max",
    "running_sum",
    "saturate",
    "scale_by_momentum",
    "trace",
]


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


@transformation
def saturate() -> Any:
    """u, with |u| bounded where its square would overflow (2e16 in float32), as `square` bounds it.

    It stands where the gradient itself is the direction: numerator and denominator of g/√v then see the same spike.
    Infinite and NaN elements stay what they are.
    """
    return leafwise(emit=lambda u: bounded(u))


class DelayedEmaState(NamedTuple):
    """The average, with all that has come in."""

    ema: Slot
    weight: Weight  # what the average has seen: the same average of ones


@transformation
def delayed_ema(decay: Decay, unseen: Real = jnp.inf, eps: NonNegative = 0.0) -> Any:
    """The average of the updates before this one, corrected for its start; then a ← β·a + (1−β)·u + ε.

    Args:
      decay: β.
      unseen: what comes out at the first step; infinity, so that an inverse of it is 0.
      eps: ε.

    State: one slot per parameter.
    """

    def before(s: DelayedEmaState, n: Any) -> jax.Array:
        return jnp.where(n > 0, s.ema / jnp.where(n > 0, n, 1), unseen)

    return leafwise(
        init=lambda p: DelayedEmaState(zeros_like(p), jnp.zeros(jnp.shape(decay))),
        numbers=lambda s: s.weight,
        count=lambda s: s._replace(weight=seen(decay, s.weight)),
        before=before,
        advance=lambda s, u: s._replace(ema=decay * s.ema + ((1 - decay) * u + eps)),
        emit=lambda x: x,
    )


class AdditiveAverageState(NamedTuple):
    """Yogi's average v."""

    average: Slot


@transformation
def additive_average(decay: Decay = 0.999, initial_value: Real = 0.0) -> Any:
    """An average that moves towards u by a step of u's own size: v ← v − (1−β)·sign(v − u)·u.

    Args:
      decay: β.
      initial_value: what v starts from.

    State: one slot per parameter.

    Source: Zaheer et al. 2018, https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization
    """

    def advance(s: AdditiveAverageState, u: jax.Array) -> AdditiveAverageState:
        return AdditiveAverageState(s.average - (1 - decay) * jnp.sign(s.average - u) * u)

    return leafwise(
        init=lambda p: AdditiveAverageState(full_like(p, initial_value)), advance=advance, emit=lambda s: s.average
    )


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

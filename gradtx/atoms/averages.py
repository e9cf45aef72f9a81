"""Atoms that keep a statistic of the updates: averages, sums and maxima.

Update directions are averages of the gradients; preconditioners are built on an average, a sum or a maximum of the
gradients' magnitudes (see `preconditioners`)."""

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
      initial_value: the initial average.

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
    """Momentum as in Adam, an exponential moving average of the gradients: m ← β·m + (1−β)·g.

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
    """Heavy-ball momentum, a decaying sum of the gradients: b ← μ·b + g.

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
    """The total weight of what has been averaged so far."""

    weight: Weight  # the average of ones with the same decay


@transformation
def bias_correction(decay: Decay, power: Real = 1.0, *, initial_weight: Real = 0.0) -> Any:
    """Correct the bias of an average that started from zero: u / (1−βᵗ).

    The divisor w is the same average taken of ones, w ← β·w + (1−β). Computed this way, it suffers no cancellation
    (in float32, 1−β² loses four digits for β = 0.999) and stays right when β is a schedule: then w = 1−∏βᵢ.

    Args:
      decay: β of the average to be corrected.
      power: p in u / wᵖ; −½ multiplies by √(1−βᵗ), as in AdaBound.
      initial_weight: w before the first step; 1−β makes it run one step ahead, 1−βᵗ⁺¹, as in NAdam.

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
    """Bound |u| where its square would overflow (2e16 in float32), just as `square` does.

    For use where the gradient itself is the direction: numerator and denominator of g/√v then see the same spike.
    Infinite and NaN elements are left as they are.
    """
    return leafwise(emit=lambda u: bounded(u))


class DelayedEmaState(NamedTuple):
    """The average of all updates so far, the latest included."""

    ema: Slot
    weight: Weight  # the same average of ones, for the bias correction


@transformation
def delayed_ema(decay: Decay, unseen: Real = jnp.inf, eps: NonNegative = 0.0) -> Any:
    """The bias-corrected average of the updates before this one; then a ← β·a + (1−β)·u + ε.

    Args:
      decay: β.
      unseen: the output of the first step; infinity by default, so that its inverse is 0.
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
    """Yogi's average, which moves towards u by a step proportional to u: v ← v − (1−β)·sign(v − u)·u.

    Args:
      decay: β.
      initial_value: the initial v.

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
      initial_value: the initial sum.

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
    """A maximum that decays over time: x ← max(β·x, u + ε), from 0. State: one slot per parameter.

    Args:
      decay: β.
      eps: ε, a lower bound on x.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """
    return _maximum(lambda x, u: jnp.maximum(decay * x, u + eps))


def _maximum(larger: Any) -> Any:
    return leafwise(
        init=lambda p: MaximumState(zeros_like(p)),
        advance=lambda s, u: MaximumState(larger(s.maximum, u)),
        emit=lambda s: s.maximum,
    )

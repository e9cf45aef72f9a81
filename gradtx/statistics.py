"""Atoms that keep a statistic of the updates: averages, sums and maxima, and what turns them into a rate.

A direction is an average of the gradients; a rate is a chain that starts from |g|² or |g| and ends in an inverse:

    chain(square(), ema(b2, debias=False), bias_correction(b2), inverse_root(eps))      1 / (√v̂ + ε)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.clipping import clip_by_bounds
from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain, identity, product, scale
from gradtx.core.transformation import transformation
from gradtx.core.tree import abs_squared, bounded, full_like, least, map_leaves, sqrt, zeros_like

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

Tree = Any


# Averages


class EmaState(NamedTuple):
    """The average."""

    ema: Tree  # like the parameters


@transformation(elementwise=True)
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

    def init(params: Tree) -> EmaState:
        return EmaState(full_like(params, initial_value, accumulator_dtype))

    def update(updates: Tree, state: EmaState, params: Tree = None) -> tuple[Tree, EmaState]:
        new = 1 - decay
        average = map_leaves(lambda a, u: decay * a + new * u, state.ema, updates)
        return average, EmaState(average)

    return init, update


class MomentumState(NamedTuple):
    """The averaged gradient m."""

    momentum: Tree  # like the parameters


@transformation(elementwise=True)
def scale_by_momentum(decay: Decay = 0.9, nesterov: bool = False, accumulator_dtype: Dtype | None = None) -> Any:
    """Momentum as Adam has it, an average of the gradients: m ← β·m + (1−β)·g.

    Args:
      decay: β.
      nesterov: look ahead, β·m + (1−β)·g with the m just computed.
      accumulator_dtype: dtype of m; by default that of the parameters, float32 at least.

    State: one slot per parameter. For the heavy ball, b ← μ·b + g, see `trace`.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """

    def init(params: Tree) -> MomentumState:
        return MomentumState(zeros_like(params, accumulator_dtype))

    def update(updates: Tree, state: MomentumState, params: Tree = None) -> tuple[Tree, MomentumState]:
        momentum = momentum_of(decay, state.momentum, updates)
        if not nesterov:
            return momentum, MomentumState(momentum)
        new = 1 - decay
        return map_leaves(lambda m, u: decay * m + new * u, momentum, updates), MomentumState(momentum)

    return init, update


def momentum_of(decay: Any, momentum: Tree, gradients: Tree) -> Tree:
    """β·m + (1−β)·g, leaf by leaf, with g saturated as it is under the root of a rate."""
    new = 1 - decay
    return map_leaves(lambda m, g: decay * m + new * bounded(g), momentum, gradients)


class TraceState(NamedTuple):
    """The decaying sum b of gradients."""

    trace: Tree  # like the parameters


@transformation(elementwise=True)
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

    def init(params: Tree) -> TraceState:
        return TraceState(zeros_like(params, accumulator_dtype))

    def update(updates: Tree, state: TraceState, params: Tree = None) -> tuple[Tree, TraceState]:
        velocity = map_leaves(lambda b, u: decay * b + bounded(u), state.trace, updates)
        if not nesterov:
            return velocity, TraceState(velocity)
        return map_leaves(lambda b, u: decay * b + u, velocity, updates), TraceState(velocity)

    return init, update


class BiasCorrectionState(NamedTuple):
    """The weight that the average has seen."""

    weight: jax.Array  # 0-d: the average, with the same decay, of ones


@transformation(elementwise=True)
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

    def init(params: Tree) -> BiasCorrectionState:
        return BiasCorrectionState(jnp.zeros(jnp.shape(decay), float) + initial_weight)

    def update(updates: Tree, state: BiasCorrectionState, params: Tree = None) -> tuple[Tree, BiasCorrectionState]:
        weight = decay * state.weight + (1 - decay)
        factor = weight**-power
        return map_leaves(lambda u: factor * u, updates), BiasCorrectionState(weight)

    return init, update


# What is averaged, and sums and maxima


@transformation(elementwise=True)
def saturate() -> Any:
    """u, with |u| bounded where its square would overflow (2e16 in float32), as `square` bounds it.

    It stands where the gradient itself is the direction: numerator and denominator of g/√v then see the same spike.
    Infinite and NaN elements stay what they are.
    """
    return None, lambda updates, state, params=None: (map_leaves(bounded, updates), state)


@transformation(real=True, elementwise=True)
def square() -> Any:
    """|u|², real for complex updates. Finite for finite u: see `saturate`."""
    return None, lambda updates, state, params=None: (map_leaves(abs_squared, updates), state)


@transformation(real=True, elementwise=True)
def absolute() -> Any:
    """|u|, real for complex updates."""
    return None, lambda updates, state, params=None: (map_leaves(jnp.abs, updates), state)


class RunningSumState(NamedTuple):
    """The sum."""

    sum: Tree  # like the parameters


@transformation(elementwise=True)
def running_sum(initial_value: Real = 0.0) -> Any:
    """The sum of all updates so far: s ← s + u.

    Args:
      initial_value: what the sum starts from.

    State: one slot per parameter.
    """

    def init(params: Tree) -> RunningSumState:
        return RunningSumState(full_like(params, initial_value))

    def update(updates: Tree, state: RunningSumState, params: Tree = None) -> tuple[Tree, RunningSumState]:
        total = map_leaves(lambda s, u: s + u, state.sum, updates)
        return total, RunningSumState(total)

    return init, update


class MaximumState(NamedTuple):
    """The maximum."""

    maximum: Tree  # like the parameters


@transformation(elementwise=True)
def running_max() -> Any:
    """The largest update so far, element by element: x ← max(x, u), from 0. State: one slot per parameter."""
    return _maximum(jnp.maximum)


@transformation(elementwise=True)
def decaying_max(decay: Decay, eps: NonNegative = 0.0) -> Any:
    """A maximum that forgets: x ← max(β·x, u + ε), from 0. State: one slot per parameter.

    Args:
      decay: β.
      eps: ε, what x cannot fall below.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """
    return _maximum(lambda x, u: jnp.maximum(decay * x, u + eps))


def _maximum(larger: Any) -> Any:
    def init(params: Tree) -> MaximumState:
        return MaximumState(zeros_like(params))

    def update(updates: Tree, state: MaximumState, params: Tree = None) -> tuple[Tree, MaximumState]:
        maximum = map_leaves(larger, state.maximum, updates)
        return maximum, MaximumState(maximum)

    return init, update


# From a statistic to a rate


@transformation(elementwise=True)
def inverse_root(eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """1 / (√(u + ε_root) + ε), finite at 0 even without any ε.

    Behind `square` its derivative at g = 0 is finite, too: gradients through an update have no NaN.

    Args:
      eps: ε, outside the root (Adam, torch).
      eps_root: ε_root, inside the root (Adagrad and RMSprop as in Optax and TensorFlow).
    """
    return None, lambda updates, state, params=None: (
        map_leaves(lambda u: 1 / (sqrt(u, eps_root) + eps), updates),
        state,
    )


@transformation(elementwise=True)
def reciprocal(eps: NonNegative = 0.0) -> Any:
    """1 / (u + ε) of non-negative updates; finite at 0 even without ε.

    Args:
      eps: ε.
    """

    def invert(u: jax.Array) -> jax.Array:
        return 1 / (u + (eps + least(u.dtype)))

    return None, lambda updates, state, params=None: (map_leaves(invert, updates), state)


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

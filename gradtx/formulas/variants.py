"""Variants of Adam that exchange the rate: AMSGrad, AdaMax, Yogi, RAdam.

amsgrad     … running_max …          1 / √ of the largest v so far
adamax      decaying_max of |g|      1 / an infinity norm
yogi        additive_average of g²   1 / √ of a v that moves by steps of its own size
radam       inverse_rms, rectify     Adam's, once its variance is tractable
adabelief   of (g − m)²              1 / √ of how far gradients are from what the momentum expects
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import chain, product
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import increment
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import transformation
from gradtx.core.tree import full_like
from gradtx.formulas.adam import direction
from gradtx.scaling import add_decayed_weights, scale_by_learning_rate
from gradtx.statistics import (
    absolute,
    bias_correction,
    decaying_max,
    ema,
    inverse_rms,
    inverse_root,
    reciprocal,
    running_max,
    scale_by_momentum,
    square,
)

__all__ = [
    "adamax",
    "adamaxw",
    "additive_average",
    "amsgrad",
    "radam",
    "rectify",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_radam",
    "scale_by_yogi",
    "yogi",
]

# AMSGrad


@transformation
def scale_by_amsgrad(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Any:
    """Adam's direction times 1 / (√(x/(1−β₂ᵗ)) + ε), where x is the largest v so far. See `amsgrad`.

    State: three slots per parameter.

    Source: Reddi et al. 2018, https://arxiv.org/abs/1904.09237
    """
    corrected = [bias_correction(b2)] if bias_correction_nu else []
    return product(
        direction(b1, accumulator_dtype=mu_dtype) if bias_correction_mu else scale_by_momentum(b1, False, mu_dtype),
        chain(square(), ema(b2, debias=False), running_max(), *corrected, inverse_root(eps, eps_root)),
    )


@transformation
def amsgrad(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Any:
    """Adam whose rates never rise: x ← max(x, v), θ ← θ − η·m̂/(√(x/(1−β₂ᵗ)) + ε).

    The maximum is taken before the correction, as in the paper and in torch. Optax takes it after, which is this
    formula with `running_max()` behind `bias_correction(b2)`: early, overcorrected values then stay for good.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      bias_correction_mu: False for m in the place of m̂, as in the paper.
      bias_correction_nu: False for √x + ε, as in the paper.

    Source: Reddi et al. 2018, https://arxiv.org/abs/1904.09237

    >>> import gradtx
    >>> gradtx.amsgrad(1e-3).formula
    chain(scale_by_amsgrad(), scale_by_learning_rate(learning_rate=0.001))
    """
    return chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        scale_by_learning_rate(learning_rate),
    )


# AdaMax


@transformation
def scale_by_adamax(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8) -> Any:
    """Adam's direction divided by a decaying maximum: m̂ / x, x ← max(β₂·x, |g| + ε).

    State: two slots per parameter.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """
    return product(direction(b1), chain(absolute(), decaying_max(b2, eps), reciprocal()))


@transformation
def adamax(learning_rate: NonNegative, b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8) -> Any:
    """Adam with the infinity norm: x ← max(β₂·x, |g| + ε), θ ← θ − η·m̂/x.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂, how fast the maximum decays.
      eps: ε.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980

    >>> import gradtx
    >>> gradtx.scale_by_adamax().formula
    product(
        chain(scale_by_momentum(), bias_correction(decay=0.9)),
        chain(absolute(), decaying_max(decay=0.999, eps=1e-08), reciprocal()),
    )
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@transformation
def adamaxw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
) -> Any:
    """AdaMax with decoupled weight decay: θ ← θ − η·(m̂/x + λ·θ).

    Args:
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    The others as for `adamax`.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.adamaxw(1e-3, weight_decay=0.01)
    adamaxw(learning_rate=0.001, weight_decay=0.01)
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


# Yogi


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


@transformation
def scale_by_yogi(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-3,
    eps_root: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 1e-6,
) -> Any:
    """Adam's direction times 1 / (√v̂ + ε) with Yogi's v. See `yogi`. State: two slots per parameter.

    Source: Zaheer et al. 2018, https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization
    """
    rate = chain(
        square(),
        additive_average(b2, initial_accumulator_value),
        bias_correction(b2),
        inverse_root(eps, eps_root),
    )
    return product(direction(b1), rate)


@transformation
def yogi(learning_rate: NonNegative, b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-3) -> Any:
    """Adam whose v grows and shrinks by additive steps: v ← v − (1−β₂)·sign(v − g²)·g², θ ← θ − η·m̂/(√v̂ + ε).

    v starts from 1e-6 and m from 0, as in the paper. (Optax starts m from 1e-6, too, and so moves parameters whose
    gradients are all zero.)

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.

    Source: Zaheer et al. 2018, https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization

    >>> import gradtx
    >>> gradtx.yogi(1e-2).formula
    chain(scale_by_yogi(), scale_by_learning_rate(learning_rate=0.01))
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))


# RAdam


class RectifyState(NamedTuple):
    """The count that ρₜ is computed from."""

    count: Weight  # int32, gradients in the average


@transformation
def rectify(b2: Decay = 0.999, threshold: NonNegative = 5.0) -> Any:
    """Make an adaptive rate wait until its variance is tractable: 1 while ρₜ < threshold, then r(ρₜ)·u.

    ρₜ = ρ∞ − 2t·β₂ᵗ/(1−β₂ᵗ) is the length of the average that v amounts to, ρ∞ = 2/(1−β₂) − 1.

    Args:
      b2: β₂ of the average.
      threshold: for ρₜ.

    Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265
    """

    def rectification(s: RectifyState) -> jax.Array:
        t, beta = increment(s.count).astype(float), jnp.asarray(b2, float)
        longest = 2 / (1 - beta) - 1
        length = longest - 2 * t / jnp.expm1(-t * jnp.log(beta))
        tractable = (length >= threshold) & (length > 4)
        of_longest = (longest - 4) * (longest - 2) / longest
        r = jnp.sqrt(jnp.where(tractable, (length - 4) * (length - 2) / (length * of_longest), 1))
        return jnp.where(tractable, r, 0)  # never 0 where it is tractable

    return leafwise(
        init=lambda p: RectifyState(0),
        numbers=rectification,
        count=lambda s: RectifyState(increment(s.count)),
        emit=lambda u, n: jnp.where(n > 0, n * u, 1),
    )


@transformation
def scale_by_radam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: NonNegative = 5.0,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam's direction times Adam's rate, rectified. See `radam`. State: two slots per parameter.

    Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265
    """
    return product(direction(b1, nesterov), chain(inverse_rms(b2, eps, eps_root), rectify(b2, threshold)))


@transformation
def radam(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: NonNegative = 5.0,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam that begins as momentum: θ ← θ − η·m̂ while v is too young to be trusted, then θ ← θ − η·r·m̂/(√v̂ + ε).

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      threshold: how long an average v must amount to.
      nesterov: NAdam's direction.

    Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265

    >>> import gradtx
    >>> gradtx.scale_by_radam().formula
    product(
        chain(scale_by_momentum(), bias_correction(decay=0.9)),
        chain(inverse_rms(), rectify()),
    )
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )

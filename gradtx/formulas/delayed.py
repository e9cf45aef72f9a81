"""Rates from earlier gradients only, so that a gradient does not choose its own step: ADOPT, ACProp.

rate = chain( square, delayed_ema, inverse root )      1 / √ of the average before this step
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.clipping import clip_by_bounds
from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain, product
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import seen
from gradtx.core.roles import Slot, Weight
from gradtx.core.schedule import schedule
from gradtx.core.transformation import transformation
from gradtx.core.tree import zeros_like
from gradtx.scaling import add_decayed_weights, scale, scale_by_learning_rate
from gradtx.statistics import inverse_root, saturate, scale_by_momentum, square

__all__ = [
    "acprop",
    "adopt",
    "after_first_step",
    "delayed_ema",
    "power_schedule",
    "scale_by_acprop",
    "scale_by_adopt",
]

# Parts


@schedule
def after_first_step(value: Real) -> Any:
    """0 at the first step, then `value`. As the decay of an average it makes the average start from what comes first.

    Args:
      value: from the second step on.

    >>> import gradtx
    >>> gradtx.after_first_step(0.9)([0, 1, 2]).tolist()
    [0.0, 0.8999999761581421, 0.8999999761581421]
    """
    return lambda count: jnp.where(count > 0, value, 0.0)


@schedule
def power_schedule(exponent: NonNegative) -> Any:
    """countᵖ: a bound that opens slowly, from 0.

    Args:
      exponent: p.

    >>> import gradtx
    >>> gradtx.power_schedule(0.25)([0, 1, 16]).tolist()
    [0.0, 1.0, 2.0]
    """
    return lambda count: jnp.asarray(count, float) ** exponent


FOURTH_ROOT = power_schedule(0.25)


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


# ADOPT


@transformation
def scale_by_adopt(
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: NonNegative = 1e-6,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Real = FOURTH_ROOT,
) -> Any:
    """The average of gradients that are divided first: m ← β₁·m + (1−β₁)·clip(g/max(√v, ε), ±c(t)). See `adopt`.

    State: two slots per parameter.

    Source: Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853
    """
    # max(√v, ε) is the root of max(v, ε²). The first gradient only starts v: its rate is 1/√∞ = 0.
    rate = chain(
        square(),
        delayed_ema(after_first_step(b2)),
        clip_by_bounds(lower=eps * eps),
        inverse_root(eps=0.0),
    )
    bounds = [clip_by_bounds(-1.0 * clip_value_fn, clip_value_fn)] if use_clipping else []
    return chain(product(saturate(), rate), *bounds, scale_by_momentum(b1, nesterov, mu_dtype))


@transformation
def adopt(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: NonNegative = 1e-6,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Real = FOURTH_ROOT,
) -> Any:
    """Adam that converges with any β₂: each gradient is divided by the root of an average that it is not yet in, and
    momentum is taken after that. m ← β₁·m + (1−β₁)·clip(g/max(√v, ε), ±c), θ ← θ − η·m, v ← β₂·v + (1−β₂)·g².

    The first gradient starts v and moves nothing.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε, the least root to divide by.
      mu_dtype: dtype of m.
      nesterov: look ahead, β₁·m + (1−β₁)·u with the m just computed.
      use_clipping: False for no bounds.
      clip_value_fn: c, of the number of earlier steps, t^¼.

    Source: Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853

    >>> import gradtx
    >>> gradtx.scale_by_adopt(use_clipping=False).formula.transformations[0]
    product(
        saturate(),
        chain(
            square(),
            delayed_ema(decay=after_first_step(value=0.9999)),
            clip_by_bounds(lower=1e-12),
            inverse_root(eps=0.0),
        ),
    )
    """
    return chain(
        scale_by_adopt(
            b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn
        ),
        scale_by_learning_rate(learning_rate),
    )


# ACProp


@transformation
def scale_by_acprop(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-16, eps_root: NonNegative = 1e-16) -> Any:
    """g / (√ŝ + ε) with AdaBelief's s before this step, s ← β₂·s + (1−β₂)·(g − m)² + ε_root. See `acprop`.

    State: two slots per parameter.

    Source: Zhuang et al. 2021, https://arxiv.org/abs/2110.05454
    """
    surprise = add(saturate(), chain(scale_by_momentum(b1), scale(-1.0)))
    rate = chain(surprise, square(), delayed_ema(b2, unseen=1.0, eps=eps_root), inverse_root(eps))
    return product(saturate(), rate)


@transformation
def acprop(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """The gradient by the deviation of earlier ones from what was expected: θ ← θ − η·g/(√ŝ + ε), then
    s ← β₂·s + (1−β₂)·(g − m)² + ε_root, with m just computed. The first step divides by 1.

    (Optax takes the m of the step before; g − m is then larger by 1/β₁, and all steps are shorter by β₁.)

    Args:
      learning_rate: η.
      b1: β₁ of m.
      b2: β₂ of s.
      eps: ε, outside the root.
      eps_root: added to s at every step.
      weight_decay: λ, decoupled as in AdamW.
      mask: which leaves decay; see `masked`.

    Source: Zhuang et al. 2021, https://arxiv.org/abs/2110.05454

    >>> import gradtx
    >>> gradtx.acprop(1e-3).formula
    chain(
        scale_by_acprop(),
        add_decayed_weights(),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_acprop(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

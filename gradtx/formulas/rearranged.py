"""Adam's parts in another order, or with one part more.

laprop         divide by the root mean square first, then average
adam_atan2     an arctangent in the place of ε
stable_adamw   a rate that a surprising gradient shortens
adamod         a rate that cannot leap above its own average
padam          a power of AMSGrad's rate
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative, Positive
from gradtx.core.build import initialize, run
from gradtx.core.combine import chain, product
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import average, bounded, rms
from gradtx.core.roles import Slot
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import map_leaves, zeros_like
from gradtx.formulas.adam import direction, scale_by_adam
from gradtx.scaling import add_decayed_weights, scale, scale_by_learning_rate
from gradtx.statistics import (
    bias_correction,
    ema,
    inverse_rms,
    inverse_root,
    running_max,
    saturate,
    scale_by_momentum,
    square,
)

__all__ = [
    "adam_atan2",
    "adamod",
    "arctan",
    "clip_by_ema",
    "clip_rate",
    "laprop",
    "padam",
    "power",
    "stable_adamw",
]

Tree = Any


# LaProp


@transformation
def laprop(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Momentum of normalised gradients, where Adam normalises the momentum: m ← β₁·m + (1−β₁)·g/(√v̂ + ε),
    θ ← θ − η·(m̂ + λ·θ).

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    Source: Ziyin et al. 2020, https://arxiv.org/abs/2002.04839

    >>> import gradtx
    >>> gradtx.laprop(4e-4).formula
    chain(
        product(saturate(), inverse_rms(eps=1e-15)),
        ema(decay=0.9),
        add_decayed_weights(),
        scale_by_learning_rate(learning_rate=0.0004),
    )
    """
    return chain(
        product(saturate(), inverse_rms(b2, eps)),
        ema(b1),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


# Adam-atan2


@transformation
def arctan() -> Any:
    """arctan u of each element, between −π/2 and π/2; of complex ones arctan|u| in the direction of u."""

    def bend(u: jax.Array) -> jax.Array:
        return jnp.arctan(jnp.abs(u)) * jnp.sign(u) if jnp.iscomplexobj(u) else jnp.arctan(u)

    return leafwise(emit=bend)


@transformation
def adam_atan2(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    a: Positive = 1.27,
    b: Positive = 1.0,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adam without an ε: θ ← θ − η·(a·atan2(m̂, b·√v̂) + λ·θ). Scaling all gradients changes nothing, however small
    they are.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      a: the size of a step; 1.27 ≈ 4/π makes it η where m̂ = √v̂.
      b: where the arctangent bends.
      weight_decay: λ, decoupled.
      mask: which leaves decay; see `masked`.

    Source: Everett et al. 2024, section 5, https://arxiv.org/abs/2407.05872

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam_atan2(1.0)
    >>> [tx.update(g, tx.init(g), g)[0].item() for g in (jnp.array(1e-12), jnp.array(1e12))]
    [-0.997..., -0.997...]
    """
    return chain(
        scale_by_adam(b1, b2, eps=0.0),
        scale(1.0 / b),
        arctan(),
        scale(a),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


# StableAdamW


@transformation
def clip_rate(rate: Transformation, threshold: Positive = 1.0) -> Any:
    """Shorten a rate r of each leaf where r·u would have a root mean square above d: r·min(1, d/RMS(r·u)).

    `clip_by_block_rms` bounds what leaves an optimizer; this bounds what the newest gradient alone would make, so
    that steps are short where the rate has not seen such gradients.

    Args:
      rate: what makes r of the updates u.
      threshold: d.

    Source: Wortsman et al. 2023, section 3, https://arxiv.org/abs/2304.13013
    """

    def clipped(r: jax.Array, u: jax.Array) -> jax.Array:
        return r * (threshold / jnp.maximum(rms(r * bounded(u)), threshold))

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        rates, state = run(rate, updates, state, params, extra_args)
        return map_leaves(clipped, rates, updates), state

    return lambda params: initialize(rate, params), update


@transformation
def stable_adamw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-2,
    mask: Any = None,
) -> Any:
    """AdamW that takes short steps where gradients leap: r = 1/(√v̂ + ε), θ ← θ − η·(m̂·r/max(1, RMS(g·r)) + λ·θ), the
    root mean square taken over each leaf.

    (In the paper the decay is shortened, too.)

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    Source: Wortsman et al. 2023, https://arxiv.org/abs/2304.13013

    >>> import gradtx
    >>> gradtx.stable_adamw(1e-3).formula
    chain(
        product(
            chain(scale_by_momentum(), bias_correction(decay=0.9)),
            clip_rate(rate=inverse_rms(b2=0.99)),
        ),
        add_decayed_weights(weight_decay=0.01),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        product(direction(b1), clip_rate(inverse_rms(b2, eps))),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


# AdaMod


class ClipByEmaState(NamedTuple):
    """The average that is the bound."""

    ema: Slot


@transformation
def clip_by_ema(decay: Decay) -> Any:
    """No more than their own average: min(u, a), a ← β·a + (1−β)·u.

    Args:
      decay: β.

    State: one slot per parameter.
    """

    return leafwise(
        init=lambda p: ClipByEmaState(zeros_like(p)),
        advance=lambda s, u: ClipByEmaState(average(decay, s.ema, u)),
        emit=lambda s, u: jnp.minimum(u, s.ema),
    )


def _adam_rate(b1: Any, b2: Any, *stages: Any) -> Any:
    """What `stages` make of v, corrected for the starts of v and of a momentum that is not corrected itself."""
    return chain(square(), ema(b2, debias=False), *stages, bias_correction(b2, power=-0.5), bias_correction(b1))


@transformation
def adamod(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    b3: Decay = 0.9999,
    eps: NonNegative = 1e-8,
) -> Any:
    """Adam whose rates are bounded by their own long average: r = η·√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε),
    s ← β₃·s + (1−β₃)·r, θ ← θ − min(r, s)·m.

    The average starts from zero: it is a warm-up, too.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      b3: β₃, of the average of the rates.
      eps: ε.

    State: three slots per parameter.

    Source: Ding et al. 2019, https://arxiv.org/abs/1910.12249

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamod(0.1, b3=0.5)
    >>> round(tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0].item(), 3)  # half of Adam's
    -0.05
    """
    rate = chain(
        _adam_rate(b1, b2, inverse_root(eps)),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        clip_by_ema(b3),
    )
    return chain(product(scale_by_momentum(b1), rate), scale(-1.0))


# Padam


@transformation
def power(exponent: NonNegative) -> Any:
    """uᵖ of non-negative updates.

    Args:
      exponent: p.
    """
    return leafwise(emit=lambda u: u**exponent)


@transformation
def padam(
    learning_rate: NonNegative = 0.1,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    partial: NonNegative = 0.125,
    eps: NonNegative = 1e-8,
) -> Any:
    """Between AMSGrad and momentum, by a power of the rate: x ← max(x, v),
    θ ← θ − η·√(1−β₂ᵗ)/(1−β₁ᵗ)·m/(√x + ε)²ᵖ.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      partial: p; ½ is AMSGrad, 0 momentum.
      eps: ε.

    State: three slots per parameter.

    Source: Chen et al. 2020, https://arxiv.org/abs/1806.06763, with the corrections of the authors' code,
    https://github.com/uclaml/Padam

    >>> import gradtx
    >>> gradtx.padam().formula.transformations[0].transformations[1]
    chain(
        square(),
        ema(decay=0.999, debias=False),
        running_max(),
        inverse_root(),
        power(exponent=0.25),
        bias_correction(decay=0.999, power=-0.5),
        bias_correction(decay=0.9),
    )
    """
    rate = _adam_rate(b1, b2, running_max(), inverse_root(eps), power(2.0 * partial))
    return chain(product(scale_by_momentum(b1), rate), scale_by_learning_rate(learning_rate))

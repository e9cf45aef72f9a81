"""AdaBound and AMSBound: per-element step sizes that start as Adam's and are clipped ever closer to SGD's."""

from typing import Any

import jax

from gradtx.atoms.averages import bias_correction, ema, running_max, scale_by_momentum
from gradtx.atoms.clipping import clip_by_bounds
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative, Positive, plain
from gradtx.core.combine import chain, product
from gradtx.core.schedule import Schedule
from gradtx.core.transformation import optimizer
from gradtx.schedules.bounds import lower_bound_schedule, upper_bound_schedule

__all__ = ["adabound", "adaboundw", "amsbound", "amsboundw"]


def _bounded(
    learning_rate: Any, b1: Any, b2: Any, final_lr: Any, gamma: Any, eps: Any, base_lr: Any, maximum: bool
) -> Any:
    """Momentum times clip(η·√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε), f·(1 − 1/(γt+1)), f·(1 + 1/(γt))), f = final_lr·η/η₀."""
    if base_lr is None and isinstance(learning_rate, Schedule):
        base_lr = _first_value(learning_rate)
    final = final_lr if base_lr is None else final_lr * (learning_rate / base_lr)
    preconditioner = chain(
        square(),
        ema(b2, debias=False),
        *([running_max()] if maximum else []),
        inverse_root(eps),
        bias_correction(b2, power=-0.5),
        bias_correction(b1),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        clip_by_bounds(final * lower_bound_schedule(gamma), final * upper_bound_schedule(gamma)),
    )
    return product(scale_by_momentum(b1), preconditioner)


def _first_value(learning_rate: Schedule) -> Any:
    with jax.ensure_compile_time_eval():
        first = plain(learning_rate(0))
    if isinstance(first, float) and first == 0:
        raise ValueError(
            "AdaBound: the schedule starts from 0; give base_lr, the rate at which the final rate is final_lr"
        )
    return first


@optimizer
def adabound(
    learning_rate: NonNegative = 1e-3,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    final_lr: Positive = 0.1,
    gamma: Positive = 1e-3,
    eps: NonNegative = 1e-8,
    base_lr: Positive | None = None,
) -> Any:
    """Adam whose per-element step sizes are clipped between bounds that converge to SGD's learning rate.

    θ ← θ − clip(η·√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε), l, u)·m, with

    l = f·(1 − 1/(γt+1)), u = f·(1 + 1/(γt)), f = final_lr·η/η₀.

    Args:
      learning_rate: η; if it is a schedule, the bounds follow it.
      b1: β₁.
      b2: β₂.
      final_lr: the learning rate of the SGD that it turns into.
      gamma: γ, how fast the bounds close.
      eps: ε.
      base_lr: η₀, the learning rate at which the bounds converge to `final_lr`; by default η, or its first value if it
        is a schedule (required if that is 0).

    State: two slots per parameter.

    Source: Luo et al. 2019, https://arxiv.org/abs/1902.09843, with the authors' corrections and bounds,
    https://github.com/Luolc/AdaBound

    >>> import gradtx
    >>> gradtx.adabound(1e-3, final_lr=0.5)
    adabound(final_lr=0.5)
    """
    return chain(_bounded(learning_rate, b1, b2, final_lr, gamma, eps, base_lr, maximum=False), scale(-1.0))


@optimizer
def amsbound(
    learning_rate: NonNegative = 1e-3,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    final_lr: Positive = 0.1,
    gamma: Positive = 1e-3,
    eps: NonNegative = 1e-8,
    base_lr: Positive | None = None,
) -> Any:
    """AdaBound with AMSGrad's maximum: v is replaced by the largest v so far.

    Arguments as for `adabound`. State: three slots per parameter.

    Source: Luo et al. 2019, https://arxiv.org/abs/1902.09843

    >>> import gradtx
    >>> gradtx.amsbound(1e-2).learning_rate
    0.01
    """
    return chain(_bounded(learning_rate, b1, b2, final_lr, gamma, eps, base_lr, maximum=True), scale(-1.0))


@optimizer
def adaboundw(
    learning_rate: NonNegative = 1e-3,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    final_lr: Positive = 0.1,
    gamma: Positive = 1e-3,
    eps: NonNegative = 1e-8,
    base_lr: Positive | None = None,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
) -> Any:
    """AdaBound with AdamW's decoupled weight decay: θ ← θ − (r·m + η·λ·θ), r being AdaBound's clipped step sizes.

    Args:
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    The other arguments are those of `adabound`.

    Source: Luo et al. 2019, https://arxiv.org/abs/1902.09843; Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.adaboundw(weight_decay=0.01)
    adaboundw(weight_decay=0.01)
    """
    return chain(
        _bounded(learning_rate, b1, b2, final_lr, gamma, eps, base_lr, maximum=False),
        add_decayed_weights(learning_rate * weight_decay, mask),
        scale(-1.0),
    )


@optimizer
def amsboundw(
    learning_rate: NonNegative = 1e-3,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    final_lr: Positive = 0.1,
    gamma: Positive = 1e-3,
    eps: NonNegative = 1e-8,
    base_lr: Positive | None = None,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
) -> Any:
    """AMSBound with decoupled weight decay.

    Arguments as for `adaboundw`. State: three slots per parameter.

    Source: Luo et al. 2019, https://arxiv.org/abs/1902.09843; Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.amsboundw(weight_decay=0.01)
    amsboundw(weight_decay=0.01)
    """
    return chain(
        _bounded(learning_rate, b1, b2, final_lr, gamma, eps, base_lr, maximum=True),
        add_decayed_weights(learning_rate * weight_decay, mask),
        scale(-1.0),
    )

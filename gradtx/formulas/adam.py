"""The Adam family: a direction from averages of the gradient times a rate from averages of its square.

    scale_by_adam = product( momentum corrected for its start, 1 / (√v̂ + ε) )

NAdam exchanges the direction; the variants that exchange the rate are in `variants`.
"""

from typing import Any

from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import add, chain, product
from gradtx.core.schedule import schedule
from gradtx.core.transformation import transformation
from gradtx.scaling import add_decayed_weights, scale, scale_by_learning_rate, scale_by_trust_ratio
from gradtx.statistics import bias_correction, inverse_rms, saturate, scale_by_momentum

__all__ = [
    "adam",
    "adamw",
    "direction",
    "lamb",
    "nadam",
    "nadamw",
    "scale_by_adam",
    "scale_by_nadam",
    "warming_momentum_schedule",
]


# Directions


def direction(b1: Any, nesterov: bool = False, accumulator_dtype: Any = None) -> Any:
    """m̂ = m/(1−β₁ᵗ), or with Nesterov's look-ahead β₁·m/(1−β₁ᵗ⁺¹) + (1−β₁)·g/(1−β₁ᵗ).

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; Dozat 2016,
    https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    if nesterov:
        return _nesterov_direction(b1, b1, b1, accumulator_dtype)
    return chain(scale_by_momentum(b1, accumulator_dtype=accumulator_dtype), bias_correction(b1))


def _nesterov_direction(b1: Any, now: Any, ahead: Any, accumulator_dtype: Any = None) -> Any:
    """μₜ₊₁·m/(1−∏ᵗ⁺¹μ) + (1−μₜ)·g/(1−∏ᵗμ), with μₜ = `now` and μₜ₊₁ = `ahead`, numbers or schedules."""
    momentum = scale_by_momentum(b1, accumulator_dtype=accumulator_dtype)
    return add(
        chain(momentum, bias_correction(ahead, initial_weight=1 - now), scale(ahead)),
        chain(saturate(), bias_correction(now), scale(1 - now)),
    )


@schedule
def warming_momentum_schedule(b1: Decay, momentum_decay: NonNegative = 4e-3, ahead: int = 0) -> Any:
    """The momentum of torch's NAdam, μₜ = β₁·(1 − ½·0.96^(ψ·t)), t = count + 1 + ahead. Rises from about β₁/2 to β₁.

    Args:
      b1: β₁.
      momentum_decay: ψ.
      ahead: steps to look ahead.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ

    >>> import gradtx
    >>> float(gradtx.warming_momentum_schedule(0.9, momentum_decay=0.0)(0)).__round__(4)
    0.45
    """
    return lambda count: b1 * (1 - 0.5 * 0.96 ** ((count + 1.0 + ahead) * momentum_decay))


# Adam


@transformation
def scale_by_adam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam's direction times Adam's rate: m̂ / (√(v̂ + ε_root) + ε).

    Args:
      b1: β₁, decay of the average m of g.
      b2: β₂, decay of the average v of g².
      eps: ε, outside the root and after the correction.
      eps_root: ε_root, inside the root.
      mu_dtype: dtype of m.
      nesterov: NAdam's direction.

    State: two slots per parameter.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return product(direction(b1, nesterov, mu_dtype), inverse_rms(b2, eps, eps_root))


@transformation
def adam(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Momentum divided by the root mean square, both corrected for their start: θ ← θ − η·m̂/(√v̂ + ε).

    Args:
      learning_rate: η.
      b1: β₁, decay of the average m of g.
      b2: β₂, decay of the average v of g².
      eps: ε, outside the root and after the correction (Keras: 1e-7).
      eps_root: inside the root.
      mu_dtype: dtype of m.
      nesterov: NAdam's direction.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980

    >>> import gradtx
    >>> gradtx.adam(1e-3).expand()
    chain(
        product(
            chain(scale_by_momentum(), bias_correction(decay=0.9)),
            chain(
                square(),
                ema(decay=0.999, debias=False),
                bias_correction(decay=0.999),
                inverse_root(),
            ),
        ),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adamw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam with decoupled weight decay: θ ← θ − η·(m̂/(√v̂ + ε) + λ·θ).

    The decay is multiplied by η, a schedule included (as in torch and Optax). For a decay that does not follow the
    schedule, −λ·θ, put `chain(set_to_zero(), add_decayed_weights(λ), scale(-1.0))` beside `adam` with `add`.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      weight_decay: λ (torch: 1e-2).
      mask: which leaves decay; see `masked`.
      nesterov: NAdam's direction.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.adamw(1e-3, mask="*kernel").formula
    chain(
        scale_by_adam(),
        add_decayed_weights(weight_decay=0.0001, mask='*kernel'),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


# NAdam: another direction


@transformation
def scale_by_nadam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    momentum_decay: NonNegative | None = None,
) -> Any:
    """NAdam's direction, [β₁·m/(1−β₁ᵗ⁺¹) + (1−β₁)·g/(1−β₁ᵗ)], times Adam's rate.

    Arguments as for `nadam`. State: two slots per parameter.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    now = ahead = b1
    if momentum_decay is not None:
        now, ahead = (warming_momentum_schedule(b1, momentum_decay, ahead) for ahead in (0, 1))
    return product(_nesterov_direction(b1, now, ahead, mu_dtype), inverse_rms(b2, eps, eps_root))


@transformation
def nadam(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = True,
    momentum_decay: NonNegative | None = None,
) -> Any:
    """Adam with Nesterov's look-ahead: θ ← θ − η·[β₁·m/(1−β₁ᵗ⁺¹) + (1−β₁)·g/(1−β₁ᵗ)]/(√v̂ + ε).

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      nesterov: False for plain Adam.
      momentum_decay: ψ of the variant that torch has, where μₜ = β₁·(1 − ½·0.96^(ψ·t)) takes the place of β₁ in the
        blend (torch: 4e-3); None for constant β₁.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ

    >>> import gradtx
    >>> gradtx.nadam(2e-3, momentum_decay=4e-3)
    nadam(learning_rate=0.002, momentum_decay=0.004)
    """
    if not nesterov:
        return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype)
    return chain(
        scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def nadamw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
    momentum_decay: NonNegative | None = None,
) -> Any:
    """NAdam with decoupled weight decay, as AdamW has it.

    Args:
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    The others as for `nadam`.

    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ; Loshchilov & Hutter 2019,
    https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.nadamw(1e-3).formula
    chain(
        scale_by_nadam(),
        add_decayed_weights(weight_decay=0.0001),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    if not nesterov:
        return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask)
    return chain(
        scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def lamb(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adam with layer-wise rates for large batches: u = m̂/(√v̂ + ε) + λ·θ, θ ← θ − η·‖θ‖/‖u‖·u for each leaf.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    Source: You et al. 2020, https://arxiv.org/abs/1904.00962

    >>> import gradtx
    >>> gradtx.lamb(1e-3).formula
    chain(
        scale_by_adam(eps=1e-06),
        add_decayed_weights(),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )

"""Yogi: Adam with additive instead of multiplicative updates of the second moment."""

from typing import Any

from gradtx.atoms.averages import additive_average, bias_correction
from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_root, square
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["scale_by_yogi", "yogi"]


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
    preconditioner = chain(
        square(),
        additive_average(b2, initial_accumulator_value),
        bias_correction(b2),
        inverse_root(eps, eps_root),
    )
    return product(direction(b1), preconditioner)


@optimizer
def yogi(learning_rate: NonNegative, b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-3) -> Any:
    """Adam whose second moment v changes by additive steps: v ← v − (1−β₂)·sign(v − g²)·g², θ ← θ − η·m̂/(√v̂ + ε).

    v starts from 1e-6 and m from 0, as in the paper. (Optax also starts m from 1e-6, and so moves parameters whose
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

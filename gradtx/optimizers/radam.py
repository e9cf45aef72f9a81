"""RAdam: momentum at first, Adam once the variance of its preconditioner is tractable."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_rms
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import increment
from gradtx.core.roles import Weight
from gradtx.core.transformation import optimizer, transformation

__all__ = ["radam", "rectify", "scale_by_radam"]


class RectifyState(NamedTuple):
    """The count that ρₜ is computed from."""

    count: Weight  # int32, gradients in the average


@transformation
def rectify(b2: Decay = 0.999, threshold: NonNegative = 5.0) -> Any:
    """Hold a preconditioner u at 1 until its variance is tractable: 1 while ρₜ < threshold, then r(ρₜ)·u.

    ρₜ = ρ∞ − 2t·β₂ᵗ/(1−β₂ᵗ) is the effective length of the average v, with the limit ρ∞ = 2/(1−β₂) − 1.

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
    """Adam's direction times Adam's preconditioner, rectified. See `radam`. State: two slots per parameter.

    Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265
    """
    return product(direction(b1, nesterov), chain(inverse_rms(b2, eps, eps_root), rectify(b2, threshold)))


@optimizer
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
    """Adam with a rectified preconditioner: momentum, θ ← θ − η·m̂, while v has averaged too few gradients, then
    θ ← θ − η·r·m̂/(√v̂ + ε), where r ≤ 1 corrects for the variance of 1/√v̂.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      threshold: the effective length that v must reach.
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

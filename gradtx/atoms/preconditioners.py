"""Preconditioners: per-element scaling of a direction, by the inverse of a statistic of |g|² or |g|.

chain(square(), ema(b2, debias=False), bias_correction(b2), inverse_root(eps))      1 / (√v̂ + ε)"""

from typing import Any

import jax.numpy as jnp

from gradtx.atoms.averages import bias_correction, ema, running_sum, saturate
from gradtx.atoms.clipping import clip_by_bounds
from gradtx.atoms.learning_rate import scale
from gradtx.core.arguments import Decay, NonNegative, Real
from gradtx.core.combine import add, chain, identity, product
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, least, sqrt
from gradtx.core.transformation import transformation

__all__ = [
    "absolute",
    "inverse_rms",
    "inverse_root",
    "power",
    "reciprocal",
    "scale_by_rms",
    "scale_by_rss",
    "scale_by_stddev",
    "square",
]


@transformation
def square() -> Any:
    """Square each element: |u|², real for complex updates. Finite for finite u: see `saturate`."""
    return leafwise(emit=lambda u: abs_squared(u))


@transformation
def absolute() -> Any:
    """The absolute value of each element: |u|, real for complex updates."""
    return leafwise(emit=lambda u: jnp.abs(u))


@transformation
def inverse_root(eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """The inverse square root of non-negative updates: 1 / (√(u + ε_root) + ε), finite at 0 even without any ε.

    After `square`, its derivative at g = 0 is finite, too: differentiating through an update gives no NaN.

    Args:
      eps: ε, outside the root (Adam, torch).
      eps_root: ε_root, inside the root (Adagrad and RMSprop as in Optax and TensorFlow).
    """
    return leafwise(emit=lambda u: 1 / (sqrt(u, eps_root) + eps))


@transformation
def reciprocal(eps: NonNegative = 0.0) -> Any:
    """The reciprocal of non-negative updates: 1 / (u + ε), finite at 0 even without ε.

    Args:
      eps: ε.
    """

    return leafwise(emit=lambda u: 1 / (u + (eps + least(u.dtype))))


@transformation
def inverse_rms(b2: Decay = 0.999, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """Adam's preconditioner, the inverse root mean square of the gradients: 1 / (√(v̂ + ε_root) + ε).

    v̂ is the bias-corrected average of the squares, v ← β₂·v + (1−β₂)·|g|².

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
      initial_scale: the initial v.
      eps_in_sqrt: ε inside the root (TensorFlow, Optax); False puts it outside, √v + ε (torch).
      bias_correction: correct the bias of v, which starts from zero.

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
    preconditioner = chain(variance, clip_by_bounds(lower=0.0), _inverse_root(eps, eps_in_sqrt))
    return chain(saturate(), product(identity(), preconditioner))


@transformation
def scale_by_rss(
    initial_accumulator_value: NonNegative = 0.1, eps: NonNegative = 1e-7, *, eps_in_sqrt: bool = True
) -> Any:
    """Divide by the root of the sum of all squared gradients: g / √(s + ε), s ← s + |g|².

    Args:
      initial_accumulator_value: the initial s.
      eps: ε.
      eps_in_sqrt: ε inside the root (Optax); False puts it outside, √s + ε (torch).

    State: one slot per parameter.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html
    """
    total = running_sum(initial_accumulator_value)
    return product(saturate(), chain(square(), total, _inverse_root(eps, eps_in_sqrt)))


def _inverse_root(eps: Any, eps_in_sqrt: bool) -> Any:
    return inverse_root(eps=0.0, eps_root=eps) if eps_in_sqrt else inverse_root(eps=eps)


@transformation
def power(exponent: NonNegative) -> Any:
    """Raise non-negative updates to a power: uᵖ.

    Args:
      exponent: p.
    """
    return leafwise(emit=lambda u: u**exponent)


def corrected_preconditioner(b1: Any, b2: Any, *stages: Any) -> Any:
    """The output of `stages` applied to v, bias-corrected for v and for a momentum that is not corrected itself."""
    return chain(square(), ema(b2, debias=False), *stages, bias_correction(b2, power=-0.5), bias_correction(b1))

"""Update directions: bias-corrected momentum, Nesterov's look-ahead, signs, differences."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.averages import bias_correction, saturate, scale_by_momentum
from gradtx.atoms.learning_rate import scale
from gradtx.core.arguments import NonNegative
from gradtx.core.combine import add, chain
from gradtx.core.leafwise import leafwise
from gradtx.core.roles import Slot
from gradtx.core.transformation import transformation
from gradtx.core.tree import zeros_like

__all__ = ["arctan", "difference", "scale_by_sign", "scale_by_smooth_sign"]


def direction(b1: Any, nesterov: bool = False, accumulator_dtype: Any = None) -> Any:
    """Bias-corrected momentum m̂ = m/(1−β₁ᵗ), or with Nesterov's look-ahead β₁·m/(1−β₁ᵗ⁺¹) + (1−β₁)·g/(1−β₁ᵗ).

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; Dozat 2016,
    https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    if nesterov:
        return nesterov_direction(b1, b1, b1, accumulator_dtype)
    return chain(scale_by_momentum(b1, accumulator_dtype=accumulator_dtype), bias_correction(b1))


def nesterov_direction(b1: Any, now: Any, ahead: Any, accumulator_dtype: Any = None) -> Any:
    """Nesterov momentum: μₜ₊₁·m/(1−∏ᵗ⁺¹μ) + (1−μₜ)·g/(1−∏ᵗμ), μₜ = `now` and μₜ₊₁ = `ahead`, numbers or schedules."""
    momentum = scale_by_momentum(b1, accumulator_dtype=accumulator_dtype)
    return add(
        chain(momentum, bias_correction(ahead, initial_weight=1 - now), scale(ahead)),
        chain(saturate(), bias_correction(now), scale(1 - now)),
    )


@transformation
def scale_by_sign() -> Any:
    """The sign of each element: −1, 0 or 1 (for complex updates u/|u|).

    Source: Bernstein et al. 2018, https://arxiv.org/abs/1802.04434
    """
    return leafwise(emit=lambda u: jnp.sign(u))


@transformation
def scale_by_smooth_sign(sharpness: NonNegative = 1.0) -> Any:
    """A sign function smoothed around 0: tanh(β·u) (for complex updates tanh(β·|u|)·u/|u|).

    Args:
      sharpness: β; as it grows to infinity, this becomes `scale_by_sign`.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_smooth_sign(2.0)
    >>> tx.update(jnp.array([-9.0, 0.25]), tx.init(jnp.zeros(2)))[0].round(3).tolist()
    [-1.0, 0.46...]
    """

    def squash(u: jax.Array) -> jax.Array:
        return jnp.sign(u) * jnp.tanh(sharpness * jnp.abs(u)) if jnp.iscomplexobj(u) else jnp.tanh(sharpness * u)

    return leafwise(emit=squash)


@transformation
def arctan() -> Any:
    """The arctangent of each element, between −π/2 and π/2; for complex updates arctan|u| in the direction of u."""

    def bend(u: jax.Array) -> jax.Array:
        return jnp.arctan(jnp.abs(u)) * jnp.sign(u) if jnp.iscomplexobj(u) else jnp.arctan(u)

    return leafwise(emit=bend)


class DifferenceState(NamedTuple):
    """The updates of the previous step."""

    last: Slot


@transformation
def difference() -> Any:
    """The change in the updates since the previous step: u − u₋₁, u₋₁ = 0 at first. State: one slot per parameter.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.difference()
    >>> first, state = tx.update(jnp.array(5.0), tx.init(jnp.array(0.0)))
    >>> first.item(), tx.update(jnp.array(7.0), state)[0].item()
    (5.0, 2.0)
    """

    return leafwise(
        init=lambda p: DifferenceState(zeros_like(p)),
        before=lambda s: s.last,
        advance=lambda u: DifferenceState(u),
        emit=lambda u, x: u - x,
    )

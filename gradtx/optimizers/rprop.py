"""Rprop: a step size for each element, adapted from the signs of its gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale
from gradtx.core.arguments import NonNegative, Positive
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.roles import Slot
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import full_like, real_like, zeros_like

__all__ = ["rprop", "scale_by_rprop"]


class RpropState(NamedTuple):
    """The step size of each element, and its last step."""

    step_size: Slot  # real
    last: Slot  # the last step up the gradient, 0 after a change of sign


@transformation
def scale_by_rprop(
    learning_rate: Positive,
    eta_minus: Positive = 0.5,
    eta_plus: Positive = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: Positive = 50.0,
) -> Any:
    """The sign of the gradient times a step size adapted for each element. See `rprop`.

    State: two slots per parameter.

    Source: Igel & Hüsken 2003, https://doi.org/10.1016/S0925-2312(01)00700-7
    """

    def init(p: jax.Array) -> RpropState:
        return RpropState(full_like(real_like(p), learning_rate), zeros_like(p))

    def agreement(g: jax.Array, last: jax.Array) -> jax.Array:
        """1 for the same sign, −1 for the opposite, 0 where either is 0. (For complex numbers, the cosine.)"""
        return (jnp.sign(g) * jnp.conj(jnp.sign(last))).real

    def advance(s: RpropState, g: jax.Array) -> RpropState:
        same = agreement(g, s.last)
        changed = jnp.clip(s.step_size * jnp.where(same > 0, eta_plus, eta_minus), min_step_size, max_step_size)
        size = jnp.where(same == 0, s.step_size, changed)
        return RpropState(size, jnp.where(same < 0, 0, size * jnp.sign(g)))

    return leafwise(init=init, advance=advance, emit=lambda s: s.last)


@optimizer
def rprop(
    learning_rate: Positive,
    eta_minus: Positive = 0.5,
    eta_plus: Positive = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: Positive = 50.0,
) -> Any:
    """Resilient backpropagation, for full-batch gradients: θ ← θ − Δ·sign(g), where Δ ← Δ·η₊ while the sign of an
    element's gradient stays the same, Δ·η₋ when it changes.

    After a change of sign the element rests for one step. The defaults are torch's. (Optax takes each step one step
    late, so that its first step is 0.)

    Args:
      learning_rate: the initial Δ, in units of the parameters; for a schedule, its first value.
      eta_minus: η₋.
      eta_plus: η₊.
      min_step_size: the smallest Δ.
      max_step_size: the largest Δ.

    State: two slots per parameter.

    Source: Riedmiller & Braun 1993, https://doi.org/10.1109/ICNN.1993.298623; this form (iRprop−): Igel & Hüsken 2003,
    https://doi.org/10.1016/S0925-2312(01)00700-7

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.rprop(0.1)
    >>> state = tx.init(jnp.array(0.0))
    >>> for gradient in (3.0, 2.0, -0.1, -0.1):
    ...     update, state = tx.update(jnp.array(gradient), state)
    ...     print(f"{update:.2f}")
    -0.10
    -0.12
    -0.00
    0.06
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))

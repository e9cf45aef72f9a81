"""MADGRAD: dual averaging with momentum, from the initial parameters along the weighted sum of all gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, bounded, increment, least
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import as_float32, real_like, zeros_like

__all__ = ["madgrad", "scale_by_madgrad"]


class MadgradState(NamedTuple):
    """The initial parameters, and the weighted sums of the gradients and of their squares."""

    initial_params: Slot  # in float32 or wider
    gradient_sum: Slot
    squared_sum: Slot  # real
    count: Weight  # int32, gradients in the sums


@transformation(record=("learning_rate",))
def scale_by_madgrad(learning_rate: NonNegative, momentum: Decay = 0.9, eps: NonNegative = 1e-6) -> Any:
    """The step towards θ₀ − s/(∛q + ε). See `madgrad`. It includes the learning rate and the sign: add it as it is.

    State: three slots per parameter. Needs the parameters.

    Source: Defazio & Jelassi 2022, https://arxiv.org/abs/2101.11075

    >>> import gradtx
    >>> gradtx.madgrad(0.1).formula
    chain(add_decayed_weights(), scale_by_madgrad(learning_rate=0.1))
    """

    def init(p: jax.Array) -> MadgradState:
        return MadgradState(as_float32(p), zeros_like(p), zeros_like(real_like(p)), 0)

    def advance(s: MadgradState, g: jax.Array) -> MadgradState:
        w = (learning_rate + eps) * jnp.sqrt(s.count.astype(float))
        return s._replace(gradient_sum=s.gradient_sum + w * bounded(g), squared_sum=s.squared_sum + w * abs_squared(g))

    def emit(s: MadgradState, p: jax.Array) -> jax.Array:
        q = s.squared_sum
        return (1 - momentum) * ((s.initial_params - p) - s.gradient_sum / (jnp.cbrt(q + least(q.dtype)) + eps))

    return leafwise(init=init, count=lambda s: s._replace(count=increment(s.count)), advance=advance, emit=emit)


@optimizer
def madgrad(
    learning_rate: NonNegative, momentum: Decay = 0.9, weight_decay: NonNegative = 0.0, eps: NonNegative = 1e-6
) -> Any:
    """Dual averaging with momentum: each step heads for θ₀ minus the weighted sum of all gradients, which is divided
    per element by the cube root of the weighted sum of their squares.

    With wₜ = (η + ε)·√t:

        s ← s + w·g,  q ← q + w·g²,  θ ← μ·θ + (1−μ)·(θ₀ − s/(∛q + ε))

    Args:
      learning_rate: η.
      momentum: μ, the weight of the current θ.
      weight_decay: λ of g + λ·θ.
      eps: ε.

    State: three slots per parameter. Needs the parameters, in `init` too.

    Source: Defazio & Jelassi 2022, https://arxiv.org/abs/2101.11075

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.madgrad(1.0, momentum=0.5, eps=0.0)
    >>> x = jnp.array([8.0, -1.0])
    >>> tx.update(x, tx.init(x), x)[0].tolist()  # half of the cube root
    [-1.0, 0.5]
    """
    return chain(add_decayed_weights(weight_decay), scale_by_madgrad(learning_rate, momentum, eps))

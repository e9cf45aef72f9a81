"""Dual averaging: steps from where it started, along the sum of all gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.hyperparameters import increment
from gradtx.core.transformation import transformation
from gradtx.core.tree import abs_squared, bounded, least, map_leaves, real_like, zeros_like
from gradtx.formulas.distance import initial_copy
from gradtx.scaling import add_decayed_weights

__all__ = ["madgrad", "scale_by_madgrad"]

Tree = Any


class MadgradState(NamedTuple):
    """The weighted sums of gradients and of their squares, and where it started."""

    initial_params: Tree  # like the parameters, in float32 or wider
    gradient_sum: Tree  # like the parameters
    squared_sum: Tree  # like the parameters, real
    count: jax.Array  # type: ignore[assignment]  # int32, steps taken


@transformation(elementwise=True, record=("learning_rate",))
def scale_by_madgrad(learning_rate: NonNegative, momentum: Decay = 0.9, eps: NonNegative = 1e-6) -> Any:
    """The step towards θ₀ − s/(∛q + ε). See `madgrad`. It is one to be added, with no learning rate behind it.

    State: three slots per parameter. Needs the parameters.

    Source: Defazio & Jelassi 2022, https://arxiv.org/abs/2101.11075

    >>> import gradtx
    >>> gradtx.madgrad(0.1).formula
    chain(add_decayed_weights(), scale_by_madgrad(learning_rate=0.1))
    """

    def init(params: Tree) -> MadgradState:
        sums = zeros_like(params), zeros_like(real_like(params))
        return MadgradState(initial_copy(params), *sums, jnp.zeros((), jnp.int32))

    def update(updates: Tree, state: MadgradState, params: Tree) -> tuple[Tree, MadgradState]:
        count = increment(state.count)
        weight = (learning_rate + eps) * jnp.sqrt(count.astype(float))
        s = map_leaves(lambda s, g: s + weight * bounded(g), state.gradient_sum, updates)
        q = map_leaves(lambda q, g: q + weight * abs_squared(g), state.squared_sum, updates)

        def step(a: jax.Array, p: jax.Array, s: jax.Array, q: jax.Array) -> jax.Array:
            return (1 - momentum) * ((a - p) - s / (jnp.cbrt(q + least(q.dtype)) + eps))

        steps = map_leaves(step, state.initial_params, params, s, q)
        return steps, MadgradState(state.initial_params, s, q, count)

    return init, update


@transformation
def madgrad(
    learning_rate: NonNegative, momentum: Decay = 0.9, weight_decay: NonNegative = 0.0, eps: NonNegative = 1e-6
) -> Any:
    """Dual averaging with a rate per element and momentum. With wₜ = (η + ε)·√t:

        s ← s + w·g,  q ← q + w·g²,  θ ← μ·θ + (1−μ)·(θ₀ − s/(∛q + ε))

    Args:
      learning_rate: η.
      momentum: μ, how far θ stays behind.
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

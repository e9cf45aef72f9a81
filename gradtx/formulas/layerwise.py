"""One rate for each layer, from norms of its parameters and gradients: Fromage, NovoGrad, distance over gradients.

(LARS is in `descent`, LAMB in `adam`.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import chain
from gradtx.core.schedule import schedule
from gradtx.core.transformation import transformation
from gradtx.core.tree import abs_squared, as_float32, bounded, cast_like, map_leaves, norm, sqrt, zeros_like
from gradtx.factored import map_some
from gradtx.scaling import (
    add_decayed_weights,
    proximal_weight_decay,
    scale_by_learning_rate,
    scale_by_trust_ratio,
)
from gradtx.statistics import trace

__all__ = [
    "divide_by_average_norm",
    "fromage",
    "growth_schedule",
    "novograd",
    "scale_by_distance_over_gradients",
    "scale_by_novograd",
]

Tree = Any


def _numbers_like(params: Tree) -> Tree:
    """A zero for each leaf, real."""
    return jax.tree.map(lambda p: jnp.zeros((), as_float32(p).real.dtype), params)


# Fromage


@transformation
def fromage(learning_rate: NonNegative, min_norm: NonNegative = 1e-6) -> Any:
    """Each layer moves by a share of its own norm, and is then shortened by as much as it has grown:
    θ ← (θ − η·‖θ‖/‖g‖·g) / √(1 + η²).

    Args:
      learning_rate: η, relative; 0.01 is a good first guess everywhere.
      min_norm: norms below this count as this.

    Needs the parameters.

    Source: Bernstein et al. 2020, https://arxiv.org/abs/2002.03432

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.fromage(0.75)
    >>> x = jnp.array([4.0, 0.0])
    >>> updates, _ = tx.update(jnp.array([0.0, 9.0]), tx.init(x), x)
    >>> [f"{p:.3f}" for p in x + updates]  # a turn: its norm is still 4
    ['3.200', '-2.400']
    """
    return chain(
        scale_by_trust_ratio(min_norm),
        scale_by_learning_rate(learning_rate),
        proximal_weight_decay(growth_schedule(learning_rate)),  # 1 + growth = √(1 + η²)
    )


@schedule
def growth_schedule(rate: Real) -> Any:
    """√(1 + η²) − 1: how much a step of length η, at a right angle, lengthens a vector of length 1.

    Args:
      rate: η, a number or a schedule.

    >>> import gradtx
    >>> gradtx.growth_schedule(0.75)(0).item(), round(gradtx.growth_schedule(1e-4)(0).item(), 12)
    (0.25, 5e-09)
    """

    def growth(count: jax.Array) -> jax.Array:
        squared = jnp.square(jnp.asarray(rate, float))
        return squared / (jnp.sqrt(1 + squared) + 1)  # the difference itself would cancel

    return growth


# NovoGrad


class AverageNormState(NamedTuple):
    """For each leaf the average ν of ‖u‖²."""

    squared_norm: Tree  # a number for each leaf
    started: jax.Array  # bool, whether a step is in it


@transformation
def divide_by_average_norm(decay: Decay = 0.25, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0) -> Any:
    """Divide each leaf by the root of an average of its squared norm: u/(√(ν + ε_root) + ε), ν ← β·ν + (1−β)·‖u‖².

    ν starts from the first ‖u‖².

    Args:
      decay: β.
      eps: ε.
      eps_root: ε_root, inside the root.

    State: one number for each leaf.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286
    """

    def init(params: Tree) -> AverageNormState:
        return AverageNormState(_numbers_like(params), jnp.zeros((), bool))

    def update(updates: Tree, state: AverageNormState, params: Tree = None) -> tuple[Tree, AverageNormState]:
        old = jnp.where(state.started, decay, 0.0)

        def average(n: jax.Array, u: jax.Array) -> jax.Array:
            return old * n + (1 - old) * jnp.sum(abs_squared(u))

        def divided(u: jax.Array, n: jax.Array) -> jax.Array:
            return (1 / (sqrt(n + eps_root) + eps)) * bounded(u)

        squared = map_some(average, state.squared_norm, updates)
        return map_some(divided, updates, squared), AverageNormState(squared, jnp.ones((), bool))

    return init, update


@transformation
def scale_by_novograd(
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
) -> Any:
    """A heavy ball of normalised gradients with weight decay: m ← β₁·m + (g/(√ν + ε) + λ·θ). See `novograd`.

    State: one slot per parameter, one number for each leaf. Needs the parameters.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286
    """
    return chain(
        divide_by_average_norm(b2, eps, eps_root),
        add_decayed_weights(weight_decay),
        trace(b1, accumulator_dtype=mu_dtype),
    )


@transformation
def novograd(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
) -> Any:
    """Adam's second moment for whole layers, and before the momentum: ν ← β₂·ν + (1−β₂)·‖g‖²,
    m ← β₁·m + (g/(√ν + ε) + λ·θ), θ ← θ − η·m.

    Args:
      learning_rate: η.
      b1: β₁, of a sum, not an average.
      b2: β₂; ν starts from the first ‖g‖².
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ, seen by the momentum.

    State: one slot per parameter, one number for each leaf. Needs the parameters.

    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286

    >>> import gradtx
    >>> gradtx.scale_by_novograd().formula
    chain(divide_by_average_norm(), add_decayed_weights(), trace(decay=0.9))
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay),
        scale_by_learning_rate(learning_rate),
    )


# Distance over gradients


class DistanceOverGradientsState(NamedTuple):
    """Where each leaf started, how far it has been, and the gradients that it has seen."""

    max_distance: Tree  # a number for each leaf, the largest ‖θ − θ₀‖, or what it is taken for at first
    gradient_sum: Tree  # a number for each leaf, Σ‖g‖²
    initial_params: Tree  # like the parameters


@transformation
def scale_by_distance_over_gradients(
    reps_rel: NonNegative = 1e-6,
    eps: NonNegative = 1e-8,
    param_dtype: Dtype = jnp.float32,
    global_scale: Real = 1.0,
) -> Any:
    """Scale each leaf by its distance over its gradients: s·r/√(Σ‖g‖² + ε)·g, with r the largest ‖θ − θ₀‖ so far, from
    r = α·(1 + ‖θ₀‖). It is `dog` leaf by leaf (L-DoG).

    Args:
      reps_rel: α; 1e-4 with batch normalisation.
      eps: ε.
      param_dtype: dtype of the copy of θ₀.
      global_scale: s, of either sign.

    State: one slot per parameter, two numbers for each leaf. Needs the parameters, in `init` too.

    Source: Ivgi et al. 2023, https://arxiv.org/abs/2302.12022

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_distance_over_gradients(reps_rel=0.1, global_scale=-1.0)
    >>> x = jnp.array([3.0, 4.0])
    >>> tx.update(2 * x, tx.init(x), x)[0].round(3).tolist()
    [-0.36..., -0.48...]
    """

    def init(params: Tree) -> DistanceOverGradientsState:
        start = map_leaves(lambda p: p, params)
        reach = map_some(lambda p: reps_rel * (1 + norm(p)), start)
        return DistanceOverGradientsState(
            reach, _numbers_like(params), cast_like(start, zeros_like(params, param_dtype))
        )

    def update(updates: Tree, state: DistanceOverGradientsState, params: Tree) -> tuple[Tree, Tree]:
        def reached(r: jax.Array, p: jax.Array, start: jax.Array) -> jax.Array:
            return jnp.maximum(r, norm(p - start))

        def scaled(u: jax.Array, r: jax.Array, n: jax.Array) -> jax.Array:
            return (global_scale * r / sqrt(n + eps)) * bounded(u)

        reach = map_some(reached, state.max_distance, params, state.initial_params)
        total = map_some(lambda n, u: n + jnp.sum(abs_squared(u)), state.gradient_sum, updates)
        steps = map_some(scaled, updates, reach, total)
        return steps, DistanceOverGradientsState(reach, total, state.initial_params)

    return init, update

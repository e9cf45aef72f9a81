"""MoMo: Polyak-type step sizes for momentum, from a linear model of the loss made of averaged losses and gradients.

Both need the loss at each step: `tx.update(gradients, state, params, value=loss)`, which `make_step` passes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.preconditioners import inverse_rms
from gradtx.core.arguments import Decay, NonNegative, Real
from gradtx.core.build import initialize, run
from gradtx.core.numerics import average, bounded, global_dot, ratio, seen
from gradtx.core.roles import Inner, Number, Slot, Weight
from gradtx.core.transformation import Transformation, optimizer, transformation
from gradtx.core.tree import map_leaves, zeros_like
from gradtx.schedules.betas import after_first_step

__all__ = ["momentum_model", "momo", "momo_adam"]

Tree = Any


class MomentumModelState(NamedTuple):
    """The averages that make up the model of the loss."""

    momentum: Slot
    preconditioner: Inner  # its state
    loss: Number  # average of the losses
    gradient_dot_params: Number  # average of ⟨g, θ⟩
    weight: Weight  # of the averages: the same average, taken of ones
    lower_bound: Number  # of the loss
    step_size: Number  # of the last step

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"step_size": self.step_size}


@transformation(record=("learning_rate",))
def momentum_model(
    learning_rate: NonNegative,
    b1: Decay,
    preconditioner: Transformation | None = None,
    lower_bound: Real = 0.0,
    weight_decay: NonNegative = 0.0,
    adapt_lower_bound: bool = False,
) -> Any:
    """Step until a linear model of the loss reaches its lower bound, with a step size of at most η:
    τ = min(η/w, f/⟨m, d⟩), θ ← (θ − …)/(1 + η·λ).

    With d = r·m and averages, all with decay β₁, m of the gradients, f̄ of the losses and γ of ⟨g, θ⟩:

        f = max(0, (1 + η·λ)·(f̄ − w·l − γ) + ⟨m, θ⟩),  θ ← θ − η·λ/(1 + η·λ)·θ − τ·d

    Args:
      learning_rate: η.
      b1: β₁.
      preconditioner: the transformation that computes r from the gradients; None for r = 1.
      lower_bound: l.
      weight_decay: λ.
      adapt_lower_bound: estimate l during training, never below `lower_bound`.

    Needs the parameters, and the loss as the extra argument `value`.

    Source: Schaipp et al. 2023, https://arxiv.org/abs/2305.07583
    """

    def init(params: Tree) -> MomentumModelState:
        zero = jnp.zeros((), float)
        of_preconditioner = () if preconditioner is None else initialize(preconditioner, params)
        return MomentumModelState(
            zeros_like(params), of_preconditioner, zero, zero, zero, jnp.asarray(lower_bound, float), step_size=zero
        )

    def update(
        updates: Tree, state: MomentumModelState, params: Tree, *, value: jax.Array, **extra_args: Any
    ) -> tuple[Tree, MomentumModelState]:
        weight, loss = seen(b1, state.weight), average(b1, state.loss, value)
        dot = average(b1, state.gradient_dot_params, global_dot(updates, params))
        momentum = map_leaves(lambda m, g: average(b1, m, bounded(g)), state.momentum, updates)
        steps, of_preconditioner = momentum, state.preconditioner
        if preconditioner is not None:
            scales, of_preconditioner = run(preconditioner, updates, of_preconditioner, params, extra_args)
            steps = map_leaves(lambda r, m: r * m, scales, momentum)

        decay = 1 + learning_rate * weight_decay
        squared, ahead = global_dot(momentum, steps), global_dot(momentum, params)
        bound = state.lower_bound
        if adapt_lower_bound:
            cap = decay * (loss - dot) + ahead
            lowered = jnp.maximum(cap / (2 * weight * decay), lower_bound)
            bound = jnp.where(cap < decay * weight * bound, lowered, bound)
        fall = jnp.maximum(decay * (loss - weight * bound - dot) + ahead, 0)
        step_size = jnp.minimum(learning_rate / weight, ratio(fall, squared))
        if adapt_lower_bound:
            bound = jnp.maximum((loss + ahead - dot - step_size * squared / 2) / weight, lower_bound)

        shrink = learning_rate * weight_decay / decay
        updates = map_leaves(lambda p, d: -shrink * p - step_size * d, params, steps)
        return updates, MomentumModelState(momentum, of_preconditioner, loss, dot, weight, bound, step_size)

    return init, update


@optimizer
def momo(
    learning_rate: NonNegative = 1.0,
    beta: Decay = 0.9,
    lower_bound: Real = 0.0,
    weight_decay: NonNegative = 0.0,
    adapt_lower_bound: bool = False,
) -> Any:
    """SGD with momentum and a Polyak-type step size computed from the loss, at most η:
    θ ← θ − min(η, (f̄ + ⟨m, θ⟩ − γ − l)₊/‖m‖²)·m, where m, f̄ and γ are averages of g, of the loss and of ⟨g, θ⟩, and l
    is a lower bound of the loss.

    Args:
      learning_rate: η, the largest step size; set it rather high.
      beta: β of the averages, which start from the first gradient.
      lower_bound: l, of the loss.
      weight_decay: λ.
      adapt_lower_bound: estimate l, never below `lower_bound`.

    State: one slot per parameter. Needs the parameters, and the loss as the extra argument `value`.

    Raises:
      TypeError: `value` is not passed to `update`.

    Source: Schaipp et al. 2023, https://arxiv.org/abs/2305.07583

    >>> import gradtx, jax.numpy as jnp
    >>> tx, x = gradtx.momo(beta=0.0), jnp.array([3.0, 4.0])
    >>> tx.update(2 * x, tx.init(x), x, value=jnp.sum(x**2))[0].tolist()  # half-way, for any quadratic
    [-1.5, -2.0]
    """
    return momentum_model(learning_rate, after_first_step(beta), None, lower_bound, weight_decay, adapt_lower_bound)


@optimizer
def momo_adam(
    learning_rate: NonNegative = 1e-2,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    lower_bound: Real = 0.0,
    weight_decay: NonNegative = 0.0,
    adapt_lower_bound: bool = False,
) -> Any:
    """Adam with a Polyak-type step size computed from the loss, at most η: `momo` with d = m/(√v̂ + ε) in place of m as
    the direction of the step.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      lower_bound: of the loss.
      weight_decay: λ.
      adapt_lower_bound: estimate the bound, never below `lower_bound`.

    State: two slots per parameter. Needs the parameters, and the loss as the extra argument `value`.

    Raises:
      TypeError: `value` is not passed to `update`.

    Source: Schaipp et al. 2023, https://arxiv.org/abs/2305.07583

    >>> import gradtx
    >>> gradtx.momo_adam(0.1).formula
    momentum_model(learning_rate=0.1, b1=0.9, preconditioner=inverse_rms())
    """
    return momentum_model(learning_rate, b1, inverse_rms(b2, eps), lower_bound, weight_decay, adapt_lower_bound)

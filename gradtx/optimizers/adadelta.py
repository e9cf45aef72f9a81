"""Adadelta: steps in the units of the parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative, Positive
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, least
from gradtx.core.roles import Slot
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import real_like, zeros_like

__all__ = ["adadelta", "scale_by_adadelta"]


class AdadeltaState(NamedTuple):
    """The averages s of squared gradients and x of squared updates."""

    squared_gradient: Slot  # real
    squared_update: Slot  # real


@transformation
def scale_by_adadelta(rho: Decay = 0.9, eps: NonNegative = 1e-6) -> Any:
    """Scale by the root mean square of the steps over that of the gradients: u = √(x + ε)/√(s + ε)·g.

    Args:
      rho: ρ, the decay of s (of g²) and of x (of u²).
      eps: ε.

    State: two slots per parameter.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701
    """

    def init(p: jax.Array) -> AdadeltaState:
        return AdadeltaState(zeros_like(real_like(p)), zeros_like(real_like(p)))

    def advance(s: AdadeltaState, g: jax.Array) -> AdadeltaState:
        squared = average(rho, s.squared_gradient, abs_squared(g))
        step = (s.squared_update + eps) / (squared + eps + least(squared.dtype)) * abs_squared(g)
        return AdadeltaState(squared, average(rho, s.squared_update, step))

    def emit(s: AdadeltaState, g: jax.Array) -> jax.Array:
        # Computed from the new x, so that the old one can be overwritten: solving the average for the old x gives
        # x + ε = (x' + ρ·ε)·(s + ε) / (ρ·(s + ε) + (1−ρ)·g²), without cancellation.
        below = average(rho, s.squared_gradient + eps, abs_squared(g))
        return bounded(g) * jnp.sqrt((s.squared_update + rho * eps) / (below + least(below.dtype)))

    return leafwise(init=init, advance=advance, emit=emit)


@optimizer
def adadelta(
    learning_rate: NonNegative = 1.0,
    rho: Decay = 0.9,
    eps: Positive = 1e-6,
    weight_decay: NonNegative | None = None,
    weight_decay_mask: Any = None,
) -> Any:
    """Steps in the units of the parameters, so that no learning rate has to be set: θ ← θ − η·√(x + ε)/√(s + ε)·g, with
    averages s of squared gradients and x of squared steps.

    Args:
      learning_rate: η, a factor that is not in the paper.
      rho: ρ.
      eps: ε; it sets the size of the first steps.
      weight_decay: λ, added to the gradient as λ·θ; None for none (Optax's 0 needlessly reads the parameters).
      weight_decay_mask: which leaves decay; see `masked`.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701

    >>> import gradtx
    >>> gradtx.adadelta(rho=0.95)
    adadelta(rho=0.95)
    """
    stages = [scale_by_adadelta(rho, eps), scale_by_learning_rate(learning_rate)]
    if weight_decay is not None:
        stages.insert(0, add_decayed_weights(weight_decay, weight_decay_mask))
    return chain(*stages)

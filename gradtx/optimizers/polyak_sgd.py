"""Polyak's step size, computed from how far the loss is above its minimum."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.core.arguments import NonNegative, Real
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import norm, overall, ratio
from gradtx.core.transformation import optimizer, transformation

__all__ = ["polyak_sgd", "scale_by_polyak"]


@transformation
def scale_by_polyak(
    f_min: Real = 0.0, max_learning_rate: NonNegative = 1.0, eps: NonNegative = 0.0, variant: str = "sps"
) -> Any:
    """Scale the gradient by Polyak's step size, min((f − f*)/(‖g‖² + ε), γ); 0 for a zero gradient.

    Pass the loss: `tx.update(grads, state, params, value=loss)` (`make_step` does).

    Args:
      f_min: f*, the smallest possible loss; 0 for a model that can fit all of the data.
      max_learning_rate: γ.
      eps: ε.
      variant: "sps", or "sps+", which takes no step where the loss is below f*. There "sps" goes up the gradient, with
        a step size of at most γ (unbounded in Optax).

    Raises:
      ValueError: another variant.
      TypeError: `value` is not passed to `update`.

    Source: Loizou et al. 2021, https://arxiv.org/abs/2002.10542; "sps+": Garrigos et al. 2023,
    https://arxiv.org/abs/2307.14528
    """
    if variant not in ("sps", "sps+"):
        raise ValueError(f"scale_by_polyak: variant is 'sps' or 'sps+', got {variant!r}")

    def step(t: jax.Array, *, value: jax.Array) -> jax.Array:
        gap = jnp.asarray(value, float) - f_min
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        # (f − f*)/(‖g‖² + ε) in factors, as the square may overflow or vanish.
        size = ratio(ratio(gap, t + ratio(eps, t)), t)
        return jnp.clip(size, -max_learning_rate, max_learning_rate)

    return leafwise(together=(lambda g: norm(g), overall), numbers=step, emit=lambda g, n: n * g)


@optimizer
def polyak_sgd(
    max_learning_rate: NonNegative = 1.0,
    scaling: NonNegative = 1.0,
    f_min: Real = 0.0,
    eps: NonNegative = 0.0,
    variant: str = "sps",
) -> Any:
    """Gradient descent with Polyak's step size, computed from the loss: θ ← θ − s·min((f(θ) − f*)/(‖g‖² + ε), γ)·g.

    Pass the loss: `tx.update(grads, state, params, value=loss)` (`make_step` does).

    (Optax multiplies the gradient by s before it takes the norm, so a step that γ does not bound is divided by s. It
    stops where ‖g‖² + ε is at most 2·10⁻¹⁶; here every nonzero gradient moves the parameters.)

    Args:
      max_learning_rate: γ.
      scaling: s, a number or a schedule; recorded as the learning rate.
      f_min: f*, the smallest possible loss.
      eps: ε.
      variant: "sps" or "sps+"; see `scale_by_polyak`.

    Source: Loizou et al. 2021, https://arxiv.org/abs/2002.10542; Polyak 1987, Introduction to Optimization

    >>> import gradtx, jax.numpy as jnp
    >>> step = gradtx.make_step(lambda x: jnp.sum(x**2), gradtx.polyak_sgd())
    >>> x, state = jnp.array([2.0]), step.init(jnp.array([2.0]))
    >>> for _ in range(3):
    ...     x, state, _ = step(x, state)
    ...     print(x.item())
    1.0
    0.5
    0.25
    """
    return chain(scale_by_polyak(f_min, max_learning_rate, eps, variant), scale_by_learning_rate(scaling))

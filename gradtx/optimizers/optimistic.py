"""Optimistic gradients: α·g + β·(g − g₋₁), on their own and in Adam."""

from typing import Any

from gradtx.atoms.directions import difference
from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain
from gradtx.core.transformation import optimizer, transformation
from gradtx.optimizers.adam import scale_by_adam
from gradtx.schedules.betas import after_first_step

__all__ = ["optimistic_adam", "optimistic_adam_v2", "optimistic_gradient_descent", "scale_by_optimistic_gradient"]


@transformation
def scale_by_optimistic_gradient(alpha: Real = 1.0, beta: Real = 1.0) -> Any:
    """Extrapolate the change in the gradient: α·g + β·(g − g₋₁), at first α·g. See `optimistic_gradient_descent`.

    Args:
      alpha: α.
      beta: β.

    State: one slot per parameter.

    Source: Mokhtari et al. 2020, https://arxiv.org/abs/1901.08511
    """
    return add(scale(alpha), chain(difference(), scale(after_first_step(beta))))


@optimizer
def optimistic_gradient_descent(learning_rate: NonNegative, alpha: Real = 1.0, beta: Real = 1.0) -> Any:
    """Gradient descent that extrapolates the change in the gradient, for min–max games, where plain gradient descent
    spirals away from the solution: θ ← θ − η·(α·g + β·(g − g₋₁)).

    Args:
      learning_rate: η.
      alpha: α.
      beta: β.

    State: one slot per parameter.

    Source: Mokhtari et al. 2020, https://arxiv.org/abs/1901.08511

    >>> import gradtx, jax.numpy as jnp
    >>> def play(tx, steps=100):  # min over x, max over y of x·y
    ...     z, state = jnp.ones(2), tx.init(jnp.ones(2))
    ...     for _ in range(steps):
    ...         updates, state = tx.update(jnp.array([z[1], -z[0]]), state)
    ...         z = z + updates
    ...     return float(jnp.linalg.norm(z))
    >>> play(gradtx.sgd(0.3)) > 50, play(gradtx.optimistic_gradient_descent(0.3)) < 0.1
    (True, True)
    """
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))


@optimizer
def optimistic_adam_v2(
    learning_rate: NonNegative,
    *,
    alpha: Real = 1.0,
    beta: Real = 1.0,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    nesterov: bool = True,
) -> Any:
    """Adam that extrapolates the change in its direction u, for min–max games: θ ← θ − η·(α·u + β·(u − u₋₁)).

    Args:
      learning_rate: η.
      alpha: α.
      beta: β.
      b1: β₁ of Adam.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      nesterov: NAdam's direction.

    State: three slots per parameter.

    Source: Daskalakis et al. 2018, https://arxiv.org/abs/1711.00141

    >>> import gradtx
    >>> gradtx.optimistic_adam_v2(1e-3, beta=0.5).formula
    chain(
        scale_by_adam(nesterov=True),
        scale_by_optimistic_gradient(beta=0.5),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )


@optimizer
def optimistic_adam(
    learning_rate: NonNegative,
    optimism: Real | None = None,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = True,
) -> Any:
    """`optimistic_adam_v2` with a learning rate ω of its own for the extrapolation: θ ← θ − (η·u + ω·(u − u₋₁)).

    Args:
      learning_rate: η.
      optimism: ω; None for η.

    The others as for `optimistic_adam_v2`. Both η and ω may be schedules.

    Source: Daskalakis et al. 2018, https://arxiv.org/abs/1711.00141

    >>> import gradtx
    >>> gradtx.optimistic_adam(1e-3, optimism=5e-4)
    optimistic_adam(learning_rate=0.001, optimism=0.0005)
    """
    adam = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root, "mu_dtype": mu_dtype, "nesterov": nesterov}
    if optimism is None:
        return optimistic_adam_v2(learning_rate, **adam)
    return chain(
        scale_by_adam(**adam),
        add(scale_by_learning_rate(learning_rate), chain(difference(), scale(-1.0 * after_first_step(optimism)))),
    )

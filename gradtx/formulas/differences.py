"""Looking at how the gradient changes from step to step: optimistic gradients, Adan.

optimistic gradient     α·g + β·(g − g₋₁)
adan                    an average of g and one of its changes, together Nesterov's momentum
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain, scale
from gradtx.core.transformation import transformation
from gradtx.core.tree import abs_squared, bounded, map_leaves, real_like, sqrt, zeros_like
from gradtx.formulas.adam import scale_by_adam
from gradtx.formulas.delayed import after_first_step
from gradtx.scaling import proximal_weight_decay, scale_by_learning_rate
from gradtx.statistics import momentum_of

__all__ = [
    "adan",
    "difference",
    "optimistic_adam",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "scale_by_adan",
    "scale_by_optimistic_gradient",
]

Tree = Any


class DifferenceState(NamedTuple):
    """The updates of the step before."""

    last: Tree  # like the parameters


@transformation
def difference() -> Any:
    """How the updates have changed since the step before: u − u₋₁, u₋₁ = 0 at first. State: one slot per parameter.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.difference()
    >>> first, state = tx.update(jnp.array(5.0), tx.init(jnp.array(0.0)))
    >>> first.item(), tx.update(jnp.array(7.0), state)[0].item()
    (5.0, 2.0)
    """

    def update(updates: Tree, state: DifferenceState, params: Tree = None) -> tuple[Tree, DifferenceState]:
        change = map_leaves(lambda u, last: u - last, updates, state.last)
        return change, DifferenceState(map_leaves(lambda u: u, updates))

    return lambda params: DifferenceState(zeros_like(params)), update


# Optimistic gradients


@transformation
def scale_by_optimistic_gradient(alpha: Real = 1.0, beta: Real = 1.0) -> Any:
    """Go on in the direction in which the gradient changes: α·g + β·(g − g₋₁), at first α·g. See
    `optimistic_gradient_descent`.

    Args:
      alpha: α.
      beta: β.

    State: one slot per parameter.

    Source: Mokhtari et al. 2020, https://arxiv.org/abs/1901.08511
    """
    return add(scale(alpha), chain(difference(), scale(after_first_step(beta))))


@transformation
def optimistic_gradient_descent(learning_rate: NonNegative, alpha: Real = 1.0, beta: Real = 1.0) -> Any:
    """For games of one minimum and one maximum, where gradient descent turns in circles: θ ← θ − η·(α·g + β·(g − g₋₁)).

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


@transformation
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
    """Adam for games: with Adam's steps u, θ ← θ − η·(α·u + β·(u − u₋₁)).

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


@transformation
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
    """`optimistic_adam_v2` with a rate for the changes: θ ← θ − (η·u + ω·(u − u₋₁)).

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


# Adan


class AdanState(NamedTuple):
    """The averages m of g, v of its changes d and n of (g + (1−β₂)·d)², with the weights that correct them."""

    momentum: Tree  # like the parameters
    change: Tree  # like the parameters
    second_moment: Tree  # like the parameters, real
    last: Tree  # like the parameters, the gradients of the step before
    momentum_weight: jax.Array  # 0-d, 1−β₁ᵗ
    change_weight: jax.Array  # 0-d, 1−β₂ᵗ
    second_moment_weight: jax.Array  # 0-d, 1−β₃ᵗ


@transformation(elementwise=True)
def scale_by_adan(
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> Any:
    """Nesterov's momentum from averages of g and of its changes, over a root mean square of both. See `adan`.

    An atom of its own, because direction and rate share the changes. State: four slots per parameter.

    Source: Xie et al. 2022, https://arxiv.org/abs/2208.06677
    """

    def init(params: Tree) -> AdanState:
        zeros = zeros_like(params)
        unseen = (jnp.zeros(jnp.shape(b), float) for b in (b1, b2, b3))
        return AdanState(zeros, zeros, zeros_like(real_like(params)), zeros, *unseen)

    def update(updates: Tree, state: AdanState, params: Tree = None) -> tuple[Tree, AdanState]:
        ahead, started = 1 - b2, state.momentum_weight > 0

        def change(g: jax.Array, last: jax.Array) -> jax.Array:
            return jnp.where(started, g - last, 0)

        def next_v(v: jax.Array, g: jax.Array, last: jax.Array) -> jax.Array:
            return b2 * v + ahead * bounded(change(g, last))

        def next_n(n: jax.Array, g: jax.Array, last: jax.Array) -> jax.Array:
            return b3 * n + (1 - b3) * abs_squared(g + ahead * change(g, last))

        m = momentum_of(b1, state.momentum, updates)
        v = map_leaves(next_v, state.change, updates, state.last)
        n = map_leaves(next_n, state.second_moment, updates, state.last)
        seen = ((b1, state.momentum_weight), (b2, state.change_weight), (b3, state.second_moment_weight))
        weights = [b * w + (1 - b) for b, w in seen]
        of_m, of_v, of_n = 1 / weights[0], ahead / weights[1], 1 / weights[2]
        u = map_leaves(lambda m, v, n: (of_m * m + of_v * v) / (sqrt(of_n * n + eps_root) + eps), m, v, n)
        # It is g, as n is never negative: it tells XLA, which would copy the old gradients first, that they may be
        # overwritten once v and n are there.
        last = map_leaves(lambda g, v, n: jnp.where((n < 0) & (v.real < 0), 0, g), updates, v, n)
        return u, AdanState(m, v, n, last, *weights)

    return init, update


@transformation
def adan(
    learning_rate: NonNegative,
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Adaptive Nesterov momentum: with the change d = g − g₋₁ and averages m of g, v of d, n of (g + (1−β₂)·d)²,
    θ ← (θ − η·(m̂ + (1−β₂)·v̂)/(√n̂ + ε)) / (1 + η·λ).

    The decay is the paper's. (Optax decays as AdamW does, θ − η·(u + λ·θ).)

    Args:
      learning_rate: η; larger than Adam's.
      b1: β₁, decay of m.
      b2: β₂, decay of v.
      b3: β₃, decay of n.
      eps: ε.
      eps_root: inside the root.
      weight_decay: λ; 0.02 in the paper.
      mask: which leaves decay; see `masked`.

    State: four slots per parameter.

    Source: Xie et al. 2022, https://arxiv.org/abs/2208.06677

    >>> import gradtx
    >>> gradtx.adan(1e-3, weight_decay=0.5).formula
    chain(
        scale_by_adan(eps_root=1e-08),
        scale_by_learning_rate(learning_rate=0.001),
        proximal_weight_decay(weight_decay=0.0005),
    )
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root),
        scale_by_learning_rate(learning_rate),
        proximal_weight_decay(learning_rate * weight_decay, mask),
    )

"""Looking at how the gradient changes from step to step: optimistic gradients, Adan.

optimistic gradient     α·g + β·(g − g₋₁)
adan                    an average of g and one of its changes, together Nesterov's momentum
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative, Real
from gradtx.core.combine import add, chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, after, average, bounded, seen, sqrt, unseen
from gradtx.core.roles import Slot, Weight
from gradtx.core.transformation import transformation
from gradtx.core.tree import real_like, zeros_like
from gradtx.formulas.adam import scale_by_adam
from gradtx.formulas.delayed import after_first_step
from gradtx.scaling import proximal_weight_decay, scale, scale_by_learning_rate

__all__ = [
    "adan",
    "difference",
    "optimistic_adam",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "scale_by_adan",
    "scale_by_optimistic_gradient",
]


class DifferenceState(NamedTuple):
    """The updates of the step before."""

    last: Slot


@transformation
def difference() -> Any:
    """How the updates have changed since the step before: u − u₋₁, u₋₁ = 0 at first. State: one slot per parameter.

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

    momentum: Slot
    change: Slot
    second_moment: Slot  # real
    last: Slot  # the gradients of the step before
    momentum_weight: Weight  # 1−β₁ᵗ
    change_weight: Weight  # 1−β₂ᵗ
    second_moment_weight: Weight  # 1−β₃ᵗ


@transformation
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

    def init(p: jax.Array) -> AdanState:
        m, v, n, last = zeros_like(p), zeros_like(p), zeros_like(real_like(p)), zeros_like(p)
        return AdanState(m, v, n, last, unseen(b1), unseen(b2), unseen(b3))

    def count(s: AdanState) -> AdanState:
        return s._replace(
            momentum_weight=seen(b1, s.momentum_weight),
            change_weight=seen(b2, s.change_weight),
            second_moment_weight=seen(b3, s.second_moment_weight),
        )

    def advance(s: AdanState, g: jax.Array, n: Any) -> AdanState:
        d = jnp.where(n, g - s.last, 0)  # the first gradient has no change
        m = average(b1, s.momentum, bounded(g))
        v = average(b2, s.change, bounded(d))
        n = average(b3, s.second_moment, abs_squared(g + (1 - b2) * d))
        return s._replace(momentum=m, change=v, second_moment=n, last=after(g, v, n))

    def emit(s: AdanState) -> jax.Array:
        m_hat, v_hat = s.momentum / s.momentum_weight, s.change / s.change_weight
        n_hat = s.second_moment / s.second_moment_weight
        return (m_hat + (1 - b2) * v_hat) / (sqrt(n_hat, eps_root) + eps)

    return leafwise(init=init, numbers=lambda s: s.momentum_weight > 0, count=count, advance=advance, emit=emit)


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

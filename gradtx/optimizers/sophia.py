"""Sophia: momentum divided by an estimate of the diagonal of the Hessian, and clipped.

The estimator is a transformation of its own whose updates are that diagonal. Hutchinson's needs the loss as a function;
`square()`, the squared gradient, costs nothing extra (for a negative log-likelihood it amounts to Sophia-G).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.clipping import clip
from gradtx.atoms.directions import direction
from gradtx.atoms.hutchinson import hutchinson_estimator_diag_hessian
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative, Period, Positive
from gradtx.core.build import initialize, run
from gradtx.core.combine import chain, product
from gradtx.core.numerics import increment, least
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.transformation import Transformation, optimizer, transformation
from gradtx.core.tree import cast_like, map_leaves, real_like, zeros_like

__all__ = ["inverse_curvature", "scale_by_sophia", "sophia"]

Tree = Any


class CurvatureState(NamedTuple):
    """The averaged diagonal h, and the state of its estimator."""

    count: Number  # int32, steps taken
    curvature: Slot  # real
    estimator: Inner


@transformation
def inverse_curvature(
    hessian_diagonal_fn: Transformation,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    gamma: NonNegative = 0.01,
    update_interval: Period = 10,
) -> Any:
    """1 / max(γ·h, ε), where h ← β₂·h + (1−β₂)·ĥ at every k-th step; a step still uses the old h.

    Args:
      hessian_diagonal_fn: a transformation whose updates are ĥ; it gets the updates, parameters and extra arguments.
      b2: β₂.
      eps: ε.
      gamma: γ.
      update_interval: k.

    State: one slot per parameter, and that of the estimator. Needs the parameters.

    Source: Liu et al. 2023, https://arxiv.org/abs/2305.14342
    """

    def init(params: Tree) -> CurvatureState:
        estimator = initialize(hessian_diagonal_fn, params)
        return CurvatureState(jnp.zeros((), jnp.int32), zeros_like(real_like(params)), estimator)

    def update(updates: Tree, state: CurvatureState, params: Tree, **extra_args: Any) -> tuple[Tree, CurvatureState]:
        preconditioner = map_leaves(lambda h: 1 / (jnp.maximum(gamma * h, eps) + least(h.dtype)), state.curvature)

        def estimate(h: Tree, estimator: Tree) -> tuple[Tree, Tree]:
            new, estimator = run(hessian_diagonal_fn, updates, estimator, params, extra_args)
            blended = map_leaves(lambda h, e: b2 * h + (1 - b2) * jnp.real(e), h, new)
            return cast_like(blended, state.curvature), cast_like(estimator, state.estimator)

        due = state.count % update_interval == 0
        curvature, estimator = jax.lax.cond(due, estimate, lambda *kept: kept, state.curvature, state.estimator)
        return preconditioner, CurvatureState(increment(state.count), curvature, estimator)

    return init, update


HUTCHINSON = hutchinson_estimator_diag_hessian()


@transformation
def scale_by_sophia(
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    gamma: NonNegative = 0.01,
    clip_threshold: Positive | None = 1.0,
    update_interval: Period = 10,
    hessian_diagonal_fn: Transformation = HUTCHINSON,
    mu_dtype: Dtype | None = None,
) -> Any:
    """Momentum divided by curvature, clipped: clip(m̂ / max(γ·h, ε), ±d). See `sophia`.

    State: two slots per parameter, and that of the estimator. Needs the parameters.

    Source: Liu et al. 2023, https://arxiv.org/abs/2305.14342
    """
    bound = [] if clip_threshold is None else [clip(clip_threshold)]
    preconditioner = inverse_curvature(hessian_diagonal_fn, b2, eps, gamma, update_interval)
    return chain(product(direction(b1, accumulator_dtype=mu_dtype), preconditioner), *bound)


@optimizer
def sophia(
    learning_rate: NonNegative,
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-4,
    weight_decay_mask: Any = None,
    gamma: NonNegative = 0.01,
    clip_threshold: Positive | None = 1.0,
    update_interval: Period = 10,
    hessian_diagonal_fn: Transformation = HUTCHINSON,
    mu_dtype: Dtype | None = None,
) -> Any:
    """A diagonal Newton method with clipped steps: θ ← θ − η·(clip(m̂/max(γ·h, ε), ±d) + λ·θ), where h is an average
    of estimates of the diagonal of the Hessian, one every k-th step.

    As in Optax, m is bias-corrected, and an estimate is first used in the step after it.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂ of h, for each estimate.
      eps: ε, a lower bound of the curvature.
      weight_decay: λ, decoupled.
      weight_decay_mask: which leaves decay; see `masked`.
      gamma: γ; the larger, the fewer elements are clipped.
      clip_threshold: d; None for no clipping.
      update_interval: k.
      hessian_diagonal_fn: a transformation whose updates are the estimate. By default
        `hutchinson_estimator_diag_hessian()`, which takes the loss, `obj_fn` or `value_fn`, as an extra argument.
      mu_dtype: dtype of m.

    State: two slots per parameter, and that of the estimator. Needs the parameters.

    Source: Liu et al. 2023, https://arxiv.org/abs/2305.14342

    >>> import gradtx, jax, jax.numpy as jnp
    >>> loss = lambda x: jnp.sum(jnp.array([1.0, 100.0]) * x**2)
    >>> tx = gradtx.sophia(0.1, b1=0.0, gamma=1.0, update_interval=1, weight_decay=0.0)
    >>> step = jax.jit(lambda x, state: tx.update(jax.grad(loss)(x), state, x, obj_fn=loss))
    >>> x, state = jnp.array([1.0, 1.0]), tx.init(jnp.ones(2))
    >>> for _ in range(200):
    ...     u, state = step(x, state)
    ...     x = x + u
    >>> bool(jnp.max(jnp.abs(x)) < 1e-3)  # both at the same pace
    True
    """
    return chain(
        scale_by_sophia(b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn, mu_dtype),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )

"""Sharpness-aware minimisation: descend along the gradient at the worst point nearby."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.clipping import normalize_by_update_norm
from gradtx.atoms.learning_rate import scale
from gradtx.core.arguments import Period
from gradtx.core.build import initialize, run
from gradtx.core.combine import chain
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import cast_like, is_none, map_leaves
from gradtx.updating import apply_updates
from gradtx.wrappers.eval_params import eval_params

__all__ = ["SAMState", "normalize", "sam"]

Tree = Any


@transformation
def normalize() -> Any:
    """Divide the updates by their norm over all leaves, u / ‖u‖; zero stays zero.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.normalize()
    >>> tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))[0].tolist()
    [0.6..., -0.8...]
    """
    return normalize_by_update_norm(eps=0.0)


class SAMState(NamedTuple):
    """The states of both optimizers, and the parameters from which the adversarial steps set out."""

    steps_since_sync: Number  # int32, adversarial steps since the last one of the optimizer
    opt_state: Inner
    adv_state: Inner
    cache: Slot  # the parameters without the adversarial steps; None in opaque mode

    def eval_params(self, params: Tree) -> Tree:
        """What `eval_params` reads: the parameters without the adversarial steps."""
        if self.cache is not None:
            here = self.steps_since_sync == 0

            def true(p: Any, c: Any) -> Any:
                return p if c is None else jnp.where(here, p, c)

            params = jax.tree.map(true, params, self.cache, is_leaf=is_none)
        return eval_params(self.opt_state, params)


@transformation
def sam(
    optimizer: Transformation,
    adv_optimizer: Transformation | None = None,
    sync_period: Period = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
) -> Any:
    """Descend along the gradient taken a small step uphill: θ ← θ − η·∇f(θ + ρ·∇f(θ)/‖∇f(θ)‖).

    By default (transparent mode), each call to `update` is half a step: one moves the parameters uphill; the next, with
    the gradient there, moves them back and takes the optimizer's step. In between, `eval_params(state, params)` reads
    the parameters without the step uphill. In opaque mode, each call is a whole step and computes the gradients itself.

    Args:
      optimizer: takes the steps downhill.
      adv_optimizer: its steps are negated to go uphill; by default the paper's, `chain(normalize(), scale(-0.05))`.
      sync_period: calls per step of the optimizer, one more than the steps uphill before it; 1 is the optimizer alone.
      reset_state: reset the adversarial optimizer after each step of the optimizer.
      opaque_mode: take whole steps, for losses with side effects (batch statistics) that the steps uphill must not
        have. Takes the extra argument `grad_fn(params, i)`, the gradient after the i-th step uphill; or else
        `value_fn(params)`, the loss, as `make_step` passes it.
      batch_axis_name: in opaque mode inside `pmap` or `shard_map`: the axis to average those gradients over.

    State: those of both optimizers; in transparent mode, one more slot per parameter. Needs the parameters.

    Raises:
      TypeError: in opaque mode, neither `grad_fn` nor `value_fn` is passed.

    Source: Foret et al. 2021, https://arxiv.org/abs/2010.01412

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.sam(gradtx.sgd(0.1), opaque_mode=True)
    >>> step = gradtx.make_step(lambda x: jnp.sum(x**2), tx)
    >>> x, state = jnp.array([1.0, 0.0]), step.init(jnp.zeros(2))
    >>> x, state, _ = step(x, state)  # with the gradient at 1.05
    >>> x.round(3).tolist()
    [0.79..., 0.0]
    """
    if adv_optimizer is None:
        adv_optimizer = chain(normalize(), scale(-0.05))

    def init(params: Tree) -> SAMState:
        cache = None if opaque_mode else jax.tree.map(lambda p: jnp.asarray(p, jnp.result_type(p)), params)
        zero = jnp.zeros((), jnp.int32)
        return SAMState(zero, initialize(optimizer, params), initialize(adv_optimizer, params), cache)

    def transparent(updates: Tree, state: SAMState, params: Tree, extra_args: dict[str, Any]) -> tuple[Tree, SAMState]:
        count = state.steps_since_sync
        cache = jax.tree.map(lambda p, c: jnp.where(count == 0, p, c), params, state.cache)

        def uphill(updates: Tree, opt_state: Tree, adv_state: Tree) -> tuple[Tree, Tree, Tree]:
            steps, new = run(adv_optimizer, updates, adv_state, params, extra_args)
            return cast_like(map_leaves(jnp.negative, steps), updates), opt_state, cast_like(new, adv_state)

        def downhill(updates: Tree, opt_state: Tree, adv_state: Tree) -> tuple[Tree, Tree, Tree]:
            steps, new = run(optimizer, updates, opt_state, cache, extra_args)
            steps = map_leaves(lambda u, c, p: u + (c - p), steps, cache, params)
            fresh = cast_like(initialize(adv_optimizer, params), adv_state) if reset_state else adv_state
            return cast_like(steps, updates), cast_like(new, opt_state), fresh

        last = count >= sync_period - 1
        updates = map_leaves(lambda u: u, updates)  # both branches have the same dtypes
        updates, opt_state, adv_state = jax.lax.cond(last, downhill, uphill, updates, state.opt_state, state.adv_state)
        return updates, SAMState(jnp.where(last, 0, count + 1), opt_state, adv_state, cast_like(cache, state.cache))

    def opaque(
        updates: Tree, state: SAMState, params: Tree, extra_args: dict[str, Any], grad_fn: Callable[..., Tree]
    ) -> tuple[Tree, SAMState]:
        there, adv_state = params, state.adv_state
        for i in range(sync_period - 1):
            steps, adv_state = run(adv_optimizer, updates, adv_state, there, extra_args)
            there = apply_updates(there, map_leaves(jnp.negative, steps))
            updates = grad_fn(there, i)
            if batch_axis_name is not None:
                updates = jax.lax.pmean(updates, batch_axis_name)
        adv_state = state.adv_state if reset_state else adv_state
        updates, opt_state = run(optimizer, updates, state.opt_state, params, extra_args)
        return updates, SAMState(state.steps_since_sync, opt_state, adv_state, None)

    def update(
        updates: Tree, state: SAMState, params: Tree, *, grad_fn: Any = None, value_fn: Any = None, **extra_args: Any
    ) -> tuple[Tree, SAMState]:
        passed = extra_args if value_fn is None else extra_args | {"value_fn": value_fn}
        if not opaque_mode:
            return transparent(updates, state, params, passed)
        if grad_fn is None and value_fn is None:
            raise TypeError("sam: opaque mode needs grad_fn: update(updates, state, params, grad_fn=…), or value_fn")
        return opaque(updates, state, params, passed, grad_fn or (lambda p, _: _uphill_gradient(value_fn, p)))

    return init, update


def _uphill_gradient(value_fn: Any, params: Tree) -> Tree:
    gradient = jax.grad(value_fn)(params)
    return jax.tree.map(lambda g: jnp.conj(g) if jnp.iscomplexobj(g) else g, gradient)

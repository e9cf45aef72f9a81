"""Lookahead: slow parameters that follow fast ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Fraction, Period
from gradtx.core.build import initialize, run
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.transformation import GradientTransformation, Transformation, transformation
from gradtx.core.tree import cast_like, check_match, float_copies, map_leaves

__all__ = ["LookaheadParams", "LookaheadState", "lookahead"]

Tree = Any


class LookaheadParams(NamedTuple):
    """Fast parameters, at which gradients are taken, and slow ones, to be evaluated."""

    fast: Tree
    slow: Tree

    @classmethod
    def init_synced(cls, params: Tree) -> "LookaheadParams":
        """A pair to start from: both are `params`."""
        return cls(params, params)


class LookaheadState(NamedTuple):
    """The fast optimizer, and the slow parameters if they are not in a pair with the fast ones."""

    fast_state: Inner
    steps_since_sync: Number  # int32
    slow: Slot  # in float32 or wider; None for a pair

    def eval_params(self, params: Tree) -> Tree:
        """What `eval_params` reads."""
        return jax.tree.map(lambda _: None, params) if self.slow is None else self.slow


def is_pair(params: Any) -> bool:
    """Whether the parameters are `LookaheadParams`, fast and slow."""
    return getattr(params, "_fields", None) == LookaheadParams._fields  # Optax's, too


class _Lookahead(GradientTransformation):
    """Accepts gradients of the fast parameters together with the pair."""

    __slots__ = ()

    def update(self, updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        if not is_pair(params):
            return super().update(updates, state, params, **extra_args)
        check_match(updates, params.fast)
        return run(self, updates, state, params, extra_args)


@transformation(cls=_Lookahead)
def lookahead(
    fast_optimizer: Transformation, sync_period: Period, slow_step_size: Fraction, reset_state: bool = False
) -> Any:
    """Move slow parameters towards the fast ones every k steps: slow ← slow + α·(fast − slow), then fast ← slow.

    The slow parameters are in the state: train as with any optimizer, and read them with `eval_params(state, params)`.
    Or, as in Optax, keep both in the parameters, `params = LookaheadParams.init_synced(params)`, and take gradients at
    `params.fast`; `lookahead` must then be the outermost transformation.

    The updates must reach the parameters unchanged.

    Args:
      fast_optimizer: takes the steps.
      sync_period: k.
      slow_step_size: α, in [0, 1].
      reset_state: reset the state of the fast optimizer every k steps.

    State: that of the fast optimizer and one slot per parameter, in float32 or wider (none for a pair). Needs the
    parameters.

    Source: Zhang et al. 2019, https://arxiv.org/abs/1907.08610

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.lookahead(gradtx.sgd(1.0), sync_period=2, slow_step_size=0.5)
    >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(4):
    ...     updates, state = tx.update(jnp.array(-1.0), state, params)
    ...     params = gradtx.apply_updates(params, updates)
    ...     print(params, gradtx.eval_params(state, params))
    1.0 0.0
    1.0 1.0
    2.0 1.0
    2.0 2.0
    """

    def init(params: Tree) -> LookaheadState:
        fast, slow = (params.fast, None) if is_pair(params) else (params, float_copies(params))
        return LookaheadState(initialize(fast_optimizer, fast), jnp.zeros((), jnp.int32), slow)

    def update(updates: Tree, state: LookaheadState, params: Tree, **extra_args: Any) -> tuple[Tree, LookaheadState]:
        pair = is_pair(params)
        fast, old = (params.fast, params.slow) if pair else (params, state.slow)
        fast_state = state.fast_state
        if reset_state:  # before the step, not after: the state that a step computes can then be kept in place
            fresh, start = initialize(fast_optimizer, fast), state.steps_since_sync == 0
            fast_state = jax.tree.map(lambda new, old: jnp.where(start, new, old), fresh, fast_state)
        updates, fast_state = run(fast_optimizer, updates, fast_state, fast, extra_args)
        sync = state.steps_since_sync >= sync_period - 1

        def moved(slow: jax.Array, p: jax.Array, u: jax.Array) -> jax.Array:
            return jnp.where(sync, slow + slow_step_size * (p + u - slow), slow)

        slow = map_leaves(moved, old, fast, updates)
        updates = map_leaves(lambda u, p, s: jnp.where(sync, s - p, u), updates, fast, slow)
        count = jnp.where(sync, 0, state.steps_since_sync + 1)
        if pair:
            updates = params._replace(fast=updates, slow=map_leaves(lambda new, s: new - s, slow, old))
            return updates, LookaheadState(fast_state, count, state.slow)
        return updates, LookaheadState(fast_state, count, cast_like(slow, old))

    return init, update

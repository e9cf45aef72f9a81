"""Averages of the parameters, which do better than the last iterate, and one way to read them.

    ema_params, swa_params      last in a chain: averages of the parameters after each step
    lookahead                   slow parameters that follow fast ones
    eval_params                 the parameters to evaluate, whatever keeps them

A state that keeps such parameters says so by a method: `state.eval_params(params)`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Fraction, Period, Steps
from gradtx.core.build import initialize, run
from gradtx.core.numerics import increment, seen
from gradtx.core.roles import Count, Inner, Number, Slot, Weight
from gradtx.core.transformation import GradientTransformation, Transformation, transformation, transformation_of
from gradtx.core.tree import as_float32, cast_like, check_match, is_none, map_leaves, path_string
from gradtx.updating import apply_updates

__all__ = [
    "AverageState",
    "LookaheadParams",
    "LookaheadState",
    "ema_params",
    "eval_params",
    "float_copies",
    "lookahead",
    "swa_params",
]

Tree = Any


# Reading


def eval_params(state: Tree, params: Tree) -> Tree:
    """The parameters to evaluate: averaged where the state keeps an average, the others as they are.

    Args:
      state: a state of any transformation, or any pytree that holds one (a flax TrainState, an nnx.Optimizer).
      params: the parameters as they are trained; for a `LookaheadParams`, its slow ones are returned.

    Returns:
      Parameters with the structure and the dtypes of `params`. Of states within one another the outermost answers.

    Raises:
      ValueError: two states side by side keep an average of the same leaf; names them.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.ema_params(0.5))
    >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array(-3.0), state, params)
    ...     params = gradtx.apply_updates(params, updates)
    >>> params.item(), gradtx.eval_params(state, params).item()
    (6.0, 5.0)
    """
    structure: Any = jax.tree.structure(params)
    bare = _bare(params)
    found = jax.tree_util.tree_flatten_with_path(_bare(state), is_leaf=_answers)[0]
    answers = [(path_string(path), node.eval_params(bare)) for path, node in found if _answers(node)]

    def choose(path: Any, param: Any, *averages: Any) -> Any:
        given = [(name, x) for (name, _), x in zip(answers, averages, strict=True) if x is not None]
        if len(given) > 1:
            names = " and ".join(f"'{name}'" for name, _ in given)
            raise ValueError(
                f"eval_params: leaf '{path_string(path)}' has averages in {names}; pass one of these states"
            )
        return given[0][1].astype(jnp.result_type(param)) if given and param is not None else param

    trees = [answer for _, answer in answers]
    chosen = jax.tree_util.tree_map_with_path(choose, bare, *trees, is_leaf=is_none)
    chosen = structure.unflatten(jax.tree.leaves(chosen))
    return jax.tree.map(lambda x: x.slow if _is_pair(x) else x, chosen, is_leaf=_is_pair)


def _bare(tree: Tree) -> Tree:
    """Without the variables that flax's nnx wraps arrays in: those of parameters and of a state differ."""

    def wrapped(x: Any) -> bool:
        return hasattr(x, "get_value")

    return jax.tree.map(lambda x: jax.tree.leaves(x)[0] if wrapped(x) else x, tree, is_leaf=wrapped)


def _answers(x: Any) -> bool:
    return isinstance(x, tuple) and callable(getattr(x, "eval_params", None))


def float_copies(params: Tree) -> Tree:
    """The parameters in float32 or wider; None for those that are no floats."""

    def copy(p: Any) -> Any:
        inexact = jnp.issubdtype(jnp.result_type(p), jnp.inexact)
        return jnp.asarray(p, as_float32(p).dtype) if inexact else None  # named, the dtype is not a weak one

    return jax.tree.map(copy, params)


# Averages of the iterates


class AverageState(NamedTuple):
    """An average of the parameters."""

    average: Slot  # in float32 or wider; before the first step the parameters themselves
    weight: Weight  # what the average has seen (the same average of ones; the number of parameters in it)
    count: Count  # int32, steps taken

    def eval_params(self, params: Tree) -> Tree:
        """What `eval_params` reads."""
        return self.average


def _follow(average: Tree, share: Any, params: Tree) -> Tree:
    """a + s·(θ − a); an average of equal parameters stays exactly what it is."""
    return cast_like(map_leaves(lambda a, p: a + share * (p - a), average, params), average)


@transformation
def ema_params(decay: Decay = 0.999, debias: bool = True) -> Any:
    """The exponential moving average of the parameters after each step, a ← β·a + (1−β)·θ. Last in a chain.

    The updates pass unchanged. Read it with `eval_params(state, params)`.

    Args:
      decay: β; 0.999 looks back about 1000 steps.
      debias: divide by 1−βᵗ, so that the start does not count; False starts from the first parameters, as torch's
        `AveragedModel` does.

    State: one slot per parameter, in float32 or wider. Needs the parameters.

    Source: Polyak & Juditsky 1992, https://doi.org/10.1137/0330046

    >>> import gradtx
    >>> gradtx.chain(gradtx.adam(1e-3), gradtx.ema_params(0.99))
    chain(adam(learning_rate=0.001), ema_params(decay=0.99))
    """

    def init(params: Tree) -> AverageState:
        weight = jnp.zeros((), float) if debias else jnp.ones((), float)
        return AverageState(float_copies(params), weight, jnp.zeros((), jnp.int32))

    def update(updates: Tree, state: AverageState, params: Tree) -> tuple[Tree, AverageState]:
        weight = seen(decay, state.weight)
        followed = _follow(state.average, (1 - decay) / weight, apply_updates(params, updates))
        return updates, AverageState(followed, weight, increment(state.count))

    return init, update


@transformation
def swa_params(start_step: Steps = 0, every: Period = 1) -> Any:
    """The plain average of the parameters after every k-th step from some step on. Last in a chain.

    Stochastic weight averaging, or the average of the tail. Until it starts, the average is the latest parameters. The
    updates pass unchanged. Read it with `eval_params(state, params)`.

    Args:
      start_step: steps before the first parameters that are averaged.
      every: k; for a cyclic learning rate the length of its cycle, with `start_step` at the end of one.

    State: one slot per parameter, in float32 or wider. Needs the parameters.

    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.swa_params(start_step=2))
    >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(4):
    ...     updates, state = tx.update(jnp.array(-1.0), state, params)
    ...     params = gradtx.apply_updates(params, updates)
    ...     print(gradtx.eval_params(state, params))
    1.0
    2.0
    3.0
    3.5
    """

    def init(params: Tree) -> AverageState:
        return AverageState(float_copies(params), jnp.zeros((), float), jnp.zeros((), jnp.int32))

    def update(updates: Tree, state: AverageState, params: Tree) -> tuple[Tree, AverageState]:
        late = state.count - start_step
        taken = (late >= 0) & (late % every == 0)
        weight = state.weight + taken
        share = jnp.where(taken, 1 / jnp.maximum(weight, 1), late < 0)
        average = _follow(state.average, share, apply_updates(params, updates))
        return updates, AverageState(average, weight, increment(state.count))

    return init, update


# Lookahead


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


def _is_pair(params: Any) -> bool:
    return getattr(params, "_fields", None) == LookaheadParams._fields  # Optax's, too


class _Lookahead(GradientTransformation):
    """Takes gradients of the fast parameters with the pair."""

    __slots__ = ()

    def update(self, updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        if not _is_pair(params):
            return super().update(updates, state, params, **extra_args)
        check_match(updates, params.fast)
        return run(self, updates, state, params, extra_args)


def _lookahead(
    fast_optimizer: Transformation, sync_period: Period, slow_step_size: Fraction, reset_state: bool = False
) -> Any:
    """k steps forward, one back: after every k-th step, slow ← slow + α·(fast − slow) and fast ← slow.

    The slow parameters are in the state: train as with any optimizer, and read them with `eval_params(state, params)`.
    Or, as Optax has it, keep both in the parameters, `params = LookaheadParams.init_synced(params)`, and take gradients
    at `params.fast`; then it has to be the outermost transformation.

    Updates must not be changed on the way to the parameters.

    Args:
      fast_optimizer: takes the steps.
      sync_period: k.
      slow_step_size: α, in [0, 1].
      reset_state: start each k steps with a new state of the fast optimizer.

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
        fast, slow = (params.fast, None) if _is_pair(params) else (params, float_copies(params))
        return LookaheadState(initialize(fast_optimizer, fast), jnp.zeros((), jnp.int32), slow)

    def update(updates: Tree, state: LookaheadState, params: Tree, **extra_args: Any) -> tuple[Tree, LookaheadState]:
        pair = _is_pair(params)
        fast, old = (params.fast, params.slow) if pair else (params, state.slow)
        fast_state = state.fast_state
        if reset_state:  # before the step, and not after: what a step has computed can then be kept in place
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


_lookahead.__name__ = _lookahead.__qualname__ = "lookahead"
lookahead = transformation_of(_Lookahead, _lookahead)

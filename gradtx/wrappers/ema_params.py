"""Averages of the parameters, which tend to do better than the last iterate. They go last in a chain; `eval_params`
reads them."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.core.arguments import Decay, Period, Steps
from gradtx.core.numerics import increment, seen
from gradtx.core.roles import Count, Slot, Weight
from gradtx.core.transformation import transformation
from gradtx.core.tree import cast_like, float_copies, map_leaves
from gradtx.updating import apply_updates

__all__ = ["AverageState", "ema_params", "swa_params"]

Tree = Any


class AverageState(NamedTuple):
    """An average of the parameters."""

    average: Slot  # in float32 or wider; before the first step the parameters themselves
    weight: Weight  # the total weight of the average: the same average of ones, or the number of iterates in it
    count: Count  # int32, steps taken

    def eval_params(self, params: Tree) -> Tree:
        """What `eval_params` reads."""
        return self.average


def _follow(average: Tree, share: Any, params: Tree) -> Tree:
    """a + s·(θ − a); an average of equal parameters stays exactly as it is."""
    return cast_like(map_leaves(lambda a, p: a + share * (p - a), average, params), average)


@transformation
def ema_params(decay: Decay = 0.999, debias: bool = True) -> Any:
    """Keep an exponential moving average of the parameters, a ← β·a + (1−β)·θ after each step. Goes last in a chain.

    The updates pass through unchanged. Read the average with `eval_params(state, params)`.

    Args:
      decay: β; 0.999 looks back about 1000 steps.
      debias: divide by 1−βᵗ, so that the initial parameters do not count; False starts the average from them, as
        torch's `AveragedModel` does.

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
    """Keep the plain average of the parameters after every k-th step, from some step on. Goes last in a chain.

    This is stochastic weight averaging, or tail averaging. Until it starts, the average is the latest parameters. The
    updates pass through unchanged. Read the average with `eval_params(state, params)`.

    Args:
      start_step: the number of steps before the averaging starts.
      every: k; for a cyclic learning rate, the length of its cycle, with `start_step` at the end of one.

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

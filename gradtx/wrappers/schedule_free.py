"""Schedule-free learning: one sequence takes the steps, another averages it, and gradients are taken in between.

The average does what a decaying learning rate does, without having to know the number of steps in advance.
`eval_params` reads it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Dtype, NonNegative, OpenDecay, Real
from gradtx.core.build import initialize, run
from gradtx.core.numerics import increment
from gradtx.core.roles import Count, Inner, Number, Slot
from gradtx.core.schedule import Schedule
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import cast_like, float_copies, map_leaves
from gradtx.state.paths import find
from gradtx.wrappers.eval_params import eval_params

__all__ = ["ScheduleFreeState", "schedule_free", "schedule_free_eval_params"]

Tree = Any


class ScheduleFreeState(NamedTuple):
    """The sequence z that takes the steps. The parameters are y; the average x follows from both."""

    b1: Number  # β, with which y was made
    weight_sum: Number
    step_count: Count  # int32, steps taken
    max_lr: Number  # the largest learning rate so far
    base_optimizer_state: Inner
    z: Slot  # in float32 or wider

    def eval_params(self, params: Tree) -> Tree:
        """What `eval_params` reads: x = (y − (1−β)·z) / β."""
        return map_leaves(lambda z, y: y + (1 / self.b1 - 1) * (y - z), self.z, params)


def schedule_free_eval_params(state: Tree, params: Tree) -> Tree:
    """The averaged parameters x of `schedule_free`, which `eval_params` reads, too.

    Args:
      state: of `schedule_free`, or any pytree that holds one.
      params: the parameters as they are trained.

    Raises:
      ValueError: the state is not one of `schedule_free`.
    """
    if not any(find(state, lambda x: isinstance(x, ScheduleFreeState))):
        raise ValueError("schedule_free_eval_params: nothing in this state is of schedule_free")
    return eval_params(state, params)


@transformation
def _schedule_free(
    base_optimizer: Transformation, learning_rate: tuple[Any], b1: OpenDecay, weight_lr_power: Real, state_dtype: Any
) -> Any:
    # The learning rate is wrapped in a tuple: as a plain argument it would be recorded, next to the base optimizer's.

    def init(params: Tree) -> ScheduleFreeState:
        zero, z = jnp.zeros((), float), float_copies(params)
        z = z if state_dtype is None else jax.tree.map(lambda x: x.astype(_like(x, state_dtype)), z)
        base_state = initialize(base_optimizer, params)
        return ScheduleFreeState(jnp.asarray(b1, float), zero, jnp.zeros((), jnp.int32), zero, base_state, z)

    def update(grads: Tree, state: ScheduleFreeState, params: Tree, **extra_args: Any) -> tuple[Tree, Tree]:
        (rate,) = learning_rate
        rate = jnp.asarray(rate(state.step_count) if isinstance(rate, Schedule) else rate, float)
        max_lr = jnp.maximum(state.max_lr, rate)
        weight = max_lr**weight_lr_power
        weight_sum = state.weight_sum + weight
        share = jnp.where(weight_sum > 0, weight / jnp.where(weight_sum > 0, weight_sum, 1), 0)
        steps, base_state = run(base_optimizer, grads, state.base_optimizer_state, params, extra_args)
        z = cast_like(map_leaves(lambda z, d: z + d, state.z, steps), state.z)
        # y' − y from z' alone: with x' = x + c·(z' − x) and y = β·x + (1−β)·z it is c·(z' − y) + (1−c)·(1−β)·(z' − z).
        # The ratio accounts for changes in β.
        ratio = b1 / state.b1
        pull, stay = share + (1 - share) * (1 - ratio), (1 - share) * ratio * (1 - state.b1)
        updates = map_leaves(lambda z, y, d: pull * (z - y) + stay * d, z, params, steps)
        b1_now, count = jnp.asarray(b1, float), increment(state.step_count)
        return updates, ScheduleFreeState(b1_now, weight_sum, count, max_lr, base_state, z)

    return init, update


def _like(x: jax.Array, dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.complex64) if jnp.iscomplexobj(x) else dtype


@transformation
def schedule_free(
    base_optimizer: Transformation,
    learning_rate: NonNegative,
    b1: OpenDecay = 0.9,
    weight_lr_power: Real = 2.0,
    state_dtype: Dtype | None = None,
) -> Any:
    """Averaging instead of a decaying learning rate: z takes the optimizer's steps, x averages z, and gradients are
    taken at y between them.

        z ← z + u(∇f(y)),  x ← (1−c)·x + c·z,  y ← β·x + (1−β)·z,  c = max(η)ᵖ / Σ max(η)ᵖ

    The trained parameters are y; evaluate at x, `eval_params(state, params)`. As everywhere, the first step takes the
    learning rate at count 0. (Optax's weight c is one step ahead of its base optimizer.)

    Args:
      base_optimizer: without momentum.
      learning_rate: η of the base optimizer, warmed up but not decayed; here it only weights the average.
      b1: β, in (0, 1); takes the place of momentum.
      weight_lr_power: p.
      state_dtype: dtype of z; by default that of the parameters, float32 at least.

    State: one slot per parameter, and that of the base optimizer. Needs the parameters.

    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.schedule_free(gradtx.sgd(1.0), learning_rate=1.0, b1=0.5)
    >>> y, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(3):
    ...     updates, state = tx.update(jnp.array(-1.0), state, y)
    ...     y = gradtx.apply_updates(y, updates)
    >>> [float(x) for x in (state.z, gradtx.eval_params(state, y), y)]
    [3.0, 2.0, 2.5]
    """
    return _schedule_free(base_optimizer, (learning_rate,), b1, weight_lr_power, state_dtype)

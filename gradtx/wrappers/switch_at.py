"""Switching from one optimizer to another during training."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Kind, number_of_steps
from gradtx.core.build import initialize
from gradtx.core.combine import composition_type
from gradtx.core.names import part_names
from gradtx.core.numerics import increment
from gradtx.core.roles import Count, Inner, Number
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import cast_like
from gradtx.wrappers.conditionally_transform import run_if
from gradtx.wrappers.eval_params import eval_params

__all__ = ["SwitchState", "switch_at"]

Tree = Any


class _Boundaries(Kind):
    """The kind of an argument that is one count of steps, or several in non-decreasing order."""

    def __repr__(self) -> str:
        return "Steps | tuple[Steps, …]"

    def check(self, owner: str, name: str, value: Any) -> tuple[int, ...]:
        steps = tuple(number_of_steps(owner, name, x) for x in (value if isinstance(value, Iterable) else (value,)))
        if list(steps) != sorted(steps):
            raise ValueError(f"{owner}: {name} must not fall, got {steps}")
        return steps


class SwitchState(NamedTuple):
    """The states of all optimizers. Those that are not running have yet to start, or are done."""

    count: Count  # int32, all steps
    running: Number  # int32, which optimizer took the last step
    inner_states: Inner  # by position, and by the names of the optimizers

    def eval_params(self, params: Tree) -> Tree:
        """What `eval_params` reads: the answer of the running optimizer's state."""
        answers = [eval_params(state, params) for state in self.inner_states]
        return jax.tree.map(lambda *row: jax.lax.select_n(self.running, *map(jnp.asarray, row)), *answers)


@transformation
def switch_at(steps: Annotated[Any, _Boundaries()], *transformations: Transformation) -> Any:
    """Switch from one optimizer to the next at given steps, say from Adam to SGD.

    Each starts afresh when it takes over: its state is initialised from the parameters at that step, and its schedules
    begin at 0, as in `join_schedules`.

    Args:
      steps: the steps at which the second, the third, … takes over; a single number for two optimizers.
      *transformations: one more than there are steps.

    State: those of all; only that of the running one changes.

    Raises:
      ValueError: the numbers of steps and of transformations do not match.

    Source: Keskar & Socher 2017, https://arxiv.org/abs/1712.07628

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.switch_at(2, gradtx.adam(1e-3), gradtx.sgd(1.0))
    >>> state = tx.init(jnp.zeros(()))
    >>> for _ in range(3):
    ...     update, state = tx.update(jnp.array(5.0), state)
    ...     print(f"{update:.3f}")
    -0.001
    -0.001
    -5.000
    """
    if len(transformations) != len(steps) + 1:
        raise ValueError(f"switch_at: {len(steps)} steps part {len(steps) + 1} optimizers, got {len(transformations)}")
    states_type = composition_type(part_names(transformations))

    def init(params: Tree) -> SwitchState:
        zero = jnp.zeros((), jnp.int32)
        return SwitchState(zero, zero, states_type(*(initialize(tx, params) for tx in transformations)))

    def update(updates: Tree, state: SwitchState, params: Tree = None, **extra_args: Any) -> tuple[Tree, SwitchState]:
        running = sum((state.count >= step for step in steps), jnp.zeros((), jnp.int32))
        new_states = []
        for i, (inner, old, start) in enumerate(zip(transformations, state.inner_states, (0, *steps), strict=True)):
            if start and params is not None:  # whatever depends on the parameters starts from these
                old = jax.lax.cond(state.count == start, _anew(inner, params), lambda x: x, old)
            updates, new = run_if(running == i, inner, updates, old, params, extra_args, lambda u: u)
            new_states.append(new)
        return updates, SwitchState(increment(state.count), running, states_type(*new_states))

    return init, update


def _anew(inner: Any, params: Tree) -> Callable[[Tree], Tree]:
    return lambda state: cast_like(initialize(inner, params), state)

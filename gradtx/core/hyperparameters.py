"""Hyperparameters in a state: how scheduled ones are resolved and recorded, and how they are read."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.schedule import Schedule
from gradtx.core.tree import key_name
from gradtx.core.value import Value

__all__ = ["EmptyState", "HyperparamsState", "hyperparams", "increment", "with_hyperparams"]

Tree = Any
Functions = tuple[Callable[..., Any], Callable[..., Any]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class HyperparamsState(NamedTuple):
    """The state of a transformation whose hyperparameters are recorded: scheduled ones, and every learning rate."""

    count: jax.Array  # type: ignore[assignment]  # int32, steps taken
    hyperparams: dict[str, jax.Array]  # name -> the value that the last step used (before the first: will use)
    inner_state: Tree


def increment(count: jax.Array) -> jax.Array:
    """count + 1; stays at the largest int32 instead of wrapping to a negative count."""
    return jnp.where(count < jnp.iinfo(count.dtype).max, count + 1, count)


def with_hyperparams(tx: Any, plain_update: Callable[..., Any], recorded: dict[str, Any]) -> Functions:
    """Functions that look up the recorded hyperparameters at the current count, use them, and keep them."""

    def functions_at(count: jax.Array) -> tuple[Functions, dict[str, jax.Array]]:
        values = {name: h(count) if isinstance(h, Schedule) else h for name, h in recorded.items()}
        return tx._result(tx._rounded | values), {name: jnp.asarray(v, float) for name, v in values.items()}

    def init(params: Tree) -> HyperparamsState:
        count = jnp.zeros((), jnp.int32)
        (inner_init, _), values = functions_at(count)
        return HyperparamsState(count, values, EmptyState() if inner_init is None else inner_init(params))

    def update(updates: Tree, state: HyperparamsState, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        (_, inner_update), values = functions_at(state.count)
        updates, inner_state = inner_update(updates, state.inner_state, params, **extra_args)
        return updates, HyperparamsState(increment(state.count), values, inner_state)

    # It takes just the arguments that the wrapped function takes.
    update.__signature__ = inspect.signature(plain_update)  # type: ignore[attr-defined]
    return init, update


def hyperparams(state: Tree) -> dict[str, jax.Array]:
    """The hyperparameters in use, read off any state: the learning rate, and whatever is scheduled.

    They are a record: a step writes them, and takes its own from the transformation. To change a rate, change the
    transformation (`tx.replace(learning_rate=…)`), which costs no new compile where it goes through `jit`.

    Args:
      state: a state of any transformation, or any pytree that holds one (a flax TrainState); or a transformation
        itself, for all its numbers.

    Returns:
      name -> value (0-d arrays, or arrays where the hyperparameter is one). A name that occurs more than once is
      preceded by as much of its path as tells them apart, e.g. "encoder/scale_by_learning_rate/learning_rate".

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam(gradtx.linear_schedule(0.0, 0.1, transition_steps=10))
    >>> state = tx.init(jnp.ones(3))
    >>> for _ in range(6):
    ...     _, state = tx.update(jnp.ones(3), state)
    >>> {name: float(value) for name, value in gradtx.hyperparams(state).items()}
    {'learning_rate': 0.05...}
    """
    found: list[tuple[list[str], jax.Array]] = []
    nodes, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: isinstance(x, HyperparamsState))
    for path, node in nodes:
        names = list(map(key_name, path))
        if isinstance(state, Value):
            found.append((names, node))
        elif isinstance(node, HyperparamsState):
            found += [([*names, name], value) for name, value in node.hyperparams.items()]
            found += [([*names, *name.split("/")], value) for name, value in hyperparams(node.inner_state).items()]

    def shortest(path: list[str]) -> str:
        for start in range(len(path) - 1, 0, -1):
            if sum(other[start - len(path) :] == path[start:] for other, _ in found) == 1:
                return "/".join(path[start:])
        return "/".join(path)

    return {shortest(path): value for path, value in found}

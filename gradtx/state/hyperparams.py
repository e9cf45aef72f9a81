"""Hyperparameters and counts in a state: how they are read, and set."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx.core.hyperparameters import HyperparamsState
from gradtx.core.roles import Count, Hyperparameter, Inner, Role
from gradtx.core.schedule import Schedule
from gradtx.core.value import Value
from gradtx.state.entries import Entry, entries
from gradtx.state.paths import find, index_of, is_within, numbers, replace_found, shortest_names

__all__ = ["InjectHyperparamsState", "get_hyperparam", "hyperparams", "set_hyperparams", "step_count"]

Tree = Any


class InjectHyperparamsState(NamedTuple):
    """The state of `inject_hyperparams`: its hyperparameters are not a record, but what the next step uses."""

    count: Count  # int32, steps taken
    hyperparams: Hyperparameter  # name -> value, 0-d or as it was given
    scheduled: Inner  # those that follow a schedule, name -> EmptyState: each step overwrites them
    inner_state: Inner


def _holds_hyperparams(x: Any) -> bool:
    return isinstance(x, (HyperparamsState, InjectHyperparamsState))


class _Entry(NamedTuple):
    place: tuple[str, ...]  # where the state that holds it is
    name: tuple[str, ...]
    value: Any
    recorded: bool  # a record of what a step has used
    settable: bool

    @property
    def path(self) -> tuple[str, ...]:
        return (*(part for part in self.place if part != "inner_state"), *self.name)

    def made_of_it(self, entries: "list[_Entry]") -> "list[_Entry]":
        """The inner records of the hyperparameter injected here: those with the shortest path that its name fits."""
        depth = len(self.place)
        fitting = [
            other
            for other in entries
            if other.recorded
            and other.place[:depth] == self.place
            and is_within(self.name, (*other.place[depth:], *other.name))
        ]
        least = min((len(other.path) for other in fitting), default=0)
        return [other for other in fitting if len(other.path) == least]


def _entries(state: Tree) -> list[_Entry]:
    """Every hyperparameter in a state. An injected one hides the inner records of itself."""
    entries: list[_Entry] = []
    for place, node in find(state, _holds_hyperparams):
        recorded = isinstance(node, HyperparamsState)
        for name, value in node.hyperparams.items():
            (value,) = jax.tree.leaves(value)  # nnx.Optimizer wraps every array
            settable = not recorded and name not in node.scheduled
            entries.append(_Entry(place, tuple(name.split("/")), value, recorded, settable))
    hidden = {other.path for entry in entries if not entry.recorded for other in entry.made_of_it(entries)}
    return [entry for entry in entries if not (entry.recorded and entry.path in hidden)]


def hyperparams(state: Tree) -> dict[str, Any]:
    """The hyperparameters in use, read from any state: injected ones, learning rates, and whatever is scheduled.

    Injected ones (`inject_hyperparams`) can be set. The others are only a record: a step takes its values from the
    transformation and writes them to the state. To change one of those, change the transformation
    (`tx.replace(learning_rate=…)`), which needs no recompilation if it is passed to the jitted function.

    Args:
      state: a state of any transformation, or any pytree that holds one (a flax TrainState, an nnx.Optimizer); or a
        transformation itself, for all its numbers and schedules.

    Returns:
      name -> value (0-d arrays, or arrays where the hyperparameter is one). A name that occurs more than once is
      preceded by enough of its path to be unique, e.g. "encoder/scale_by_learning_rate/learning_rate".

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam(gradtx.linear_schedule(0.0, 0.1, transition_steps=10))
    >>> state = tx.init(jnp.ones(3))
    >>> for _ in range(6):
    ...     _, state = tx.update(jnp.ones(3), state)
    >>> {name: float(value) for name, value in gradtx.hyperparams(state).items()}
    {'learning_rate': 0.05...}
    """
    paths, values = _found(state)
    return dict(zip(shortest_names(paths), values, strict=True))


def _found(state: Tree) -> tuple[list[tuple[str, ...]], list[Any]]:
    """The paths and the values of all hyperparameters, of a state or of a transformation."""
    if isinstance(state, Value):
        found = list(numbers(state, lambda x: isinstance(x, Schedule)))
    else:
        found = [(entry.path, entry.value) for entry in _entries(state)]
    return [path for path, _ in found], [value for _, value in found]


def get_hyperparam(state: Tree, name: str) -> Any:
    """The current value of one hyperparameter: `get_hyperparam(state, "learning_rate")`.

    Args:
      state: as for `hyperparams`.
      name: its name, preceded by enough of its path to be unique ("encoder/learning_rate").

    Raises:
      LookupError: no hyperparameter, or several, match the name; lists the candidates.
    """
    paths, values = _found(state)
    return values[index_of(name, paths, "hyperparameter")]


def set_hyperparams(state: Tree, **hyperparams: Any) -> Tree:
    """The state with other values for injected hyperparameters: `set_hyperparams(state, learning_rate=3e-4)`.

    The next step uses them, without recompilation. Works in and out of `jit`, on a state or any pytree that holds one
    (`train_state.replace(opt_state=…)` is not needed; for an nnx.Optimizer, set its `opt_state`).

    Args:
      state: made by a transformation with `inject_hyperparams` in it.
      **hyperparams: values by name, shapes as they are; for a path use `**{"encoder/learning_rate": 0.1}`.

    Raises:
      LookupError: no injected hyperparameter, or several, match a name; lists the candidates.
      ValueError: the value has another shape, or is not a number. (Whether it suits the optimizer is not known here.)
    """
    entries = _entries(state)
    settable = [entry.path for entry in entries if entry.settable]
    new: dict[tuple[str, ...], Any] = {}
    for name, value in hyperparams.items():
        try:
            new[settable[index_of(name, settable, "injected hyperparameter")]] = value
        except LookupError as error:
            if any(is_within(tuple(name.split("/")), entry.path) for entry in entries if not entry.settable):
                raise LookupError(
                    f"{name!r} is a record of what the transformation says, or follows a schedule. To set it in the "
                    f"state, make the state with inject_hyperparams(tx, {name!r}), tx with a number there; to change "
                    f"the transformation, use tx.replace({name}=…)"
                ) from error
            raise

    def edited(path: tuple[str, ...], node: Any) -> Any:
        if not isinstance(node, InjectHyperparamsState):
            return node
        place = tuple(name for name in path if name != "inner_state")

        def value(name: str, old: Any) -> Any:
            key = (*place, *name.split("/"))
            return jax.tree.map(lambda x: _as(name, x, new[key]), old) if key in new else old

        return node._replace(hyperparams={name: value(name, old) for name, old in node.hyperparams.items()})

    return replace_found(state, _holds_hyperparams, edited)


def _as(name: str, old: Any, new: Any) -> jax.Array:
    """A new value in the form of the old one."""
    try:
        new = jnp.asarray(new, jnp.result_type(old, float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {new!r}") from error
    if new.shape != jnp.shape(old):
        raise ValueError(f"{name} has shape {jnp.shape(old)} in this state, got {new.shape}")
    if not isinstance(new, Tracer) and bool(jnp.isnan(new).any()):
        raise ValueError(f"{name} must be a number, got nan")
    return new


def step_count(state: Tree) -> jax.Array:
    """The number of steps that a state has taken, an int32: the largest of the counts that it keeps.

    A step that a guard skips is not counted inside that guard.

    Args:
      state: as for `hyperparams`, or a state of Optax.

    Raises:
      LookupError: nothing in the state counts (a transformation without a learning rate or a schedule).
    """
    counts = [jnp.asarray(entry.value) for entry in entries(state) if _counts_steps(entry)]
    if not counts:
        raise LookupError("nothing in this state counts steps: it has no learning rate and no schedule")
    return functools.reduce(jnp.maximum, counts)


def _counts_steps(entry: Entry) -> bool:
    if entry.role is None:  # Optax's states: a plateau's `count` counts the values in a window
        return entry.path[-1:] == ("count",) and not hasattr(entry.owner, "plateau_count")
    return entry.role in (Role.COUNT, Role.WEIGHT) and jnp.issubdtype(jnp.result_type(entry.value), jnp.integer)

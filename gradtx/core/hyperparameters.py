"""Hyperparameters in a state: how scheduled ones are resolved and recorded."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.leafwise import Again, Leafwise
from gradtx.core.numerics import increment
from gradtx.core.roles import Count, EmptyState, Hyperparameter, Inner
from gradtx.core.schedule import Schedule

__all__ = ["HyperparamsLeaf", "HyperparamsState", "with_hyperparams"]

Tree = Any
Functions = tuple[Callable[..., Any], Callable[..., Any]]


class HyperparamsState(NamedTuple):
    """The state of a transformation whose hyperparameters are recorded: scheduled ones, and every learning rate."""

    count: Count  # int32, steps taken
    hyperparams: Hyperparameter  # name -> the value that the last step used (before the first: will use)
    inner_state: Inner


def _values(recorded: dict[str, Any], count: jax.Array) -> dict[str, Any]:
    """The values in use at a count."""
    return {name: h(count) if isinstance(h, Schedule) else h for name, h in recorded.items()}


def _first(tx: Any, recorded: dict[str, Any]) -> Any:
    """The atom as it is before the first step, and its state without the inner one."""
    count = jnp.zeros((), jnp.int32)
    values = _values(recorded, count)
    record = {name: jnp.asarray(v, float) for name, v in values.items()}
    return tx._result(tx._rounded | values), HyperparamsState(count, record, None)


def _record(values: dict[str, Any], count: jax.Array) -> dict[str, jax.Array]:
    """The values as a state keeps them. By depending on the new count they share one GPU kernel instead of one each."""
    return {name: jnp.where(count > 0, jnp.asarray(v, float), 0) for name, v in values.items()}


class HyperparamsLeaf(Leafwise):
    """A leaf-wise atom whose hyperparameters are recorded: a leaf uses the values in its state."""

    def __init__(self, tx: Any, recorded: dict[str, Any], atom: Leafwise):
        self.made_by, self.recorded, self.passes = tx, recorded, atom.passes
        self.needs_params, self.extra_args, self.required = atom.needs_params, atom.extra_args, atom.required
        if atom.together:
            self.together = self._read, atom.together[1]

    def _at(self, values: dict[str, Any]) -> Leafwise:
        atom: Leafwise = self.made_by._result(self.made_by._rounded | values)
        return atom

    def _read(self, s: HyperparamsState, u: Any, p: Any) -> Any:
        together = self._at(_values(self.recorded, s.count)).together
        return together and together[0](s.inner_state, u, p)

    def init(self, params: Tree) -> HyperparamsState:
        atom, state = _first(self.made_by, self.recorded)
        return state._replace(inner_state=atom.init(params))

    def numbers(self, s: HyperparamsState, t: Any, extra_args: dict[str, Any]) -> Any:
        return self._at(_values(self.recorded, s.count)).numbers(s.inner_state, t, extra_args)

    def count(self, s: HyperparamsState, n: Any, extra_args: dict[str, Any]) -> HyperparamsState:
        values, count = _values(self.recorded, s.count), increment(s.count)
        return HyperparamsState(count, _record(values, count), self._at(values).count(s.inner_state, n, extra_args))

    def step(self, s: HyperparamsState, u: Any, p: Any, n: Any, again: Again) -> tuple[Any, Any, Any]:
        inner, u, x = self._at(s.hyperparams).step(s.inner_state, u, p, n, again)
        return s._replace(inner_state=inner), u, x

    def emit(self, s: HyperparamsState, u: Any, p: Any, n: Any, x: Any) -> Any:
        return self._at(s.hyperparams).emit(s.inner_state, u, p, n, x)


def with_hyperparams(tx: Any, plain_update: Callable[..., Any], recorded: dict[str, Any]) -> Functions:
    """Functions that look up the recorded hyperparameters at the current count, use them, and keep them."""

    def init(params: Tree) -> HyperparamsState:
        (inner_init, _), state = _first(tx, recorded)
        return state._replace(inner_state=EmptyState() if inner_init is None else inner_init(params))

    def update(updates: Tree, state: HyperparamsState, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        values, count = _values(recorded, state.count), increment(state.count)
        _, inner_update = tx._result(tx._rounded | values)
        updates, inner_state = inner_update(updates, state.inner_state, params, **extra_args)
        return updates, HyperparamsState(count, _record(values, count), inner_state)

    # It takes exactly the arguments that the wrapped function takes.
    update.__signature__ = inspect.signature(plain_update)  # type: ignore[attr-defined]
    return init, update

"""The algebra: transformations compose in sequence (`chain`) and side by side (`product`, `add`).

    chain(a, b, …)      b after a; associative, and identity() is its unit
    product(a, b, …)    each sees the same updates; the results are multiplied leaf by leaf
    add(a, b, …)        the same, added

Each part of a composition sees only what it is passed: updates, its own state, the parameters, named extra arguments.
The state of a composition is a named tuple: by position, and by the names of its parts.
"""

import collections
import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.core import Tracer

from gradtx.core.build import Body, build, initialize, naming, outgoing, run, run_from
from gradtx.core.leafwise import Again, Leafwise, leafwise
from gradtx.core.names import RENAMED, checked_name, part_names
from gradtx.core.numerics import SMALL
from gradtx.core.roles import Inner
from gradtx.core.transformation import GradientTransformation, Transformation, transformation
from gradtx.core.tree import map_leaves

__all__ = ["add", "chain", "identity", "named_chain", "product"]

Tree = Any


# States with names


@functools.cache
def composition_type(names: tuple[str, ...]) -> Any:
    """The named tuple that holds the states of parts with these names; one type for equal names."""
    make: Any = collections.namedtuple
    state_type = make("CompositionState", names)
    state_type.__annotations__ = dict.fromkeys(names, Inner)
    state_type.__reduce__ = lambda self: (_composition_state, (names, tuple(self)))
    state_type.__doc__ = f"States of {', '.join(names)}."
    state_type.__getitem__ = lambda self, key: (
        getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)
    )
    state_type.__getattr__ = _no_attribute
    if "count" not in names:  # a tuple's method, which a loop written for another library would take for its counter
        state_type.count = property(lambda self: _no_attribute(self, "count"))
    return state_type


def _no_attribute(state: Any, name: str) -> Any:
    raise AttributeError(
        f"this state holds {', '.join(state._fields)} and has no {name!r}; gradtx.step_count(state) counts the steps, "
        f"gradtx.tree.get(state, 'momentum') finds a statistic by its name"
    )


def _composition_state(names: tuple[str, ...], states: tuple[Any, ...]) -> Any:
    return composition_type(names)(*states)


def _rebuild_state(names: tuple[str, ...], states: tuple[Any, ...]) -> Any:
    """For pickles written before some names were changed."""
    return _composition_state(tuple(RENAMED.get(name, name) for name in names), states)


def _named(transformations: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The parts by the names of their states."""
    return dict(zip(part_names(transformations, named), (*transformations, *named.values()), strict=True))


def _check_state(owner: str, state: Any, expected: Any) -> None:
    if getattr(state, "_fields", None) != expected._fields:
        names = ", ".join(getattr(state, "_fields", ())) or f"a {type(state).__name__}"
        ours = ", ".join(expected._fields)
        raise ValueError(f"{owner}: the state is not one of this transformation: expected ({ours}), got ({names})")


# In sequence


class _Parts(Leafwise):
    """Parts that handle a leaf together."""

    def __init__(self, parts: dict[str, Any], init: Callable[[Tree], Tree]):
        self.state_type, self.parts = composition_type(tuple(parts)), list(parts.values())
        self._init = init
        self.extra_args = frozenset().union(*(part.extra_args for part in self.parts))
        self.required = frozenset().union(*(part.required for part in self.parts))
        self.needs_params = any(part.needs_params for part in self.parts)

    def init(self, params: Tree) -> Tree:
        return self._init(params)

    def check(self, state: Tree, params: Tree, extra_args: dict[str, Any]) -> None:
        _check_state(self.name, state, self.state_type)
        for part, own in zip(self.parts, state, strict=True):
            part.check(own, params, extra_args)

    def numbers(self, s: Any, t: Any, extra_args: dict[str, Any]) -> Any:
        of_first = (t if i == 0 else None for i, _ in enumerate(self.parts))
        return tuple(part.numbers(*row, extra_args) for part, *row in zip(self.parts, s, of_first, strict=True))

    def count(self, s: Any, n: Any, extra_args: dict[str, Any]) -> Any:
        return type(s)(*(part.count(*row, extra_args) for part, *row in zip(self.parts, s, n, strict=True)))

    def choices(self, tree: Tree) -> list[Any]:
        own = [part.choices(tree) for part in self.parts]
        return [row if any(row) else None for row in zip(*own, strict=True)] if own else super().choices(tree)

    def resolve(self, choice: Any) -> Leafwise:
        if choice is None:
            return self
        parts = [part.resolve(of_part) for part, of_part in zip(self.parts, choice, strict=True)]
        return type(self)(dict(zip(self.state_type._fields, parts, strict=True)), self._init)


class _Chain(_Parts):
    """One part after another."""

    def __init__(self, parts: dict[str, Any], init: Callable[[Tree], Tree]):
        super().__init__(parts, init)
        self.passes = all(part.passes for part in self.parts)
        if self.parts and self.parts[0].together:
            of_leaf, of_all = self.parts[0].together
            self.together = lambda s, u, p: of_leaf(s[0], u, p), of_all

    def step(self, s: Any, u: Any, p: Any, n: Any, again: Again) -> tuple[Any, Any, Any]:
        states, found = [], []
        for part, state, numbers in zip(self.parts, s, n, strict=True):
            with naming(part):
                new, out, x = part.step(state, u, p, numbers, again)
            again = _anew(part, new, u, p, numbers, x, again)
            u = out
            states.append(new)
            found.append(x)
        return type(s)(*states), u, tuple(found)

    def emit(self, s: Any, u: Any, p: Any, n: Any, x: Any) -> Any:
        for part, state, numbers, seen in zip(self.parts, s, n, x, strict=True):
            u = part.emit(state, u, p, numbers, seen)
        return u


def _anew(part: Leafwise, s: Any, u: Any, p: Any, n: Any, x: Any, again: Again) -> Again:
    """A function that recomputes the update that has just left a part."""
    if np.size(u) <= SMALL or not isinstance(u, Tracer):
        return None
    return lambda: part.emit(s, again() if again else u, p, n, x)


@transformation
def chain(*transformations: Transformation, **named: Transformation) -> Any:
    """Apply transformations one after another: the updates that leave one enter the next.

    Args:
      *transformations: of this library, or any `(init, update)` pair, such as Optax's.
      **named: further ones, with names under which their states are kept.

    Returns:
      A transformation whose state is a named tuple with one field per part, named after its constructor (`_1`, `_2`,
      … for repeats).

    Raises:
      TypeError: something that is not a transformation.

    >>> import gradtx
    >>> gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3))
    chain(clip_by_global_norm(max_norm=1.0), adam(learning_rate=0.001))
    """
    parts = {name: build(part) for name, part in _named(transformations, named).items()}
    state_type = composition_type(tuple(parts))

    def init(params: Tree) -> Tree:
        states = []
        for part in parts.values():
            states.append(initialize(part, params))
            params = outgoing(part, params, states[-1])
        return state_type(*states)

    segments = _segments(parts)
    if len(segments) <= 1 and all(isinstance(part, Leafwise) for part in parts.values()):
        return _Chain(parts, init)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        _check_state("chain", state, state_type)
        new: dict[str, Any] = {}
        source = None
        for segment in segments:
            body, states = next(iter(segment.values())), state[next(iter(segment))]
            if len(segment) > 1:
                body = _Chain(segment, init)
                body.name, states = "_".join(segment), body.state_type(*map(state.__getitem__, segment))
            updates, states, source = run_from(source, body, updates, states, params, extra_args)
            new.update(zip(segment, states if len(segment) > 1 else [states], strict=True))
        return updates, state_type(*new.values())

    return init, update


def _segments(parts: dict[str, Body]) -> list[dict[str, Body]]:
    """Group consecutive leaf-wise parts: a leaf passes through all of a group before another leaf has to be read."""
    segments: list[dict[str, Body]] = []
    goes_on = False
    for name, part in parts.items():
        leafwise = isinstance(part, Leafwise)
        if not (goes_on and leafwise and not part.together):  # type: ignore[attr-defined]
            segments.append({})
        segments[-1][name] = part
        goes_on = leafwise
    return segments


def named_chain(*pairs: tuple[str, Any]) -> GradientTransformation:
    """`chain` with names given as pairs, as Optax writes it: `named_chain(("clip", clip(1.0)), ("opt", adam(1e-3)))`.

    Raises:
      ValueError: a name that is given twice, or is not a Python identifier (names become fields of the state).
    """
    names = [checked_name(name) for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"named_chain: the name {name!r} is given twice")
    return chain(**dict(pairs))


@transformation
def identity() -> Any:
    """Pass the updates on unchanged: the unit of `chain`."""
    return leafwise()


# Side by side


class _SideBySide(_Parts):
    """Every part sees the same update; their results are combined."""

    passes = False
    combine: Callable[[Any, Any], Any]

    def step(self, s: Any, u: Any, p: Any, n: Any, again: Again) -> tuple[Any, Any, Any]:
        results = []
        for part, state, numbers in zip(self.parts, s, n, strict=True):
            with naming(part):
                results.append(part.step(state, u, p, numbers, again))
        states, updates, found = zip(*results, strict=True)
        return type(s)(*states), functools.reduce(self.combine, updates), found

    def emit(self, s: Any, u: Any, p: Any, n: Any, x: Any) -> Any:
        rows = zip(self.parts, s, n, x, strict=True)
        return functools.reduce(self.combine, (part.emit(state, u, p, *row) for part, state, *row in rows))


class _Product(_SideBySide):
    combine = staticmethod(operator.mul)


class _Sum(_SideBySide):
    combine = staticmethod(operator.add)


def _side_by_side(owner: str, transformations: tuple[Any, ...], named: dict[str, Any], kind: type[_SideBySide]) -> Any:
    parts = {name: build(part) for name, part in _named(transformations, named).items()}
    if not parts:
        raise ValueError(f"{owner} needs at least one transformation")
    state_type = composition_type(tuple(parts))

    def init(params: Tree) -> Tree:
        return state_type(*(initialize(part, params) for part in parts.values()))

    if all(isinstance(part, Leafwise) and not part.together for part in parts.values()):
        return kind(parts, init)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        _check_state(owner, state, state_type)
        pairs = [run(part, updates, s, params, extra_args) for part, s in zip(parts.values(), state, strict=True)]
        results, new_states = zip(*pairs, strict=True)
        return map_leaves(lambda *xs: functools.reduce(kind.combine, xs), *results), state_type(*new_states)

    return init, update


@transformation
def product(*transformations: Transformation, **named: Transformation) -> Any:
    """Multiply, leaf by leaf, the results of several transformations of the same updates.

    Adam is the product of a direction (the corrected momentum) and a preconditioner (the inverse root mean square).

    Args:
      *transformations: as in `chain`.
      **named: as in `chain`.

    >>> import gradtx, jax.numpy as jnp
    >>> square = gradtx.product(gradtx.identity(), gradtx.identity())
    >>> square.update(jnp.array([1.0, -3.0]), square.init(jnp.zeros(2)))[0].tolist()
    [1.0, 9.0]
    """
    return _side_by_side("product", transformations, named, _Product)


@transformation
def add(*transformations: Transformation, **named: Transformation) -> Any:
    """Add, leaf by leaf, the results of several transformations of the same updates.

    Args:
      *transformations: as in `chain`.
      **named: as in `chain`.

    >>> import gradtx, jax.numpy as jnp
    >>> double = gradtx.add(gradtx.identity(), gradtx.identity())
    >>> double.update(jnp.array([1.0, -3.0]), double.init(jnp.zeros(2)))[0].tolist()
    [2.0, -6.0]
    """
    return _side_by_side("add", transformations, named, _Sum)

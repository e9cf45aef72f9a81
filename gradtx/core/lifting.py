"""What happens to one leaf, applied to a tree.

Trees, None leaves, dtypes, shapes and paths are handled here, once. A model has thousands of leaves but a dozen
shapes: within a trace, leaves that look alike share one traced function, which XLA inlines.
"""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.core.numerics import SMALL, apart, aside, joined
from gradtx.core.roles import Role, map_fields
from gradtx.core.tree import LeafError, as_float32, is_none, path_string, present

__all__ = ["Emitted", "advance_tree"]

Tree = Any


class Emitted(NamedTuple):
    """How to recompute the updates that have left: a function, and its arguments for each leaf."""

    function: Callable[..., Any]
    choices: list[Any]
    rows: list[Any]


def advance_tree(
    leaf: Any, updates: Tree, state: Tree, params: Tree, extra_args: dict[str, Any], source: Emitted | None
) -> tuple[Tree, Tree, Emitted]:
    """A step of all leaves.

    Args:
      leaf: what happens to one of them, a `Leafwise`.
      updates: None leaves pass through, and their state stays.
      state: that of this transformation.
      params: in the structure of the updates, or None.
      extra_args: those that it takes.
      source: how to recompute these updates, for norms of them.

    Returns:
      The new updates, the new state, and how to recompute the new updates.
    """
    structure: Any
    paths, structure = jax.tree_util.tree_flatten_with_path(updates, is_leaf=is_none)
    flat = [as_float32(u) if present(u) else None for _, u in paths]
    theirs = [None] * len(flat) if params is None else structure.flatten_up_to(params)
    theirs = [None if p is None or u is None else as_float32(p) for u, p in zip(flat, theirs, strict=True)]
    fields = _Fields(state, structure)
    shared, rows = fields.shared, list(fields.rows())
    fields.check_shapes(rows, flat, paths)
    choices = leaf.choices(updates if params is None else params)
    of_each = _OfEach(leaf.name, paths, list(zip(choices, rows, flat, theirs, strict=True)))

    t = None
    if leaf.together:
        of_leaf, of_all = leaf.together

        def read(choice: Any, row: list[Any], u: Any, p: Any, came: Any) -> Any:
            s = fields.of_leaf(shared, row)
            if source is None or np.size(u) <= SMALL:
                return of_leaf(s, u, p)
            again = source.function
            return aside(lambda *_: of_leaf(s, again(choice, *came), p), u)

        came = source.rows if source else [None] * len(flat)
        found = of_each(read, source.choices if source else choices, rows, flat, theirs, came)
        t = _overall(of_all, found, lambda: of_leaf(leaf.init(jnp.zeros(())), jnp.zeros(()), jnp.zeros(())))

    if fields.split:
        states = [fields.of_leaf(shared, row) for row in rows]
        numbers = [leaf.numbers(s, t, extra_args) for s in states]
        counted = [fields.parts(leaf.count(s, n, extra_args)) for s, n in zip(states, numbers, strict=True)]
        (shared, *_), rows = map(list, zip(*counted, strict=True))
        everyones = [shared] * len(flat)
    else:
        s = fields.of_leaf(shared, fields.nothing)
        n = leaf.numbers(s, t, extra_args)
        shared, _ = fields.parts(leaf.count(s, n, extra_args))
        as_read, n = apart((shared, n))
        numbers, everyones = [n] * len(flat), [as_read] * len(flat)

    def step(choice: Any, shared: list[Any], n: Any, row: list[Any], u: Any, p: Any) -> Any:
        s, u, x = leaf.resolve(choice).step(fields.of_leaf(shared, row), u, p, n, None)
        return fields.parts(s)[1], u, x

    def emit(choice: Any, shared: list[Any], n: Any, row: list[Any], u: Any, p: Any, x: Any) -> Any:
        return leaf.resolve(choice).emit(fields.of_leaf(shared, row), u, p, n, x)

    results = of_each(step, choices, everyones, numbers, rows, flat, theirs)
    rows = [row if result is None else result[0] for row, result in zip(rows, results, strict=True)]
    new, seen = ([result and result[i] for result in results] for i in (1, 2))
    kept = [present(u) and leaf.resolve(choice).passes for (_, u), choice in zip(paths, choices, strict=True)]
    new = [jnp.asarray(u) if keep else x for keep, x, (_, u) in zip(kept, new, paths, strict=True)]
    emitted = Emitted(emit, choices, list(zip(everyones, numbers, rows, flat, theirs, seen, strict=True)))
    return structure.unflatten(new), fields.joined(shared, rows), emitted


def _overall(of_all: Callable[[jax.Array], Any], found: list[Any], example: Callable[[], Any]) -> Any:
    """The numbers of all leaves, reduced."""
    found = [x for x in found if x is not None]
    if not found:
        return jax.tree.map(lambda _: of_all(joined([])), jax.eval_shape(example))
    return jax.tree.map(lambda *numbers: of_all(joined(numbers)), *found)


class _Fields:
    """The fields of a state, in order: those that each leaf has for itself, and those that all leaves share."""

    def __init__(self, state: Any, structure: Any):
        self.state, self.structure = state, structure
        self.roles: list[Role] = []
        self.values: list[Any] = []
        self.own: list[bool] = []  # whether each leaf has one of its own
        map_fields(self._note, state)
        self.shared = [x for x, own in zip(self.values, self.own, strict=True) if not own]
        self.nothing = [None] * sum(self.own)

    def _note(self, role: Role, value: Any) -> None:
        own = role.of_leaves or (role is Role.WEIGHT and not jax.tree_util.all_leaves([value]))
        self.roles.append(role)
        self.own.append(own)
        self.values.append(self.structure.flatten_up_to(value) if own else value)

    @property
    def split(self) -> bool:
        """Whether each leaf has its own weights, too."""
        return any(own and not role.of_leaves for role, own in zip(self.roles, self.own, strict=True))

    def rows(self) -> Iterator[list[Any]]:
        """The values that each leaf has for itself."""
        columns = [x for x, own in zip(self.values, self.own, strict=True) if own]
        return map(list, zip(*columns, strict=True)) if columns else ([] for _ in range(self.structure.num_leaves))

    def of_leaf(self, shared: list[Any], row: list[Any]) -> Any:
        """The state as one leaf sees it."""
        ours, theirs, own = iter(row), iter(shared), iter(self.own)
        return map_fields(lambda role, value: next(ours) if next(own) else next(theirs), self.state)

    def parts(self, s: Any) -> tuple[list[Any], list[Any]]:
        """A state as one leaf sees it, taken apart: what all leaves share, and what this one has for itself."""
        parts: tuple[list[Any], list[Any]] = ([], [])
        own = iter(self.own)
        map_fields(lambda role, value: parts[next(own)].append(value), s)
        return parts

    def joined(self, shared: list[Any], rows: list[list[Any]]) -> Any:
        """Put the state of all leaves together again."""
        columns = zip(*rows, strict=True) if rows else ([] for _ in self.nothing)
        return self.of_leaf(shared, [self.structure.unflatten(column) for column in columns])

    def check_shapes(self, rows: list[list[Any]], flat: list[Any], paths: list[Any]) -> None:
        """Raise if a slot does not have the shape of its update."""
        slots = [role is Role.SLOT for role, own in zip(self.roles, self.own, strict=True) if own]
        for row, u, (path, _) in zip(rows, flat, paths, strict=True):
            for x, slot in zip(row, slots, strict=True):
                if slot and u is not None and x is not None and np.shape(x) != np.shape(u):
                    raise LeafError(f"shapes do not match: {np.shape(u)} and {np.shape(x)}", path_string(path))


class _OfEach:
    """Calls a function for every leaf with an update; within a trace, traces it once for leaves that look alike."""

    def __init__(self, name: str, paths: list[Any], leaves: list[tuple[Any, Any, Any, Any]]):
        self.name, self.paths = name, paths
        self.present = [u is not None for _, _, u, _ in leaves]
        looks = [(choice, *map(jax.typeof, jax.tree.leaves(arrays))) for choice, *arrays in leaves]
        known = collections.Counter(look for look, present in zip(looks, self.present, strict=True) if present)
        traced = any(isinstance(u, Tracer) for _, _, u, _ in leaves)
        self.repeated = [traced and known[look] > 1 for look in looks]

    def __call__(self, f: Callable[..., Any], choices: list[Any], *columns: list[Any]) -> list[Any]:
        """f(choice, *row) for each leaf; None where there is no update."""

        @functools.cache
        def function(choice: Any, repeated: bool) -> Any:
            of_choice: Any = functools.partial(f, choice)
            of_choice.__name__ = self.name
            return jax.jit(of_choice) if repeated else of_choice

        results: list[Any] = []
        for i, (choice, *row) in enumerate(zip(choices, *columns, strict=True)):
            try:
                results.append(function(choice, self.repeated[i])(*row) if self.present[i] else None)
            except Exception as error:
                path = path_string(self.paths[i][0])
                if isinstance(error, LeafError):
                    error.path = error.path or path
                else:
                    error.add_note(f"{self.name}: leaf '{path}'")
                raise
        return results

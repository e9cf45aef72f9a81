"""What the parts of a composition are called, in a state and in a value alike, and how a name finds one of them.

A part is named after its constructor (`_1`, `_2`, … for repeats), or as it was given; a group of leaves after its
label. A hyperparameter or a metric is found by as much of its path as tells it from the others: "learning_rate",
"encoder/learning_rate".
"""

import inspect
import keyword
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from gradtx.core.tree import key_name
from gradtx.core.value import Value

__all__ = [
    "checked_name",
    "find",
    "index_of",
    "is_within",
    "name_of",
    "numbers",
    "part_names",
    "replace_found",
    "shortest_names",
]

Path = tuple[str, ...]


# Parts


def name_of(tx: Any) -> str:
    """The name that a transformation's state is kept under: its constructor's; for Optax's, the function it is from."""
    if isinstance(tx, Value):
        return tx.name
    head = getattr(tx.update, "__qualname__", "").split(".<locals>")[0].split(".")[-1]
    return head if head.isidentifier() and not head.startswith("_") else "transformation"


def part_names(transformations: Sequence[Any], given: Iterable[str] = ()) -> tuple[str, ...]:
    """Names for the parts of a composition: the constructors', with _1, _2, … for repeats, then the given ones."""
    given = tuple(map(checked_name, given))
    names: list[str] = []
    for tx in transformations:
        base = name_of(tx).lstrip("_")
        base = name = base if base.isidentifier() and not keyword.iskeyword(base) else "transformation"
        repeats = 0
        while name in names or name in given:
            repeats += 1
            name = f"{base}_{repeats}"
        names.append(name)
    return (*names, *given)


def checked_name(name: str) -> str:
    """A name that can be a field of the state.

    Raises:
      ValueError: it is not an identifier, is a keyword or starts with an underscore.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"{name!r} cannot name a field of the state; use letters, digits and _")
    return name


# Where things are


def numbers(node: Any, whole: Callable[[Any], bool], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The numbers of a value with their paths, in the order of its leaves; a value that is `whole` counts as one.

    A path leads through the names of the parts, as in the state, to the argument.
    """
    if isinstance(node, Value) and not whole(node):
        for name, argument in _named_arguments(node):
            yield from numbers(argument, whole, (*path, *name))
        return
    for keys, leaf in jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: isinstance(x, Value))[0]:
        below = (*path, *_steps(keys))
        yield from numbers(leaf, whole, below) if isinstance(leaf, Value) and leaf is not node else [(below, leaf)]


def _named_arguments(value: Value) -> Iterator[tuple[Path, Any]]:
    kinds = value.constructor.kinds  # type: ignore[attr-defined]
    for name, argument in value._arguments.items():
        if not getattr(kinds.get(name), "ordered", False):
            yield (name,), argument
        elif value._parameter(name).kind is inspect.Parameter.VAR_POSITIONAL:
            names = part_names(value.arguments[name], value._named)
            yield from (((part_name,), part) for part_name, part in zip(names, argument, strict=False))
        else:  # what is inside another transformation has its place in the state, or that of its label
            yield (), argument


def find(tree: Any, wanted: Callable[[Any], bool]) -> Iterator[tuple[Path, Any]]:
    """The nodes of a tree that are wanted, with their paths: outer ones first, then those inside of them."""

    def inside(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        def stop(x: Any) -> bool:
            return x is not node and wanted(x)

        for keys, x in jax.tree_util.tree_flatten_with_path(node, is_leaf=stop)[0]:
            if stop(x):
                below = (*path, *_steps(keys))
                yield below, x
                yield from inside(x, below)

    return ((path[1:], node) for path, node in inside([tree], ()))


def replace_found(tree: Any, wanted: Callable[[Any], bool], new: Callable[[Path, Any], Any]) -> Any:
    """The tree with `new(path, node)` in the place of every node that is wanted; inner ones are replaced first."""

    def inside(node: Any, path: Path) -> Any:
        def stop(x: Any) -> bool:
            return x is not node and wanted(x)

        def swap(keys: Any, x: Any) -> Any:
            below = (*path, *_steps(keys))
            return new(below[1:], inside(x, below)) if stop(x) else x

        return jax.tree_util.tree_map_with_path(swap, node, is_leaf=stop)

    return inside([tree], ())[0]


def _steps(keys: Any) -> Path:
    """A path as JAX has it by names; a label such as "encoder/*" counts as two steps, as it does in a name."""
    return tuple(step for key in keys for step in key_name(key).split("/"))


# Names


def shortest_names(paths: Sequence[Path]) -> list[str]:
    """For each path its shortest end that no other path has."""

    def shortest(path: Path) -> str:
        for start in range(len(path) - 1, 0, -1):
            if sum(other[start - len(path) :] == path[start:] for other in paths) == 1:
                return "/".join(path[start:])
        return "/".join(path)

    return [shortest(path) for path in paths]


def is_within(name: Path, path: Path) -> bool:
    """Whether a path ends as the name does and contains the rest of it in this order: ("a", "c") is in a/b/c."""
    rest = iter(path)
    return name[-1:] == path[-1:] and all(part in rest for part in name)


def index_of(name: str, paths: Sequence[Path], what: str) -> int:
    """Which of the paths a name means.

    Raises:
      LookupError: none, or several; lists the candidates.
    """
    names = shortest_names(paths)
    if name in names:
        return names.index(name)
    matching = [i for i, path in enumerate(paths) if is_within(tuple(name.split("/")), path)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise LookupError(f"several {what}s match {name!r}: {', '.join(names[i] for i in matching)}")
    there = f"there are {', '.join(names)}" if names else f"there is no {what}"
    raise LookupError(f"no {what} matches {name!r}; {there}")

"""Where things are, in a state and in a value alike, and how they are found by name.

A hyperparameter or a metric is found by any part of its path that is enough to identify it: "learning_rate",
"encoder/learning_rate".
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from gradtx.core.names import part_names
from gradtx.core.tree import key_name
from gradtx.core.value import Value

__all__ = ["by_path", "find", "index_of", "is_within", "numbers", "replace_found", "shortest_names"]

Path = tuple[str, ...]


def by_path(tree: Any) -> dict[Path, Any]:
    """The leaves by their paths, in order."""
    return {tuple(map(key_name, path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def numbers(node: Any, whole: Callable[[Any], bool], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The numbers of a value with their paths, in the order of its leaves; a value that is `whole` counts as one.

    A path leads to the argument through the names of the parts, as in the state.
    """
    if isinstance(node, Value) and not whole(node):
        for name, argument in _named_arguments(node):
            yield from numbers(argument, whole, (*path, *name))
        return
    for keys, leaf in jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: isinstance(x, Value))[0]:
        below = (*path, *_steps(keys))
        yield from numbers(leaf, whole, below) if isinstance(leaf, Value) and leaf is not node else [(below, leaf)]


def _named_arguments(value: Value) -> Iterator[tuple[Path, Any]]:
    kinds = value.constructor.kinds
    for name, argument in value._arguments.items():
        if not getattr(kinds.get(name), "ordered", False):
            yield (name,), argument
        elif value._parameter(name).kind is inspect.Parameter.VAR_POSITIONAL:
            names = part_names(value.arguments[name], value._named)
            yield from (((part_name,), part) for part_name, part in zip(names, argument, strict=False))
        else:  # what is inside another transformation is named by its place in the state, or by its label
            yield (), argument


def find(tree: Any, wanted: Callable[[Any], bool]) -> Iterator[tuple[Path, Any]]:
    """The wanted nodes of a tree, with their paths: outer ones first, then those inside them."""

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
    """The tree with `new(path, node)` in place of every wanted node; inner ones are replaced first."""

    def inside(node: Any, path: Path) -> Any:
        def stop(x: Any) -> bool:
            return x is not node and wanted(x)

        def swap(keys: Any, x: Any) -> Any:
            below = (*path, *_steps(keys))
            return new(below[1:], inside(x, below)) if stop(x) else x

        return jax.tree_util.tree_map_with_path(swap, node, is_leaf=stop)

    return inside([tree], ())[0]


def _steps(keys: Any) -> Path:
    """JAX's path as names; a label such as "encoder/*" counts as two steps, as it does in a name."""
    return tuple(step for key in keys for step in key_name(key).split("/"))


# Names


def shortest_names(paths: Sequence[Path]) -> list[str]:
    """For each path, the shortest suffix that no other path has."""

    def shortest(path: Path) -> str:
        for start in range(len(path) - 1, 0, -1):
            if sum(other[start - len(path) :] == path[start:] for other in paths) == 1:
                return "/".join(path[start:])
        return "/".join(path)

    return [shortest(path) for path in paths]


def is_within(name: Path, path: Path) -> bool:
    """Whether a path ends like the name and contains the rest of it in order: ("a", "c") is in a/b/c."""
    rest = iter(path)
    return name[-1:] == path[-1:] and all(part in rest for part in name)


def index_of(name: str, paths: Sequence[Path], what: str) -> int:
    """The index of the path that a name refers to.

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

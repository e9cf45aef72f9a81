"""What is in a state, leaf by leaf, with the role declared for each."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from gradtx.core.roles import Role, of_class
from gradtx.core.tree import key_name
from gradtx.state.paths import Path

__all__ = ["Entry", "entries", "statistic_of"]


class Entry(NamedTuple):
    """A leaf of a state: where it is kept, what it is, and which parameter it belongs to."""

    path: Path  # by names
    stages: Path  # the stages (and wrappers) in whose state it is
    field: str  # "" where no role is declared
    role: Role | None
    below: Path  # within the field: the path of a parameter, a name
    value: Any
    owner: Any  # the state that it is in


def entries(state: Any) -> list[Entry]:
    """Every leaf of a state (or of a pytree that holds states), in order."""
    return list(_entries(state, (), None))


def _entries(node: Any, stages: Path, owner: Any) -> Iterator[Entry]:
    roles = of_class(node.__class__)
    for keys, child in jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]:
        if child is node:
            yield Entry(stages, stages, "", None, (), node, owner)
            continue
        name = tuple(map(key_name, keys))
        role = roles.get(name[0])
        if role in (None, Role.INNER):
            yield from _entries(child, (*stages, *name), node)
            continue
        for below, value in jax.tree_util.tree_flatten_with_path(child)[0]:
            rest = tuple(map(key_name, below))
            yield Entry((*stages, *name, *rest), stages, name[0], role, rest, value, node)


def statistic_of(entry: Entry, of_params: set[Path]) -> tuple[Path, Path]:
    """The stages that an entry is in, and the statistic: its field, and below that the parameter it belongs to.

    Args:
      entry: where no role is declared, an end of its path that is the path of a parameter is taken for that parameter.
      of_params: the paths of the parameters.
    """
    if entry.role is not None and (entry.role.of_leaves or entry.role is Role.WEIGHT):
        return entry.stages, (entry.field, *entry.below)
    end = 0
    if entry.role is None:
        end = next((n for n in range(len(entry.path) - 1, 0, -1) if entry.path[-n:] in of_params), 0)
    return entry.path[: -end - 1], entry.path[-end - 1 :]

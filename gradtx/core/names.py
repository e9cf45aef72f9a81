"""What the parts of a composition are called, in a state and in a value alike.

A part is named after its constructor (`_1`, `_2`, … for repeats) or by the name it was given, a group of leaves after
its label.
"""

import keyword
from collections.abc import Container, Iterable, Sequence
from typing import Any

from gradtx.core.value import Value

__all__ = ["RENAMED", "checked_name", "current", "name_of", "part_names"]

# What has been renamed since states and configs were first written: constructors (and the parts of states that are
# named after them), arguments, fields of states.
RENAMED = {"clip_rate": "clip_preconditioner", "rate": "preconditioner", "inner": "gradient_dot_params"}


def current(name: str, known: Container[str]) -> str:
    """The known name that has replaced this one; this one itself if it is known, or if none has replaced it."""
    now = RENAMED.get(name, name)
    return now if name not in known and now in known else name


def name_of(tx: Any) -> str:
    """The name that a transformation's state is kept under: its constructor's; for Optax's, its function's."""
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

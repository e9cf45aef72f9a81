"""The constructors of the library, by name.

The table is filled by `gradtx`, which knows what is public.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from gradtx.core.constructor import Constructor, constructor_in
from gradtx.core.value import Value

__all__ = ["get", "optimizers"]

_TABLE: dict[str, Constructor[..., Any]] = {}


def fill(names: Mapping[str, Any]) -> None:
    """Enter the constructors among these public names."""
    for name, thing in names.items():
        if not name.startswith("_") and (constructor := constructor_in(thing)):
            _TABLE[name] = constructor


def constructors() -> dict[str, Constructor[..., Any]]:
    """Every public constructor of a transformation or a schedule, by name, sorted."""
    return dict(sorted(_TABLE.items(), key=lambda item: item[0].lower()))


def optimizers() -> tuple[str, ...]:
    """The names of the whole optimizers, sorted.

    >>> import gradtx
    >>> gradtx.inspection.optimizers()
    ('acprop', 'adabelief', ..., 'yogi')
    """
    return tuple(name for name, constructor in constructors().items() if constructor.is_optimizer)


def get(name: str, /, **arguments: Any) -> Value:
    """Make a value by the name of its constructor: an optimizer, another transformation or a schedule.

    Args:
      name: of any public constructor; `optimizers()` lists those of whole optimizers.
      **arguments: the constructor's.

    Raises:
      LookupError: there is no such constructor; the message lists similar names, or else all of them.

    >>> import gradtx
    >>> gradtx.get("sgd", learning_rate=0.1, momentum=0.9)
    sgd(learning_rate=0.1, momentum=0.9)
    """
    known = constructors()
    if name not in known:
        raise LookupError(f"no constructor is named {name!r}; {suggestion(name, known)}")
    value: Value = known[name](**arguments)
    return value


def suggestion(name: Any, known: Iterable[Any]) -> str:
    """A hint for an unknown name: the known names that are similar, or else all of them."""
    names = {str(x).lower(): str(x) for x in known}
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6) if isinstance(name, str) else []
    if close:
        return f"did you mean {' or '.join(repr(names[match]) for match in close)}?"
    return f"there are {', '.join(names.values())}" if names else "there are none"

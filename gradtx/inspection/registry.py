"""What the library has, by name: found by looking at `gradtx`, so that nothing is listed twice."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from gradtx.core.constructor import is_constructor
from gradtx.core.value import Value

__all__ = ["get", "optimizers"]


def constructors() -> dict[str, Callable[..., Any]]:
    """Every public constructor of a transformation or a schedule, by name, sorted."""
    import gradtx  # when asked for: what this module is part of is complete by then

    public = sorted(vars(gradtx).items(), key=lambda item: item[0].lower())
    return {name: x for name, x in public if not name.startswith("_") and is_constructor(x)}


def optimizers() -> tuple[str, ...]:
    """The names of the whole optimizers, sorted: the formulas that a learning rate alone makes.

    >>> import gradtx.registry
    >>> gradtx.registry.optimizers()
    ('acprop', 'adabelief', ..., 'yogi')
    """

    def is_whole(constructor: Any) -> bool:
        parameters = constructor.signature.parameters
        required = {name for name, p in parameters.items() if p.default is p.empty}
        formula = constructor.__module__.startswith("gradtx.formulas.") and not constructor.__name__.startswith(
            "scale_by_"
        )
        return formula and "learning_rate" in parameters and required <= {"learning_rate"}

    return tuple(name for name, constructor in constructors().items() if is_whole(constructor))


def get(name: str, /, **arguments: Any) -> Value:
    """Make a value by the name of its constructor: an optimizer, another transformation or a schedule.

    Args:
      name: of any public constructor; `optimizers()` lists those of whole optimizers.
      **arguments: the constructor's.

    Raises:
      LookupError: there is no such constructor; gives the names that look like it, or else all.

    >>> import gradtx.registry
    >>> gradtx.registry.get("sgd", learning_rate=0.1, momentum=0.9)
    sgd(learning_rate=0.1, momentum=0.9)
    """
    known = constructors()
    if name not in known:
        raise LookupError(f"no constructor is named {name!r}; {suggestion(name, known)}")
    return known[name](**arguments)


def suggestion(name: Any, known: Iterable[Any]) -> str:
    """What to say of an unknown name: the known ones that look like it, or else all of them."""
    names = {str(x).lower(): str(x) for x in known}
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6) if isinstance(name, str) else []
    if close:
        return f"did you mean {' or '.join(repr(names[match]) for match in close)}?"
    return f"there are {', '.join(names.values())}" if names else "there are none"

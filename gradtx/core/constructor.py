"""How a constructor is made of a body: its arguments are bound, checked by their kinds, and kept in a value."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

from gradtx.core.arguments import kind_of
from gradtx.core.value import Value, wrap_all

__all__ = ["constructor_of", "is_constructor"]


def is_constructor(x: Any) -> bool:
    """True for what `constructor_of` makes: `@transformation` and `@schedule` do."""
    return hasattr(x, "signature") and hasattr(x, "kinds")


def constructor_of(cls: type[Value], body: Callable[..., Any], **attributes: Any) -> Callable[..., Any]:
    """Make the public constructor of a body: it checks what the user gives and returns a value of class `cls`."""
    try:
        signature = inspect.signature(body, eval_str=True)  # kinds are read from annotations, written as strings or not
    except NameError:
        signature = inspect.signature(body)
    parameters = signature.parameters
    kinds = {name: kind for name, p in parameters.items() if (kind := kind_of(p.annotation))}
    optional = {n for n in kinds if parameters[n].default is None or type(None) in get_args(parameters[n].annotation)}

    @functools.wraps(body)
    def constructor(*args: Any, **kwargs: Any) -> Any:
        bound = _bind(body.__name__, signature, args, kwargs)
        for name, kind in kinds.items():
            argument = bound.arguments[name]
            if argument is not None or name not in optional:
                argument = kind.check(body.__name__, name, argument)
            if callable(argument) and not isinstance(argument, Value):
                argument = constructor.as_schedule(argument)  # type: ignore[attr-defined]
            bound.arguments[name] = argument
        return cls._make(constructor, wrap_all(constructor, bound.arguments))

    def shown(p: inspect.Parameter) -> inspect.Parameter:
        kind = kinds.get(p.name)
        return p.replace(annotation=_Text(f"{kind} | None" if p.name in optional else kind)) if kind else p

    # For help(): kinds by their names.
    constructor.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[shown(p) for p in parameters.values()], return_annotation=_Text(cls.__name__)
    )
    constructor.signature = signature  # type: ignore[attr-defined]
    constructor.kinds = kinds  # type: ignore[attr-defined]
    for name, attribute in attributes.items():
        setattr(constructor, name, attribute)
    return constructor


class _Text(str):
    """Shown as it is, without quotes, in a signature."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _bind(owner: str, signature: inspect.Signature, args: Any, kwargs: Any) -> inspect.BoundArguments:
    """The arguments by name, defaults included; a misspelt name is reported before what is missing for it."""
    parameters = signature.parameters
    unknown = [name for name in kwargs if name not in parameters]
    if unknown and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        close = difflib.get_close_matches(unknown[0], parameters, n=1, cutoff=0.5)
        close += [name for name in parameters if "".join(word[:1] for word in name.split("_")) == unknown[0]]  # lr, wd
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TypeError(f"{owner}: no argument {unknown[0]!r}; {hint}its signature is {_brief(signature)}")
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{owner}: {error}; its signature is {_brief(signature)}") from None
    bound.apply_defaults()
    return bound


def _brief(signature: inspect.Signature) -> str:
    names = [str(p.replace(annotation=inspect.Parameter.empty)) for p in signature.parameters.values()]
    return f"({', '.join(names)})"

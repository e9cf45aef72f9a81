"""Constructors make values: they bind the arguments of a body, check them by their kinds, and keep them."""

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, get_args

from gradtx.core.arguments import Kind, kind_of
from gradtx.core.names import current
from gradtx.core.value import Value, wrap

__all__ = ["Constructor", "constructor_in"]

P = ParamSpec("P")
V = TypeVar("V", bound=Value, covariant=True)


class Constructor(Generic[P, V]):
    """What `@transformation`, `@optimizer` and `@schedule` turn a body into: called like the body, it makes a value.

    A constructor is known by its name: values print with it, and configs and pickles refer to it.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, Any]

    def __init__(
        self,
        cls: type[V],
        body: Callable[P, Any],
        as_schedule: Callable[[Any], Any],
        *,
        name: str | None = None,
        record: tuple[str, ...] = (),
        is_optimizer: bool = False,
    ):
        functools.update_wrapper(self, body)
        self.__name__ = name or body.__name__
        self.cls, self.record, self.is_optimizer = cls, record, is_optimizer
        self._as_schedule = as_schedule  # wraps a function that is given for a number
        try:
            self.signature = inspect.signature(body, eval_str=True)  # kinds are read from annotations, strings or not
        except NameError:
            self.signature = inspect.signature(body)
        parameters = self.signature.parameters
        for taken, parameter in parameters.items():
            if hasattr(cls, taken) and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(
                    f"{self.__name__}: an argument named {taken!r} would be hidden by the value's own {taken}"
                )
        self.kinds: dict[str, Kind] = {n: kind for n, p in parameters.items() if (kind := kind_of(p.annotation))}
        self._optional = {
            n for n in self.kinds if parameters[n].default is None or type(None) in get_args(parameters[n].annotation)
        }

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> V:
        """The value with these arguments.

        Raises:
          TypeError: the arguments do not fit the signature, or one is not of its kind.
          ValueError: a number is out of range.
        """
        bound = self._bind(args, kwargs)
        for name, kind in self.kinds.items():
            argument = bound.arguments[name]
            if argument is not None or name not in self._optional:
                argument = kind.check(self.__name__, name, argument)
            if callable(argument) and not isinstance(argument, Value):
                argument = self._as_schedule(argument)
            bound.arguments[name] = argument
        return self.made_of(bound.arguments)

    def made_of(self, arguments: dict[str, Any]) -> V:
        """The value with arguments that have been checked already, all given by name."""
        named = {current(name, self.signature.parameters): argument for name, argument in arguments.items()}
        return self.cls._make(self, {name: wrap(argument, self.is_ordered(name)) for name, argument in named.items()})

    def is_ordered(self, name: str) -> bool:
        """Whether the order of a dict given for this argument counts."""
        return name in self.kinds and self.kinds[name].ordered

    @property
    def source(self) -> str:
        """Where the method comes from: the text after "Source:" in the docstring."""
        found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", inspect.getdoc(self) or "", re.DOTALL | re.MULTILINE)
        return " ".join(found.group(1).split()) if found else ""

    # What Python expects of a function

    @property
    def __signature__(self) -> inspect.Signature:
        """For `help`: shows kinds by their names."""

        def shown(p: inspect.Parameter) -> inspect.Parameter:
            kind = self.kinds.get(p.name)
            return p.replace(annotation=_Text(f"{kind} | None" if p.name in self._optional else kind)) if kind else p

        parameters = [shown(p) for p in self.signature.parameters.values()]
        return self.signature.replace(parameters=parameters, return_annotation=_Text(self.cls.__name__))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<constructor {self.__name__}>"

    def __reduce__(self) -> Any:
        """By its public name, so that a pickle outlives a move of the module; by its module otherwise."""
        is_public = getattr(sys.modules.get("gradtx"), self.__name__, None) is self
        return (_public, (self.__name__,)) if is_public else self.__qualname__

    def _bind(self, args: Any, kwargs: Any) -> inspect.BoundArguments:
        """The arguments by name, defaults included; a misspelt name is reported before what is missing for it."""
        parameters = self.signature.parameters
        kwargs = {current(name, parameters): argument for name, argument in kwargs.items()}
        unknown = [name for name in kwargs if name not in parameters]
        if unknown and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            given = unknown[0]
            close = difflib.get_close_matches(given, parameters, n=1, cutoff=0.5)
            close += [name for name in parameters if "".join(word[:1] for word in name.split("_")) == given]  # lr, wd
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TypeError(f"{self.__name__}: no argument {given!r}; {hint}its signature is {self._brief()}")
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.__name__}: {error}; its signature is {self._brief()}") from None
        bound.apply_defaults()
        return bound

    def _brief(self) -> str:
        names = [str(p.replace(annotation=inspect.Parameter.empty)) for p in self.signature.parameters.values()]
        return f"({', '.join(names)})"


class _Text(str):
    """Shown as it is, without quotes, in a signature."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _public(name: str) -> Any:
    """What a public name of the library stands for, when a pickle is read."""
    return getattr(sys.modules["gradtx"], name)


def constructor_in(x: Any) -> Constructor[..., Any] | None:
    """The constructor that this is, or that makes the values of this class; None for anything else."""
    found = vars(x).get("made_by") if isinstance(x, type) else x
    return found if isinstance(found, Constructor) else None

"""A value is a constructor and its arguments.

`adam(1e-3)` does not build closures. It remembers `adam` and `learning_rate=0.001`, and everything that a value can
do follows from that: print itself, compare and hash by content, pickle, be edited with `replace`, and be a pytree
whose leaves are its numbers. What the constructor's body returns is built on first use: JAX rebuilds pytrees
with placeholders for leaves, and a placeholder must never reach the mathematics.
"""

import contextlib
import contextvars
import enum
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import get_opaque_trace_state

from gradtx.core.arguments import canonical, plain

if TYPE_CHECKING:
    from gradtx.core.constructor import Constructor

__all__ = ["Value", "keeping", "label_name", "same", "show", "wrap"]


class Static:
    """A leaf that belongs to the structure (an int, bool, string, function), not to the numbers."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))

    def __repr__(self) -> str:
        return repr(self.value)


jax.tree_util.register_pytree_node(Static, lambda s: ((), s), lambda s, _: s)


@jax.tree_util.register_pytree_with_keys_class
class Ordered:
    """A dict whose order counts (first matching pattern, stages of a chain); JAX would sort the keys of a plain one."""

    __slots__ = ("items",)

    def __init__(self, items: dict[Any, Any]):
        self.items = items

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        keyed = tuple((jax.tree_util.DictKey(label_name(key)), item) for key, item in self.items.items())
        return keyed, tuple(self.items)

    @classmethod
    def tree_unflatten(cls, keys: tuple[Any, ...], children: Any) -> "Ordered":
        return cls(dict(zip(keys, children, strict=True)))


def label_name(label: Any) -> str:
    """The name of a group of leaves, in a state and in paths."""
    return f"re:{label.pattern}" if isinstance(label, re.Pattern) else str(label)


def _is_node(x: Any) -> bool:
    return isinstance(x, (Value, Static, Ordered))


def wrap(argument: Any, ordered: bool = False) -> Any:
    """Mark those leaves of an argument that are structure; decided once, when a user calls the constructor."""
    if ordered and isinstance(argument, Mapping):
        return Ordered({plain(key): wrap(item) for key, item in argument.items()})

    def mark(leaf: Any) -> Any:
        leaf = plain(leaf)
        static = isinstance(leaf, (int, str, bytes, type, enum.Enum, np.dtype, re.Pattern)) or callable(leaf)
        return Static(leaf) if static and not isinstance(leaf, Value) else leaf

    return jax.tree.map(mark, argument, is_leaf=_is_node)


def _unwrap(argument: Any) -> Any:
    def unmark(leaf: Any) -> Any:
        if isinstance(leaf, Ordered):
            return {key: _unwrap(item) for key, item in leaf.items.items()}
        return leaf.value if isinstance(leaf, Static) else leaf

    return jax.tree.map(unmark, argument, is_leaf=_is_node)


_kept: contextvars.ContextVar[Any] = contextvars.ContextVar("kept", default=(None, {}))


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """A context in which what is computed from traced arguments is kept, too, for the current trace."""
    token = _kept.set((get_opaque_trace_state(), {}))
    try:
        yield
    finally:
        _kept.reset(token)


class Value:
    """A constructor and its arguments; see the module's docstring. Immutable."""

    __slots__ = ("__weakref__", "_arguments", "_built", "constructor")

    constructor: "Constructor[..., Any]"
    _arguments: dict[str, Any]  # as marked by `wrap`
    _built: dict[Any, Any]  # what was computed from the arguments, on first use

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_with_keys(cls, cls._flatten_with_keys, cls._unflatten, cls._flatten)

    @classmethod
    def _make(cls, constructor: "Constructor[..., Any]", arguments: dict[str, Any]) -> Self:
        self = object.__new__(cls)
        for name, content in (("constructor", constructor), ("_arguments", arguments), ("_built", {})):
            object.__setattr__(self, name, content)
        return self

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for known in (self.arguments, self._named):
                if name in known:
                    return known[name]
        raise AttributeError(f"{type(self).__name__} {self.name} has no attribute or argument {name!r}")

    def __setattr__(self, name: str, _: Any) -> None:
        raise AttributeError(f"{self.name} is immutable; make another with replace({name}=…)")

    # Constructor and arguments

    @property
    def name(self) -> str:
        """The constructor's name."""
        return self.constructor.__name__

    @property
    def _rounded(self) -> dict[str, Any]:
        """The arguments with their floats in JAX's precision, to compute with."""
        return {name: canonical(argument) for name, argument in self.arguments.items()}

    def _once(self, what: str, compute: Callable[[], Any]) -> Any:
        """Compute something from the arguments on first use, and again if JAX's float precision is switched.

        What is kept is computed outside any current trace. With traced arguments it is kept only within `keeping`.
        """
        key = what, jax.dtypes.canonicalize_dtype(float)
        if key in self._built:
            return self._built[key]
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
            trace, kept = _kept.get()
            if (id(self), key) not in kept:
                if trace != get_opaque_trace_state():  # what an inner trace makes does not outlive it
                    return compute()
                kept[id(self), key] = compute(), self  # kept alive, so that no other value gets its id
            return kept[id(self), key][0]
        with jax.ensure_compile_time_eval():
            self._built[key] = compute()
        return self._built[key]

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, defaults included."""
        return {name: _unwrap(argument) for name, argument in self._arguments.items()}

    @property
    def _named(self) -> dict[str, Any]:
        """What was given under additional names, as the stages of a chain may be."""
        return next((a for n, a in self.arguments.items() if self._parameter(n).kind.name == "VAR_KEYWORD"), {})

    def _parameter(self, name: str) -> inspect.Parameter:
        return self.constructor.signature.parameters[name]

    def replace(self, **changes: Any) -> Self:
        """The same constructor with some arguments changed.

        A name that is not an argument of this value is looked up in the values that it is made of, so that
        `chain(clip(1.0), adam(1e-3)).replace(learning_rate=3e-4)` changes the learning rate of `adam`.

        Raises:
          TypeError: nothing here has such an argument, or several parts have it.
        """
        value = self
        for name, new in changes.items():
            value = value._replace_one(name, new)
        return value

    def _replace_one(self, name: str, new: Any) -> Self:
        owners = self._owners(name)
        if len(owners) != 1:
            problem = f"has no argument {name!r}; it has {', '.join(dict.fromkeys(self._names()))}"
            if owners:
                problem = f"has several parts with an argument {name!r}: {', '.join(map(repr, owners))}"
            raise TypeError(f"{self.name} {problem}")
        arguments = self.arguments
        if name in arguments:
            arguments[name] = new
        elif name in self._named:
            further = next(n for n in arguments if self._parameter(n).kind.name == "VAR_KEYWORD")
            arguments[further] = self._named | {name: new}
        else:

            def edit(part: Any) -> Any:
                return part._replace_one(name, new) if isinstance(part, Value) and part._owners(name) else part

            edited = jax.tree.map(edit, self._arguments, is_leaf=lambda x: isinstance(x, (Value, Static)))
            arguments = {n: _unwrap(a) for n, a in edited.items()}
        bound = self._bind(arguments)
        return self.constructor(*bound.args, **bound.kwargs)

    def _owners(self, name: str) -> list["Value"]:
        """The values, this one or parts of it, that have an argument of this name."""
        if name in self._arguments or name in self._named:
            return [self]
        return [owner for part in self._parts() for owner in part._owners(name)]

    def _names(self) -> list[str]:
        """The names of the arguments of this value and of its parts."""
        return [*self._arguments, *self._named, *(name for part in self._parts() for name in part._names())]

    def _parts(self) -> list["Value"]:
        leaves = jax.tree.leaves(list(self._arguments.values()), is_leaf=lambda x: isinstance(x, Value))
        return [leaf for leaf in leaves if isinstance(leaf, Value)]

    def _bind(self, arguments: dict[str, Any]) -> inspect.BoundArguments:
        return inspect.BoundArguments(self.constructor.signature, arguments)

    def _result(self, arguments: dict[str, Any]) -> Any:
        """What the constructor's body returns for these arguments."""
        bound = self._bind(arguments)
        return self.constructor.__wrapped__(*bound.args, **bound.kwargs)

    # A pytree of its numbers

    def _flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(self._arguments.values()), (self.constructor, tuple(self._arguments))

    def _flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        keyed = [(jax.tree_util.GetAttrKey(name), argument) for name, argument in self._arguments.items()]
        return keyed, (self.constructor, tuple(self._arguments))

    @classmethod
    def _unflatten(cls, structure: tuple[Any, ...], children: Any) -> Self:
        constructor, names = structure
        return cls._make(constructor, dict(zip(names, children, strict=True)))

    # Equality by content

    def _key(self) -> tuple[Any, tuple[Any, ...]]:
        leaves, structure = jax.tree.flatten(self)
        return structure, tuple(
            (leaf.dtype.name, leaf.shape, np.asarray(leaf).tobytes()) if hasattr(leaf, "shape") else leaf
            for leaf in map(plain, leaves)
        )

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Value) and type(self) is type(other) and self._key() == other._key())

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.constructor, self.arguments)

    # Printing

    def _shown(self) -> Iterator[tuple[str, Any]]:
        """The arguments that differ from their defaults, as (keyword or '', value)."""
        parameters = self.constructor.signature.parameters
        further = any(p.kind is p.VAR_POSITIONAL and self._arguments[name] for name, p in parameters.items())
        for name, argument in self.arguments.items():
            parameter = parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                yield from (("", item) for item in argument)
                further = False
            elif further:  # arguments before further positional ones are positional, too
                yield "", argument
            elif parameter.kind is parameter.VAR_KEYWORD:
                yield from argument.items()
            elif not same(argument, parameter.default):
                yield name, argument

    def __repr__(self) -> str:
        parts = [f"{key}={show(argument)}" if key else show(argument) for key, argument in self._shown()]
        line = f"{self.name}({', '.join(parts)})"
        if len(line) <= 88 and "\n" not in line:
            return line
        return f"{self.name}(\n" + "".join(f"    {part},\n" for part in _indented(parts)) + ")"


def _rebuild(cls: type[Value], constructor: "Constructor[..., Any]", arguments: dict[str, Any]) -> Value:
    value: Value = constructor.made_of(arguments)
    return value


def same(argument: Any, default: Any) -> bool:
    """Whether an argument is its default, so that a call need not write it."""
    if argument is default:
        return True
    if default is None or isinstance(argument, bool) is not isinstance(default, bool):
        return False  # in NumPy a dtype may equal None, in Python 0 equals False
    return isinstance(argument, (float, int, str, tuple, np.dtype, Value)) and bool(argument == default)


def show(argument: Any) -> str:
    """An argument as it would be written in a call of its constructor."""
    argument = plain(argument)
    if isinstance(argument, np.ndarray):
        if argument.size > 16:
            return f"array(<{argument.dtype}, shape {argument.shape}>)"
        entries = argument.tolist()
        dtype = "" if np.asarray(entries).dtype == argument.dtype else f", {argument.dtype.name!r}"
        return f"array({entries}{dtype})"
    if isinstance(argument, np.dtype):
        return repr(argument.name)
    if isinstance(argument, re.Pattern):  # its own repr is cut off after 200 characters
        flags = argument.flags & ~re.UNICODE if isinstance(argument.pattern, str) else argument.flags
        return f"re.compile({argument.pattern!r}{f', {re.RegexFlag(flags)!r}' if flags else ''})"
    if inspect.isroutine(argument) or isinstance(argument, type):
        return argument.__name__
    if isinstance(argument, dict):
        return "{" + ", ".join(f"{show(key)}: {show(item)}" for key, item in argument.items()) + "}"
    if type(argument) in (tuple, list):
        shown = ", ".join(map(show, argument))
        return f"[{shown}]" if isinstance(argument, list) else f"({shown}{',' * (len(argument) == 1)})"
    return repr(argument)


def _indented(parts: list[str]) -> list[str]:
    return [part.replace("\n", "\n    ") for part in parts]

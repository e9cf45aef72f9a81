"""Optimizers and schedules as plain dicts and back: for the record of a run, and for configuration files.

A value is written as its constructor's name and its arguments, defaults included, so that the record stays true when a
default changes:

    {"gradtx": 1, "name": "sgd", "arguments": {"learning_rate": 0.1, "momentum": None, …}}

Numbers, strings, booleans, None, lists and dicts with strings as keys are written as they are. What JSON and YAML
cannot tell apart has a form of its own:

    {"name": …, "arguments": {…}}           a transformation or schedule inside another
    {"$tuple": […]}                         a tuple
    {"$dict": [[key, item], …]}             a dict with other keys, or one whose order matters
    {"$array": […], "dtype": "float32"}     an array
    {"$re": "norm|bias", "flags": […]}      a regular expression, with the names of its flags if it has any
    {"$float": "inf"}                       "inf", "-inf" or "nan"
    {"$dtype": "float32"}                   a dtype, where the argument is not declared to be one

Reading calls only the constructors of this library and those passed to it.
"""

import contextlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.core.arguments import Range, plain
from gradtx.core.build import is_transformation
from gradtx.core.constructor import Constructor, constructor_in
from gradtx.core.names import current
from gradtx.core.schedule import Schedule, arithmetic
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import Value, show
from gradtx.inspection import registry

__all__ = ["ConfigError", "from_config", "to_config"]

VERSION = 1
Known = dict[str, Constructor[..., Any]]


class ConfigError(ValueError):
    """A value cannot be written as a config, or a config does not describe a value. The message says where."""


# Writing


def to_config(value: GradientTransformation | Schedule) -> dict[str, Any]:
    """Write a transformation or schedule as a plain dict, safe for `json.dumps` and `yaml.safe_dump`.

    Sorting the keys does no harm.

    Args:
      value: made by constructors of this library, or by your own (which are then passed to `from_config`).

    Returns:
      A dict of dicts, lists, strings, numbers, booleans and None; see the module's docstring.

    Raises:
      ConfigError: something in it has no written form: a function, a transformation of another library, a number that
        is being traced. The message says where, and what to use instead.

    >>> import gradtx
    >>> gradtx.to_config(gradtx.freeze("*bias"))
    {'gradtx': 1, 'name': 'freeze', 'arguments': {'mask': '*bias'}}
    >>> gradtx.to_config(gradtx.freeze(lambda path, leaf: leaf.ndim < 2))
    Traceback (most recent call last):
      ...
    gradtx.checkpoints.config.ConfigError: freeze.mask: a function, <lambda>, cannot be written; ...
    """
    if not isinstance(value, (GradientTransformation, Schedule)):
        raise ConfigError(f"to_config writes transformations and schedules, not {_told(value)}")
    try:
        return {"gradtx": VERSION, **_write_value(value, value.name)}
    except RecursionError:
        raise ConfigError(f"{value.name}: nested too deeply to be written") from None


def _write_value(value: Value, path: str) -> dict[str, Any]:
    public = registry.constructors().get(value.name)
    if public is not None and public.signature is not value.constructor.signature:
        raise ConfigError(f"{path}: {value.name!r} is also a name of gradtx's; rename your constructor to write it")
    constructor = value.constructor
    arguments = {}
    for name, argument in value.arguments.items():
        below = f"{path}.{name}"
        if value._parameter(name).kind is inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = _write(list(argument), below)
        elif name in constructor.kinds and isinstance(argument, np.dtype):
            arguments[name] = argument.name
        else:
            arguments[name] = _write(argument, below, ordered=constructor.is_ordered(name))
    return {"name": value.name, "arguments": arguments}


def _write(item: Any, path: str, ordered: bool = False) -> Any:
    item = plain(item)
    if item is None or type(item) in (bool, int, str):
        return item
    if type(item) is float:
        return item if math.isfinite(item) else {"$float": repr(item)}
    if isinstance(item, (GradientTransformation, Schedule)):
        return _write_value(item, path)
    if type(item) is list:
        return [_write(x, f"{path}[{i}]") for i, x in enumerate(item)]
    if type(item) is tuple:
        return {"$tuple": _write(list(item), path)}
    if type(item) is dict:
        as_it_is = all(type(key) is str and not key.startswith("$") for key in item) and "name" not in item
        written = [(_write(key, path), _write(x, f"{path}[{show(key)}]")) for key, x in item.items()]
        return dict(written) if as_it_is and not ordered else {"$dict": list(map(list, written))}
    if isinstance(item, np.ndarray) and item.size and _holds_numbers(item.dtype):
        return {"$array": _write(item.tolist(), path), "dtype": item.dtype.name}
    if isinstance(item, re.Pattern) and isinstance(item.pattern, str):
        flags = [flag.name for flag in re.RegexFlag(item.flags) if flag is not re.UNICODE]
        return {"$re": item.pattern} | ({"flags": flags} if flags else {})
    if isinstance(item, np.dtype):
        return {"$dtype": item.name}
    raise ConfigError(f"{path}: {_reason(item)}")


def _reason(item: Any) -> str:
    """Why something cannot be written, and what to do instead."""
    if isinstance(item, Tracer):
        return "a traced number has no value yet; write the config outside of jit, vmap and grad"
    if is_transformation(item):
        hint = "give its part to a constructor of your own, decorated with @gradtx.transformation"
        return f"a transformation of another library cannot be written; {hint}"
    if isinstance(item, np.ndarray):
        return f"an array of shape {item.shape} and dtype {item.dtype} cannot be written; arrays hold real numbers"
    if callable(item) and jax.tree_util.all_leaves([item]):
        name = getattr(item, "__qualname__", type(item).__name__).split(".")[-1]
        return (
            f"a function, {name}, cannot be written; choose leaves with a pattern such as '*kernel', write a schedule "
            "as one of gradtx's, and what else there is as a constructor of your own, for from_config to be given"
        )
    return f"{_told(item)} cannot be written; use numbers, strings, arrays, and tuples, lists or dicts of them"


# Reading


def from_config(config: dict[str, Any], *constructors: Callable[..., Any]) -> Any:
    """The transformation or schedule that a config describes: the inverse of `to_config`.

    A config may be written by hand: arguments with defaults may be left out, a dict whose order matters may be a plain
    one, and a number may be the string that YAML makes of `1e-3`. The result is built once, so that errors surface here
    and not in the first step.

    Args:
      config: a dict such as `to_config` returns.
      *constructors: your own, made with `@transformation` or `@schedule`, which the config may name, too.

    Raises:
      ConfigError: anything wrong with the config. The message says where, and suggests names for an unknown one.

    >>> import gradtx
    >>> gradtx.from_config({"gradtx": 1, "name": "sgd", "arguments": {"learning_rate": "1e-3"}})
    sgd(learning_rate=0.001)
    >>> gradtx.from_config({"gradtx": 1, "name": "sdg"})
    Traceback (most recent call last):
      ...
    gradtx.checkpoints.config.ConfigError: config: no constructor is named 'sdg'; did you mean 'sgd' or 'dog'?
    """
    with _errors_at("config"):
        if not isinstance(config, dict):
            raise ConfigError(f"config: expected a dict such as to_config makes, got {_told(config)}")
        rest = dict(config)
        version = rest.pop("gradtx", None)
        if type(version) is not int or version != VERSION:
            found = "there is none" if version is None else f"got {_told(version)}"
            raise ConfigError(f"config: expected the version, 'gradtx': {VERSION}, {found}")
        if "name" not in rest:
            raise ConfigError("config: expected 'name', the name of a constructor; there is none")
        known = _known(constructors)
        path = rest["name"] if rest["name"] in list(known) else "config"
        value = _read_value(rest, path, known)
        with _errors_at(path):
            hash(value)
            repr(value)
        return value


def _known(own: Iterable[Callable[..., Any]]) -> Known:
    """The constructors that a config may name."""
    known = registry.constructors() | {arithmetic.__name__: arithmetic}
    for given in own:
        constructor = constructor_in(given)
        if constructor is None:
            hint = "decorate it with @gradtx.transformation or @gradtx.schedule"
            raise ConfigError(f"from_config: {_told(given)} is not a constructor; {hint}")
        name = constructor.__name__
        if known.setdefault(name, constructor) is not constructor:
            raise ConfigError(f"from_config: two constructors are named {_told(name)}; rename yours")
    return known


def _read_value(config: dict[Any, Any], path: str, known: Known) -> Value:
    _check_keys("key", config, ("name", "arguments"), path)
    name, given = config["name"], config.get("arguments", {})
    name = current(name, known) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{path}: no constructor is named {_told(name)}; {registry.suggestion(name, known)}")
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: 'arguments' must be a dict, name to argument, got {_told(given)}")
    constructor = known[name]
    signature = constructor.signature
    given = {current(n, signature.parameters): item for n, item in given.items()}
    _check_keys("argument", given, signature.parameters, path)
    for n, p in signature.parameters.items():
        if n not in given and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise ConfigError(f"{path}: {name} needs the argument {n!r}")
    arguments = {n: _read_argument(constructor, n, item, f"{path}.{n}", known) for n, item in given.items()}
    with _errors_at(path):
        bound = inspect.BoundArguments(signature, arguments)
        value: Value = constructor(*bound.args, **bound.kwargs)
        _build(value)
    return value


def _read_argument(constructor: Constructor[..., Any], name: str, given: Any, path: str, known: Known) -> Any:
    parameter = constructor.signature.parameters[name]
    kind = constructor.kinds.get(name)
    item = _read(given, path, known)
    if parameter.kind is parameter.VAR_POSITIONAL:
        if not isinstance(item, list):
            raise ConfigError(f"{path}: expected a list, got {_told(given)}")
        return tuple(item)
    if parameter.kind is parameter.VAR_KEYWORD and not isinstance(item, dict):
        raise ConfigError(f"{path}: expected a dict, name to argument, got {_told(given)}")
    if isinstance(item, str) and parameter.annotation is bool:
        raise ConfigError(f"{path}: expected true or false, got {_told(given)}")
    if isinstance(item, (str, bool)) and (isinstance(kind, Range) or parameter.annotation in (int, float)):
        if isinstance(item, bool) or "_" in item:  # Python takes both for numbers
            raise ConfigError(f"{path}: expected a number, got {_told(given)}")
        with _errors_at(path):
            number = float(item)
            return int(number) if parameter.annotation is int and number.is_integer() else number
    return item


def _build(value: Value) -> None:
    """Run the constructor's body, which checks more than the range of each number."""
    if isinstance(value, Schedule):
        jax.eval_shape(lambda count: value(count), 0)
    elif isinstance(value, GradientTransformation):
        _ = value.formula


def _read(config: Any, path: str, known: Known) -> Any:
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    if isinstance(config, list):
        return [_read(item, f"{path}[{i}]", known) for i, item in enumerate(config)]
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: {_told(config)} has no place in a config")
    if "name" in config:
        return _read_value(config, path, known)
    if any(isinstance(key, str) and key.startswith("$") for key in config):
        return _read_form(config, path, known)
    return {key: _read(item, f"{path}[{_told(key)}]", known) for key, item in config.items()}


def _read_form(config: dict[Any, Any], path: str, known: Known) -> Any:
    tag = next((key for key in config if key in _FORMS), None)
    if tag is None:
        _check_keys("form", config, _FORMS, path)
    content, *rest = inspect.signature(_FORMS[tag]).parameters
    _check_keys("key", config, (tag, *rest), path)
    parts = {content if key == tag else key: _read(item, path, known) for key, item in config.items()}
    with _errors_at(path):
        return _FORMS[tag](**parts)


def _float(text: Any) -> float:
    if text not in ("inf", "-inf", "nan"):
        raise ValueError(f"$float is 'inf', '-inf' or 'nan', got {_told(text)}")
    return float(text)


def _tuple(items: Any) -> tuple[Any, ...]:
    return tuple(_list("$tuple", items))


def _dict(pairs: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in _list("$dict", pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"$dict is a list of pairs [key, item], got {_told(pair)} in it")
        key, item = pair
        if key in result:
            raise ValueError(f"$dict has the key {_told(key)} twice")
        result[key] = item
    return result


def _array(entries: Any, dtype: Any = "float32") -> np.ndarray[Any, Any]:
    if not isinstance(dtype, str):
        raise ValueError(f"the dtype of an array is a string, got {_told(dtype)}")
    if not _holds_numbers(jnp.dtype(dtype)):
        raise ValueError(f"an array holds real numbers or booleans, not {_told(dtype)}")
    with np.errstate(over="raise"):
        array = np.asarray(_list("$array", entries), jnp.dtype(dtype))
    if not array.size:
        raise ValueError("an array without entries, whose shape is not known")
    return array


def _pattern(text: Any, flags: Any = ()) -> re.Pattern[str]:
    if not isinstance(text, str):
        raise ValueError(f"$re is a string, got {_told(text)}")
    total = re.RegexFlag(0)
    for flag in flags:
        if flag not in _FLAGS:
            raise ValueError(f"no flag of a regular expression is named {flag!r}; {registry.suggestion(flag, _FLAGS)}")
        total |= re.RegexFlag[flag]
    return re.compile(text, total)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise ValueError(f"$dtype is a string, got {_told(name)}")
    return jnp.dtype(name)


_FORMS: dict[Any, Callable[..., Any]] = {
    "$array": _array,
    "$dict": _dict,
    "$dtype": _dtype,
    "$float": _float,
    "$re": _pattern,
    "$tuple": _tuple,
}
_FLAGS = ("ASCII", "DOTALL", "IGNORECASE", "MULTILINE", "VERBOSE")


def _list(tag: str, items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise ValueError(f"{tag} is a list, got {_told(items)}")
    return items


# Writing and reading


def _holds_numbers(dtype: np.dtype[Any]) -> bool:
    return jnp.isdtype(dtype, ("bool", "integral", "real floating"))


def _check_keys(what: str, found: Iterable[Any], known: Iterable[Any], path: str) -> None:
    for key in found:
        if key not in known:
            raise ConfigError(f"{path}: no {what} is named {_told(key)}; {registry.suggestion(key, known)}")


@contextlib.contextmanager
def _errors_at(path: str) -> Iterator[None]:
    """Turn any error raised inside into a ConfigError that says where; the innermost place is the one reported."""
    try:
        yield
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError("config: nested too deeply") from None
    except Exception as error:
        told = str(error)  # a constructor's starts with its name, which may be the path
        raise ConfigError(told if told.startswith(f"{path}: ") else f"{path}: {told}") from error


def _told(item: Any) -> str:
    """A short description of what was given; never fails."""
    if item is None or isinstance(item, (bool, float)):
        return repr(item)
    if (isinstance(item, str) and len(item) < 80) or (isinstance(item, int) and abs(item) < 10**80):
        return repr(item)
    name = type(item).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

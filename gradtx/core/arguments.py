"""The kinds of number that constructors take, and the ranges that a user's numbers must lie in.

A kind is written where the argument is declared, `b1: Decay = 0.9`, and is read once, by the decorator.
Any kind takes a float, an array or a schedule; only concrete numbers are checked, because inside `jit`, `vmap`
or `grad` a hyperparameter has no value yet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Decay", "NonNegative", "Positive", "Real", "canonical", "check", "kind_of", "numeric", "plain"]

# float | jax.Array | Schedule: bodies compute with a number in the same words whichever it is.
Scalar = Any


@dataclass(frozen=True)
class Range:
    """The numbers that an argument of this kind may have: a test, and the words for it."""

    contains: Callable[[float], bool]
    words: str


Real = Annotated[Scalar, Range(lambda x: not math.isnan(x), "a number")]
NonNegative = Annotated[Scalar, Range(lambda x: x >= 0, "at least 0")]
Positive = Annotated[Scalar, Range(lambda x: x > 0, "greater than 0")]
Decay = Annotated[Scalar, Range(lambda x: 0 <= x < 1, "in [0, 1)")]


def kind_of(annotation: Any) -> Range | None:
    """The range that an annotation such as `Decay` or `Decay | None` carries, or None for other arguments."""
    if get_origin(annotation) is Annotated:
        return next((m for m in get_args(annotation)[1:] if isinstance(m, Range)), None)
    return next((kind for part in get_args(annotation) if (kind := kind_of(part))), None)


def numeric(x: Any) -> bool:
    """True for arrays and array scalars, concrete or traced."""
    return isinstance(x, (np.ndarray, np.generic, jax.Array, jax.ShapeDtypeStruct))


def plain(x: Any) -> Any:
    """Turn a concrete 0-d array into the Python number it holds; leave everything else as it is.

    A hyperparameter that is a Python number can be hashed, printed and kept in a framework's static fields.
    """
    concrete = numeric(x) and not isinstance(x, (jax.core.Tracer, jax.ShapeDtypeStruct))
    if concrete and x.ndim == 0 and (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        return x.item()
    return x


def check(owner: str, name: str, value: Any, kind: Range) -> Any:
    """Normalise one number that a user gave, and raise if it lies outside its range.

    Raises:
      TypeError: the argument is not a number, an array or a schedule.
      ValueError: it is a number outside the range of its kind.
    """
    value = plain(value)
    if isinstance(value, (int, float)):  # bool counts as the number it is, as in NumPy
        value = float(value)
        if not kind.contains(value):
            raise ValueError(f"{owner}: {name} must be {kind.words}, got {value!r}")
    elif isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
        bad = [x for x in np.asarray(value, float).flat if not kind.contains(x)]
        if bad:
            raise ValueError(f"{owner}: {name} must be {kind.words}, got {bad[0]!r} among its values")
    elif value is not None and not numeric(value) and not callable(value):
        raise TypeError(f"{owner}: {name} must be a number, an array or a schedule, got {value!r}")
    return value


def canonical(x: Any) -> Any:
    """Round a Python float to the precision that JAX would give it (float32 unless x64 is on).

    A constant and a traced hyperparameter then are the same number. `1 - 0.999` differs by 1.3e-5 between a
    Python float and a float32: left alone, a learning-rate sweep would not reproduce the single runs.
    """
    if isinstance(x, float):
        with np.errstate(over="ignore"):
            return float(np.asarray(x, jax.dtypes.canonicalize_dtype(float)))
    return x

"""The kinds of numbers that constructors take, and the ranges that a user's numbers must lie in.

A kind is written where the argument is declared, `b1: Decay = 0.9`, and is read once, by the decorator.
Any kind takes a float, an array or a schedule; only concrete numbers are checked, because inside `jit`, `vmap`
or `grad` a hyperparameter has no value yet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike

from gradtx.core.typing import ScalarOrSchedule

__all__ = [
    "Decay",
    "Dtype",
    "Duration",
    "Fraction",
    "Interval",
    "Kind",
    "NonNegative",
    "OpenDecay",
    "Period",
    "Positive",
    "Range",
    "Real",
    "Steps",
    "canonical",
    "checked",
    "kind_of",
    "number_of_steps",
    "numeric",
    "plain",
]


class Kind:
    """What an argument may be; written in an annotation. It checks a user's value and returns what to keep of it."""

    ordered = False  # for a dict: whether the order counts

    def check(self, owner: str, name: str, value: Any) -> Any:
        """What is kept of a value given as argument `name` of the constructor `owner`; raises if it is not allowed."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Range(Kind):
    """The numbers that an argument of this kind may be: a test, and its description in words."""

    label: str  # as a signature shows it
    contains: Callable[[float], bool]
    words: str
    steps: bool = False  # a number of steps: part of the structure, not a leaf

    def __repr__(self) -> str:
        return self.label

    def check(self, owner: str, name: str, value: Any) -> Any:
        """Normalise a user's value for one argument, and raise if it is not of this kind.

        Raises:
          TypeError: it is not a number, an array or a schedule.
          ValueError: it is a number outside the range.
        """
        value = plain(value)
        if self.steps:
            return number_of_steps(owner, name, value, self)
        if isinstance(value, (int, float)):  # a bool counts as a number, as in NumPy
            value = float(value)
            if not self.contains(value):
                raise ValueError(f"{owner}: {name} must be {self.words}, got {value!r}")
        elif isinstance(value, np.ndarray):
            bad = [x for x in np.asarray(value, float).flat if not self.contains(x)]
            if bad:
                raise ValueError(f"{owner}: {name} must be {self.words}, got {bad[0]!r} among its values")
        elif not numeric(value) and not callable(value):
            raise TypeError(f"{owner}: {name} must be a number, an array or a schedule, got {value!r}")
        return value


Real: TypeAlias = Annotated[ScalarOrSchedule, Range("Real", lambda x: not math.isnan(x), "a number")]
NonNegative: TypeAlias = Annotated[ScalarOrSchedule, Range("NonNegative", lambda x: x >= 0, "at least 0")]
Positive: TypeAlias = Annotated[ScalarOrSchedule, Range("Positive", lambda x: x > 0, "greater than 0")]
Decay: TypeAlias = Annotated[ScalarOrSchedule, Range("Decay", lambda x: 0 <= x < 1, "in [0, 1)")]
OpenDecay: TypeAlias = Annotated[ScalarOrSchedule, Range("OpenDecay", lambda x: 0 < x < 1, "in (0, 1)")]
Fraction: TypeAlias = Annotated[ScalarOrSchedule, Range("Fraction", lambda x: 0 <= x <= 1, "in [0, 1]")]
Steps: TypeAlias = Annotated[int, Range("Steps", lambda x: x >= 0 and x % 1 == 0, "an integer, at least 0", steps=True)]
Period: TypeAlias = Annotated[
    int, Range("Period", lambda x: x >= 1 and x % 1 == 0, "an integer, at least 1", steps=True)
]
# Durations of a schedule, where 0.05·total need not be whole.
Duration: TypeAlias = Annotated[
    float, Range("Duration", lambda x: 0 <= x < math.inf, "a number of steps, at least 0", steps=True)
]
Interval: TypeAlias = Annotated[
    float, Range("Interval", lambda x: 0 < x < math.inf, "a number of steps, above 0", steps=True)
]


class _DtypeKind(Kind):
    """The kind of an argument that is the dtype of an accumulator, however it is written; kept as a NumPy dtype."""

    def __repr__(self) -> str:
        return "Dtype"

    def check(self, owner: str, name: str, value: Any) -> np.dtype[Any]:
        """The dtype; raises a TypeError unless it is a floating-point or complex dtype."""
        try:
            dtype = None if value is None else jnp.dtype(value)
        except TypeError:
            dtype = None
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(f"{owner}: {name} must be a dtype of floats, such as 'float32', got {value!r}")
        return dtype


Dtype: TypeAlias = Annotated[DTypeLike, _DtypeKind()]


def kind_of(annotation: Any) -> Kind | None:
    """The kind that `Decay` or `Decay | None` carries; None for other annotations."""
    if get_origin(annotation) is Annotated:
        return next((m for m in get_args(annotation)[1:] if isinstance(m, Kind)), None)
    return next((kind for part in get_args(annotation) if (kind := kind_of(part))), None)


def checked(annotation: Any, owner: str, name: str, value: Any) -> Any:
    """What is kept of a value, by the kind that the annotation carries; for use outside a signature."""
    kind = kind_of(annotation)
    return kind.check(owner, name, value) if kind else value


def numeric(x: Any) -> bool:
    """True for arrays and array scalars, concrete or traced."""
    return isinstance(x, (np.ndarray, np.generic, jax.Array, jax.ShapeDtypeStruct))


def plain(x: Any) -> Any:
    """Turn a concrete 0-d array into the Python number it holds, and a JAX array of numbers into a NumPy array.

    A hyperparameter that is a Python number can be hashed, printed and kept in a framework's static fields. Arithmetic
    on NumPy arrays runs at once, even inside `jit`, so that what a formula computes from them can be kept.
    """
    concrete = numeric(x) and not isinstance(x, (Tracer, jax.ShapeDtypeStruct))
    if not concrete or not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        return x
    array: Any = x
    return array.item() if array.ndim == 0 else np.asarray(array)


_STEPS: Range = get_args(Steps)[1]


def number_of_steps(owner: str, name: str, value: Any, kind: Range = _STEPS) -> Any:
    """A number of steps, as an int if it is whole; raises a ValueError if it is not of the kind."""
    value = plain(value)
    if not isinstance(value, (int, float)) or not kind.contains(value):
        raise ValueError(f"{owner}: {name} must be {kind.words}, got {value!r}")
    return int(value) if value % 1 == 0 else value


def canonical(x: Any) -> Any:
    """Round a Python float (or an array of them) to the precision that JAX would give it (float32 unless x64 is on).

    A constant and a traced hyperparameter are then the same number. `1 - 0.999` differs by 1.3e-5 between a
    Python float and a float32: left alone, a learning-rate sweep would not reproduce its single runs.
    """
    if isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype == np.float64):
        with np.errstate(over="ignore"):
            rounded = np.asarray(x, jax.dtypes.canonicalize_dtype(float))
        return rounded if rounded.ndim else float(rounded)
    return x

"""Schedules: values that map a step count to a number.

Wherever a hyperparameter can be a float it can be a schedule. `@schedule` makes one from a constructor whose body
returns `count -> value`; arithmetic between schedules and numbers gives schedules, so a formula may write `1 - b1`
whether `b1` is a number or a schedule.
"""

import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import numeric
from gradtx.core.constructor import Constructor
from gradtx.core.typing import ScalarOrSchedule
from gradtx.core.value import Value, show

__all__ = ["Schedule", "arithmetic", "as_schedule", "schedule"]

P = ParamSpec("P")
Operand: TypeAlias = "float | jax.Array | np.ndarray[Any, Any] | np.number[Any] | Schedule"
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow}


class Schedule(Value):
    """A function of the step count, made by a constructor that `@schedule` decorates. Counts start at 0."""

    __slots__ = ()

    def __call__(self, count: Any) -> jax.Array:
        """The value at step `count` (a number or an array of any shape), inside or outside `jit`."""
        count, arguments = jnp.asarray(count), self._rounded
        kinds = self.constructor.kinds
        scheduled = {name: a(count) for name, a in arguments.items() if name in kinds and isinstance(a, Schedule)}
        if scheduled:  # an argument of a schedule may itself be a schedule
            return jnp.asarray(self._result(arguments | scheduled)(count))
        function = self._once("function", lambda: self._result(arguments))
        return jnp.asarray(function(count))

    def __add__(self, other: "Operand") -> "Schedule":
        return _combine(self, "+", other)

    def __radd__(self, other: "Operand") -> "Schedule":
        return _combine(other, "+", self)

    def __sub__(self, other: "Operand") -> "Schedule":
        return _combine(self, "-", other)

    def __rsub__(self, other: "Operand") -> "Schedule":
        return _combine(other, "-", self)

    def __mul__(self, other: "Operand") -> "Schedule":
        return _combine(self, "*", other)

    def __rmul__(self, other: "Operand") -> "Schedule":
        return _combine(other, "*", self)

    def __truediv__(self, other: "Operand") -> "Schedule":
        return _combine(self, "/", other)

    def __rtruediv__(self, other: "Operand") -> "Schedule":
        return _combine(other, "/", self)

    def __pow__(self, other: "Operand") -> "Schedule":
        return _combine(self, "**", other)

    def __neg__(self) -> "Schedule":
        return arithmetic(-1.0, "*", self)

    __array_ufunc__ = None  # with a NumPy number on the left, our operators are used

    def __repr__(self) -> str:
        if self.constructor is arithmetic:
            left, sign, right = self.arguments.values()
            return f"({show(left)} {sign} {show(right)})"
        if self.constructor is _function:
            return show(self.arguments["function"])
        return super().__repr__()


def schedule(body: Callable[P, ScalarOrSchedule]) -> Constructor[P, Schedule]:
    """Decorate a constructor whose body returns `count -> value`; calling it then gives a `Schedule`.

    `count` reaches the function as an array. Written with `jnp`, without branching on `count`, the function works for
    one count and for an array of counts (for a plot), in and out of `jit`.

    >>> import jax.numpy as jnp, gradtx
    >>> @gradtx.schedule
    ... def halving(init_value: float, every: int):
    ...     return lambda count: init_value * 0.5 ** (count // every)
    >>> halving(1.0, every=10)
    halving(init_value=1.0, every=10)
    >>> float(halving(1.0, every=10)(25))
    0.25
    """
    return Constructor(Schedule, body, lambda function: as_schedule(function))


def _combine(left: Any, sign: str, right: Any) -> Schedule:
    for operand in (left, right):
        if isinstance(operand, jax.Array) and operand.ndim:  # arrays given as hyperparameters are NumPy arrays by now
            raise TypeError(
                "a schedule combines with numbers and schedules, not with an array. Where this is a transformation's "
                "hyperparameter, use it in init and update only, not in what the constructor does before"
            )
        if not isinstance(operand, (int, float, Schedule)) and not numeric(operand):
            raise TypeError(f"a schedule combines with numbers and schedules, not with {operand!r}")
    return arithmetic(left, sign, right)


@schedule
def arithmetic(left: Any, sign: str, right: Any) -> Callable[[jax.Array], Any]:
    """The function of the count that `left + right`, `-`, `*`, `/` or `**` of schedules and numbers stands for."""

    def at(x: Any, count: jax.Array) -> Any:
        return x(count) if isinstance(x, Schedule) else x

    return lambda count: _OPERATORS[sign](at(left, count), at(right, count))


@schedule
def _function(function: Any) -> Callable[[jax.Array], Any]:
    return function


def as_schedule(function: Callable[[jax.Array], Any]) -> Schedule:
    """A schedule from any function of the count; a schedule is returned as it is."""
    return function if isinstance(function, Schedule) else _function(function)

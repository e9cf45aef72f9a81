"""What is cheap to compute is computed again for a norm, instead of being written to memory to be read by it.

The norm of a direction must be known before the direction can be used. XLA would keep the direction of every leaf in
memory meanwhile, which takes as much of it as the parameters do, and more time than the arithmetic: to write it, to
read it, and to get the memory. What came from the new state and the parameters by a few elementwise operations is
therefore computed twice, once for the sum of its squares and once for the step.
"""

import contextlib
import contextvars
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

__all__ = [
    "SMALL",
    "anew",
    "apart",
    "cheap",
    "evaluate",
    "forgetting",
    "is_worthwhile",
    "read",
    "remember",
    "remembering",
]

SMALL = 2**14  # elements; a smaller array is in the cache anyway

Tree = Any
Variable = Any  # of a jaxpr
Values = dict[Variable, Any]


class Origin(NamedTuple):
    """How an array was computed."""

    array: Any  # a weak reference: arrays of an inner trace must not outlive it
    variable: Variable
    equations: list[Any]
    given: Values


_origins: contextvars.ContextVar[dict[int, Origin] | None]  # by id(array)
_origins = contextvars.ContextVar("gradtx_origins", default=None)


@contextlib.contextmanager
def remembering(wanted: bool = True) -> Iterator[None]:
    """Within it, if wanted, `remember` does so; else as outside of it."""
    origins = _origins.get()
    token = _origins.set({} if wanted and origins is None else origins)
    try:
        yield
    finally:
        _origins.reset(token)


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Within it, `remember` does nothing."""
    token = _origins.set(None)
    try:
        yield
    finally:
        _origins.reset(token)


def is_worthwhile(x: Any) -> bool:
    """Whether to `remember` where this array comes from."""
    return _origins.get() is not None and isinstance(x, jax.core.Tracer) and np.size(x) > SMALL


def remember(x: Any, variable: Variable, equations: list[Any], known: Values) -> None:
    """Remember that x is what the variable is after these elementwise equations, and which arrays are in memory anyway.

    Args:
      x: the array.
      variable: of a jaxpr.
      equations: of the jaxpr.
      known: inputs of the equations, and those of their results that are kept (the new state).
    """
    origins = _origins.get()
    if origins is None or any(x is y for y in known.values()):  # it is in memory itself
        return
    needed, wanted = [], {variable}
    for equation in reversed(equations):
        if any(y in wanted and y not in known for y in equation.outvars):
            needed.append(equation)
            wanted |= {y for y in equation.invars if not isinstance(y, Literal)}
    place, given = id(x), {y: known[y] for y in known if y in wanted}
    forget = weakref.ref(x, lambda _: origins.pop(place, None))
    origins[place] = Origin(forget, variable, needed[::-1], given)


def apart(x: Tree) -> Tree:
    """x, but to XLA something else: what two readers compute of it is then not written to memory for both."""
    return jax.lax.optimization_barrier(x)


def anew(x: Any) -> Any:
    """x computed again, so that XLA does not take it for the same; x itself where its origin is not known."""
    origins = _origins.get() or {}
    if id(x) not in origins:
        return x
    steps = _behind(id(x), origins, {})
    kept = {id(a): a for step in steps.values() for a in step.given.values() if id(a) not in steps}
    # The numbers go with the arrays: XLA:CPU adds up on the way what it computes only if nothing else reads any operand
    # of it, not even the 0.9 that it has spread over the shape of the leaf.
    literals = [y for step in steps.values() for equation in step.equations for y in equation.invars]
    arrays, numbers = apart((list(kept.values()), [y.val for y in literals if isinstance(y, Literal)]))
    made, numbers = dict(zip(kept, arrays, strict=True)), iter(numbers)
    for place, step in steps.items():
        values = {variable: made[id(a)] for variable, a in step.given.items()}
        evaluate(step.equations, values, numbers)
        made[place] = values[step.variable]
    return made[id(x)]


def _behind(place: int, origins: dict[int, Origin], found: dict[int, Origin]) -> dict[int, Origin]:
    """The origins that this one builds upon, in order, and itself."""
    for a in origins[place].given.values():
        if id(a) in origins and id(a) not in found:
            _behind(id(a), origins, found)
    found[place] = origins[place]
    return found


def cheap(f: Callable[..., jax.Array], *args: jax.Array) -> jax.Array:
    """f(*args), by elementwise operations; remembered."""
    if not any(map(is_worthwhile, args)):
        return f(*args)
    closed = jax.make_jaxpr(f)(*args)
    (variable,), equations = closed.jaxpr.outvars, closed.jaxpr.eqns
    given = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *args], strict=True))
    values = dict(given)
    evaluate(equations, values)
    x = values[variable]
    if is_worthwhile(x):
        remember(x, variable, equations, given)
    return x


def evaluate(equations: Iterable[Any], values: Values, numbers: Iterator[Any] | None = None) -> None:
    """Add to the values what these equations of a jaxpr compute, in their order.

    Args:
      equations: of a jaxpr, in their order.
      values: has those of the variables that they read.
      numbers: what to take for the numbers that stand in the equations; by default themselves.
    """
    for equation in equations:
        bound = equation.primitive.get_bind_params(equation.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)  # older JAX has both
        inputs = [next(numbers) if numbers and isinstance(x, Literal) else read(x, values) for x in equation.invars]
        results = equation.primitive.bind(*functions, *inputs, **params)
        values.update(zip(equation.outvars, results if equation.primitive.multiple_results else [results], strict=True))


def read(x: Any, values: Values) -> Any:
    """The value of a variable or a number of a jaxpr."""
    return x.val if isinstance(x, Literal) else values[x]

"""The loss as a line search sees it: along a direction, compiled once, its last value and gradient kept for later.

For complex parameters, the inputs `updates` and `grad` are conjugated, as everywhere here, so that gradients point
uphill. Gradients that a search computes, stores and returns are not conjugated: they are as `jax.grad` returns them.
"""

import dataclasses
import inspect
import itertools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.transformation import WELL_KNOWN
from gradtx.core.tree import LeafError, as_float32, cast_like, check_match, map_leaves, map_with_path, zeros_like
from gradtx.state.paths import find
from gradtx.updating import apply_updates

__all__ = [
    "Line",
    "call_compiled",
    "dot",
    "for_value_fn",
    "scalar_dtype",
    "scaled",
    "slope",
    "value_and_grad_from_state",
]

Tree = Any


# Arguments of the loss


def for_value_fn(
    owner: str, value_fn: Callable[..., Any], params: Tree, grad: Tree, extra_args: dict[str, Any]
) -> dict[str, Any]:
    """The extra arguments that the loss takes.

    Raises:
      LeafError: a parameter with a gradient is hidden from the search, as by `masked`, but the loss needs all of them.
      TypeError: there are other arguments; the message lists those that the loss takes.
    """

    def check(path: str, g: Any, p: Any) -> None:
        if p is None and g is not None:
            raise LeafError(
                f"leaf '{path}' is hidden from the line search, but the loss needs all parameters: put the search "
                f"after what hides it, chain(masked(…), {owner}(…))"
            )

    check_match(grad, params)
    map_with_path(check, grad, params)
    if not extra_args:
        return {}
    parameters = inspect.signature(value_fn).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return extra_args
    unknown = sorted(extra_args.keys() - parameters.keys() - WELL_KNOWN)
    if unknown:
        raise TypeError(f"{owner}: value_fn takes no argument {unknown[0]!r}; it takes {', '.join(parameters)}")
    return {name: x for name, x in extra_args.items() if name in parameters}


# Along a direction


class Line(NamedTuple):
    """The loss along θ + t·u, from the parameters in a direction. Values have `scalar_dtype`, gradients the dtype of
    accumulators."""

    value_fn: Callable[..., Any]
    params: Tree
    updates: Tree

    def at(self, stepsize: jax.Array) -> tuple[jax.Array, Callable[[], Tree]]:
        """The value at t, and a function that returns the gradient there."""
        params = apply_updates(self.params, map_leaves(lambda u: stepsize * u, self.updates))
        dtype = scalar_dtype(self.params)
        value, gradient_of = jax.vjp(lambda params: _as_number(self.value_fn(params), dtype), params)

        def gradient() -> Tree:
            (grad,) = gradient_of(jnp.ones((), dtype))
            return cast_like(map_leaves(lambda g: g, grad), zeros_like(self.params))

        return value, gradient


def _as_number(value: Any, dtype: Any) -> jax.Array:
    if np.shape(value) or jnp.iscomplexobj(value):
        raise TypeError(f"value_fn must return one real number, got {jax.typeof(value)}")
    return jnp.asarray(value, dtype)


def slope(grad: Tree, updates: Tree) -> jax.Array:
    """The derivative of the loss along the updates; `grad` is as `jax.grad` returns it."""
    return dot(map_leaves(jnp.conj, grad), updates)


def scaled(stepsize: jax.Array, updates: Tree) -> Tree:
    """t·u; exactly zero if t is zero, whatever u is."""
    return map_leaves(lambda u: jnp.where(stepsize == 0, 0, stepsize * u), updates)


def dot(a: Tree, b: Tree) -> jax.Array:
    """Σ Re(ā·b) over all leaves that both have, in float32 or wider."""
    pairs = map_leaves(lambda x, y: x, a, b), map_leaves(lambda x, y: y, a, b)
    products = [_dot(x, y) for x, y in zip(*map(jax.tree.leaves, pairs), strict=True)]
    return sum(products, start=jnp.zeros((), scalar_dtype(products)))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """The same for two leaves, as one operation: a product followed by a sum takes longer to compile."""
    if jnp.iscomplexobj(a) or jnp.iscomplexobj(b):
        return _dot(jnp.real(a), jnp.real(b)) + _dot(jnp.imag(a), jnp.imag(b))
    axes = tuple(range(a.ndim))
    return jax.lax.dot_general(a, b, ((axes, axes), ((), ())), precision=jax.lax.Precision.HIGHEST)


def scalar_dtype(params: Tree) -> Any:
    """The dtype of a sum over these leaves: float32, or float64 if one of them has it."""
    dtypes = [jnp.finfo(as_float32(jnp.zeros((), jnp.result_type(p))).dtype).dtype for p in jax.tree.leaves(params)]
    return jnp.result_type(jnp.float32, *dtypes)


# Compiled once


def call_compiled(function: Callable[..., Any], value_fn: Callable[..., Any], data: Any, *args: Any) -> Any:
    """Call `function(value_fn, data, *args)`, traced and compiled once per loss, inside or outside `jit`.

    Like a function given to `jax.jit`, `value_fn` must be pure. If a variable that it refers to has been rebound, such
    as `batch` in `lambda params: loss(params, batch)`, it counts as a different function.

    Args:
      function: what to compile; its other arguments are pytrees of arrays.
      value_fn: the loss.
      data: a pytree; its arrays and floats are traced, anything else is static.
    """
    structure: Any
    leaves, structure = jax.tree.flatten(data)
    traced = [x if _is_array(x) else None for x in leaves]
    fixed = tuple(None if _is_array(x) else x for x in leaves)
    try:
        known = _compiled.setdefault(value_fn, _Compiled())
    except TypeError:  # not hashable, or without weak references
        return function(value_fn, data, *args)
    if any(x is not y for x, y in itertools.zip_longest(_surroundings(value_fn), known.surroundings)):
        known.calls.clear()
    if function not in known.calls:
        # A strong reference would keep the function alive as long as its compiled code.
        weak = weakref.ref(value_fn)

        def call(fixed: Any, structure: Any, traced: Any, *args: Any) -> Any:
            leaves = [x if y is None else y for x, y in zip(traced, fixed, strict=True)]
            return function(weak(), structure.unflatten(leaves), *args)

        known.calls[function] = jax.jit(call, static_argnums=(0, 1))
    args = cast_like(args, args)  # without weak types, as in every later step
    result = known.calls[function](fixed, structure, traced, *args)
    known.surroundings = _surroundings(value_fn)  # as the trace left them: a function may count its own traces
    return result


@dataclasses.dataclass
class _Compiled:
    """What has been compiled for a loss, and the values that the variables in it had then."""

    calls: dict[Any, Any] = dataclasses.field(default_factory=dict)
    surroundings: tuple[Any, ...] = ()


# loss -> what has been compiled for it, for as long as the loss lives
_compiled: weakref.WeakKeyDictionary[Any, _Compiled] = weakref.WeakKeyDictionary()


def _surroundings(function: Any) -> tuple[Any, ...]:
    """The values of a function's non-local and global variables; () for a callable that is not a Python function."""
    if not inspect.isfunction(function):
        return ()
    try:
        found = inspect.getclosurevars(function)
    except ValueError:  # a variable without a value so far
        return ()
    return (*found.nonlocals.values(), *found.globals.values())


def _is_array(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic, float, complex))


# The result of a search


def value_and_grad_from_state(value_fn: Callable[..., Any]) -> Callable[..., tuple[jax.Array, Tree]]:
    """Like `jax.value_and_grad(value_fn)`, but reuses the value and gradient that a line search has left in its state.

    A search ends with the value and the gradient at the new parameters. They are computed only where the state has
    none: before the first step, and where the value is not finite. Nothing checks that the parameters passed in are
    those that the last step led to.

    Args:
      value_fn: `value_fn(params, *args, **kwargs)`, one real number.

    Returns:
      `f(params, *args, state=…, **kwargs)`, which returns the value and the gradient; `state` is that of a composition,
      or any pytree, with exactly one search in it. Both are in float32 or wider. As from `jax.value_and_grad`, the
      gradient for complex parameters has to be conjugated before it goes to `update`.

    Raises:
      ValueError: the state has no search, several, or one that does not keep its gradient.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, fn = gradtx.lbfgs(), lambda x: jnp.sum((x - 1) ** 2)
    >>> value_and_grad = gradtx.value_and_grad_from_state(fn)
    >>> x = jnp.array([3.0, -1.0])
    >>> state = tx.init(x)
    >>> for _ in range(2):
    ...     value, grad = value_and_grad(x, state=state)
    ...     updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=fn)
    ...     x = gradtx.apply_updates(x, updates)
    >>> x.round(3).tolist()
    [1.0, 1.0]
    """

    def value_and_grad(params: Tree, *args: Any, state: Tree, **kwargs: Any) -> tuple[jax.Array, Tree]:
        found = _the_search(state)
        return call_compiled(_recall, value_fn, (args, kwargs), params, *found)

    return value_and_grad


def _recall(value_fn: Callable[..., Any], data: Any, params: Tree, value: jax.Array, grad: Tree) -> Any:
    args, kwargs = data
    structure: Any = jax.tree.structure(params)
    grad = structure.unflatten(jax.tree.leaves(grad))
    zero = map_leaves(jnp.zeros_like, params)

    def compute() -> tuple[jax.Array, Tree]:
        new, gradient = Line(lambda p: value_fn(p, *args, **kwargs), params, zero).at(jnp.zeros((), value.dtype))
        return new.astype(value.dtype), cast_like(gradient(), grad)

    return jax.lax.cond(jnp.isfinite(value), lambda: (value, grad), compute)


def _the_search(state: Tree) -> tuple[jax.Array, Tree]:
    """The value and the gradient stored in the state."""
    found = list(find(state, _is_search))
    if len(found) != 1:
        there = f"several: {', '.join('/'.join(path) for path, _ in found)}" if found else "none"
        raise ValueError(f"value_and_grad_from_state: the state should have one line search in it, there are {there}")
    (path, node) = found[0]
    if node.grad is None:
        raise ValueError(f"value_and_grad_from_state: {'/'.join(path)} keeps no gradient; make it with store_grad=True")
    (value,) = jax.tree.leaves(node.value)  # nnx.Optimizer wraps every array
    return value, node.grad


def _is_search(x: Any) -> bool:
    return {"value", "grad", "learning_rate"} <= set(getattr(x, "_fields", ()))

"""A compiled loop of many steps, with its history."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.numerics import global_norm
from gradtx.core.typing import InitAndUpdate
from gradtx.training.step import Tree, as_arguments, as_arrays, as_transformation, loss_and_gradient
from gradtx.updating import apply_updates

__all__ = ["History", "Minimum", "minimize"]


class History(NamedTuple):
    """The course of `minimize`. Entry k belongs to the iterate after k steps, entry 0 to `x0`; NaN after a stop."""

    value: jax.Array
    gradient_norm: jax.Array
    params: Tree  # the iterates, stacked along a new first axis; None unless asked for


class Minimum(NamedTuple):
    """Where `minimize` ended."""

    params: Tree
    value: jax.Array  # fn(params)
    gradient_norm: jax.Array  # over all leaves, at params
    steps: jax.Array  # int32, steps taken
    converged: jax.Array  # bool, the gradient norm is within the tolerance; False without a tolerance
    history: History


def minimize(
    fn: Callable[..., Any],
    x0: Tree,
    tx: InitAndUpdate,
    steps: int,
    *,
    args: tuple[Any, ...] = (),
    batches: Any = (),
    tolerance: Any = None,
    record_params: bool = False,
) -> Minimum:
    """Minimise a function, optionally over batches of data; the whole loop is compiled, once per `fn` and structure.

    A new learning rate, start or data in `args` does not recompile. Runs under `jax.vmap` over `x0` and over `tx` (a
    sweep), and without a tolerance under `jax.grad` with respect to `tx`, `x0` and `args`.

    Args:
      fn: `fn(x, *args, *batch) -> value`, one real number. Compiled code is kept for each function: define it once.
      x0: any pytree of floats or complex numbers, Python floats included.
      tx: the optimizer; any transformation.
      steps: how many steps to take (at most, with a tolerance).
      args: further arguments of `fn`, such as data.
      batches: batches of equal shapes, stacked: arrays with a new first axis, of the same length n. A tuple or a list
        gives several arguments, anything else one. Iterate k sees batch k mod n: `steps` may go through them several
        times. To save memory, stack indices and let `fn` take the examples from `args`.
      tolerance: stop at the first iterate whose gradient norm (over all leaves) is at most this; None takes all the
        steps. With a tolerance the loop has no fixed length, and JAX refuses `jax.grad` through it.
      record_params: keep the iterates in the history.

    Returns:
      A `Minimum`: the last iterate, its value (on its batch), and the history, whose entries after the stop are NaN.

    Raises:
      LeafError: a leaf of `x0` is not a float, a complex number or None; the message names it.
      TypeError: `fn` does not return one real number.
      ValueError: fewer than 0 steps; batches whose lengths differ.

    >>> import gradtx
    >>> from gradtx.training import minimize
    >>> found = minimize(lambda x: (x - 3.0) ** 2, 0.0, gradtx.sgd(0.25), steps=50, tolerance=1e-3)
    >>> found.steps.item(), found.converged.item(), round(found.params.item(), 2)
    (13, True, 3.0)
    >>> found.history.value[:4].tolist()
    [9.0, 2.25, 0.5625, 0.140625]

    >>> import jax.numpy as jnp
    >>> x = jnp.arange(12.0).reshape(4, 3) / 10  # 4 batches of 3 examples
    >>> found = minimize(lambda w, x, y: jnp.mean((w * x - y) ** 2), 0.0, gradtx.sgd(0.5), 40, batches=(x, 2 * x))
    >>> round(found.params.item(), 3)
    2.0
    """
    steps = operator.index(steps)
    if steps < 0:
        raise ValueError(f"minimize: steps must be at least 0, got {steps}")
    tx, x0 = as_transformation("minimize", tx), as_arrays("minimize", x0)
    return _minimize(fn, x0, tx, steps, args, as_arguments(batches), tolerance, record_params)


class _Point(NamedTuple):
    params: Tree
    state: Tree
    value: jax.Array
    grad: Tree
    gradient_norm: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 3, 7))
def _minimize(
    fn: Any, x0: Tree, tx: Any, steps: int, args: Any, batches: Any, tolerance: Any, record_params: bool
) -> Minimum:
    # Traced once, for x0 and for the loop.
    evaluate = jax.jit(lambda params, batch: loss_and_gradient("minimize", fn, params, (*args, *batch)))
    limit = -jnp.inf if tolerance is None else tolerance
    length = number_of_batches("minimize", batches)

    def batch_of(count: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, count % length, keepdims=False), batches)

    def point_at(count: Any, params: Tree, state: Tree) -> _Point:
        value, _, grad = evaluate(params, batch_of(count))
        return _Point(params, state, value, grad, global_norm(grad))

    def entry(p: _Point) -> History:
        return History(p.value, p.gradient_norm, p.params if record_params else None)

    def written(history: History, count: Any, p: _Point) -> History:
        return jax.tree.map(lambda xs, x: xs.at[count].set(x), history, entry(p))

    def unfinished(carry: tuple[Any, _Point, History]) -> jax.Array:
        count, p, _ = carry
        return (count < steps) & ~(p.gradient_norm <= limit)  # a NaN norm is not within the tolerance

    def advance(carry: tuple[Any, _Point, History]) -> tuple[Any, _Point, History]:
        count, p, history = carry
        batch = batch_of(count)
        extra_args = {"value": p.value, "grad": p.grad, "value_fn": lambda params: fn(params, *args, *batch)}
        updates, state = tx.update(p.grad, p.state, p.params, **extra_args)
        p = point_at(count + 1, apply_updates(p.params, updates), state)
        return count + 1, p, written(history, count + 1, p)

    first = point_at(0, x0, tx.init(x0))
    blank = jax.tree.map(lambda x: jnp.full((steps + 1, *x.shape), jnp.nan, x.dtype), entry(first))
    start = jnp.zeros((), jnp.int32), first, written(blank, 0, first)
    if tolerance is None:  # of fixed length, for jax.grad
        count, last, history = jax.lax.fori_loop(0, steps, lambda _, carry: advance(carry), start)
    else:
        count, last, history = jax.lax.while_loop(unfinished, advance, start)
    return Minimum(last.params, last.value, last.gradient_norm, count, last.gradient_norm <= limit, history)


def number_of_batches(owner: str, batches: Any) -> int:
    """The number of stacked batches; 1 if there are none."""
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(batches)} or {(1,)}
    if len(lengths) > 1 or not all(map(all, lengths)) or () in lengths:
        shapes = jax.tree.map(np.shape, batches)
        raise ValueError(f"{owner}: batches are stacked along a first axis of one length, not 0; got shapes {shapes}")
    return int(lengths.pop()[0])

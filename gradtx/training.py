"""Training loops: one compiled step, a compiled loop of many, and when to stop.

    make_step        a jitted, donating training step; the optimizer goes through it as a pytree
    minimize         the whole loop compiled, with its history
    EarlyStopping    watches a validation loss and keeps the best parameters

The first two take any transformation, Optax's included, and offer it the loss (`value`), its gradient (`grad`) and the
loss as a function of the parameters (`value_fn`). Gradients for complex parameters are conjugated: of a real loss,
`jax.grad` returns the conjugate of the direction of steepest ascent, and a step along that would not descend.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import is_transformation
from gradtx.core.numerics import global_norm
from gradtx.core.transformation import GradientTransformation
from gradtx.core.tree import LeafError, check_arrays, map_with_path
from gradtx.updating import apply_updates

__all__ = ["EarlyStopping", "EarlyStoppingState", "History", "Minimum", "Step", "make_step", "minimize"]

Tree = Any


# One step


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A compiled training step, made by `make_step`: `params, state, loss = step(params, state, *batch)`."""

    tx: GradientTransformation
    _numbers: Any = dataclasses.field(repr=False)  # the leaves of tx
    _compiled: Any = dataclasses.field(repr=False)  # the step for its structure
    _compile: Any = dataclasses.field(repr=False)  # structure -> step; shared by what `replace` and `with_tx` make

    def __call__(self, params: Tree, state: Tree, *batch: Any, **extra_args: Any) -> tuple[Tree, Tree, Any]:
        """Take one step.

        Args:
          params: the parameters; floats or complex numbers, None leaves are left alone.
          state: from `init` or the previous step.
          *batch: what `loss_fn` takes after the parameters.
          **extra_args: for the transformation, e.g. `key`; `value`, `grad` and `value_fn` are given already.

        Returns:
          The new parameters, the new state, and the loss at the *old* parameters; `(loss, aux)` with `has_aux`.

        Raises:
          LeafError: a parameter that is no float, complex number or None.
          TypeError: `loss_fn` does not return one real number.
        """
        return self._compiled(self._numbers, _as_arrays("make_step", params), state, batch, extra_args)

    def init(self, params: Tree) -> Tree:
        """The optimizer's state to start from: `tx.init(params)`."""
        return self.tx.init(_as_arrays("make_step", params))

    def lower(self, params: Tree, state: Tree, *batch: Any, **extra_args: Any) -> jax.stages.Lowered:
        """The step lowered for these arguments (arrays, or their shapes), as `jax.jit(…).lower` has it."""
        return self._compiled.lower(self._numbers, params, state, batch, extra_args)

    def replace(self, **hyperparameters: Any) -> "Step":
        """The same step with other hyperparameters, `tx.replace(…)`. Other numbers do not compile anew."""
        return self.with_tx(self.tx.replace(**hyperparameters))

    def with_tx(self, tx: Any) -> "Step":
        """The same step with another optimizer. One with the same structure and other numbers does not compile anew."""
        return _step(tx, self._compile)


def make_step(loss_fn: Callable[..., Any], tx: Any, *, has_aux: bool = False, donate: bool = True) -> Step:
    """A compiled training step: loss, gradient, `tx.update` and `apply_updates` in one call.

    The optimizer's numbers are arguments of the compiled function: `step.replace(learning_rate=…)` runs without
    compiling. (Integers, strings and functions are structure; so is the whole of an Optax transformation.)

    Args:
      loss_fn: `loss_fn(params, *batch) -> loss`, one real number of any float dtype.
      tx: the optimizer; any transformation.
      has_aux: `loss_fn` returns `(loss, aux)`; the step then returns `(params, state, (loss, aux))`.
      donate: reuse the memory of `params` and `state`. The arrays passed in are gone then: copy those that are needed
        again, `jax.tree.map(jnp.copy, params)`.

    >>> import gradtx, jax.numpy as jnp
    >>> from gradtx.training import make_step
    >>> step = make_step(lambda w, x, y: jnp.mean((x @ w - y) ** 2), gradtx.adam(0.1))
    >>> x, y, w = jnp.eye(2), jnp.array([1.0, -1.0]), jnp.zeros(2)
    >>> state = step.init(w)
    >>> for _ in range(100):
    ...     w, state, loss = step(w, state, x, y)
    >>> bool(loss < 1e-3)
    True
    >>> step.replace(learning_rate=0.01)  # shares the compiled function
    Step(tx=adam(learning_rate=0.01))
    """

    @functools.cache
    def compile_for(structure: Any) -> Any:
        def step(numbers: Any, params: Tree, state: Tree, batch: Any, extra_args: Any) -> Any:
            tx = structure.unflatten(numbers)
            value, aux, grads = _evaluate("make_step", loss_fn, params, batch, has_aux)

            def value_fn(params: Tree) -> Any:
                return loss_fn(params, *batch)[0] if has_aux else loss_fn(params, *batch)

            updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=value_fn, **extra_args)
            return apply_updates(params, updates), state, (value, aux) if has_aux else value

        # keep_unused: a buffer that the step does not read (the last learning rate) is still one to write to.
        return jax.jit(step, donate_argnums=(1, 2) if donate else (), keep_unused=True)

    return _step(tx, compile_for)


def _step(tx: Any, compile_for: Any) -> Step:
    tx = _as_transformation("make_step", tx)
    numbers, structure = jax.tree.flatten(tx)
    return Step(tx, [jnp.asarray(x) for x in numbers], compile_for(structure), compile_for)


# Many steps


class History(NamedTuple):
    """What `minimize` went through. Entry k belongs to the iterate after k steps, entry 0 to `x0`; NaN after a stop."""

    value: jax.Array
    gradient_norm: jax.Array
    params: Tree  # the iterates, stacked along a new first axis; None unless asked for


class Minimum(NamedTuple):
    """Where `minimize` ended."""

    params: Tree
    value: jax.Array  # fn(params)
    gradient_norm: jax.Array  # over all leaves, at params
    steps: jax.Array  # int32, steps taken
    converged: jax.Array  # bool, the gradient norm is within the tolerance; False if there is none
    history: History


def minimize(
    fn: Callable[..., Any],
    x0: Tree,
    tx: Any,
    steps: int,
    *,
    args: tuple[Any, ...] = (),
    batches: Any = (),
    tolerance: Any = None,
    record_params: bool = False,
) -> Minimum:
    """Minimise a function, also from batches of data; the whole loop is compiled, once per `fn` and structure.

    Another learning rate, start or data in `args` does not compile anew. Runs under `jax.vmap` over `x0` and over
    `tx` (a sweep), and without a tolerance under `jax.grad` with respect to `tx`, `x0` and `args`.

    Args:
      fn: `fn(x, *args, *batch) -> value`, one real number. Compiled code is kept for each function: define it once.
      x0: any pytree of floats or complex numbers; Python floats too.
      tx: the optimizer; any transformation.
      steps: how many steps to take (at most, with a tolerance).
      args: further arguments of `fn`, such as data.
      batches: batches of equal shapes, stacked: arrays with a new first axis, all of one length n. A tuple or a list
        gives several arguments, anything else one. Iterate k sees batch k mod n: `steps` may go through them often. To
        spare memory, stack indices and let `fn` take the examples from `args`.
      tolerance: stop at the first iterate whose gradient has a norm (over all leaves) of at most this; None takes all
        the steps. The loop then has no fixed length, and JAX refuses `jax.grad` through it.
      record_params: keep the iterates in the history.

    Returns:
      A `Minimum`: the last iterate, its value (on its batch), and the history, whose entries after the stop are NaN.

    Raises:
      LeafError: a leaf of `x0` that is no float, complex number or None; names it.
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
    tx, x0 = _as_transformation("minimize", tx), _as_arrays("minimize", x0)
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
    evaluate = jax.jit(lambda params, batch: _evaluate("minimize", fn, params, (*args, *batch)))
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


# When to stop


class EarlyStoppingState(NamedTuple):
    """What `EarlyStopping` remembers: plain arrays, to be carried through `jit`, `scan` and checkpoints."""

    best_value: jax.Array  # infinite before the first
    best_params: Tree  # the parameters of the best value
    bad_count: jax.Array  # int32, values since the best one
    should_stop: jax.Array  # bool; once true, the state does not change any more


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a validation loss has not improved for some time, and keep the best parameters.

    Args:
      patience: values without improvement before `should_stop`, at least 1.
      min_delta: an improvement is smaller than the best value by more than this. NaN never is one.

    For a score that should rise, pass the negative. Works in and out of `jit`; in a loop that cannot break (`scan`),
    the state stays as it was at the stop.

    >>> import jax.numpy as jnp
    >>> from gradtx.training import EarlyStopping
    >>> stopper = EarlyStopping(patience=2)
    >>> state = stopper.init(params=jnp.zeros(()))
    >>> for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5, 0.1]):
    ...     state = stopper.update(state, loss, params=jnp.array(10.0 * epoch))
    ...     if state.should_stop:
    ...         break
    >>> epoch, state.best_value.item(), state.best_params.item()
    (3, 1.0, 10.0)
    """

    patience: int = 10
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or not self.min_delta >= 0:
            raise ValueError(f"EarlyStopping: patience must be at least 1 and min_delta at least 0, got {self}")

    def init(self, params: Tree) -> EarlyStoppingState:
        """The state before the first value. The parameters are copied: a donating step may take them."""
        best = jnp.full((), jnp.inf, float)
        return EarlyStoppingState(best, jax.tree.map(jnp.array, params), jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def update(self, state: EarlyStoppingState, value: Any, params: Tree) -> EarlyStoppingState:
        """Take note of a value, and of the parameters that it belongs to.

        Raises:
          ValueError: the value is not one number.
        """
        value = jnp.asarray(value, state.best_value.dtype)
        if value.shape:
            raise ValueError(f"EarlyStopping: value must be one number, got an array of shape {value.shape}")
        improved = (value < state.best_value - self.min_delta) & ~state.should_stop
        bad_count = jnp.where(improved, 0, state.bad_count + ~state.should_stop)
        return EarlyStoppingState(
            best_value=jnp.where(improved, value, state.best_value),
            best_params=jax.tree.map(
                lambda new, best: jnp.where(improved, new, best).astype(best.dtype), params, state.best_params
            ),
            bad_count=bad_count,
            should_stop=bad_count >= self.patience,
        )


# What they share


def _as_transformation(owner: str, tx: Any) -> GradientTransformation:
    """The transformation; another library's pair becomes a value whose two functions are structure."""
    if isinstance(tx, GradientTransformation):
        return tx
    if isinstance(tx, type) or not is_transformation(tx):
        raise TypeError(f"{owner}: {tx!r} is not a transformation; it has no init and update")
    return GradientTransformation(tx.init, tx.update)


def _as_arrays(owner: str, params: Tree) -> Tree:
    """Parameters as arrays of definite dtype: those of the second step then look like those of the first."""
    if all(isinstance(x, jax.Array) and not getattr(x, "weak_type", False) for x in jax.tree.leaves(params)):
        return params
    try:
        check_arrays(params)
    except LeafError as error:
        error.owner = owner
        raise
    return jax.tree.map(lambda x: jnp.array(x, jnp.result_type(x)), params)


def as_arguments(batch: Any) -> tuple[Any, ...]:
    """A batch as arguments: a plain tuple or list is several, anything else one."""
    return tuple(batch) if type(batch) in (tuple, list) else (batch,)


def number_of_batches(owner: str, batches: Any) -> int:
    """How many batches are stacked; 1 where there is nothing."""
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(batches)} or {(1,)}
    if len(lengths) > 1 or not all(map(all, lengths)) or () in lengths:
        shapes = jax.tree.map(np.shape, batches)
        raise ValueError(f"{owner}: batches are stacked along a first axis of one length, not 0; got shapes {shapes}")
    return int(lengths.pop()[0])


def _evaluate(
    owner: str, fn: Callable[..., Any], params: Tree, args: Any, has_aux: bool = False
) -> tuple[jax.Array, Any, Tree]:
    """The value, the auxiliary output and the gradient, which points uphill for complex parameters too."""

    def check(path: str, leaf: Any) -> None:
        if leaf is not None and not jnp.issubdtype(leaf.dtype, jnp.inexact):
            error = LeafError(f"leaf '{path}' is {leaf.dtype}, which has no gradient; make it a float, or None")
            error.owner = owner
            raise error

    def checked(params: Tree) -> tuple[jax.Array, Any]:
        result = fn(params, *args)
        pair = isinstance(result, tuple) and len(result) == 2
        value, aux = result if has_aux and pair else (result, None)
        real = isinstance(value, float) or (hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating))
        if not real or np.shape(value) or (has_aux and not pair):
            expected = "(loss, aux), loss one real number" if has_aux else "one real number"
            got = jax.typeof(value) if hasattr(value, "dtype") else f"a {type(value).__name__}"
            hint = "; take its mean or sum" if real and np.shape(value) else ""
            hint = "; for (loss, aux) pass has_aux=True" if pair and owner == "make_step" and not has_aux else hint
            raise TypeError(f"{owner}: the function must return {expected}, got {got}{hint}")
        return jnp.asarray(value, jnp.result_type(value)), aux

    map_with_path(check, params)
    (value, aux), grads = jax.value_and_grad(checked, has_aux=True)(params)
    return value, aux, jax.tree.map(lambda g: jnp.conj(g) if jnp.iscomplexobj(g) else g, grads)

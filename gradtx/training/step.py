"""One compiled training step, to which the optimizer is passed as a pytree.

`make_step`, `minimize` and the learning-rate range test take any transformation, Optax's included, and pass it the loss
(`value`), its gradient (`grad`) and the loss as a function of the parameters (`value_fn`). Gradients for complex
parameters are conjugated: for a real loss, `jax.grad` returns the conjugate of the direction of steepest ascent, and
stepping against that would not descend.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import is_transformation
from gradtx.core.transformation import GradientTransformation
from gradtx.core.tree import LeafError, check_arrays, map_with_path
from gradtx.core.typing import InitAndUpdate
from gradtx.updating import apply_updates

__all__ = ["Step", "make_step"]

Tree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A compiled training step, made by `make_step`: `params, state, loss = step(params, state, *batch)`."""

    tx: GradientTransformation
    _numbers: Any = dataclasses.field(repr=False)  # the leaves of tx
    _compiled: Any = dataclasses.field(repr=False)  # the step for its structure
    _compile: Any = dataclasses.field(repr=False)  # structure -> step; shared by what `replace` and `with_tx` return

    def __call__(self, params: Tree, state: Tree, *batch: Any, **extra_args: Any) -> tuple[Tree, Tree, Any]:
        """Take one step.

        Args:
          params: the parameters; floats or complex numbers, None leaves are left alone.
          state: from `init` or the previous step.
          *batch: what `loss_fn` takes after the parameters.
          **extra_args: for the transformation, e.g. `key`; `value`, `grad` and `value_fn` are passed already.

        Returns:
          The new parameters, the new state, and the loss at the *old* parameters; `(loss, aux)` with `has_aux`.

        Raises:
          LeafError: a parameter is not a float, a complex number or None.
          TypeError: `loss_fn` does not return one real number.
        """
        return self._compiled(self._numbers, as_arrays("make_step", params), state, batch, extra_args)

    def init(self, params: Tree) -> Tree:
        """The optimizer's state to start from: `tx.init(params)`."""
        return self.tx.init(as_arrays("make_step", params))

    def lower(self, params: Tree, state: Tree, *batch: Any, **extra_args: Any) -> jax.stages.Lowered:
        """The step lowered for these arguments (arrays, or their shapes), as `jax.jit(…).lower` returns it."""
        return self._compiled.lower(self._numbers, params, state, batch, extra_args)

    def replace(self, **hyperparameters: Any) -> "Step":
        """The same step with other hyperparameters, `tx.replace(…)`. Changing numbers does not recompile."""
        return self.with_tx(self.tx.replace(**hyperparameters))

    def with_tx(self, tx: InitAndUpdate) -> "Step":
        """The same step with another optimizer. One that differs only in its numbers does not recompile."""
        return _step(tx, self._compile)


def make_step(loss_fn: Callable[..., Any], tx: InitAndUpdate, *, has_aux: bool = False, donate: bool = True) -> Step:
    """Make a compiled training step: loss, gradient, `tx.update` and `apply_updates` in one call.

    The optimizer's numbers are arguments of the compiled function: `step.replace(learning_rate=…)` runs without
    recompiling. (Integers, strings and functions are static, and so is an Optax transformation as a whole.)

    Args:
      loss_fn: `loss_fn(params, *batch) -> loss`, one real number of any float dtype.
      tx: the optimizer; any transformation.
      has_aux: `loss_fn` returns `(loss, aux)`; the step then returns `(params, state, (loss, aux))`.
      donate: reuse the memory of `params` and `state`. The arrays passed in can then no longer be used: copy those that
        you still need, `jax.tree.map(jnp.copy, params)`.

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
            value, aux, grads = loss_and_gradient("make_step", loss_fn, params, batch, has_aux)

            def value_fn(params: Tree) -> Any:
                return loss_fn(params, *batch)[0] if has_aux else loss_fn(params, *batch)

            updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=value_fn, **extra_args)
            return apply_updates(params, updates), state, (value, aux) if has_aux else value

        # keep_unused: a buffer that the step does not read (the last learning rate) can still be written to.
        return jax.jit(step, donate_argnums=(1, 2) if donate else (), keep_unused=True)

    return _step(tx, compile_for)


def _step(tx: Any, compile_for: Any) -> Step:
    tx = as_transformation("make_step", tx)
    numbers, structure = jax.tree.flatten(tx)
    return Step(tx, [jnp.asarray(x) for x in numbers], compile_for(structure), compile_for)


def as_transformation(owner: str, tx: Any) -> GradientTransformation:
    """The transformation itself; another library's pair becomes a value whose two functions are static."""
    if isinstance(tx, GradientTransformation):
        return tx
    if isinstance(tx, type) or not is_transformation(tx):
        raise TypeError(f"{owner}: {tx!r} is not a transformation; it has no init and update")
    return GradientTransformation(tx.init, tx.update)


def as_arrays(owner: str, params: Tree) -> Tree:
    """Parameters as arrays of definite dtype, so that the second step sees the same types as the first."""
    if all(isinstance(x, jax.Array) and not getattr(x, "weak_type", False) for x in jax.tree.leaves(params)):
        return params
    try:
        check_arrays(params)
    except LeafError as error:
        error.owner = owner
        raise
    return jax.tree.map(lambda x: jnp.array(x, jnp.result_type(x)), params)


def as_arguments(batch: Any) -> tuple[Any, ...]:
    """A batch as arguments: a plain tuple or list gives several, anything else one."""
    return tuple(batch) if type(batch) in (tuple, list) else (batch,)


def loss_and_gradient(
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
        value: Any
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

"""One compiled loop per optimizer, over a batch of learning rates.

An optimizer is a pytree of its numbers. Optimizers that differ only in their learning rates therefore stack to one
whose leaves have a leading axis, and `vmap` over it trains them all at once: a grid takes one compilation, just like a
single learning rate.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.transformation import GradientTransformation
from gradtx.updating import apply_updates
from gradtx.wrappers.eval_params import eval_params

__all__ = ["Loop", "stack"]

Tree = Any


def stack(trees: Sequence[Tree]) -> Tree:
    """Stack the leaves of all trees along a new first axis; for optimizers, this makes a batch of them."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x, float) for x in leaves]), *trees)


@dataclass
class Loop:
    """Train a batch of optimizers from the same parameters, some steps at a time.

    Args:
      optimizers: equal except for their numbers.
      loss: a function of the parameters and one element of `data`.
      params: where all start.

    Attributes:
      params: the current parameters, with a leading axis over the optimizers.
      compile_seconds: spent on compiling, once.
      run_seconds: spent on steps.
    """

    optimizers: Sequence[GradientTransformation]
    loss: Callable[[Tree, Any], jax.Array]
    params: Tree
    compile_seconds: float = 0.0
    run_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._tx = stack(self.optimizers)
        self._state = jax.vmap(lambda tx: tx.init(self.params))(self._tx)
        self.params = stack([self.params] * len(self.optimizers))
        self._compiled: Any = None

    def run(self, data: Tree) -> Tree:
        """Take one step with each element of `data` (along its first axis, of equal length in every call).

        Returns:
          The parameters after each step, with leading axes over the optimizers and the steps, if they are a single
          array (a point of a test function); else None.
        """
        if self._compiled is None:
            started = time.perf_counter()
            steps = jax.jit(jax.vmap(self._steps, in_axes=(0, 0, 0, None)))
            self._compiled = steps.lower(self._tx, self.params, self._state, data).compile()
            self.compile_seconds = time.perf_counter() - started
        started = time.perf_counter()
        self.params, self._state, path = jax.block_until_ready(self._compiled(self._tx, self.params, self._state, data))
        self.run_seconds += time.perf_counter() - started
        return path

    def eval_params(self) -> Tree:
        """The parameters to evaluate: averages, where an optimizer keeps them."""
        return jax.vmap(eval_params)(self._state, self.params)

    def _steps(self, tx: GradientTransformation, params: Tree, state: Tree, data: Tree) -> tuple[Any, ...]:
        def step(carry: tuple[Tree, Tree], batch: Any) -> tuple[tuple[Tree, Tree], Tree]:
            params, state = carry

            def value_fn(params: Tree) -> jax.Array:
                return self.loss(params, batch)

            value, gradient = jax.value_and_grad(value_fn)(params)
            updates, state = tx.update(gradient, state, params, value=value, grad=gradient, value_fn=value_fn)
            params = apply_updates(params, updates)
            return (params, state), params if isinstance(params, jax.Array) else None

        (params, state), path = jax.lax.scan(step, (params, state), data)
        return params, state, path

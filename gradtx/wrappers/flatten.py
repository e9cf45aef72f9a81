"""Many small leaves as one vector."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import initialize, run
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import as_float32, is_none, present

__all__ = ["flatten"]

Tree = Any


@transformation
def flatten(inner: Transformation) -> Any:
    """Apply a transformation to all leaves joined into one vector, which can save time when there are many small ones.

    Whatever treats leaves one by one (`lamb`, `adafactor`, masks) sees a single leaf. Sharded leaves are gathered.

    Args:
      inner: the transformation.

    State: that of the inner transformation, for a vector. Leaves that are None at one step must be None at every step.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.flatten(gradtx.adam(1e-3))
    >>> state = tx.init({"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)})
    >>> state.scale_by_adam.chain.scale_by_momentum.momentum.shape
    (10,)
    """

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        vector = None if params is None else _as_vector(params, updates)
        steps, state = run(inner, _as_vector(updates), state, vector, extra_args)
        return _as_tree(steps, updates), state

    return lambda params: initialize(inner, _as_vector(params)), update


def _as_vector(tree: Tree, like: Tree = None) -> jax.Array:
    """All leaves (or those that `like` has) concatenated, in float32 or wider."""
    leaves = jax.tree.leaves(tree, is_leaf=is_none)
    kept = leaves if like is None else jax.tree.leaves(like, is_leaf=is_none)
    parts = [jnp.ravel(as_float32(x)) for x, other in zip(leaves, kept, strict=True) if present(x) and present(other)]
    while len(parts) > 1:  # in groups: thousands at once take the compiler long
        parts = [jnp.concatenate(parts[i : i + 32]) for i in range(0, len(parts), 32)]
    return parts[0] if parts else jnp.zeros(0)


def _as_tree(vector: jax.Array, like: Tree) -> Tree:
    """The vector split into leaves with the shapes of another tree; real where that is real."""
    structure: Any
    leaves, structure = jax.tree.flatten(like, is_leaf=is_none)
    sizes = [math.prod(np.shape(x)) if present(x) else 0 for x in leaves]
    ends = np.cumsum([0, *sizes])

    def leaf(x: Any, start: int, end: int) -> Any:
        if not present(x):
            return None
        part = jnp.reshape(vector[start:end], np.shape(x))
        return part if jnp.iscomplexobj(x) or not jnp.iscomplexobj(part) else part.real

    return structure.unflatten(list(map(leaf, leaves, ends[:-1].tolist(), ends[1:].tolist())))

"""Functions that move one set of parameters towards another: target networks, averages kept by hand."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.tree import as_float32, is_none

__all__ = ["incremental_update", "periodic_update"]

Tree = Any


def incremental_update(new_tensors: Tree, old_tensors: Tree, step_size: Any) -> Tree:
    """An average that moves a part of the way: old + s·(new − old).

    Computed in float32 or wider, in the dtypes of `old_tensors`: keep the average in float32. Leaves that are no floats
    (counts, keys) are taken from `new_tensors`.

    Args:
      new_tensors: any pytree of arrays.
      old_tensors: the average so far; the same structure and shapes.
      step_size: s, a number; 1−β of an exponential moving average.

    To average the parameters of an optimizer see `ema_params`.

    Source: Polyak & Juditsky 1992, https://doi.org/10.1137/0330046

    >>> import gradtx, jax.numpy as jnp
    >>> target = {"w": jnp.array([0.0, 1.0])}
    >>> gradtx.incremental_update({"w": jnp.array([1.0, 1.0])}, target, step_size=0.25)["w"].tolist()
    [0.25, 1.0]
    """

    def move(new: Any, old: Any) -> Any:
        if new is None or old is None or not jnp.issubdtype(jnp.result_type(old), jnp.inexact):
            return new
        return (as_float32(old) + step_size * (as_float32(new) - as_float32(old))).astype(jnp.result_type(old))

    return jax.tree.map(move, new_tensors, old_tensors, is_leaf=is_none)


def periodic_update(new_tensors: Tree, old_tensors: Tree, steps: Any, update_period: Any) -> Tree:
    """A slow copy: the new values if `steps` is a multiple of the period, else the old ones.

    Args:
      new_tensors: any pytree of arrays.
      old_tensors: the copy so far; the same structure and shapes, and the dtypes of the result.
      steps: how many steps were taken, a number or an array.
      update_period: the period, a number.

    Source: Mnih et al. 2013, https://arxiv.org/abs/1312.5602

    >>> import gradtx
    >>> [float(gradtx.periodic_update(1.0, 0.0, steps, update_period=3)) for steps in range(5)]
    [1.0, 0.0, 0.0, 1.0, 0.0]
    """
    now = jnp.asarray(steps) % update_period == 0

    def take(new: Any, old: Any) -> Any:
        return None if new is None else jnp.where(now, jnp.asarray(new, jnp.result_type(old)), old)

    return jax.tree.map(take, new_tensors, old_tensors, is_leaf=is_none)

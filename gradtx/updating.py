"""How parameters get new values: by an update, or by moving towards others (target networks, averages)."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.transformation import transformation
from gradtx.core.tree import LeafError, as_float32, check_match, is_none, present

__all__ = ["apply_updates", "cast_to_params", "incremental_update", "periodic_update"]

Tree = Any


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """θ + u, computed in float32 or wider and cast once, to the dtype of each parameter.

    Args:
      params: a pytree of arrays (or numbers).
      updates: the same structure and shapes; a None leaf leaves its parameter as it is.

    Raises:
      LeafError: the structures or shapes differ.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.apply_updates({"w": jnp.ones(2), "fixed": 7}, {"w": jnp.full(2, 0.5), "fixed": None})
    {'fixed': 7, 'w': Array([1.5, 1.5], dtype=float32)}
    """
    check_match(updates, params)

    def new(update: Any, param: Any) -> Any:
        if not present(update):
            return param
        dtype = jnp.result_type(param)
        if jnp.iscomplexobj(update) and not jnp.iscomplexobj(param):
            raise LeafError("a complex update for a real parameter")
        if jnp.issubdtype(dtype, jnp.floating):
            return (as_float32(param) + as_float32(update)).astype(dtype)
        return jnp.asarray(param + update).astype(dtype)

    return jax.tree.map(new, updates, params, is_leaf=is_none)


@transformation
def cast_to_params() -> Any:
    """Round the updates to the dtypes of the parameters; last in a chain, for loops that add them with `p + u`.

    Updates leave every transformation in float32 or wider, and `apply_updates` rounds once, after the addition. A
    loop that adds them itself (`eqx.apply_updates`, a `lax.scan` over bfloat16 parameters) would widen the parameters.

    Needs the parameters.
    """

    def cast(u: Any, p: Any) -> Any:
        return u.astype(jnp.result_type(p)) if present(u) else u

    return None, lambda updates, state, params: (jax.tree.map(cast, updates, params, is_leaf=is_none), state)


def incremental_update(new_tensors: Tree, old_tensors: Tree, step_size: Any) -> Tree:
    """A running average that moves part of the way: old + s·(new − old).

    Computed in float32 or wider, returned in the dtypes of `old_tensors`: keep the average in float32. Leaves that are
    not floats (counts, keys) are taken from `new_tensors`.

    Args:
      new_tensors: any pytree of arrays.
      old_tensors: the average so far; the same structure and shapes.
      step_size: s, a number; 1 − β for an exponential moving average.

    To average the parameters within an optimizer, see `ema_params`.

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
      steps: the number of steps taken, a number or an array.
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

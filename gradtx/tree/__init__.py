"""Arithmetic on whole trees, and access to a state by name: Optax's `optax.tree`, under the same names.

    gradtx.tree.add(params, updates)
    gradtx.tree.get(state, "learning_rate")

Leaf by leaf, everything works as in `jax.numpy`: dtypes promote, shapes broadcast. A None leaf in any of the trees
gives a None leaf. Sums, inner products and norms of bfloat16 and float16 are float32, so they do not overflow.

    arithmetic   leaf by leaf, sums, norms, dtypes
    moments      averages, norms that are safe to divide by, counts
    random       random trees
    state        get, set and map by name
"""

from gradtx.tree.arithmetic import (
    add,
    add_scale,
    allclose,
    batch_shape,
    cast,
    cast_like,
    clip,
    conj,
    div,
    dtype,
    full_like,
    max,
    min,
    mul,
    norm,
    ones_like,
    real,
    scale,
    size,
    sub,
    sum,
    vdot,
    where,
    zeros_like,
)
from gradtx.tree.moments import (
    bias_correction,
    safe_increment,
    safe_int32_increment,
    safe_norm,
    safe_root_mean_squares,
    update_infinity_moment,
    update_moment,
    update_moment_per_elem_norm,
)
from gradtx.tree.random import random_like, split_key_like, unwrap_random_key_data
from gradtx.tree.state import NamedTupleKey, get, get_all_with_path, map_params, set

__all__ = [
    "NamedTupleKey",
    "add",
    "add_scale",
    "allclose",
    "batch_shape",
    "bias_correction",
    "cast",
    "cast_like",
    "clip",
    "conj",
    "div",
    "dtype",
    "full_like",
    "get",
    "get_all_with_path",
    "map_params",
    "max",
    "min",
    "mul",
    "norm",
    "ones_like",
    "random_like",
    "real",
    "safe_increment",
    "safe_int32_increment",
    "safe_norm",
    "safe_root_mean_squares",
    "scale",
    "set",
    "size",
    "split_key_like",
    "sub",
    "sum",
    "unwrap_random_key_data",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
    "vdot",
    "where",
    "zeros_like",
]

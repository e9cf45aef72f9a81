"""Random trees: a key for every leaf."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "random_like",
    "split_key_like",
    "unwrap_random_key_data",
]

Tree = Any


def split_key_like(rng_key: jax.Array, target_tree: Tree) -> Tree:
    """A separate key for every leaf."""
    structure: Any = jax.tree.structure(target_tree)
    return structure.unflatten(jax.random.split(rng_key, structure.num_leaves))


def random_like(
    rng_key: jax.Array,
    target_tree: Tree,
    sampler: Callable[..., Any] = jax.random.normal,
    dtype: Any = None,
) -> Tree:
    """Random numbers in the shapes of a tree.

    Args:
      rng_key: split, so that the leaves are independent.
      target_tree: gives the shapes, and the dtypes unless `dtype` is given.
      sampler: `sampler(key, shape, dtype)`, like the functions of `jax.random`; if it takes `out_sharding`, it is
        passed that of the leaf.
    """
    sharded = "out_sharding" in inspect.signature(sampler).parameters

    def draw(leaf: Any, key: jax.Array) -> Any:
        more = {"out_sharding": jax.typeof(leaf).sharding} if sharded else {}
        return sampler(key, leaf.shape, dtype or leaf.dtype, **more)

    return jax.tree.map(draw, target_tree, split_key_like(rng_key, target_tree))


def unwrap_random_key_data(input_tree: Tree) -> Tree:
    """The tree with its random keys replaced by their raw data, to be compared or saved."""

    def unwrap(x: Any) -> Any:
        is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(unwrap, input_tree)

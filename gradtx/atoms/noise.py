"""Gradient noise, which helps to escape sharp minima."""

from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import Kind, NonNegative, Real, numeric
from gradtx.core.numerics import increment
from gradtx.core.roles import Count, RandomKey
from gradtx.core.transformation import transformation
from gradtx.core.tree import as_float32, map_leaves, present

__all__ = ["add_noise"]

Tree = Any


class _KeyKind(Kind):
    """The kind of a random key: an int, or a JAX key, which is stored as its raw key data."""

    def __repr__(self) -> str:
        return "Key"

    def check(self, owner: str, name: str, value: Any) -> Any:
        """Raise a TypeError unless it is an int or a key."""
        if type(value) is int or isinstance(value, np.integer):
            return int(value)
        if not numeric(value):
            raise TypeError(f"{owner}: {name} must be an int or a key such as jax.random.key(0), got {value!r}")
        if not isinstance(value, jax.ShapeDtypeStruct) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        if not value.ndim and jnp.issubdtype(value.dtype, jnp.integer):
            return value  # an int in an array
        if value.ndim != 1 or value.dtype != np.uint32:
            raise TypeError(f"{owner}: {name} must be one key, got an array {value.dtype}{list(value.shape)}")
        return value


Key: TypeAlias = Annotated[int | jax.Array, _KeyKind()]


class AddNoiseState(NamedTuple):
    """The step count, which sets the variance of the noise, and the random key."""

    count: Count  # int32, steps taken
    key: RandomKey  # uint32, for the noise of the next step


@transformation
def add_noise(eta: NonNegative, gamma: Real, key: Key | None = None, *, seed: Key | None = None) -> Any:
    """Add Gaussian noise of decreasing variance: u + √(η/tᵞ)·ε, with ε from a normal distribution and t = 1, 2, …

    For the same key, the numbers are those of Optax, in float32 or wider. Every leaf has its own noise.

    Args:
      eta: η, the variance at the first step; in squared units of the updates.
      gamma: γ, how fast the variance falls; 0 keeps it constant (Langevin dynamics).
      key: an int or a key, such as `jax.random.key(0)`. By default 0: the same noise in every run.
      seed: another name for `key`, as it once was in Optax.

    State: a count and a key.

    Raises:
      TypeError: the key is not one, or both `key` and `seed` are given.

    Source: Neelakantan et al. 2015, https://arxiv.org/abs/1511.06807

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.add_noise(eta=0.01, gamma=0.55, key=42)
    >>> noise, _ = tx.update(jnp.zeros(10_000), tx.init(jnp.zeros(10_000)))
    >>> print(f"{noise.std():.2f}")
    0.10
    """
    if key is not None and seed is not None:
        raise TypeError("add_noise: seed is another name for key; give one of them")
    first = next((k for k in (key, seed) if k is not None), 0)

    def init(params: Tree) -> AddNoiseState:
        return AddNoiseState(jnp.zeros((), jnp.int32), jnp.asarray(first) if np.ndim(first) else key_data(first))

    def update(updates: Tree, state: AddNoiseState, params: Tree = None) -> tuple[Tree, AddNoiseState]:
        count = increment(state.count)
        deviation = jnp.sqrt(eta / count.astype(float) ** gamma)
        key, use = jax.random.split(jax.random.wrap_key_data(state.key))
        return map_leaves(lambda u, e: u + deviation * e, updates, _normal_like(use, updates)), AddNoiseState(
            count, jax.random.key_data(key)
        )

    return init, update


def key_data(seed: Any) -> jax.Array:
    """The numbers of the key with this seed, which a state can keep: key arrays cannot be saved or compared."""
    return jax.random.key_data(jax.random.key(seed))


def _normal_like(key: jax.Array, tree: Tree) -> Tree:
    """Standard normal numbers in the shape of the tree, drawn with one key per leaf."""
    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))

    def draw(k: jax.Array, u: Any) -> Any:
        wide = as_float32(u) if present(u) else None
        return None if wide is None else jax.random.normal(k, wide.shape, wide.dtype)

    return structure.unflatten([draw(k, u) for k, u in zip(keys, leaves, strict=False)])

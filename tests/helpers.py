"""What several test modules share. Each function that asserts has a test in test_helpers.py that shows it fail."""

import functools
import pathlib
import types
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

import gradtx

Tree = Any

ROOT = pathlib.Path(__file__).parent.parent

# The flat names: all that stands in `gradtx` itself, except its rooms.
PUBLIC = sorted(n for n, x in vars(gradtx).items() if not n.startswith("_") and not isinstance(x, types.ModuleType))


def random_tree(seed: int = 0, dtype: Any = jnp.float32) -> Tree:
    """A small tree with a scalar, a vector, a matrix and a 3-d leaf."""
    shapes = {"scalar": (), "layer": {"kernel": (3, 4), "bias": (4,)}, "stack": (2, 3, 2)}
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s), dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def run_steps(
    tx: Any, params: Tree, gradients: list[Tree], *, jit: bool = True, **extra_args: Any
) -> tuple[Tree, Tree]:
    """Parameters and state after one step with each of the gradients."""
    step = functools.partial(_step, tx, extra_args)
    if jit:
        step = jax.jit(step) if extra_args else _compiled(tx)
    state = tx.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


def _step(tx: Any, extra_args: Any, params: Tree, state: Tree, gradient: Tree) -> tuple[Tree, Tree]:
    updates, state = tx.update(gradient, state, params, **extra_args)
    return gradtx.apply_updates(params, updates), state


@functools.lru_cache(maxsize=512)
def _compiled(tx: Any) -> Any:
    """Shared by all tests: a step is compiled once for an optimizer and the shapes of its leaves."""
    return jax.jit(functools.partial(_step, tx, {}))


def assert_close(ours: Tree, theirs: Tree, rtol: float = 1e-6, atol: float = 0.0) -> None:
    """`chex.assert_trees_all_close`, where NaN agrees with nothing."""
    chex.assert_trees_all_close(ours, theirs, rtol=rtol, atol=atol)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(ours))


def assert_same_form(new: Tree, old: Tree) -> None:
    """The same structure, shapes, dtypes and weak types: what one compiled step demands of a state."""
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for ours, theirs in zip(*(map(jax.typeof, jax.tree.leaves(x)) for x in (new, old)), strict=True):
        assert (ours.shape, ours.dtype, ours.weak_type) == (theirs.shape, theirs.dtype, theirs.weak_type)

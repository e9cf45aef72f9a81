"""What several test modules share. Each function that asserts has a test in test_helpers.py that shows it fail."""

import functools
import pathlib
import types
from collections.abc import Callable
from typing import Any

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
    """The same structure, and leaves that agree; NaN never agrees."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol, equal_nan=False)


def assert_finite(tree: Tree) -> None:
    """No NaN and no infinity in any leaf."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        assert bool(jnp.all(jnp.isfinite(leaf))), f"{jax.tree_util.keystr(path)} = {leaf}"


def assert_same_form(new: Tree, old: Tree) -> None:
    """The same structure, shapes, dtypes and weak types: what one compiled step demands of a state."""
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        ours, theirs = jax.typeof(a), jax.typeof(b)
        assert (ours.shape, ours.dtype, ours.weak_type) == (theirs.shape, theirs.dtype, theirs.weak_type)


class TraceCounter:
    """Wraps a function; counts how often it is traced (called by Python) rather than run."""

    def __init__(self, function: Callable[..., Any]):
        self.function, self.count = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self.function(*args, **kwargs)

"""Arithmetic on whole trees: leaf by leaf as in `jax.numpy`, and reductions over all leaves.

Some names shadow Python's builtins: use them qualified, as in `gradtx.tree.sum`.
"""

import builtins
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.numerics import global_norm
from gradtx.core.tree import LeafError, as_float32, is_none, map_with_path

__all__ = [
    "add",
    "add_scale",
    "allclose",
    "batch_shape",
    "cast",
    "cast_like",
    "clip",
    "conj",
    "div",
    "dtype",
    "full_like",
    "max",
    "min",
    "mul",
    "norm",
    "ones_like",
    "real",
    "scale",
    "size",
    "sub",
    "sum",
    "vdot",
    "where",
    "zeros_like",
]

Tree = Any


def leafwise(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """`f` of corresponding leaves, unconverted; None where any of them is None."""

    def leaf(*xs: Any) -> Any:
        return None if any(x is None for x in xs) else f(*xs)

    return jax.tree.map(leaf, tree, *rest, is_leaf=is_none)


# Leaf by leaf


def add(tree_x: Tree, tree_y: Tree, *other_trees: Tree) -> Tree:
    """x + y + …

    >>> import gradtx.tree
    >>> gradtx.tree.add({"w": 1.0, "b": 2.0}, {"w": 0.5, "b": None})
    {'b': None, 'w': 1.5}
    """
    return leafwise(lambda *xs: functools.reduce(operator.add, xs), tree_x, tree_y, *other_trees)


def sub(tree_x: Tree, tree_y: Tree) -> Tree:
    """The difference x − y."""
    return leafwise(operator.sub, tree_x, tree_y)


def mul(tree_x: Tree, tree_y: Tree) -> Tree:
    """The product x·y of corresponding entries."""
    return leafwise(operator.mul, tree_x, tree_y)


def div(tree_x: Tree, tree_y: Tree) -> Tree:
    """The quotient x/y of corresponding entries."""
    return leafwise(operator.truediv, tree_x, tree_y)


def scale(scalar: Any, tree: Tree) -> Tree:
    """A number times a tree: s·x."""
    return leafwise(lambda x: scalar * x, tree)


def add_scale(tree_x: Tree, scalar: Any, tree_y: Tree) -> Tree:
    """One tree and a multiple of another: x + s·y."""
    return leafwise(lambda x, y: x + scalar * y, tree_x, tree_y)


def clip(tree: Tree, min_value: Any = None, max_value: Any = None) -> Tree:
    """Entries bounded to [min_value, max_value]; None for no bound."""
    return leafwise(lambda x: jnp.clip(x, min_value, max_value), tree)


def conj(tree: Tree) -> Tree:
    """The complex conjugate."""
    return leafwise(jnp.conj, tree)


def real(tree: Tree) -> Tree:
    """The real part."""
    return leafwise(jnp.real, tree)


def where(condition: Any, tree_x: Tree, tree_y: Tree) -> Tree:
    """x where the condition holds, else y; one condition for all leaves."""
    return leafwise(lambda x, y: jnp.where(condition, x, y), tree_x, tree_y)


def full_like(tree: Tree, fill_value: Any, dtype: Any = None) -> Tree:
    """The shapes of a tree (and its dtypes, unless one is given), filled with a number."""
    return leafwise(lambda x: jnp.full_like(x, fill_value, dtype=dtype), tree)


def zeros_like(tree: Tree, dtype: Any = None) -> Tree:
    """The shapes of a tree, filled with 0; see `full_like`."""
    return full_like(tree, 0, dtype)


def ones_like(tree: Tree, dtype: Any = None) -> Tree:
    """The shapes of a tree, filled with 1; see `full_like`."""
    return full_like(tree, 1, dtype)


def batch_shape(tree: Tree, shape: tuple[int, ...] = ()) -> Tree:
    """Every leaf repeated along new leading axes of this shape."""
    return leafwise(lambda x: jnp.broadcast_to(x, (*shape, *jnp.shape(x))), tree)


def cast(tree: Tree, dtype: Any) -> Tree:
    """The leaves cast to another dtype; unchanged if it is None."""
    return tree if dtype is None else leafwise(lambda x: jnp.asarray(x, dtype), tree)


def cast_like(tree: Tree, other_tree: Tree) -> Tree:
    """The leaves cast to the dtypes of another tree; unchanged where that has a plain number."""
    return leafwise(lambda x, other: jnp.asarray(x, other.dtype) if hasattr(other, "dtype") else x, tree, other_tree)


# Over all leaves


def sum(tree: Tree, associative_reduction: bool = False) -> Any:
    """The sum of all entries; 0 for a tree without any.

    Args:
      associative_reduction: add the leaves' sums in pairs, which compiles faster when there are thousands.
    """
    sums = [jnp.sum(_wide(x)) for x in jax.tree.leaves(tree)]
    if associative_reduction:
        return jax.tree.reduce_associative(operator.add, sums, identity=0)
    return builtins.sum(sums)


def max(tree: Tree) -> Any:
    """The largest entry; −∞ for a tree without any."""
    return _extreme(jnp.max, tree, -jnp.inf)


def min(tree: Tree) -> Any:
    """The smallest entry; ∞ for a tree without any."""
    return _extreme(jnp.min, tree, jnp.inf)


def size(tree: Tree) -> int:
    """The number of entries."""
    return builtins.sum(jnp.size(x) for x in jax.tree.leaves(tree))


def vdot(tree_x: Tree, tree_y: Tree) -> Any:
    """The inner product Σ x̄·y.

    Raises:
      LeafError: leaves differ in shape; the message names the first.
    """

    def product(path: str, x: Any, y: Any) -> Any:
        if x is None or y is None:
            return None
        if jnp.shape(x) != jnp.shape(y):
            raise LeafError(f"vdot: leaf '{path}': shapes do not match: {jnp.shape(x)} and {jnp.shape(y)}")
        return jnp.conj(_wide(x)) * _wide(y)

    return sum(map_with_path(product, tree_x, tree_y))


def norm(tree: Tree, ord: int | str | float | None = None, squared: bool = False) -> jax.Array:
    """The norm of all entries as one vector; 0 for a tree without any.

    It overflows or underflows only if the norm itself does, and its derivative at 0 is 0.

    Args:
      ord: 2 or None for √Σ|x|², 1 for Σ|x|, inf (or "inf", "infinity") for max|x|.
      squared: return the square instead.

    Raises:
      ValueError: any other order.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> float(gradtx.tree.norm({"a": jnp.array([3e20, 0.0]), "b": jnp.array(4e20)}) / 1e20)
    5.0...
    """
    sizes = leafwise(lambda x: _absolute(as_float32(x)), tree)
    if ord is None or ord == 2:
        result = global_norm(tree)
    elif ord == 1:
        result = sum(sizes)
    elif ord in (jnp.inf, "inf", "infinity"):
        result = max([sizes, 0.0])
    else:
        raise ValueError(f"norm: ord must be None, 1, 2 or inf, got {ord!r}")
    return jnp.asarray(result**2 if squared else result)


def allclose(a: Tree, b: Tree, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Whether all entries agree: |a − b| ≤ atol + rtol·|b|."""
    answers = leafwise(lambda a, b: jnp.allclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan), a, b)
    return functools.reduce(operator.and_, jax.tree.leaves(answers), True)


def dtype(tree: Tree, mixed_dtype_handler: str | None = None) -> Any:
    """The dtype of the leaves; JAX's default float dtype for a tree without any.

    Args:
      mixed_dtype_handler: if they differ: "promote" for the dtype that they promote to, "highest" for the one that all
        others promote to, or "lowest" for the one that promotes to all others.

    Raises:
      ValueError: they differ and there is no handler; "highest" or "lowest" of dtypes that cannot be ordered.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> gradtx.tree.dtype({"w": jnp.ones(2, "bfloat16"), "b": jnp.ones(2)}, "lowest")
    dtype(bfloat16)
    """
    if mixed_dtype_handler not in (None, "promote", "highest", "lowest"):
        raise ValueError(
            f"dtype: mixed_dtype_handler must be None, 'promote', 'highest' or 'lowest', got {mixed_dtype_handler!r}"
        )
    found = list(dict.fromkeys(jnp.asarray(x).dtype for x in jax.tree.leaves(tree)))
    if len(found) < 2:
        return found[0] if found else jnp.asarray([]).dtype
    if mixed_dtype_handler == "promote":
        return functools.reduce(jnp.promote_types, found)
    if mixed_dtype_handler is None:
        named: dict[Any, str] = {}
        map_with_path(lambda path, x: None if x is None else named.setdefault(jnp.asarray(x).dtype, path), tree)
        leaves = ", ".join(f"'{path}' is {d}" for d, path in named.items())
        raise ValueError(f"dtype: the leaves have several: {leaves}; choose with mixed_dtype_handler")

    def pick(a: Any, b: Any) -> Any:
        highest = jnp.promote_types(a, b)
        if highest not in (a, b):
            raise ValueError(f"dtype: {a} and {b} cannot be ordered: they promote to {highest}")
        return highest if mixed_dtype_handler == "highest" else b if highest == a else a

    return functools.reduce(pick, found)


def _absolute(x: jax.Array) -> jax.Array:
    """|x| with derivative 0 at 0, where that of `jnp.abs` is 1."""
    return jnp.abs(x) if jnp.iscomplexobj(x) else jnp.maximum(x, -x)


def _extreme(f: Callable[..., Any], tree: Tree, empty: float) -> Any:
    found = [f(x) for x in jax.tree.leaves(tree) if jnp.size(x)]
    return f(jnp.stack([jnp.asarray(empty), *jnp.broadcast_arrays(*found)])) if found else empty


def _wide(x: Any) -> jax.Array:
    """Float32 for bfloat16 and float16, so that a sum of them does not overflow; integers stay integers."""
    x = jnp.asarray(x)
    return as_float32(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x

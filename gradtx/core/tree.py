"""Leaves: their dtypes, shapes and paths, and None leaves, kept out of the mathematics.

Leaf-wise atoms are applied to trees in `lifting`. Code that works on whole trees writes
`map_leaves(lambda m, g: b * m + (1 - b) * g, state.momentum, updates)`. The leaves arrive in float32 or wider, a None
leaf (masked out, or not trainable) stays None, and leaves that do not match raise an error that names the path.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = [
    "LeafError",
    "as_float32",
    "cast_like",
    "check_arrays",
    "check_match",
    "float_copies",
    "full_like",
    "is_none",
    "key_name",
    "listed",
    "map_leaves",
    "map_with_path",
    "misfit",
    "no_wider",
    "path_string",
    "present",
    "real_like",
    "unshared",
    "zeros_like",
]

Tree = Any


class LeafError(ValueError):
    """A leaf does not fit. The leaf's path and the transformation's name are added as the error propagates."""

    owner: str | None = None

    def __init__(self, message: str, path: str | None = None):
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        where = f"leaf '{self.path}': " if self.path else ""
        return (f"{self.owner}: " if self.owner else "") + where + super().__str__()


def misfit(shape: tuple[int, ...], result: Any, path: str | None = None) -> LeafError:
    """The error for an update of this shape that has become something else."""
    advice = "an update keeps the shape of its leaf"
    if result is not None and np.size(result) > np.prod(shape):
        advice = "a hyperparameter is an array that does not fit; for many values use jax.vmap(gradtx.adam)(rates)"
    return LeafError(f"{shape} became {None if result is None else np.shape(result)}: {advice}", path)


# Paths


def path_string(path: tuple[Any, ...]) -> str:
    """JAX's `('encoder', 0, 'kernel')` as "encoder/0/kernel", the form that patterns match."""
    return "/".join(map(key_name, path)) or "(the only leaf)"


def key_name(key: Any) -> str:
    """The name in one step of a path: a dict's key, an attribute, an index."""
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def is_none(x: Any) -> bool:
    """For `is_leaf`: here None is a leaf, where JAX sees an empty tree."""
    return x is None


def map_with_path(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Map `f(path string, leaf, …)` over corresponding leaves, None leaves included."""
    return jax.tree_util.tree_map_with_path(lambda path, *xs: f(path_string(path), *xs), tree, *rest, is_leaf=is_none)


def _paths(tree: Tree) -> list[str]:
    return [path_string(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)[0]]


# Arithmetic on leaves


@functools.cache
def _widened(dtype: Any) -> Any:
    """The dtype to compute in: float32 for bfloat16, float16 and integers, else the dtype itself."""
    narrow = not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else jnp.dtype(dtype)


def as_float32(x: Any) -> Any:
    """Widen bfloat16, float16 and integers to float32; wider and complex leaves stay as they are."""
    x = x if isinstance(x, jax.Array) else jnp.asarray(x)
    wide = _widened(x.dtype)
    return x if x.dtype == wide else x.astype(wide)


def no_wider(result: Any, row: list[Any]) -> Any:
    """Undo a widening to float64 by a hyperparameter: only the leaves determine precision. Integers become floats."""
    widest = functools.reduce(jnp.promote_types, (x.dtype for x in row))
    if not jnp.issubdtype(result.dtype, jnp.inexact):
        return result.astype(widest)
    if result.dtype == widest or jnp.finfo(result.dtype).bits <= jnp.finfo(widest).bits:
        return result
    narrow = jnp.promote_types(widest, jnp.complex64) if jnp.iscomplexobj(result) else jnp.finfo(widest).dtype
    return result.astype(narrow)


def present(leaf: Any) -> bool:
    """False for None and for the gradient that JAX gives an integer leaf (dtype float0): neither is a number."""
    return leaf is not None and getattr(leaf, "dtype", None) != jax.dtypes.float0


def map_leaves(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `f` to corresponding leaves, in float32 or wider; None where any of them is None.

    Raises:
      LeafError: the trees differ in structure or their leaves in shape; names the first path that does.
    """
    structure: Any
    flat, structure = jax.tree.flatten(tree, is_leaf=is_none)
    columns = [flat, *(_flatten_like(tree, structure, other) for other in rest)]
    results: list[Any] = []
    for i, row in enumerate(zip(*columns, strict=True)):
        if not all(map(present, row)):
            results.append(None)
            continue
        shapes = [np.shape(x) for x in row]
        if any(shape != shapes[0] for shape in shapes):
            raise LeafError(f"shapes do not match: {' and '.join(map(str, shapes))}", _paths(tree)[i])
        wide = list(map(as_float32, row))
        result = no_wider(f(*wide), wide)
        if np.shape(result) != shapes[0]:
            raise misfit(shapes[0], result, _paths(tree)[i])
        results.append(result)
    return structure.unflatten(results)


def _flatten_like(tree: Tree, structure: Any, other: Tree) -> list[Any]:
    try:
        # Not flatten_up_to: it would let a whole subtree stand where a leaf is expected.
        flat, found = jax.tree.flatten(other, is_leaf=is_none)
    except (TypeError, ValueError) as error:
        raise LeafError(f"the tree cannot be flattened: {error}") from error
    if found != structure:
        raise LeafError(_first_difference(tree, other))
    return flat


def _first_difference(tree: Tree, other: Tree, name: str = "the first leaves", other_name: str = "the others") -> str:
    ours, theirs = _paths(tree), _paths(other)
    for path in theirs:
        if path not in ours:
            return f"{other_name} have a leaf '{path}' that {name} lack; they have {listed(tree)}"
    for path in ours:
        if path not in theirs:
            return f"{name} have a leaf '{path}' that {other_name} lack; they have {listed(other)}"
    containers = f"{jax.tree.structure(tree)} and {jax.tree.structure(other)}"
    return f"{name} and {other_name} have the same leaves in different containers: {containers}"


def listed(tree: Tree) -> str:
    """The first few paths in a tree, as a message lists them."""
    paths = _paths(tree)
    return ", ".join(f"'{p}'" for p in paths[:5]) + (f", … ({len(paths)} leaves)" if len(paths) > 5 else "")


def check_match(updates: Tree, params: Tree) -> None:
    """Raise if gradients do not have the structure and shapes of the parameters. Nothing is broadcast silently.

    A None gradient fits any parameter: it means "not this one".
    """
    structure: Any
    flat, structure = jax.tree.flatten(updates, is_leaf=is_none)
    theirs, expected = jax.tree.flatten(params, is_leaf=is_none)
    if structure != expected:
        raise LeafError(_first_difference(updates, params, "the updates", "the parameters"))
    for i, (u, p) in enumerate(zip(flat, theirs, strict=True)):
        if present(u) and p is not None and np.shape(u) != np.shape(p):
            raise LeafError(f"the update has shape {np.shape(u)}, the parameter {np.shape(p)}", _paths(updates)[i])


def check_arrays(params: Tree) -> None:
    """Raise unless every leaf is an array, a number or None.

    Raises:
      LeafError: names the leaf; an unfiltered Equinox model (with functions for leaves) is the usual case.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex)):
            hint = "filter the model first, e.g. eqx.filter(model, eqx.is_inexact_array)" if callable(leaf) else ""
            raise LeafError(f"leaf '{path_string(path)}' is {leaf!r}, not an array{'; ' * bool(hint)}{hint}")


# Accumulators


def _accumulator_dtype(leaf: Any, dtype: Any) -> Any:
    own = jnp.result_type(leaf)
    if dtype is None:
        return jnp.promote_types(own, jnp.float32)
    return jnp.promote_types(dtype, jnp.complex64) if jnp.issubdtype(own, jnp.complexfloating) else jnp.dtype(dtype)


def full_like(params: Tree, value: Any, dtype: Any = None) -> Tree:
    """Accumulators filled with `value`: shapes and shardings of `params`, float32 or wider unless `dtype` is given."""
    return jax.tree.map(lambda p: jnp.full_like(p, value, dtype=_accumulator_dtype(p, dtype)), params)


def zeros_like(params: Tree, dtype: Any = None) -> Tree:
    """Accumulators of zeros; see `full_like`."""
    return full_like(params, 0, dtype)


def real_like(params: Tree) -> Tree:
    """Leaves with the dtype of |·|: complex leaves become real, the others are returned unchanged."""
    return jax.tree.map(lambda p: jnp.real(p) if jnp.iscomplexobj(p) else p, params)


def cast_like(tree: Tree, like: Tree) -> Tree:
    """`tree` with exactly the dtypes (weak types removed) of `like`; a None leaf keeps what `like` has there.

    Raises:
      LeafError: the structures or shapes differ.
    """

    def cast(new: Any, old: Any) -> Any:
        if new is None or old is None:
            return old
        if not hasattr(old, "dtype"):
            return new
        if np.shape(new) != old.shape:
            raise LeafError(f"the state changed its shape from {old.shape} to {np.shape(new)}")
        if not hasattr(new, "dtype"):
            return jnp.asarray(new, old.dtype)
        if new.dtype == old.dtype and not getattr(new, "weak_type", False):
            return new
        return jnp.asarray(new, old.dtype)

    structure: Any
    new, structure = jax.tree.flatten(tree, is_leaf=is_none)
    old = _flatten_like(tree, structure, like)
    return structure.unflatten([cast(n, o) for n, o in zip(new, old, strict=True)])


def unshared(tree: Tree, *others: Tree) -> Tree:
    """`tree` with a separate buffer for every leaf, so that it can be donated: what occurs twice, or in one of the
    other trees, is copied."""
    seen = {id(leaf) for leaf in jax.tree.leaves(others)}

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        leaf = leaf.copy() if id(leaf) in seen else leaf
        seen.add(id(leaf))
        return leaf

    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    own_leaves = list(map(own, leaves))
    shared = any(a is not b for a, b in zip(leaves, own_leaves, strict=True))
    return structure.unflatten(own_leaves) if shared else tree


def float_copies(params: Tree) -> Tree:
    """The parameters in float32 or wider; None for those that are not floats."""

    def copy(p: Any) -> Any:
        inexact = jnp.issubdtype(jnp.result_type(p), jnp.inexact)
        return jnp.asarray(p, as_float32(p).dtype) if inexact else None  # a dtype given by name is not weak

    return jax.tree.map(copy, params)

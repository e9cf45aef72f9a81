"""Leaves: the one place where dtypes, None leaves, shapes and paths are handled, so that the mathematics is not.

A transformation writes `map_leaves(lambda m, g: b * m + (1 - b) * g, state.momentum, updates)`. The leaves arrive in
float32 or wider, a None leaf (masked out, or not trainable) stays None, and leaves that do not fit together raise an
error that names the path.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "LeafError",
    "abs_squared",
    "as_float32",
    "bounded",
    "bounded_or_nan",
    "by_path",
    "cast_like",
    "check_arrays",
    "check_match",
    "full_like",
    "is_none",
    "key_name",
    "least",
    "map_leaves",
    "map_some",
    "map_with_path",
    "mean_square",
    "no_wider",
    "path_string",
    "present",
    "ratio",
    "real_like",
    "sqrt",
    "unshared",
    "zeros_like",
]

Tree = Any


class LeafError(ValueError):
    """A leaf does not fit. The transformation that was at work adds its name on the way out."""

    owner: str | None = None

    def __str__(self) -> str:
        return f"{self.owner}: {super().__str__()}" if self.owner else super().__str__()


# Paths


def path_string(path: tuple[Any, ...]) -> str:
    """`('encoder', 0, 'kernel')` as JAX writes it becomes "encoder/0/kernel", the form that patterns match."""
    return "/".join(map(key_name, path)) or "(the only leaf)"


def key_name(key: Any) -> str:
    """The name in one step of a path: a dict's key, an attribute, an index."""
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def by_path(tree: Tree) -> dict[tuple[str, ...], Any]:
    """The leaves by their paths, in order."""
    return {tuple(map(key_name, path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def is_none(x: Any) -> bool:
    """For `is_leaf`: None is a leaf of its own here, where JAX sees an empty tree."""
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
    """Undo a widening to float64 by a hyperparameter: the leaves alone decide the precision."""
    widest = functools.reduce(jnp.promote_types, (x.dtype for x in row))
    if result.dtype == widest or jnp.finfo(result.dtype).bits <= jnp.finfo(widest).bits:
        return result
    return result.astype(
        jnp.promote_types(widest, jnp.complex64) if jnp.iscomplexobj(result) else jnp.finfo(widest).dtype
    )


def present(leaf: Any) -> bool:
    """False for None and for the gradient that JAX gives to an integer leaf (dtype float0): neither is a number."""
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
            raise LeafError(f"leaf '{_paths(tree)[i]}': shapes do not match: {' and '.join(map(str, shapes))}")
        wide = list(map(as_float32, row))
        result = no_wider(f(*wide), wide)
        if np.shape(result) != shapes[0]:
            raise LeafError(
                f"leaf '{_paths(tree)[i]}' {shapes[0]} became {np.shape(result)}: a hyperparameter is an array that "
                "does not fit. To run many values at once, vmap over the optimizer: jax.vmap(gradtx.adam)(rates)"
            )
        results.append(result)
    return structure.unflatten(results)


def map_some(f: Callable[..., Any], *trees: Tree) -> Tree:
    """`map_leaves` over leaves of different shapes, such as a number for each leaf; the structures have to agree."""

    def apply(*xs: Any) -> Any:
        if not all(map(present, xs)):
            return None
        wide = list(map(as_float32, xs))
        return no_wider(f(*wide), wide)

    return jax.tree.map(apply, *trees, is_leaf=is_none)


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
            return f"{other_name} have a leaf '{path}' that {name} lack; they have {_some(ours)}"
    for path in ours:
        if path not in theirs:
            return f"{name} have a leaf '{path}' that {other_name} lack; they have {_some(theirs)}"
    containers = f"{jax.tree.structure(tree)} and {jax.tree.structure(other)}"
    return f"{name} and {other_name} have the same leaves in different containers: {containers}"


def _some(paths: list[str]) -> str:
    return ", ".join(f"'{p}'" for p in paths[:5]) + (f", … ({len(paths)} leaves)" if len(paths) > 5 else "")


def check_match(updates: Tree, params: Tree) -> None:
    """Raise if gradients do not have the structure and shapes of the parameters. Nothing broadcasts silently.

    A None gradient fits any parameter: it says 'not this one'.
    """
    structure: Any
    flat, structure = jax.tree.flatten(updates, is_leaf=is_none)
    theirs, expected = jax.tree.flatten(params, is_leaf=is_none)
    if structure != expected:
        raise LeafError(_first_difference(updates, params, "the updates", "the parameters"))
    for i, (u, p) in enumerate(zip(flat, theirs, strict=True)):
        if present(u) and p is not None and np.shape(u) != np.shape(p):
            path = _paths(updates)[i]
            raise LeafError(f"leaf '{path}': the update has shape {np.shape(u)}, the parameter {np.shape(p)}")


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
    """Accumulators filled with `value`: the shapes and shardings of `params`, float32 or wider unless `dtype` says."""
    return jax.tree.map(lambda p: jnp.full_like(p, value, dtype=_accumulator_dtype(p, dtype)), params)


def zeros_like(params: Tree, dtype: Any = None) -> Tree:
    """Accumulators of zeros; see `full_like`."""
    return full_like(params, 0, dtype)


def real_like(params: Tree) -> Tree:
    """What |·| of these leaves looks like: complex leaves become real, the others are returned untouched."""
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
    """`tree` with a buffer of its own for every leaf, so that it can be donated: what occurs twice, or in one of the
    other trees, is copied."""
    seen = {id(leaf) for leaf in jax.tree.leaves(others)}

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
            return leaf
        leaf = leaf.copy() if id(leaf) in seen else leaf
        seen.add(id(leaf))
        return leaf

    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    own_leaves = list(map(own, leaves))
    shared = any(a is not b for a, b in zip(leaves, own_leaves, strict=True))
    return structure.unflatten(own_leaves) if shared else tree


# Numbers that neither overflow nor divide by zero


@functools.cache
def least(dtype: Any) -> float:
    """The least number to divide by, 2e-37 in float32: XLA may flush the very smallest normal numbers to 0."""
    return 16 * float(jnp.finfo(dtype).tiny)


@functools.cache
def _limit(dtype: Any) -> float:
    """2⁻¹⁰ of the root of the largest float, 2e16 in float32: a million squares of it can be added."""
    return float(jnp.finfo(dtype).max) ** 0.5 / 1024


def bounded(x: jax.Array) -> jax.Array:
    """|x| of finite x bounded where its square would overflow; infinite and NaN entries stay, to be seen."""
    limit = _limit(x.dtype)
    if jnp.iscomplexobj(x):
        size = jnp.abs(x)
        return jnp.where((size > limit) & (size < jnp.inf), x * (limit / jnp.maximum(size, limit)), x)
    low, high = (jnp.asarray(bound, x.dtype) for bound in (-limit, limit))
    return jax.lax.select(jax.lax.is_finite(x), jax.lax.clamp(low, x, high), x)


def bounded_or_nan(x: jax.Array) -> jax.Array:
    """As `bounded`, but infinite entries become NaN.

    By arithmetic alone: what has a `select` or `clamp`, XLA:CPU does not sum on the way, but writes to memory first.
    """
    if jnp.iscomplexobj(x):
        return bounded(x)
    limit = jnp.asarray(_limit(x.dtype), x.dtype)
    return jnp.minimum(jnp.maximum(x, -limit), limit) + (x - x)


def abs_squared(x: jax.Array) -> jax.Array:
    """|x|², real for complex x too, bounded at the square of where `bounded` bounds x.

    One finite spike then cannot make a sum of squares infinite for good. It is not written with `bounded`: a shared
    intermediate of several operations is what XLA writes to memory instead of computing it twice.
    """
    return jnp.minimum(_squared(x), _limit(x.dtype) ** 2)


def mean_square(x: jax.Array, axis: int) -> jax.Array:
    """The mean of |x|² along an axis, real and bounded as `abs_squared` is.

    The bound comes last: XLA then reads x as it is, and writes no bounded squares for two means to share.
    """
    return jnp.minimum(jnp.sum(_squared(x), axis) / x.shape[axis], _limit(x.dtype) ** 2)


def _squared(x: jax.Array) -> jax.Array:
    return x.real * x.real + x.imag * x.imag if jnp.iscomplexobj(x) else x * x


def sqrt(x: jax.Array, eps: Any = 0.0) -> jax.Array:
    """√(x + ε) with a finite derivative at 0, for gradients through an update: the least number is added."""
    return jnp.sqrt(x + (eps + least(x.dtype)))


def ratio(a: Any, b: jax.Array) -> jax.Array:
    """a / b; 0 where b is 0, with finite derivatives there."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))

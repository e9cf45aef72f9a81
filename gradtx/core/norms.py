"""Norms that neither overflow nor divide by zero: of one array, of each leaf of a tree, of all leaves together.

Of many leaves the squares are added in one pass. Only where a sum is too large or too small to be right (entries at
1e30, or below 1e-19) the leaves are read again, each scaled by a power of two. Small leaves of one shape are taken
a few at a time: a sum of its own for each is what takes long, to compile and to run.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.recompute import SMALL, anew
from gradtx.core.tree import as_float32, is_none, map_leaves, present

__all__ = ["global_norm", "in_both", "norm", "of_norms", "rms"]

Tree = Any

GROUP, JOINED = 8, 32  # leaves, and vectors, that are put together at once


def norm(x: jax.Array) -> jax.Array:
    """The 2-norm of one array, in float32 or wider, with the derivative 0, not NaN, at 0.

    Divides by the largest entry before squaring: three passes, but no branch, which a GPU would have to wait for. Of
    many leaves take `of_norms`, with one branch for all.
    """
    x = as_float32(x)
    if jnp.iscomplexobj(x):
        x = jnp.abs(x)
    if not np.size(x):
        return jnp.zeros((), x.dtype)
    # Not max|x|: XLA would write the |x| of two readers to memory. The reciprocal must not be denormal; nor may its
    # square be infinite, as XLA may square it by itself.
    low, high = 2 * float(jnp.finfo(x.dtype).tiny) ** 0.5, float(jnp.finfo(x.dtype).max) / 16
    largest = jax.lax.stop_gradient(jnp.clip(jnp.maximum(jnp.max(x), -jnp.min(x)), low, high))
    return _or_zero(jnp.sum(jnp.square(x * (1 / largest))), lambda total: largest * jnp.sqrt(total))


def rms(x: jax.Array) -> jax.Array:
    """√mean|x|² of one array; 0 for an empty one."""
    return norm(x) / max(np.size(x), 1) ** 0.5


def of_norms(f: Callable[..., jax.Array], *trees: Tree) -> Tree:
    """f(norms, size) of each leaf, from the 2-norms that it has in these trees; None where it is None.

    Args:
      f: `f(*norms, size=…)`: the norm in each tree, in float32 or wider, and the number of elements; returns a number
        (or an array, where a hyperparameter is one).
      *trees: of the same structure and shapes.
    """
    structure: Any = jax.tree.structure(trees[0], is_leaf=is_none)
    columns = [structure.flatten_up_to(tree) for tree in trees]
    groups = _alike(*columns)
    lengths = iter(_norms([_Group([column[i] for i in places]) for places in groups for column in columns]))
    results: list[Any] = [None] * structure.num_leaves
    for places in groups:
        of_each = jax.vmap(functools.partial(f, size=np.size(columns[0][places[0]])))
        for i, result in zip(places, jnp.unstack(of_each(*(next(lengths) for _ in columns))), strict=True):
            results[i] = result
    return structure.unflatten(results)


def global_norm(updates: Tree) -> jax.Array:
    """√Σ|x|² over all leaves of a tree, in float32 or wider."""
    leaves = jax.tree.leaves(updates, is_leaf=is_none)
    groups = [_Group([leaves[i] for i in places]) for places in _alike(leaves)]
    if not groups:
        return jnp.zeros(())
    sums = [group.of_each(_sum_of_squares) for group in groups]
    total = jnp.sum(_joined(sums))
    return _if_right([total], lambda: _root(total), lambda: norm(_joined(_again(groups, sums))))


def in_both(updates: Tree, params: Tree) -> tuple[Tree, Tree]:
    """The updates and the parameters where both are present; the others None."""
    return map_leaves(lambda u, p: u, updates, params), map_leaves(lambda u, p: p, updates, params)


class _Group:
    """Small leaves of one shape, or one leaf."""

    def __init__(self, leaves: list[Any]):
        self.leaves = leaves
        self.together = jnp.stack(list(map(_magnitude, leaves))) if len(leaves) > 1 else None

    def of_each(self, f: Callable[..., jax.Array], *numbers: jax.Array) -> jax.Array:
        """The vector of f(leaf, *numbers of the leaf)."""
        if self.together is not None:
            return jax.vmap(f)(self.together, *numbers)
        return f(_magnitude(self.leaves[0]), *(vector[0] for vector in numbers))[None]


def _magnitude(x: Any) -> jax.Array:
    x = as_float32(anew(x))
    return jnp.abs(x) if jnp.iscomplexobj(x) else x


def _alike(*columns: list[Any]) -> list[list[int]]:
    """The places of the leaves that are taken together."""
    places: dict[Any, list[int]] = {}
    for i, row in enumerate(zip(*columns, strict=True)):
        if all(map(present, row)):
            alone = i if np.size(row[0]) > SMALL else None
            places.setdefault((alone, *map(jax.typeof, row)), []).append(i)
    return [alike[i : i + GROUP] for alike in places.values() for i in range(0, len(alike), GROUP)]


def _norms(groups: list[_Group]) -> list[jax.Array]:
    sums = [group.of_each(_sum_of_squares) for group in groups]
    if not sums:
        return []
    return _if_right(sums, lambda: list(map(_root, sums)), lambda: _again(groups, sums))


def _sum_of_squares(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x))


def _if_right(sums: list[jax.Array], right: Callable[[], Any], wrong: Callable[[], Any]) -> Any:
    """`right()` if these sums of squares have not left the range of their dtypes, else `wrong()`."""
    low, together = max(_least_sum(x.dtype) for x in sums), _joined(list(map(jnp.atleast_1d, sums)))
    left = jnp.any((together == jnp.inf) | (together < low))  # NaN shall stay NaN
    if isinstance(left, jax.core.Tracer):
        return jax.lax.cond(left, wrong, right)
    return wrong() if left else right()  # outside of `jit` a branch would be compiled anew for every call


def _least_sum(dtype: Any) -> float:
    """Smaller sums of squares may have lost entries to the denormal numbers: 2e-24 in float32."""
    return float(jnp.finfo(dtype).tiny) ** 0.625


def _root(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(x, jnp.finfo(x.dtype).tiny))  # 0 is never right, but has a derivative


def _again(groups: list[_Group], sums: list[jax.Array]) -> list[jax.Array]:
    """The norms of leaves whose sums of squares say by what to scale them before."""
    return [group.of_each(_scaled_norm, vector) for group, vector in zip(groups, sums, strict=True)]


def _scaled_norm(x: jax.Array, total: jax.Array) -> jax.Array:
    # XLA may square a scale by itself: its square, too, must be neither infinite nor denormal.
    large = 2.0 ** (jnp.finfo(x.dtype).maxexp // 2 - 1)
    scale = jnp.where(total == jnp.inf, 1 / large, jnp.where(total < _least_sum(x.dtype), large, 1))
    return _or_zero(jnp.sum(jnp.square(scale.astype(x.dtype) * x)), lambda total: jnp.sqrt(total) / scale)


def _or_zero(total: jax.Array, root: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """root(total), and 0 with a finite derivative where the total is 0; of NaN it is NaN."""
    return jnp.where(total == 0, 0, root(jnp.where(total == 0, 1, total)))


def _joined(vectors: list[jax.Array]) -> jax.Array:
    """All in one vector: XLA takes time in the square of the number of operands."""
    while len(vectors) > 1:
        vectors = [jnp.concatenate(vectors[i : i + JOINED]) for i in range(0, len(vectors), JOINED)]
    return vectors[0]

"""Norms that neither overflow nor divide by zero: of one array, of each leaf of a tree, of all leaves together.

Of many leaves the squares are added in one pass. Only where a sum is too large or too small to be right (entries at
1e30, or below 1e-19) the leaves are read again, each scaled by a power of two.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.recompute import SMALL, anew
from gradtx.core.tree import as_float32, is_none, map_leaves, map_some, present

__all__ = ["global_norm", "in_both", "norm", "norms", "rms", "rms_of_leaves"]

Tree = Any

# How many small things to put together at once: XLA takes time in the square of the number of operands.
GROUP = 32


def norm(x: jax.Array) -> jax.Array:
    """The 2-norm of one array, in float32 or wider, with the derivative 0, not NaN, at 0.

    Divides by the largest entry before squaring: three passes, but no branch, which a GPU would have to wait for. Of
    many leaves take `norms`, with one branch for all.
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


def norms(tree: Tree) -> Tree:
    """The 2-norm of each leaf, in float32 or wider; None where the leaf is."""
    sums = _sums_of_squares(tree)
    vectors = _vectors(sums)
    right, wrong = lambda: list(map(_root, vectors)), lambda: _vectors(_again(tree, sums))
    lengths = itertools.chain.from_iterable(map(jnp.unstack, _if_right(vectors, right, wrong) if sums else []))
    return jax.tree.map(lambda x: next(lengths) if present(x) else None, tree, is_leaf=is_none)


def rms_of_leaves(tree: Tree) -> Tree:
    """√mean|x|² of each leaf; 0 for an empty leaf."""
    return map_some(lambda length, x: length / max(np.size(x), 1) ** 0.5, norms(tree), tree)


def global_norm(updates: Tree) -> jax.Array:
    """√Σ|x|² over all leaves of a tree, in float32 or wider."""
    sums = _sums_of_squares(updates)
    if not sums:
        return jnp.zeros(())
    total = jnp.sum(jnp.concatenate(_vectors(sums)))
    return _if_right([total], lambda: _root(total), lambda: norm(jnp.concatenate(_vectors(_again(updates, sums)))))


def in_both(updates: Tree, params: Tree) -> tuple[Tree, Tree]:
    """The updates and the parameters where both are present; the others None."""
    return map_leaves(lambda u, p: u, updates, params), map_leaves(lambda u, p: p, updates, params)


def _magnitudes(tree: Tree) -> list[jax.Array]:
    wide = [as_float32(anew(x)) for x in jax.tree.leaves(tree) if present(x)]
    return [jnp.abs(x) if jnp.iscomplexobj(x) else x for x in wide]


def _sums_of_squares(tree: Tree) -> list[jax.Array]:
    return [jnp.sum(jnp.square(x)) for x in _magnitudes(tree)]


def _if_right(sums: list[jax.Array], right: Callable[[], Any], wrong: Callable[[], Any]) -> Any:
    """`right()` if these sums of squares have not left the range of their dtype, else `wrong()`."""
    low = max(_least_sum(x.dtype) for x in sums)
    left = functools.reduce(operator.or_, [jnp.any((x == jnp.inf) | (x < low)) for x in sums])  # NaN shall stay NaN
    if isinstance(left, jax.core.Tracer):
        return jax.lax.cond(left, wrong, right)
    return wrong() if left else right()  # outside of `jit` a branch would be compiled anew for every call


def _least_sum(dtype: Any) -> float:
    """Smaller sums of squares may have lost entries to the denormal numbers: 2e-24 in float32."""
    return float(jnp.finfo(dtype).tiny) ** 0.625


def _root(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(x, jnp.finfo(x.dtype).tiny))  # 0 is never right, but has a derivative


def _again(tree: Tree, sums: list[jax.Array]) -> list[jax.Array]:
    """The norm of each, whose sum of squares says by what to scale it before.

    Small leaves of one shape are taken together, so that the branch that is hardly ever taken compiles quickly.
    """
    leaves = _magnitudes(tree)
    lengths = [jnp.zeros(())] * len(leaves)
    for places in _alike(leaves):
        if len(places) == 1:
            (i,) = places
            lengths[i] = _scaled_norm(leaves[i], sums[i])
            continue
        together = jax.vmap(_scaled_norm)(*(jnp.stack([tree[i] for i in places]) for tree in (leaves, sums)))
        for i, length in zip(places, jnp.unstack(together), strict=True):
            lengths[i] = length
    return lengths


def _scaled_norm(x: jax.Array, total: jax.Array) -> jax.Array:
    # XLA may square a scale by itself: its square, too, must be neither infinite nor denormal.
    large = 2.0 ** (jnp.finfo(x.dtype).maxexp // 2 - 1)
    scale = jnp.where(total == jnp.inf, 1 / large, jnp.where(total < _least_sum(x.dtype), large, 1))
    return _or_zero(jnp.sum(jnp.square(scale.astype(x.dtype) * x)), lambda total: jnp.sqrt(total) / scale)


def _or_zero(total: jax.Array, root: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """root(total), and 0 with a finite derivative where the total is 0; of NaN it is NaN."""
    return jnp.where(total == 0, 0, root(jnp.where(total == 0, 1, total)))


def _alike(leaves: list[jax.Array]) -> Iterator[list[int]]:
    places: dict[Any, list[int]] = {}
    for i, x in enumerate(leaves):
        places.setdefault((x.shape, x.dtype, i if x.size > SMALL else None), []).append(i)
    for alike in places.values():
        yield from (alike[i : i + GROUP] for i in range(0, len(alike), GROUP))


def _vectors(numbers: list[jax.Array]) -> list[jax.Array]:
    """0-d arrays as vectors of a few each."""
    return [jnp.stack(numbers[i : i + GROUP]) for i in range(0, len(numbers), GROUP)]

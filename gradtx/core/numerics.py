"""Numbers that neither overflow nor divide by zero: squares, roots, quotients, norms.

Written like the formulas, for GPU and TPU, where XLA fuses them with the code around them. Where XLA does better with
another form on CPU, that form is chosen here when a program is lowered: `norm`, `apart`, `after`, `aside` (and in
`accumulate`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.core.tree import as_float32, is_none, present

__all__ = [
    "SMALL",
    "abs_squared",
    "after",
    "apart",
    "aside",
    "average",
    "bounded",
    "dot",
    "global_dot",
    "global_norm",
    "hypot",
    "increment",
    "joined",
    "least",
    "most",
    "norm",
    "norms",
    "overall",
    "ratio",
    "rms",
    "seen",
    "sqrt",
    "squared",
    "unseen",
]

Tree = Any

SMALL = 2**14  # elements; what is computed from a smaller leaf is still in the cache when it is read again


# Averages and counts


def average(decay: Any, before: Any, new: Any) -> Any:
    """β·a + (1−β)·x, one step of an exponential moving average."""
    return decay * before + (1 - decay) * new


def seen(decay: Any, weight: Any) -> Any:
    """The weight of an average after one more step, 1 − βᵗ, computed as the same average of ones."""
    return average(decay, weight, 1.0)


def unseen(decay: Any) -> jax.Array:
    """The weight of an average that has seen nothing yet."""
    return jnp.zeros(jnp.shape(decay))


def increment(count: jax.Array) -> jax.Array:
    """count + 1; stays at the largest int32 instead of wrapping to a negative count."""
    return jnp.maximum(count + 1, count)


# Ranges


@functools.cache
def least(dtype: Any) -> float:
    """The smallest number to divide by, 2e-37 in float32: XLA may flush the very smallest normal numbers to 0."""
    return 16 * float(jnp.finfo(dtype).tiny)


@functools.cache
def most(dtype: Any) -> float:
    """2⁻¹⁰ of the root of the largest float, 2e16 in float32: a million squares of it can be added."""
    return float(jnp.finfo(dtype).max) ** 0.5 / 1024


def bounded(x: jax.Array) -> jax.Array:
    """x, with |x| bounded where its square would overflow; infinite and NaN entries stay, so that they are noticed."""
    limit = most(x.dtype)
    if jnp.iscomplexobj(x):
        size = jnp.abs(x)
        return jnp.where((size > limit) & (size < jnp.inf), x * (limit / jnp.maximum(size, limit)), x)
    low, high = (jnp.asarray(bound, x.dtype) for bound in (-limit, limit))
    return jax.lax.select(jax.lax.is_finite(x), jax.lax.clamp(low, x, high), x)


def abs_squared(x: jax.Array) -> jax.Array:
    """|x|², real for complex x too, bounded at the square of where `bounded` bounds x.

    One finite spike then cannot make a sum of squares infinite for good. It is not written with `bounded`: a shared
    intermediate of several operations is what XLA writes to memory instead of computing it twice.
    """
    return jnp.minimum(squared(x), most(x.dtype) ** 2)


def squared(x: jax.Array) -> jax.Array:
    """|x|², real for complex x too."""
    return x.real * x.real + x.imag * x.imag if jnp.iscomplexobj(x) else x * x


def sqrt(x: jax.Array, eps: Any = 0.0) -> jax.Array:
    """√(x + ε) with a finite derivative at 0, for gradients through an update: `least` is added under the root."""
    return jnp.sqrt(x + (eps + least(x.dtype)))


def ratio(a: Any, b: jax.Array) -> jax.Array:
    """a / b; 0 where b is 0, with finite derivatives there."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


# Norms


def norm(x: jax.Array) -> jax.Array:
    """The 2-norm of an array, in float32 or wider; its derivative at 0 is 0, not NaN.

    Entries of 1e30 do not overflow and those of 1e-30 do not vanish. It takes one pass, and fuses with what computes x.
    """
    return norms(x)[0]


def norms(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The norms of arrays of the same shape, read in one pass."""
    return _sizes(*(jnp.abs(as_float32(x)) for x in arrays))


def overall(sizes: jax.Array) -> jax.Array:
    """The norm of the whole, from a vector of the norms of its parts."""
    return _sizes(sizes)[0]


@jax.custom_jvp
@jax.jit
def _sizes(*xs: jax.Array) -> tuple[jax.Array, ...]:
    """The norms of nonnegative arrays."""
    if any(x.dtype == jnp.float64 for x in xs):
        return _over_the_largest(*xs)
    on_gpu = _at_once if len(xs) > 1 and xs[0].size > SMALL else _one_by_one
    return jax.lax.platform_dependent(*xs, cpu=_one_by_one, cuda=on_gpu, rocm=on_gpu, default=_by_hypot)


@_sizes.defjvp
def _slopes(xs: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    sizes = _sizes(*xs)
    return sizes, tuple(jnp.sum(ratio(x, size) * t) for x, size, t in zip(xs, sizes, tangents, strict=True))


def _one_by_one(*xs: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(_at_once(x)[0] for x in xs)


def _at_once(*xs: jax.Array) -> tuple[jax.Array, ...]:
    """In float64, where squares of float32 neither overflow nor vanish, as one reduction.

    If the array that several reductions read is also updated, XLA:GPU lets only one of them read it in place.
    """
    with jax.enable_x64(True):
        wide = [jax.lax.convert_element_type(x, jnp.float64) for x in xs]
        zeros, axes = [np.zeros(())] * len(xs), tuple(range(xs[0].ndim))
        totals = jax.lax.reduce([x * x for x in wide], zeros, lambda a, b: list(map(jax.lax.add, a, b)), axes)
        return tuple(jax.lax.convert_element_type(jax.lax.sqrt(t), x.dtype) for t, x in zip(totals, xs, strict=True))


def _by_hypot(*xs: jax.Array) -> tuple[jax.Array, ...]:
    """A reduction by `hypot`, where there is no float64. (GPUs could not reduce it across several devices.)"""
    return tuple(jax.lax.reduce(x, np.zeros((), x.dtype), hypot, tuple(range(x.ndim))) for x in xs)


def _over_the_largest(*xs: jax.Array) -> tuple[jax.Array, ...]:
    """For float64, which has no wider dtype, in two passes."""
    largest = [jnp.max(x, initial=0) for x in xs]
    return tuple(m * jnp.sqrt(jnp.sum(jnp.square(ratio(x, m)))) for x, m in zip(xs, largest, strict=True))


def hypot(a: Any, b: Any) -> jax.Array:
    """√(a² + b²) of nonnegative numbers, even if their squares overflow; with finite derivatives at 0."""
    large, small = jnp.maximum(a, b), jnp.minimum(a, b)
    return large * jnp.sqrt(1 + jnp.square(small / jnp.where(large < least(large.dtype), 1, large)))


def rms(x: jax.Array) -> jax.Array:
    """√mean|x|² of one array; 0 for an empty one."""
    return norm(x) / max(np.size(x), 1) ** 0.5


def joined(numbers: Sequence[jax.Array]) -> jax.Array:
    """The numbers as a vector, joined a few at a time: XLA takes quadratic time in the number given at once."""
    vectors = [jnp.stack(numbers[i : i + 32]) for i in range(0, len(numbers), 32)] or [jnp.zeros(0)]
    while len(vectors) > 1:
        vectors = [jnp.concatenate(vectors[i : i + 32]) for i in range(0, len(vectors), 32)]
    return vectors[0]


def global_norm(updates: Tree) -> jax.Array:
    """√Σ|x|² over all leaves of a tree, in float32 or wider."""
    return overall(joined([norm(x) for x in jax.tree.leaves(updates, is_leaf=is_none) if present(x)]))


# Inner products


@jax.jit
def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """Σ Re(x̄·y) of two arrays, |x| bounded where its square would overflow."""
    return jnp.sum(jnp.real(jnp.conj(bounded(x)) * y))


def global_dot(a: Tree, b: Tree) -> jax.Array:
    """Σ Re(ā·b) over all leaves of two trees."""
    pairs = zip(*(jax.tree.leaves(tree, is_leaf=is_none) for tree in (a, b)), strict=True)
    products = [dot(as_float32(x), as_float32(y)) for x, y in pairs if present(x) and present(y)]
    return sum(products, start=jnp.zeros(()))


# In which order, and how often


def after(x: jax.Array, *others: jax.Array) -> jax.Array:
    """x, stored only once the others are computed; where all of them are NaN, it may be NaN.

    XLA:CPU would otherwise store it first, over an array that the others read, and copy that array beforehand.
    """

    def on_cpu(x: jax.Array, *others: jax.Array) -> jax.Array:
        lost = functools.reduce(jnp.logical_and, (jnp.isnan(y.real) for y in others))
        return jnp.where(lost, jnp.nan, x)

    return jax.lax.platform_dependent(x, *others, cpu=on_cpu, default=lambda x, *_: x)


def apart(numbers: Tree) -> Tree:
    """Numbers that enter a computation for every entry of an array.

    XLA:CPU divides by 1 / w, computed once, only if nothing else reads w, not even the state that is returned.
    """
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves(numbers)):
        return numbers
    return jax.lax.platform_dependent(numbers, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def aside(f: Callable[..., Any], *args: Any) -> Any:
    """f(*args); on CPU, within a trace, as a computation of its own.

    To take the norm of a direction and then use the direction, XLA would write it to memory. On GPU and TPU, XLA
    computes it twice if it is cheap; XLA:CPU does so only if nothing else reads its operands, not even a 0.9 that was
    broadcast to the shape of a leaf. It must not see that both are the same, and it does not look into a branch.
    """
    if not any(isinstance(x, Tracer) for x in args):
        return f(*args)
    once = jax.jit(f)  # one trace for the branch, for its shape and for the other platforms

    def on_cpu(*args: Any) -> Any:
        shape = jax.eval_shape(once, *args)
        always = jax.lax.optimization_barrier(jnp.ones((), bool))
        return jax.lax.cond(always, once, lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape), *args)

    return jax.lax.platform_dependent(*args, cpu=on_cpu, default=once)

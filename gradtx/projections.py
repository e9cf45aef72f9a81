"""Projections: the nearest point of a set, and `project_params`, which keeps the parameters in it.

A projection is a function of a tree, taken as one vector: P(x) = argmin ‖x − y‖₂ over all y in the set. Leaves keep
their dtypes (integers become float32); None leaves stay None. Derivatives are those of the side that a point is on, and
finite everywhere. Where the nearest point is not unique (the centre of a sphere) or the set is degenerate (a = 0), each
function documents what it returns.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import NonNegative, checked
from gradtx.core.numerics import global_norm
from gradtx.core.transformation import transformation
from gradtx.core.tree import LeafError, as_float32, is_none, map_leaves, present

__all__ = [
    "project_params",
    "projection_box",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_simplex",
    "projection_vector",
]

Tree = Any


# Element by element


def projection_non_negative(tree: Tree) -> Tree:
    """Onto the vectors without negative entries: max(x, 0).

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_non_negative(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _map(jax.nn.relu, tree)


def projection_box(tree: Tree, lower: Any, upper: Any) -> Tree:
    """Onto a box: min(max(x, lower), upper).

    Args:
      tree: a pytree of real arrays.
      lower: a number, an array that broadcasts to the leaves, or a tree of them, with the structure of `tree` or a
        prefix of it. None for no bound.
      upper: likewise; where it is below `lower`, it wins.

    Raises:
      LeafError: a tree of bounds does not fit.

    >>> import gradtx, jax.numpy as jnp
    >>> point = {"w": jnp.array([-3.0, 0.5, 3.0]), "b": jnp.array(3.0)}
    >>> gradtx.projections.projection_box(point, -1.0, {"w": 1.0, "b": None})["w"].tolist()
    [-1.0, 0.5, 1.0]
    """

    def inside(x: Any, low: Any, high: Any) -> Any:
        return _map(lambda x: jnp.clip(x, low, high).astype(x.dtype), x)

    return jax.tree.map(inside, tree, _spread("lower", lower, tree), _spread("upper", upper, tree), is_leaf=is_none)


def projection_hypercube(tree: Tree, scale: Any = 1) -> Tree:
    """Onto a cube with a corner at 0: entries in [0, scale]. `scale` may be any bound that `projection_box` takes.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_hypercube(jnp.array([-1.0, 0.5, 3.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return projection_box(tree, 0, scale)


def projection_linf_ball(tree: Tree, scale: Any = 1) -> Tree:
    """Onto the ball max|x| ≤ scale: entries in [−scale, scale].

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_linf_ball(jnp.array([-3.0, 0.5]), scale=2.0).tolist()
    [-2.0, 0.5]
    """
    scale = _radius("projection_linf_ball", scale)
    return projection_box(tree, -scale, scale)


# Sums of entries


def projection_simplex(tree: Tree, scale: Any = 1) -> Tree:
    """Onto the simplex y ≥ 0, Σy = scale: max(x − τ, 0), with the τ that gives this sum.

    Args:
      tree: a pytree of real arrays. An entry of −∞ becomes 0.
      scale: the sum, at least 0; a negative number raises a ValueError.

    τ is found without sorting: an estimate, the mean excess of the entries above it, rises to τ in a few rounds.

    Source: Michelot 1986, https://doi.org/10.1007/BF00938486; Condat 2016, https://doi.org/10.1007/s10107-015-0946-6

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_simplex({"w": jnp.array([2.0, 3.0]), "b": 0.5}, scale=3.0)["w"].tolist()
    [1.0, 2.0]
    """
    largest, below = _threshold(tree, _radius("projection_simplex", scale))
    return _map(lambda x: jax.nn.relu(x - largest + below), tree)


def projection_l1_sphere(tree: Tree, scale: Any = 1) -> Tree:
    """Onto the sphere Σ|y| = scale. A zero entry that has to move becomes positive (Optax leaves it at 0).

    Args:
      tree: a pytree of arrays.
      scale: the radius, at least 0; a negative number raises a ValueError.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_l1_sphere(jnp.array([-3.0, 0.0, 1.0]), scale=2.0).tolist()
    [-2.0, 0.0, 0.0]
    >>> gradtx.projections.projection_l1_sphere(jnp.zeros(4)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    largest, below = _threshold(_map(jnp.abs, tree), _radius("projection_l1_sphere", scale))
    return _map(lambda x: _signed(x, jnp.abs(x) - largest + below), tree)


def projection_l1_ball(tree: Tree, scale: Any = 1) -> Tree:
    """Onto the ball Σ|y| ≤ scale: every |x| shrinks by the same amount, down to 0. A point inside stays as it is.

    Args:
      tree: a pytree of arrays.
      scale: the radius, at least 0; a negative number raises a ValueError.

    Source: Duchi et al. 2008, https://doi.org/10.1145/1390156.1390191

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_l1_ball(jnp.array([-3.0, 0.5, 2.0]), scale=2.0).tolist()
    [-1.5, 0.0, 0.5]
    """
    largest, below = _threshold(_map(jnp.abs, tree), _radius("projection_l1_ball", scale))
    return _map(lambda x: jnp.where(below < largest, _signed(x, jnp.abs(x) - largest + below), x), tree)


# Lengths


def projection_l2_sphere(tree: Tree, scale: Any = 1) -> Tree:
    """Onto the sphere ‖y‖₂ = scale: scale·x/‖x‖. Zero becomes the point with equal entries.

    Args:
      tree: a pytree of arrays.
      scale: the radius, at least 0; a negative number raises a ValueError.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_l2_sphere(jnp.array([3.0, -4.0]), scale=10.0).tolist()
    [6.0, -8.0]
    """
    radius, length = _radius("projection_l2_sphere", scale), global_norm(tree)
    size = max(sum(jnp.size(x) for x in jax.tree.leaves(tree)), 1)
    return _map(lambda x: jnp.where(length > 0, x * (radius / _or_one(length)), radius * size**-0.5), tree)


def projection_l2_ball(tree: Tree, scale: Any = 1) -> Tree:
    """Onto the ball ‖y‖₂ ≤ scale: x·min(1, scale/‖x‖).

    Args:
      tree: a pytree of arrays.
      scale: the radius, at least 0; a negative number raises a ValueError.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_l2_ball({"w": jnp.array([3.0, 0.0]), "b": -4.0}, scale=2.5)["w"].tolist()
    [1.5, 0.0]
    """
    radius, length = _radius("projection_l2_ball", scale), global_norm(tree)
    factor = jnp.where(length > radius, radius / _or_one(length), 1)
    return _map(lambda x: factor * x, tree)


# Lines and planes


def projection_vector(x: Tree, a: Tree) -> Tree:
    """Onto the line through 0 and a: a·⟨a, x⟩/⟨a, a⟩; 0 where a is 0.

    Args:
      x: a pytree of arrays.
      a: the same structure and shapes.

    Raises:
      LeafError: they do not match.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_vector(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0])).round(2).tolist()
    [2.0, 2.0]
    """
    unit, _ = _direction(a)
    along = _dot(unit, x)
    return _map(lambda x, e: along * e, x, unit)


def projection_hyperplane(x: Tree, a: Tree, b: Any) -> Tree:
    """Onto the plane ⟨a, y⟩ = b: x + a·(b − ⟨a, x⟩)/⟨a, a⟩; x itself where a is 0.

    Args:
      x: a pytree of real arrays.
      a: the normal, the same structure and shapes.
      b: a number.

    Raises:
      LeafError: x and a do not match.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_hyperplane(jnp.array([1.0, 3.0]), jnp.array([0.0, 2.0]), b=2.0).tolist()
    [1.0, 1.0]
    """
    unit, length = _direction(a)
    missing = b / _or_one(length) - _dot(unit, x)
    return _map(lambda x, e: x + missing * e, x, unit)


def projection_halfspace(x: Tree, a: Tree, b: Any) -> Tree:
    """Onto the half-space ⟨a, y⟩ ≤ b: like `projection_hyperplane` from outside; a point inside stays as it is.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.projections.projection_halfspace(jnp.array([1.0, 3.0]), jnp.array([0.0, 2.0]), b=8.0).tolist()
    [1.0, 3.0]
    """
    unit, length = _direction(a)
    missing = jnp.minimum(b / _or_one(length) - _dot(unit, x), 0)
    return _map(lambda x, e: x + missing * e, x, unit)


# In an optimizer


@transformation
def project_params(projection: Any, **arguments: Any) -> Any:
    """Keep the parameters in a set: the updates become P(θ + u) − θ. Last in a chain.

    Args:
      projection: the name of a projection of this module ("non_negative", "box", "simplex", "l2_ball", …), or a
        function of a tree that returns one of the same structure.
      **arguments: the projection's other arguments, such as `scale=2.0`: numbers of the transformation.

    Needs the parameters. Leaves without an update take no part; within `masked`, the chosen leaves are projected.

    After `apply_updates` the parameters are in the set up to one rounding of θ + u to their dtype. With
    "non_negative", no parameter is below 0, in any dtype. That rounding can cross a bound of a box (in bfloat16 only
    if the bound itself is not a bfloat16 number), and a sum or a norm holds to the precision of the dtype.

    Raises:
      ValueError: there is no projection of this name; lists them.

    Source: Goldstein 1964, https://doi.org/10.1090/S0002-9904-1964-11178-2

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.project_params("l2_ball", scale=2.0))
    >>> params = jnp.array([2.0, 0.0])
    >>> updates, _ = tx.update(jnp.array([-4.0, 0.0]), tx.init(params), params)
    >>> gradtx.apply_updates(params, updates).tolist()
    [2.0, 0.0]
    """
    project = _named(projection) if isinstance(projection, str) else projection

    def update(updates: Tree, state: Any, params: Tree) -> tuple[Tree, Any]:
        # θ + (P − θ) with P ≥ 0 is never below 0, however it is rounded: rounding is monotonic.
        projected = project(map_leaves(lambda u, p: p + u, updates, params), **arguments)
        return map_leaves(lambda new, p: new - p, projected, params), state

    return None, update


# Parts


def _map(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """`map_leaves`, with the dtypes of the first tree."""

    def cast(new: Any, old: Any) -> Any:
        if new is None or not jnp.issubdtype(jnp.result_type(old), jnp.inexact):
            return new
        return new.astype(jnp.result_type(old))

    return jax.tree.map(cast, map_leaves(f, tree, *rest), tree, is_leaf=is_none)


def _spread(name: str, bound: Any, tree: Tree) -> Tree:
    """A bound for every leaf, from a single bound or a tree of them."""
    try:
        return jax.tree.map(lambda b, below: jax.tree.map(lambda _: b, below), bound, tree, is_leaf=is_none)
    except (ValueError, TypeError) as error:
        raise LeafError(f"projection_box: the tree of bounds {name!r} does not fit: {error}") from error


def _radius(owner: str, scale: Any) -> Any:
    return checked(NonNegative, owner, "scale", scale)


def _or_one(length: jax.Array) -> jax.Array:
    """The length, or 1 where it is 0, to divide by."""
    return jnp.where(length > 0, length, 1)


def _threshold(tree: Tree, total: Any) -> tuple[jax.Array, jax.Array]:
    """The τ with Σ max(x − τ, 0) = total, as the largest entry and how far τ is below it: τ itself may be rounded.

    τ is the mean of the entries above it, minus each one's equal share of the total.
    """
    leaves = [as_float32(x) for x in jax.tree.leaves(tree) if present(x) and jnp.size(x)]
    if not leaves:
        return jnp.zeros(()), jnp.zeros(())
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack([jnp.max(x) for x in leaves])))
    depths = [largest - x for x in leaves]

    def kept(depths: list[jax.Array], below: Any) -> Any:
        return sum(jnp.sum(x < below) for x in depths)

    def mean(depths: list[jax.Array], below: Any, total: Any) -> Any:
        return (total + sum(jnp.sum(jnp.where(x < below, x, 0)) for x in depths)) / jnp.maximum(kept(depths, below), 1)

    # The rounds only determine which entries stay; the derivative is that of their mean.
    fixed, fixed_total = jax.lax.stop_gradient((depths, jnp.asarray(total, depths[0].dtype)))

    def rise(state: Any) -> Any:
        below, count, _ = state
        below = jnp.minimum(mean(fixed, below, fixed_total), below)
        return below, kept(fixed, below), count

    first = kept(fixed, fixed_total)
    below, *_ = jax.lax.while_loop(lambda state: state[1] < state[2], rise, (fixed_total, first, first + 1))
    return largest, mean(depths, below, total)


def _signed(x: jax.Array, size: jax.Array) -> jax.Array:
    """A size (at least 0) with the sign of x; 0 counts as positive."""
    return jnp.where(x == 0, 1, jnp.sign(x)) * jax.nn.relu(size)


def _direction(a: Tree) -> tuple[Tree, jax.Array]:
    """a/‖a‖ and ‖a‖; both are 0 if a is."""
    length = global_norm(a)
    return map_leaves(lambda x: x / _or_one(length), a), length


def _dot(a: Tree, x: Tree) -> jax.Array:
    return sum(map(jnp.sum, jax.tree.leaves(map_leaves(lambda a, x: jnp.conj(a) * x, a, x))), start=jnp.zeros(()))


def _named(name: str) -> Callable[..., Tree]:
    known = {public.removeprefix("projection_"): public for public in __all__ if public.startswith("projection_")}
    if name not in known:
        raise ValueError(f"project_params: no projection is named {name!r}; there are {', '.join(known)}")
    return globals()[known[name]]

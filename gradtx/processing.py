"""What is done to the updates on their way: cleaned, centred, normalised, made noisy, masked, laid out as one vector.

zero_nans, keep_params_nonnegative      no harm done
centralize, normalize_by_update_norm    mean and norm
add_noise                               to leave sharp valleys
cautious                                only where the step and the gradient agree
flatten                                 many small leaves as one vector
set_to_zero, freeze                     not at all
stateless, stateless_with_tree_map      a function of one's own
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import NonNegative, Real, numeric
from gradtx.core.build import initialize, run
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import increment, norm, overall, ratio
from gradtx.core.roles import Count, EmptyState, Factored, RandomKey
from gradtx.core.select import masked
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import as_float32, is_none, map_leaves, present

__all__ = [
    "Key",
    "add_noise",
    "cautious",
    "centralize",
    "flatten",
    "freeze",
    "keep_params_nonnegative",
    "normalize_by_update_norm",
    "set_to_zero",
    "stateless",
    "stateless_with_tree_map",
    "zero_nans",
]

Tree = Any


# No harm done


class ZeroNansState(NamedTuple):
    """Which leaves had a NaN."""

    found_nan: Factored  # a bool for each leaf, of the last step

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"leaves_with_nan": sum((x.astype(jnp.int32) for x in jax.tree.leaves(self.found_nan)), jnp.int32(0))}


@transformation
def zero_nans() -> Any:
    """Replace every NaN with 0. Which leaves had one, the state says; how many, `metrics(state)["leaves_with_nan"]`.

    To skip such a step as a whole, see `apply_if_finite`.

    State: one bool for each leaf.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.zero_nans()
    >>> updates, state = tx.update({"a": jnp.array([jnp.nan, 2.0])}, tx.init({"a": jnp.zeros(2)}))
    >>> updates["a"].tolist(), state.found_nan["a"].item()
    ([0.0, 2.0], True)
    """

    return leafwise(
        init=lambda p: ZeroNansState(jnp.zeros((), bool)),
        before=lambda u: jnp.any(jnp.isnan(u)),
        advance=lambda x: ZeroNansState(x),
        emit=lambda u: jnp.where(jnp.isnan(u), 0, u),
    )


@transformation
def keep_params_nonnegative() -> Any:
    """Shorten the steps that would make a parameter negative, so that it becomes 0: max(u, −θ). Last in a chain.

    Parameters that are negative move to 0. Needs the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative())
    >>> x = jnp.array([1.0, 3.0])
    >>> gradtx.apply_updates(x, tx.update(jnp.array([2.0, 2.0]), tx.init(x), x)[0]).tolist()
    [0.0, 1.0]
    """
    return leafwise(emit=lambda u, p: jnp.maximum(u, -p))


# Mean and norm


@transformation
def centralize() -> Any:
    """Subtract the mean over all axes but the first, from leaves of two and more axes: u − mean(u).

    Source: Yong et al. 2020, https://arxiv.org/abs/2004.01461

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.centralize()
    >>> tx.update(jnp.array([[1.0, 3.0], [4.0, 8.0]]), tx.init(jnp.zeros((2, 2))))[0].tolist()
    [[-1.0, 1.0], [-2.0, 2.0]]
    """

    def mean(u: jax.Array) -> Any:
        return jnp.mean(u, tuple(range(1, u.ndim)), keepdims=True) if u.ndim > 1 and u.size else 0

    return leafwise(before=mean, emit=lambda u, x: u - x)


@transformation
def normalize_by_update_norm(scale_factor: Real = 1.0, eps: NonNegative = 1e-6) -> Any:
    """Divide by the norm over all leaves: s·u / (‖u‖ + ε). Zero stays zero. (Optax divides by (‖u‖ + ε)/s.)

    Args:
      scale_factor: s, of any sign.
      eps: ε.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.normalize_by_update_norm(-2.0, eps=0.0)
    >>> tx.update(jnp.array([3e30, 4e30]), tx.init(jnp.zeros(2)))[0].round(6).tolist()
    [-1.2..., -1.6...]
    """

    return leafwise(
        together=(lambda u: norm(u), overall),
        numbers=lambda t: scale_factor * ratio(1, t + eps),
        emit=lambda u, n: n * u,
    )


# Noise


class _KeyKind:
    """The kind of a random key: an int, or a key of JAX, which is kept as its numbers."""

    def __repr__(self) -> str:
        return "Key"

    def check(self, owner: str, name: str, value: Any) -> Any:
        """Raise a TypeError unless it is an int or a key."""
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
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


Key = Annotated[Any, _KeyKind()]


class AddNoiseState(NamedTuple):
    """How far the noise has decayed, and its key."""

    count: Count  # int32, steps taken
    key: RandomKey  # uint32, what the next step's noise is made from


@transformation
def add_noise(eta: NonNegative, gamma: Real, key: Key | None = None, *, seed: Key | None = None) -> Any:
    """Add noise that fades: u + √(η/tᵞ)·ε, with ε from a normal distribution and t = 1, 2, …

    The numbers are those of Optax for the same key, in float32 or wider. Every leaf has noise of its own.

    Args:
      eta: η, the variance at the first step; in squared units of the updates.
      gamma: γ, how fast it falls; 0 for never (Langevin dynamics).
      key: an int or a key, such as `jax.random.key(0)`. Without one it is 0: the same noise in each run.
      seed: another name for `key`, as Optax had it.

    State: a count and a key.

    Raises:
      TypeError: not a key, or both of `key` and `seed`.

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
        return AddNoiseState(jnp.zeros((), jnp.int32), jnp.asarray(first) if np.ndim(first) else _key_data(first))

    def update(updates: Tree, state: AddNoiseState, params: Tree = None) -> tuple[Tree, AddNoiseState]:
        count = increment(state.count)
        deviation = jnp.sqrt(eta / count.astype(float) ** gamma)
        key, use = jax.random.split(jax.random.wrap_key_data(state.key))
        return map_leaves(lambda u, e: u + deviation * e, updates, _normal_like(use, updates)), AddNoiseState(
            count, jax.random.key_data(key)
        )

    return init, update


def _key_data(seed: Any) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed))


def _normal_like(key: jax.Array, tree: Tree) -> Tree:
    """A normal number for each of the tree, drawn with a key for each leaf."""
    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))

    def draw(k: jax.Array, u: Any) -> Any:
        wide = as_float32(u) if present(u) else None
        return None if wide is None else jax.random.normal(k, wide.shape, wide.dtype)

    return structure.unflatten([draw(k, u) for k, u in zip(keys, leaves, strict=False)])


# Agreement


@transformation
def cautious(inner: Transformation) -> Any:
    """Take the steps of an optimizer only where they go down the gradient that came in: u·[u·g < 0] / max(share, 10⁻³).

    What is left is enlarged by the share of the leaf's elements that agree, so that the leaf moves as far as before.

    The optimizer inside steps *down*. Weight decay is not to be masked; put it behind, as C-AdamW has it:
    `chain(cautious(adam(η)), proximal_weight_decay(η·λ))`, or `decay_weights(λ)`.

    Args:
      inner: an optimizer; one that ends in a step down (`scale_by_learning_rate`, `scale(-1.0)`).

    State: that of the optimizer.

    Source: Liang et al. 2024, https://arxiv.org/abs/2411.16085; the share and its floor as in the authors' code,
    https://github.com/kyleliang919/C-Optim

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.cautious(gradtx.sgd(0.1, momentum=0.9))
    >>> _, state = tx.update(jnp.array([1.0, 1.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([1.0, -0.5]), state)[0].round(3).tolist()  # the second goes on up its gradient: it waits
    [-0.38..., 0.0]
    """

    def masked(u: jax.Array, g: jax.Array) -> jax.Array:
        # Signs first: a product of two small numbers would be 0.
        agrees = (jnp.sign(u) * jnp.conj(jnp.sign(g))).real < 0
        share = jnp.sum(agrees) / max(np.size(u), 1)
        return jnp.where(agrees, (1 / jnp.maximum(share, 1e-3)) * u, 0)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        steps, state = run(inner, updates, state, params, extra_args)
        return map_leaves(masked, steps, updates), state

    return lambda params: initialize(inner, params), update


# Layout


@transformation
def flatten(inner: Transformation) -> Any:
    """Show a transformation all leaves as one vector, which can save time where there are many small ones.

    What looks at leaves one by one (`lamb`, `adafactor`, masks) sees a single one. Sharded leaves are gathered.

    Args:
      inner: the transformation.

    State: that of the inner one, of a vector. Leaves that are None at one step have to be None at every step.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.flatten(gradtx.adam(1e-3))
    >>> state = tx.init({"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)})
    >>> state.scale_by_adam.chain.scale_by_momentum.momentum.shape
    (10,)
    """

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        vector = None if params is None else _as_vector(params, updates)
        steps, state = run(inner, _as_vector(updates), state, vector, extra_args)
        return _as_tree(steps, updates), state

    return lambda params: initialize(inner, _as_vector(params)), update


def _as_vector(tree: Tree, like: Tree = None) -> jax.Array:
    """All leaves in a row (those that `like` has), in float32 or wider."""
    leaves = jax.tree.leaves(tree, is_leaf=is_none)
    kept = leaves if like is None else jax.tree.leaves(like, is_leaf=is_none)
    parts = [jnp.ravel(as_float32(x)) for x, other in zip(leaves, kept, strict=True) if present(x) and present(other)]
    while len(parts) > 1:  # in groups: the compiler takes long for thousands at once
        parts = [jnp.concatenate(parts[i : i + 32]) for i in range(0, len(parts), 32)]
    return parts[0] if parts else jnp.zeros(0)


def _as_tree(vector: jax.Array, like: Tree) -> Tree:
    """The leaves of a vector, with the shapes of another tree; real where that is real."""
    structure: Any
    leaves, structure = jax.tree.flatten(like, is_leaf=is_none)
    sizes = [math.prod(np.shape(x)) if present(x) else 0 for x in leaves]
    ends = np.cumsum([0, *sizes])

    def leaf(x: Any, start: int, end: int) -> Any:
        if not present(x):
            return None
        part = jnp.reshape(vector[start:end], np.shape(x))
        return part if jnp.iscomplexobj(x) or not jnp.iscomplexobj(part) else part.real

    return structure.unflatten(list(map(leaf, leaves, ends[:-1].tolist(), ends[1:].tolist())))


# Not at all


@transformation
def set_to_zero() -> Any:
    """Make every update exactly zero, NaN and infinite ones too."""
    return leafwise(emit=lambda u: jnp.zeros_like(u))


@transformation
def freeze(mask: Any) -> Any:
    """Hold the chosen leaves: their updates become exactly zero. The others pass through.

    Put it last in a chain. To spare the state of the frozen leaves too, use
    `partition({"head*": adam(1e-3), "*": set_to_zero()})`.

    Args:
      mask: which leaves to hold; see `masked`.
    """
    return masked(set_to_zero(), mask)


# A function of one's own


@transformation
def stateless(f: Callable[[Tree, Tree], Tree]) -> Any:
    """A transformation without state from a function `f(updates, params) -> updates` of whole trees."""
    return None, lambda updates, state, params=None: (f(updates, params), state)


@transformation
def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> Any:
    """A transformation without state from a function `f(update, param) -> update` of leaves.

    `param` is None when `update` is called without parameters. Leaves arrive in float32 or wider.
    """

    def update(updates: Tree, state: EmptyState, params: Tree = None) -> tuple[Tree, EmptyState]:
        rest = () if params is None else (params,)
        return map_leaves(lambda u, p=None: f(u, p), updates, *rest), state

    return None, update

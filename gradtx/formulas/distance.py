"""Optimizers without a learning rate to tune, I: how far the parameters have come tells how far to go.

dog         distance over the root of all squared gradients
dowg        the same, weighted with the distances
mechanize   learns the scale of another optimizer's steps
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Dtype, NonNegative, Period, Real, canonical
from gradtx.core.combine import chain
from gradtx.core.norms import global_norm, norm
from gradtx.core.transformation import Transformation, initialize, run, transformation
from gradtx.core.tree import bounded, cast_like, map_leaves, map_some, ratio, zeros_like
from gradtx.scaling import add_decayed_weights, scale_by_learning_rate

__all__ = [
    "dog",
    "dot",
    "dowg",
    "initial_copy",
    "mechanize",
    "scale_by_distance_over_gradients",
    "scale_by_dog",
    "scale_by_dowg",
]

Tree = Any


# Sums over all leaves, in float32 or wider


def dot(a: Tree, b: Tree) -> jax.Array:
    """Σ Re(ā·b) over all leaves, |a| bounded where its square would overflow."""
    products = map_leaves(lambda x, y: jnp.real(jnp.conj(bounded(x)) * y), a, b)
    return sum(map(jnp.sum, jax.tree.leaves(products)), start=jnp.zeros(()))


def hypot(*sizes: Any) -> jax.Array:
    """√Σx² of numbers whose squares may overflow."""
    return norm(jnp.stack([jnp.asarray(x, float) for x in sizes]))


def initial_copy(params: Tree) -> Tree:
    """The parameters to measure distances from, in float32 or wider."""
    return map_leaves(lambda p: p, params)


def distance(start: Tree, params: Tree) -> jax.Array:
    """‖θ₀ − θ‖ over all leaves."""
    return global_norm(map_leaves(lambda a, b: a - b, start, params))


# Distance over gradients


class DistanceState(NamedTuple):
    """Where it started, how far it has been, and the gradients that it has seen."""

    initial_params: Tree  # like the parameters, in float32 or wider
    max_distance: Tree  # 0-d (or for each leaf), the largest ‖θ − θ₀‖, or what it is taken for at first
    gradient_norm: Tree  # 0-d (or for each leaf), the root of the (weighted) sum of all ‖g‖²


@transformation
def scale_by_dog(init_step: tuple[str, Any], eps: NonNegative = 1e-8) -> Any:
    """Scale by distance over gradients: r/√(Σ‖g‖² + ε)·g, r the largest distance from the start. See `dog`.

    State: one slot per parameter. Needs the parameters.

    Source: Ivgi et al. 2023, https://arxiv.org/abs/2302.12022
    """
    kind, first = init_step
    if kind not in ("distance", "learning_rate", "heuristic"):
        raise ValueError(f"scale_by_dog: init_step is one of 'distance', 'learning_rate', 'heuristic', got {kind!r}")
    first = canonical(first)

    def init(params: Tree) -> DistanceState:
        start = initial_copy(params)
        reach = {"distance": 1.0, "learning_rate": 0.0, "heuristic": 1 + global_norm(start)}[kind]
        return DistanceState(start, jnp.asarray(first * reach, float), jnp.zeros((), float))

    def update(updates: Tree, state: DistanceState, params: Tree) -> tuple[Tree, DistanceState]:
        reach = jnp.maximum(state.max_distance, distance(state.initial_params, params))
        seen = hypot(state.gradient_norm, global_norm(updates))
        rate = ratio(reach, hypot(seen, jnp.sqrt(eps)))
        if kind == "learning_rate":
            rate = jnp.where(state.gradient_norm == 0, first, rate)
        return map_leaves(lambda u: rate * u, updates), DistanceState(state.initial_params, reach, seen)

    return init, update


@transformation
def dog(
    learning_rate: NonNegative = 1.0,
    init_step: tuple[str, Any] = ("heuristic", 1e-6),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative | None = None,
    mask: Any = None,
) -> Any:
    """Gradient descent whose rate is the distance over the gradients: θ ← θ − η·r/√(Σ‖g‖² + ε)·g,
    r = max(r, ‖θ − θ₀‖), over all leaves together.

    The authors evaluate an average of the parameters: `chain(dog(), ema_params(0.99))`.

    Args:
      learning_rate: η; a schedule relative to 1.
      init_step: what the first step is: ("heuristic", α) for r = α·(1 + ‖θ₀‖), with α 1e-6, or 1e-4 with batch
        normalisation; ("distance", r); or ("learning_rate", rate) for the step of the first gradient that is not 0.
      eps: ε.
      weight_decay: λ of g + λ·θ; None for none.
      mask: which leaves decay; see `masked`.

    State: one slot per parameter. Needs the parameters, in `init` too.

    Source: Ivgi et al. 2023, https://arxiv.org/abs/2302.12022

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.dog(init_step=("distance", 0.5))
    >>> x = jnp.array([3.0, 4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3).tolist()
    [-0.3..., -0.4...]
    """
    return chain(*_decay(weight_decay, mask), scale_by_dog(init_step, eps), scale_by_learning_rate(learning_rate))


@transformation
def scale_by_distance_over_gradients(
    reps_rel: NonNegative = 1e-6,
    eps: NonNegative = 1e-8,
    param_dtype: Dtype = jnp.float32,
    global_scale: Real = 1.0,
) -> Any:
    """`scale_by_dog` leaf by leaf (L-DoG): s·r/√(Σ‖g‖² + ε)·g, with r the largest ‖θ − θ₀‖ so far, at first
    α·(1 + ‖θ₀‖).

    Args:
      reps_rel: α; 1e-4 with batch normalisation.
      eps: ε.
      param_dtype: dtype of the copy of θ₀.
      global_scale: s, of either sign.

    State: one slot per parameter, two numbers for each leaf. Needs the parameters, in `init` too.

    Source: Ivgi et al. 2023, https://arxiv.org/abs/2302.12022

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_distance_over_gradients(reps_rel=0.1, global_scale=-1.0)
    >>> x = jnp.array([3.0, 4.0])
    >>> tx.update(2 * x, tx.init(x), x)[0].round(3).tolist()
    [-0.36..., -0.48...]
    """

    def init(params: Tree) -> DistanceState:
        start = cast_like(initial_copy(params), zeros_like(params, param_dtype))
        reach = map_some(lambda p: reps_rel * (1 + norm(p)), params)
        return DistanceState(start, reach, jax.tree.map(jnp.zeros_like, reach))

    def update(updates: Tree, state: DistanceState, params: Tree) -> tuple[Tree, DistanceState]:
        def scaled(u: jax.Array, r: jax.Array, n: jax.Array) -> jax.Array:
            return global_scale * ratio(r, hypot(n, jnp.sqrt(eps))) * u

        def reached(r: jax.Array, start: jax.Array, p: jax.Array) -> jax.Array:
            return jnp.maximum(r, norm(start - p))

        reach = map_some(reached, state.max_distance, state.initial_params, params)
        seen = map_some(lambda n, u: hypot(n, norm(u)), state.gradient_norm, updates)
        return map_some(scaled, updates, reach, seen), DistanceState(state.initial_params, reach, seen)

    return init, update


@transformation
def scale_by_dowg(init_estim_sq_dist: NonNegative | None = None, eps: NonNegative = 1e-4) -> Any:
    """Scale by distance over weighted gradients: r²/(√(Σr²·‖g‖²) + ε)·g. See `dowg`.

    State: one slot per parameter. Needs the parameters.

    Source: Khaled et al. 2023, https://arxiv.org/abs/2305.16284
    """
    first = eps if init_estim_sq_dist is None else init_estim_sq_dist

    def init(params: Tree) -> DistanceState:
        return DistanceState(initial_copy(params), jnp.sqrt(jnp.asarray(first, float)), jnp.zeros((), float))

    def update(updates: Tree, state: DistanceState, params: Tree) -> tuple[Tree, DistanceState]:
        reach = jnp.maximum(state.max_distance, distance(state.initial_params, params))
        seen = hypot(state.gradient_norm, reach * global_norm(updates))
        rate = ratio(reach * reach, seen + eps)
        return map_leaves(lambda u: rate * u, updates), DistanceState(state.initial_params, reach, seen)

    return init, update


@transformation
def dowg(
    learning_rate: NonNegative = 1.0,
    init_estim_sq_dist: NonNegative | None = None,
    eps: NonNegative = 1e-4,
    weight_decay: NonNegative | None = None,
    mask: Any = None,
) -> Any:
    """`dog` with later gradients counted more: s ← s + r²·‖g‖², θ ← θ − η·r²/(√s + ε)·g, r = max(r, ‖θ − θ₀‖).

    Args:
      learning_rate: η; a schedule relative to 1.
      init_estim_sq_dist: what r² starts from; None for ε.
      eps: ε.
      weight_decay: λ of g + λ·θ; None for none.
      mask: which leaves decay; see `masked`.

    State: one slot per parameter. Needs the parameters, in `init` too.

    Source: Khaled et al. 2023, https://arxiv.org/abs/2305.16284

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.dowg(init_estim_sq_dist=0.25, eps=0.0)
    >>> x = jnp.array([3.0, 4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3).tolist()
    [-0.3..., -0.4...]
    """
    decay = _decay(weight_decay, mask)
    return chain(*decay, scale_by_dowg(init_estim_sq_dist, eps), scale_by_learning_rate(learning_rate))


def _decay(weight_decay: Any, mask: Any) -> list[Any]:
    return [] if weight_decay is None else [add_decayed_weights(weight_decay, mask)]


# Mechanic


class MechanicState(NamedTuple):
    """The optimizer whose steps are scaled, and the bettors that learn the scale, one for each β."""

    base_optimizer_state: Tree
    initial_params: Tree  # like the parameters, in float32 or wider
    scale: jax.Array  # (num_betas,), the sum is the scale in use
    reward: jax.Array  # (num_betas,)
    largest: jax.Array  # (num_betas,), decaying maximum of |h|
    root: jax.Array  # (num_betas,), of the decaying sum of h²

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"mechanic_scale": jnp.sum(self.scale)}


@transformation
def mechanize(
    base_optimizer: Transformation,
    weight_decay: NonNegative = 1e-2,
    eps: NonNegative = 1e-8,
    s_init: NonNegative = 1e-6,
    num_betas: Period = 6,
) -> Any:
    """Learn the scale of another optimizer's steps: θ = θ₀ + s·Σu, where s grows as far as the gradients have agreed
    with the way come.

    h = ⟨g + λ·s·‖g‖/‖θ‖·θ, (θ₀ − θ)/s⟩, and for each β of 0.9, 0.99, …: m ← max(β·m, |h|), v ← β²·v + h²,
    r ← max(0, β·r + s·clip(h, ±m)), s ← (s₀/n·m + r)/√v.

    Args:
      base_optimizer: with a learning rate relative to 1, or a schedule; no normalised steps (`lars`, `lamb`).
      weight_decay: λ; steadies s.
      eps: added to what is divided by.
      s_init: s₀.
      num_betas: n, how many β from 0.9 on.

    State: one slot per parameter, and that of the optimizer. Needs the parameters, in `init` too.

    Source: Cutkosky et al. 2023, https://arxiv.org/abs/2306.00144

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.mechanize(gradtx.sgd(1.0))
    >>> step = jax.jit(lambda x, state: tx.update(2 * x, state, x))
    >>> x, state = jnp.array(3.0), tx.init(jnp.array(3.0))
    >>> for _ in range(100):
    ...     u, state = step(x, state)
    ...     x = x + u
    >>> bool(abs(x) < 0.1)
    True
    """
    betas = 1 - 0.1 ** jnp.arange(1, num_betas + 1).astype(float)

    def init(params: Tree) -> MechanicState:
        none = jnp.zeros((num_betas,), float)
        state = initialize(base_optimizer, params)
        return MechanicState(state, initial_copy(params), none + s_init, none, none, none)

    def update(updates: Tree, state: MechanicState, params: Tree, **extra_args: Any) -> tuple[Tree, MechanicState]:
        steps, base_state = run(base_optimizer, updates, state.base_optimizer_state, params, extra_args)
        scale = jnp.sum(state.scale)
        decay = weight_decay * scale * global_norm(updates) / (global_norm(params) + eps)
        way = map_leaves(lambda a, p: (a - p) / (scale + eps), state.initial_params, params)
        h = dot(updates, way) + decay * dot(params, way)

        clipped = jnp.clip(h, -state.largest, state.largest)
        largest = jnp.maximum(betas * state.largest, jnp.abs(h) + eps)
        root = jax.vmap(hypot)(betas * state.root, jnp.broadcast_to(h, betas.shape))
        reward = betas * state.reward + clipped * state.scale
        new_scale = (s_init / num_betas * largest + jnp.maximum(reward, 0)) / (root + eps)

        new = jnp.sum(new_scale)
        # θ₀ − new·(way − step) − θ, without a difference of parameters that are almost equal.
        rest = 1 - new / (scale + eps)
        updates = map_leaves(lambda a, p, u: rest * (a - p) + new * bounded(u), state.initial_params, params, steps)
        new_state = MechanicState(base_state, state.initial_params, new_scale, reward, largest, root)
        return updates, cast_like(new_state, state)

    return init, update

"""Distance over gradients: a learning rate from how far the parameters have moved.

dog     distance over the root of the sum of all squared gradients
dowg    the same, weighted by the distances"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Dtype, NonNegative, Real, canonical
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import global_norm, hypot, norm, norms, overall, ratio
from gradtx.core.roles import Factored, Number, Slot
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import as_float32, cast_like, zeros_like

__all__ = ["dog", "dowg", "scale_by_distance_over_gradients", "scale_by_dog", "scale_by_dowg"]

Tree = Any


class DistanceState(NamedTuple):
    """The initial parameters, the largest distance from them, and the norm of all gradients so far."""

    initial_params: Slot  # in float32 or wider
    max_distance: Number  # the largest ‖θ − θ₀‖ so far, or its initial estimate
    gradient_norm: Number  # the root of the (weighted) sum of all ‖g‖²


class _Reach(NamedTuple):
    """What all leaves share within a step."""

    distance: jax.Array
    seen: jax.Array  # the root of the sum of all ‖g‖²
    rate: jax.Array


def _by_distance(first: Any, rate: Callable[[DistanceState, jax.Array, jax.Array], _Reach]) -> Any:
    """Scale by a function of the distance from the start and the norm of the gradients, over all leaves.

    Args:
      first: a function of the parameters, the initial estimate of the distance.
      rate: a function of the state, the largest distance and the norm of this gradient.
    """
    return leafwise(
        init=lambda p: DistanceState(as_float32(p), 0.0, 0.0),
        begin=lambda params: {"max_distance": first(params)},
        together=(lambda s, g, p: norms(s.initial_params - p, g), overall),
        numbers=lambda s, t: rate(s, jnp.maximum(s.max_distance, t[0]), t[1]),
        count=lambda s, n: s._replace(max_distance=n.distance, gradient_norm=n.seen),
        emit=lambda g, n: n.rate * g,
    )


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

    def start(params: Tree) -> Any:
        return first * {"distance": 1.0, "learning_rate": 0.0, "heuristic": 1 + global_norm(params)}[kind]

    def rate(s: DistanceState, reach: jax.Array, size: jax.Array) -> _Reach:
        seen = hypot(s.gradient_norm, size)
        scaled = ratio(reach, hypot(seen, jnp.sqrt(eps)))
        return _Reach(
            reach, seen, jnp.where(s.gradient_norm == 0, first, scaled) if kind == "learning_rate" else scaled
        )

    return _by_distance(start, rate)


@optimizer
def dog(
    learning_rate: NonNegative = 1.0,
    init_step: tuple[str, Any] = ("heuristic", 1e-6),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative | None = None,
    mask: Any = None,
) -> Any:
    """Gradient descent whose learning rate is the distance from the start over the norm of all gradients:
    θ ← θ − η·r/√(Σ‖g‖² + ε)·g, r = max(r, ‖θ − θ₀‖), over all leaves together.

    The authors evaluate an average of the parameters: `chain(dog(), ema_params(0.99))`.

    Args:
      learning_rate: η, an extra factor: 1, or a schedule relative to 1.
      init_step: sets the first step: ("heuristic", α) for r = α·(1 + ‖θ₀‖), with α 1e-6, or 1e-4 with batch
        normalisation; ("distance", r); or ("learning_rate", rate) for the first nonzero gradient times `rate`.
      eps: ε.
      weight_decay: λ, added to the gradient: g + λ·θ; None for none.
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


class LeafDistanceState(NamedTuple):
    """The initial parameters, and for each leaf the largest distance from them and the norm of all gradients so far."""

    initial_params: Slot
    max_distance: Factored  # the largest ‖θ − θ₀‖ so far, or its initial estimate
    gradient_norm: Factored  # the root of the sum of all ‖g‖²


@transformation
def scale_by_distance_over_gradients(
    reps_rel: NonNegative = 1e-6,
    eps: NonNegative = 1e-8,
    param_dtype: Dtype = jnp.float32,
    global_scale: Real = 1.0,
) -> Any:
    """`scale_by_dog` leaf by leaf (L-DoG): s·r/√(Σ‖g‖² + ε)·g, with r the largest ‖θ − θ₀‖ so far,
    initially α·(1 + ‖θ₀‖).

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

    def init(p: jax.Array) -> LeafDistanceState:
        start, reach = cast_like(as_float32(p), zeros_like(p, param_dtype)), reps_rel * (1 + norm(p))
        return LeafDistanceState(start, reach, jnp.zeros_like(reach))

    def before(s: LeafDistanceState, g: jax.Array, p: jax.Array) -> Any:
        distance, size = norms(s.initial_params - p, g)
        return jnp.maximum(s.max_distance, distance), hypot(s.gradient_norm, size)

    return leafwise(
        init=init,
        before=before,
        advance=lambda s, x: s._replace(max_distance=x[0], gradient_norm=x[1]),
        emit=lambda g, x: global_scale * ratio(x[0], hypot(x[1], jnp.sqrt(eps))) * g,
    )


@transformation
def scale_by_dowg(init_estim_sq_dist: NonNegative | None = None, eps: NonNegative = 1e-4) -> Any:
    """Scale by distance over weighted gradients: r²/(√(Σr²·‖g‖²) + ε)·g. See `dowg`.

    State: one slot per parameter. Needs the parameters.

    Source: Khaled et al. 2023, https://arxiv.org/abs/2305.16284
    """
    first = eps if init_estim_sq_dist is None else init_estim_sq_dist

    def rate(s: DistanceState, reach: jax.Array, size: jax.Array) -> _Reach:
        seen = hypot(s.gradient_norm, reach * size)
        return _Reach(reach, seen, ratio(reach * reach, seen + eps))

    return _by_distance(lambda params: jnp.sqrt(first), rate)


@optimizer
def dowg(
    learning_rate: NonNegative = 1.0,
    init_estim_sq_dist: NonNegative | None = None,
    eps: NonNegative = 1e-4,
    weight_decay: NonNegative | None = None,
    mask: Any = None,
) -> Any:
    """`dog` with each gradient weighted by the distance at its step: s ← s + r²·‖g‖², θ ← θ − η·r²/(√s + ε)·g,
    r = max(r, ‖θ − θ₀‖).

    Args:
      learning_rate: η, an extra factor: 1, or a schedule relative to 1.
      init_estim_sq_dist: initial value of r²; None for ε.
      eps: ε.
      weight_decay: λ, added to the gradient: g + λ·θ; None for none.
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

"""Optimizers without a learning rate to tune, II: Adam scaled by an estimate d of the distance to the solution, and
betting on coins.

prodigy         d from how the gradients agree with the way come
dadapt_adamw    d from how they agree with each other
cocob           each element bets on its next gradient
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative, Positive, canonical, kind_of
from gradtx.core.combine import chain
from gradtx.core.transformation import transformation
from gradtx.core.tree import abs_squared, bounded, full_like, least, map_leaves, ratio, real_like, sqrt, zeros_like
from gradtx.formulas.distance import dot, initial_copy
from gradtx.scaling import add_decayed_weights, scale_by_learning_rate

__all__ = ["cocob", "dadapt_adamw", "prodigy", "scale_by_cocob"]

Tree = Any


def _total(tree: Tree) -> jax.Array:
    """Σ|x| over all leaves."""
    return sum((jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(tree)), start=jnp.zeros(()))


class _Pair:
    """The kind of an argument that is (β₁, β₂)."""

    def __repr__(self) -> str:
        return "tuple[Decay, Decay]"

    def check(self, owner: str, name: str, value: Any) -> tuple[Any, ...]:
        """Two numbers in [0, 1)."""
        if not isinstance(value, (tuple, list)) or len(value) != 2 or any(map(callable, value)):
            raise TypeError(f"{owner}: {name} must be two numbers, (β₁, β₂), got {value!r}")
        return tuple(kind_of(Decay).check(owner, name, b) for b in value)


Betas = Annotated[Any, _Pair()]


# An estimated distance


class ProdigyState(NamedTuple):
    """Adam's averages of d·g, the estimate d, and the two sums that it comes from."""

    momentum: Tree  # like the parameters
    second_moment: Tree  # like the parameters, real
    gradient_sum: Tree  # like the parameters, the decaying sum s of gradients
    initial_params: Tree  # like the parameters, in float32 or wider
    distance: jax.Array  # 0-d, d
    agreement: jax.Array  # 0-d, the decaying sum of ⟨g, θ₀ − θ⟩
    momentum_weight: jax.Array  # 0-d, 1−β₁ᵗ
    second_moment_weight: jax.Array  # 0-d, 1−β₂ᵗ

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"distance_estimate": self.distance}


@transformation(record=("learning_rate",))
def prodigy(
    learning_rate: NonNegative = 1.0,
    betas: Betas = (0.9, 0.999),
    beta3: Decay | None = None,
    eps: NonNegative = 1e-8,
    estim_lr0: Positive = 1e-6,
    estim_lr_coef: NonNegative = 1.0,
    weight_decay: NonNegative = 0.0,
    safeguard_warmup: bool = False,
) -> Any:
    """Adam whose learning rate is an estimate d of the distance to the solution:

        m ← β₁·m + (1−β₁)·d·g,  v ← β₂·v + (1−β₂)·(d·g)²,  w = η·√(1−β₂ᵗ)/(1−β₁ᵗ)
        r ← β₃·r + w·d²/d₀·⟨g, θ₀ − θ⟩,  s ← β₃·s + w·d²/d₀·g,  d' = max(d, c·r/‖s‖₁)
        θ ← θ − w·d·(m/(√v + d'·ε) + λ·θ)

    Args:
      learning_rate: η; a schedule relative to 1.
      betas: (β₁, β₂).
      beta3: β₃; √β₂ by default.
      eps: ε.
      estim_lr0: d₀, small.
      estim_lr_coef: c.
      weight_decay: λ, decoupled.
      safeguard_warmup: leave w out of s, for a long warm-up of η.

    State: four slots per parameter; d is in `metrics(state)`. Needs the parameters, in `init` too.

    Source: Mishchenko & Defazio 2023, https://arxiv.org/abs/2306.06101

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.prodigy()
    >>> step = jax.jit(lambda x, state: tx.update(2 * x, state, x))
    >>> x, state = jnp.array(3.0), tx.init(jnp.array(3.0))
    >>> for _ in range(100):
    ...     u, state = step(x, state)
    ...     x = x + u
    >>> bool(gradtx.metrics(state)["distance_estimate"] > 1)  # of a start of 1e-6
    True
    """
    b1, b2 = map(canonical, betas)
    b3 = jnp.sqrt(b2) if beta3 is None else beta3

    def init(params: Tree) -> ProdigyState:
        zeros, start, zero = zeros_like(params), initial_copy(params), jnp.zeros((), float)
        d = jnp.asarray(estim_lr0, float)
        return ProdigyState(zeros, zeros_like(real_like(params)), zeros, start, d, zero, zero, zero)

    def update(updates: Tree, state: ProdigyState, params: Tree) -> tuple[Tree, ProdigyState]:
        d = state.distance
        weight1, weight2 = b1 * state.momentum_weight + (1 - b1), b2 * state.second_moment_weight + (1 - b2)
        step = d * learning_rate * jnp.sqrt(weight2) / weight1
        share = d / estim_lr0
        into_sum = share * d if safeguard_warmup else share * step

        way = map_leaves(lambda a, p: a - p, state.initial_params, params)
        agreement = b3 * state.agreement + share * step * dot(updates, way)
        gradient_sum = map_leaves(lambda s, g: b3 * s + into_sum * bounded(g), state.gradient_sum, updates)
        new_d = jnp.maximum(d, estim_lr_coef * ratio(agreement, _total(gradient_sum)))

        momentum = map_leaves(lambda m, g: b1 * m + ((1 - b1) * d) * bounded(g), state.momentum, updates)
        second_moment = map_leaves(lambda v, g: b2 * v + (1 - b2) * abs_squared(d * g), state.second_moment, updates)
        updates = map_leaves(
            lambda m, v, p: -step * (m / (sqrt(v) + new_d * eps) + weight_decay * p), momentum, second_moment, params
        )
        sums = new_d, agreement, weight1, weight2
        return updates, ProdigyState(momentum, second_moment, gradient_sum, state.initial_params, *sums)

    return init, update


class DAdaptAdamWState(NamedTuple):
    """Adam's averages, the estimate d, and the two sums that it comes from."""

    momentum: Tree  # like the parameters, the average of d·g
    second_moment: Tree  # like the parameters, real
    gradient_sum: Tree  # like the parameters, the average s of d·g
    distance: jax.Array  # 0-d, d
    agreement: jax.Array  # 0-d, the average of d·⟨g, s/√v⟩
    momentum_weight: jax.Array  # 0-d, 1−β₁ᵗ
    second_moment_weight: jax.Array  # 0-d, 1−β₂ᵗ

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"distance_estimate": self.distance}


@transformation(record=("learning_rate",))
def dadapt_adamw(
    learning_rate: NonNegative = 1.0,
    betas: Betas = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    estim_lr0: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> Any:
    """AdamW whose learning rate is an estimate d of the distance to the solution, by D-Adaptation:

        w = d·η·√(1−β₂ᵗ)/(1−β₁ᵗ),  r ← √β₂·r + (1−√β₂)·w·⟨g, s/(√v + ε)⟩
        m ← β₁·m + (1−β₁)·w·g,  v ← β₂·v + (1−β₂)·g²,  s ← √β₂·s + (1−√β₂)·w·g
        θ ← θ − m/(√v + ε) − w·λ·θ,  d ← max(d, r/((1−√β₂)·‖s‖₁))

    Args:
      learning_rate: η; a schedule relative to 1.
      betas: (β₁, β₂).
      eps: ε.
      estim_lr0: d at first, small.
      weight_decay: λ, decoupled.

    State: three slots per parameter; d is in `metrics(state)`. Needs the parameters.

    Source: Defazio & Mishchenko 2023, https://arxiv.org/abs/2301.07733

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.dadapt_adamw()
    >>> step = jax.jit(lambda x, state: tx.update(2 * x, state, x))
    >>> x, state = jnp.array(3.0), tx.init(jnp.array(3.0))
    >>> for _ in range(100):
    ...     u, state = step(x, state)
    ...     x = x + u
    >>> bool(gradtx.metrics(state)["distance_estimate"] > 0.01)  # of a start of 1e-6
    True
    """
    b1, b2 = map(canonical, betas)
    b3 = jnp.sqrt(b2)

    def init(params: Tree) -> DAdaptAdamWState:
        zeros, zero = zeros_like(params), jnp.zeros((), float)
        d = jnp.asarray(estim_lr0, float)
        return DAdaptAdamWState(zeros, zeros_like(real_like(params)), zeros, d, zero, zero, zero)

    def update(updates: Tree, state: DAdaptAdamWState, params: Tree) -> tuple[Tree, DAdaptAdamWState]:
        weight1, weight2 = b1 * state.momentum_weight + (1 - b1), b2 * state.second_moment_weight + (1 - b2)
        step = state.distance * learning_rate * jnp.sqrt(weight2) / weight1

        seen = map_leaves(lambda s, v: s / (sqrt(v) + eps), state.gradient_sum, state.second_moment)
        agreement = b3 * state.agreement + (1 - b3) * step * dot(updates, seen)
        momentum = map_leaves(lambda m, g: b1 * m + ((1 - b1) * step) * bounded(g), state.momentum, updates)
        second_moment = map_leaves(lambda v, g: b2 * v + (1 - b2) * abs_squared(g), state.second_moment, updates)
        gradient_sum = map_leaves(lambda s, g: b3 * s + ((1 - b3) * step) * bounded(g), state.gradient_sum, updates)
        d = jnp.maximum(state.distance, ratio(agreement, (1 - b3) * _total(gradient_sum)))

        updates = map_leaves(
            lambda m, v, p: -(m / (sqrt(v) + eps)) - (step * weight_decay) * p, momentum, second_moment, params
        )
        return updates, DAdaptAdamWState(momentum, second_moment, gradient_sum, d, agreement, weight1, weight2)

    return init, update


# Coin betting


class CocobState(NamedTuple):
    """What each element has bet and won."""

    initial_params: Tree  # like the parameters, in float32 or wider
    cumulative_gradients: Tree  # like the parameters, −Σg
    largest: Tree  # like the parameters, real: L, the largest |g|
    absolute_sum: Tree  # like the parameters, real: G = Σ|g|
    reward: Tree  # like the parameters, real: R


@transformation
def scale_by_cocob(alpha: NonNegative = 100.0, eps: NonNegative = 1e-8) -> Any:
    """The step to where coin betting stands: θ₀ − Σg/(L·max(G + L, α·L))·(L + R) − θ. See `cocob`.

    State: five slots per parameter. Needs the parameters.

    Source: Orabona & Tommasi 2017, https://arxiv.org/abs/1705.07795
    """

    def init(params: Tree) -> CocobState:
        real = real_like(params)
        zeros = zeros_like(real)
        return CocobState(initial_copy(params), zeros_like(params), full_like(real, eps), zeros, zeros)

    def bet(a: jax.Array, p: jax.Array, c: jax.Array, largest: jax.Array, g: jax.Array, r: jax.Array) -> jax.Array:
        tiny = least(largest.dtype)  # two quotients of like sizes: their product would overflow or vanish in between
        fraction = c / (largest + tiny)
        return fraction * ((largest + r) / (jnp.maximum(g + largest, alpha * largest) + tiny)) + (a - p)

    def update(updates: Tree, state: CocobState, params: Tree) -> tuple[Tree, CocobState]:
        start = state.initial_params
        size = map_leaves(jnp.abs, updates)
        largest = map_leaves(jnp.maximum, state.largest, size)
        absolute_sum = map_leaves(lambda total, s: total + s, state.absolute_sum, size)

        def won(r: jax.Array, u: jax.Array, p: jax.Array, a: jax.Array) -> jax.Array:
            return jnp.maximum(r - jnp.real(jnp.conj(u) * (p - a)), 0)

        reward = map_leaves(won, state.reward, updates, params, start)
        cumulative = map_leaves(lambda c, u: c - u, state.cumulative_gradients, updates)
        steps = map_leaves(bet, start, params, cumulative, largest, absolute_sum, reward)
        return steps, CocobState(start, cumulative, largest, absolute_sum, reward)

    return init, update


@transformation
def cocob(
    learning_rate: NonNegative = 1.0,
    alpha: NonNegative = 100.0,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Each element bets on the sign of its next gradient, and moves by what it bets:

        L ← max(L, |g|),  G ← G + |g|,  R ← max(0, R − g·(θ − θ₀)),  θ ← θ₀ − Σg/(L·max(G + L, α·L))·(L + R)

    Args:
      learning_rate: η, multiplied on the gradients; bets do not depend on their size.
      alpha: α, the first bets are 1/α of what there is.
      eps: what L starts from.
      weight_decay: λ of g + λ·θ.
      mask: which leaves decay; see `masked`.

    State: five slots per parameter. Needs the parameters, in `init` too.

    Source: Orabona & Tommasi 2017, https://arxiv.org/abs/1705.07795

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.cocob()
    >>> x = jnp.array([3.0, -400.0])
    >>> tx.update(x, tx.init(x), x)[0].round(4).tolist()
    [-0.0099..., 0.0099...]
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )

"""Adam with an estimate d of the distance to the solution as its learning rate, so that there is none to tune.

prodigy         d from the inner products of the gradients with the displacement θ₀ − θ
dadapt_adamw    d from the inner products of the gradients with the average of earlier ones"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Kind, NonNegative, Positive, canonical, checked
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import abs_squared, average, bounded, dot, ratio, seen, sqrt
from gradtx.core.roles import Number, Slot, Weight
from gradtx.core.transformation import optimizer
from gradtx.core.tree import as_float32, real_like, zeros_like

__all__ = ["dadapt_adamw", "prodigy"]


class _Pair(Kind):
    """The kind of the argument (β₁, β₂)."""

    def __repr__(self) -> str:
        return "tuple[Decay, Decay]"

    def check(self, owner: str, name: str, value: Any) -> tuple[Any, ...]:
        """Two numbers in [0, 1)."""
        if not isinstance(value, (tuple, list)) or len(value) != 2 or any(map(callable, value)):
            raise TypeError(f"{owner}: {name} must be two numbers, (β₁, β₂), got {value!r}")
        return tuple(checked(Decay, owner, name, b) for b in value)


Betas: TypeAlias = Annotated[tuple[Any, Any], _Pair()]


class _Estimate(NamedTuple):
    """The estimate d, the step size w computed from it, the sum r, and the next d."""

    d: Any
    w: Any
    r: Any
    next: Any


def _scaled_by_distance(learning_rate: Any, b1: Any, b2: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The step size w = d·η·√(1−β₂ᵗ)/(1−β₁ᵗ), and how the numbers of the state advance: two functions."""

    def step(s: Any) -> jax.Array:
        return s.distance * learning_rate * jnp.sqrt(seen(b2, s.second_moment_weight)) / seen(b1, s.momentum_weight)

    def count(s: Any, n: _Estimate) -> Any:
        s = s._replace(distance=n.next, agreement=n.r)
        return s._replace(
            momentum_weight=seen(b1, s.momentum_weight), second_moment_weight=seen(b2, s.second_moment_weight)
        )

    return step, count


class ProdigyState(NamedTuple):
    """Adam's averages of d·g, the estimate d, and the two sums that it is computed from."""

    momentum: Slot
    second_moment: Slot  # real
    gradient_sum: Slot  # the decaying sum s of gradients
    initial_params: Slot  # in float32 or wider
    distance: Number  # d
    agreement: Number  # the decaying sum of ⟨g, θ₀ − θ⟩
    momentum_weight: Weight  # 1−β₁ᵗ
    second_moment_weight: Weight  # 1−β₂ᵗ

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"distance_estimate": self.distance}


@optimizer(record=("learning_rate",))
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
    """Adam whose learning rate is an estimate d of the distance from θ₀ to the solution, so that η can stay at 1.

        m ← β₁·m + (1−β₁)·d·g,  v ← β₂·v + (1−β₂)·(d·g)²,  w = d·η·√(1−β₂ᵗ)/(1−β₁ᵗ)
        r ← β₃·r + d/d₀·w·⟨g, θ₀ − θ⟩,  s ← β₃·s + d/d₀·w·g,  d' = max(d, c·r/‖s‖₁)
        θ ← θ − w·(m/(√v + d'·ε) + λ·θ)

    Args:
      learning_rate: η; a schedule relative to 1.
      betas: (β₁, β₂).
      beta3: β₃; √β₂ by default.
      eps: ε.
      estim_lr0: d₀, the initial d; keep it small.
      estim_lr_coef: c.
      weight_decay: λ, decoupled.
      safeguard_warmup: use d instead of w in s, for a long warm-up of η.

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
    step, count = _scaled_by_distance(learning_rate, b1, b2)

    def init(p: jax.Array) -> ProdigyState:
        m, v, s = zeros_like(p), zeros_like(real_like(p)), zeros_like(p)
        return ProdigyState(m, v, s, as_float32(p), estim_lr0, 0.0, 0.0, 0.0)

    def next_sum(s: ProdigyState, g: jax.Array, d: jax.Array, w: jax.Array) -> jax.Array:
        return b3 * s.gradient_sum + d / estim_lr0 * (d if safeguard_warmup else w) * bounded(g)

    def sums(s: ProdigyState, g: jax.Array, p: jax.Array) -> Any:
        return dot(g, s.initial_params - p), jnp.sum(jnp.abs(next_sum(s, g, s.distance, step(s))))

    def numbers(s: ProdigyState, t: Any) -> _Estimate:
        (agreement, length), d, w = t, s.distance, step(s)
        r = b3 * s.agreement + d / estim_lr0 * w * agreement
        return _Estimate(d, w, r, jnp.maximum(d, estim_lr_coef * ratio(r, length)))

    def advance(s: ProdigyState, g: jax.Array, n: _Estimate) -> ProdigyState:
        m = average(b1, s.momentum, n.d * bounded(g))
        v = average(b2, s.second_moment, abs_squared(n.d * g))
        return s._replace(momentum=m, second_moment=v, gradient_sum=next_sum(s, g, n.d, n.w))

    def emit(s: ProdigyState, p: jax.Array, n: _Estimate) -> jax.Array:
        m, v, d = s.momentum, s.second_moment, s.distance
        return -n.w * (m / (sqrt(v) + d * eps) + weight_decay * p)

    return leafwise(init=init, together=(sums, jnp.sum), numbers=numbers, count=count, advance=advance, emit=emit)


class DAdaptAdamWState(NamedTuple):
    """Adam's averages, the estimate d, and the two averages that it is computed from."""

    momentum: Slot  # the average of d·g
    second_moment: Slot  # real
    gradient_sum: Slot  # the average s of d·g
    distance: Number  # d
    agreement: Number  # the average of d·⟨g, s/√v⟩
    momentum_weight: Weight  # 1−β₁ᵗ
    second_moment_weight: Weight  # 1−β₂ᵗ

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"distance_estimate": self.distance}


@optimizer(record=("learning_rate",))
def dadapt_adamw(
    learning_rate: NonNegative = 1.0,
    betas: Betas = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    estim_lr0: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> Any:
    """AdamW whose learning rate is an estimate d of the distance from θ₀ to the solution, by D-Adaptation, so that η
    can stay at 1.

        w = d·η·√(1−β₂ᵗ)/(1−β₁ᵗ),  r ← √β₂·r + (1−√β₂)·w·⟨g, s/(√v + ε)⟩
        m ← β₁·m + (1−β₁)·w·g,  v ← β₂·v + (1−β₂)·g²,  s ← √β₂·s + (1−√β₂)·w·g
        θ ← θ − m/(√v + ε) − w·λ·θ,  d ← max(d, r/((1−√β₂)·‖s‖₁))

    Args:
      learning_rate: η; a schedule relative to 1.
      betas: (β₁, β₂).
      eps: ε.
      estim_lr0: the initial d; keep it small.
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
    step, count = _scaled_by_distance(learning_rate, b1, b2)

    def init(p: jax.Array) -> DAdaptAdamWState:
        return DAdaptAdamWState(zeros_like(p), zeros_like(real_like(p)), zeros_like(p), estim_lr0, 0.0, 0.0, 0.0)

    def next_sum(s: DAdaptAdamWState, g: jax.Array, w: jax.Array) -> jax.Array:
        return average(b3, s.gradient_sum, w * bounded(g))

    def sums(s: DAdaptAdamWState, g: jax.Array) -> Any:
        so_far = s.gradient_sum / (sqrt(s.second_moment) + eps)
        return dot(g, so_far), jnp.sum(jnp.abs(next_sum(s, g, step(s))))

    def numbers(s: DAdaptAdamWState, t: Any) -> _Estimate:
        (agreement, length), d, w = t, s.distance, step(s)
        r = average(b3, s.agreement, w * agreement)
        return _Estimate(d, w, r, jnp.maximum(d, ratio(r, (1 - b3) * length)))

    def advance(s: DAdaptAdamWState, g: jax.Array, n: _Estimate) -> DAdaptAdamWState:
        m = average(b1, s.momentum, n.w * bounded(g))
        v = average(b2, s.second_moment, abs_squared(g))
        return s._replace(momentum=m, second_moment=v, gradient_sum=next_sum(s, g, n.w))

    def emit(s: DAdaptAdamWState, p: jax.Array, n: _Estimate) -> jax.Array:
        return -(s.momentum / (sqrt(s.second_moment) + eps)) - (n.w * weight_decay) * p

    return leafwise(init=init, together=(sums, jnp.sum), numbers=numbers, count=count, advance=advance, emit=emit)

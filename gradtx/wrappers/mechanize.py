"""Mechanic: learns the scale of another optimizer's steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import NonNegative, Period
from gradtx.core.build import build, initialize, run
from gradtx.core.numerics import bounded, global_dot, global_norm, hypot
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import cast_like, map_leaves

__all__ = ["mechanize"]

Tree = Any


class MechanicState(NamedTuple):
    """The optimizer whose steps are scaled, and the bettors that learn the scale, one for each β."""

    base_optimizer_state: Inner
    initial_params: Slot  # in float32 or wider
    scale: Number  # (num_betas,), the sum is the scale in use
    reward: Number  # (num_betas,)
    largest: Number  # (num_betas,), decaying maximum of |h|
    root: Number  # (num_betas,), of the decaying sum of h²

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
    """Learn the scale of another optimizer's steps: θ = θ₀ + s·Σu.

    The scale s grows while the negative gradient points along the displacement from θ₀:
    h = ⟨g + λ·s·‖g‖/‖θ‖·θ, (θ₀ − θ)/s⟩, and for each β of 0.9, 0.99, …: m ← max(β·m, |h|), v ← β²·v + h²,
    r ← β·r + s·clip(h, ±m₋₁), s ← (s₀/n·m + max(0, r))/√v.

    Args:
      base_optimizer: with a learning rate relative to 1, or a schedule; no normalised steps (`lars`, `lamb`).
      weight_decay: λ; stabilises s.
      eps: added to denominators.
      s_init: s₀.
      num_betas: n, the number of β from 0.9 on.

    State: one slot per parameter, and that of the optimizer. Needs the parameters, in `init` too.

    Source: Cutkosky et al. 2023, https://arxiv.org/abs/2306.00144

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.mechanize(gradtx.sgd(1.0))
    >>> step = jax.jit(lambda x, state: tx.update(2 * x, state, x))
    >>> x, state = jnp.array(3.0), tx.init(jnp.array(3.0))
    >>> for _ in range(50):
    ...     u, state = step(x, state)
    ...     x = x + u
    >>> bool(abs(x) < 0.1)
    True
    """
    betas = 1 - 0.1 ** jnp.arange(1, num_betas + 1).astype(float)
    base = build(base_optimizer)

    def init(params: Tree) -> MechanicState:
        none = jnp.zeros((num_betas,), float)
        return MechanicState(initialize(base, params), map_leaves(lambda p: p, params), none + s_init, none, none, none)

    def bet(state: MechanicState, h: jax.Array) -> MechanicState:
        r = betas * state.reward + state.scale * jnp.clip(h, -state.largest, state.largest)
        m = jnp.maximum(betas * state.largest, jnp.abs(h) + eps)
        v = hypot(betas * state.root, jnp.abs(h))
        s = (s_init / num_betas * m + jnp.maximum(r, 0)) / (v + eps)
        return state._replace(scale=s, reward=r, largest=m, root=v)

    def update(g: Tree, state: MechanicState, params: Tree, **extra_args: Any) -> tuple[Tree, MechanicState]:
        u, base_state = run(base, g, state.base_optimizer_state, params, extra_args)
        start, s = state.initial_params, jnp.sum(state.scale)
        way = map_leaves(lambda a, p: (a - p) / (s + eps), start, params)
        decay = weight_decay * s * global_norm(g) / (global_norm(params) + eps)
        new_state = bet(state, global_dot(g, way) + decay * global_dot(params, way))

        # θ₀ − s'·(way − u) − θ, without subtracting parameters that are almost equal.
        new = jnp.sum(new_state.scale)
        rest = 1 - new / (s + eps)
        updates = map_leaves(lambda a, p, u: rest * (a - p) + new * bounded(u), start, params, u)
        return updates, cast_like(new_state._replace(base_optimizer_state=base_state), state)

    return init, update

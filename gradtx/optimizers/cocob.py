"""COCOB: each element bets on the sign of its next gradient, without a learning rate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import least
from gradtx.core.roles import Slot
from gradtx.core.transformation import optimizer, transformation
from gradtx.core.tree import as_float32, full_like, real_like, zeros_like

__all__ = ["cocob", "scale_by_cocob"]


class CocobState(NamedTuple):
    """What each element has bet and won."""

    initial_params: Slot  # in float32 or wider
    cumulative_gradients: Slot  # −Σg
    largest: Slot  # real: L, the largest |g|
    absolute_sum: Slot  # real: G = Σ|g|
    reward: Slot  # real: R


@transformation
def scale_by_cocob(alpha: NonNegative = 100.0, eps: NonNegative = 1e-8) -> Any:
    """The step to the point that coin betting gives: θ₀ − Σg/(L·max(G + L, α·L))·(L + R) − θ. See `cocob`.

    State: five slots per parameter. Needs the parameters.

    Source: Orabona & Tommasi 2017, https://arxiv.org/abs/1705.07795
    """

    def init(p: jax.Array) -> CocobState:
        real = real_like(p)
        return CocobState(as_float32(p), zeros_like(p), full_like(real, eps), zeros_like(real), zeros_like(real))

    def advance(s: CocobState, g: jax.Array, p: jax.Array) -> CocobState:
        return s._replace(
            cumulative_gradients=s.cumulative_gradients - g,
            largest=jnp.maximum(s.largest, jnp.abs(g)),
            absolute_sum=s.absolute_sum + jnp.abs(g),
            reward=jnp.maximum(s.reward - jnp.real(jnp.conj(g) * (p - s.initial_params)), 0),
        )

    def emit(s: CocobState, p: jax.Array) -> jax.Array:
        largest, tiny = s.largest, least(s.largest.dtype)
        # Two quotients of similar magnitudes: a single one, over a product, could overflow or underflow.
        fraction = s.cumulative_gradients / (largest + tiny)
        wealth = (largest + s.reward) / (jnp.maximum(s.absolute_sum + largest, alpha * largest) + tiny)
        return fraction * wealth + (s.initial_params - p)

    return leafwise(init=init, advance=advance, emit=emit)


@optimizer
def cocob(
    learning_rate: NonNegative = 1.0,
    alpha: NonNegative = 100.0,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    mask: Any = None,
) -> Any:
    """Coin betting, with no learning rate to set: each element bets on its next gradient's sign and moves by its bet.

        L ← max(L, |g|),  G ← G + |g|,  R ← max(0, R − g·(θ − θ₀)),  θ ← θ₀ − Σg/(L·max(G + L, α·L))·(L + R)

    Args:
      learning_rate: η, a factor on the gradients; the bets do not depend on their scale.
      alpha: α; the first bets are 1/α of the capital.
      eps: initial value of L.
      weight_decay: λ, added to the gradient: g + λ·θ.
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

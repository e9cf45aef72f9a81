"""Weight decay, in terms of the learning rate η, the decay λ and the optimizer's direction u:

add_l2_regularization, add_decayed_weights first    as a gradient, g + λ·θ
add_decayed_weights before the learning rate        decoupled, θ − η·(u + λ·θ)
add_cautious_weight_decay before the learning rate  the same, but only where it does not oppose u
proximal_weight_decay last                          an implicit step, (θ − η·u)/(1 + η·λ)
decay_weights last                                  independent of the learning rate, θ − η·u − λ·θ
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.atoms.learning_rate import scale
from gradtx.core.arguments import NonNegative
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.select import masked
from gradtx.core.transformation import transformation

__all__ = [
    "add_cautious_weight_decay",
    "add_decayed_weights",
    "add_l1_regularization",
    "add_l2_regularization",
    "decay_weights",
    "proximal_weight_decay",
]


@transformation
def add_decayed_weights(weight_decay: NonNegative = 0.0, mask: Any = None) -> Any:
    """Add λ·θ to the updates.

    After the moments and before the learning rate, this is AdamW's decoupled decay (times η); before the moments, it is
    L2 regularisation.

    Args:
      weight_decay: λ; a float, an array or a schedule.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
    """
    if mask is not None:
        return masked(add_decayed_weights(weight_decay), mask)
    return leafwise(emit=lambda u, p: u + weight_decay * p)


@transformation
def add_cautious_weight_decay(weight_decay: NonNegative, mask: Any = None) -> Any:
    """Add λ·θ to the updates where it does not oppose them: u + λ·[u·θ ≥ 0]·θ. Goes before the learning rate.

    Args:
      weight_decay: λ.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Chen et al. 2025, https://arxiv.org/abs/2510.12402

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.add_cautious_weight_decay(0.1)
    >>> tx.update(jnp.array([1.0, -1.0]), tx.init(jnp.ones(2)), jnp.ones(2))[0].round(3).tolist()
    [1.1..., -1.0]
    """
    if mask is not None:
        return masked(add_cautious_weight_decay(weight_decay), mask)

    def decayed(u: jax.Array, p: jax.Array) -> Any:
        agrees = (jnp.sign(u) * jnp.conj(jnp.sign(p))).real >= 0
        return u + (weight_decay * agrees) * p

    return leafwise(emit=decayed)


@transformation
def decay_weights(weight_decay: NonNegative, mask: Any = None) -> Any:
    """Subtract λ·θ from the steps: u − λ·θ. Last in a chain, this is a decay independent of the learning rate.

    Args:
      weight_decay: λ; may have a schedule of its own.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.chain(gradtx.adam(gradtx.cosine_decay_schedule(1e-3, 100)), gradtx.decay_weights(1e-5))
    chain(
        adam(learning_rate=cosine_decay_schedule(init_value=0.001, decay_steps=100)),
        decay_weights(weight_decay=1e-05),
    )
    """
    return chain(scale(-1.0), add_decayed_weights(weight_decay, mask), scale(-1.0))


@transformation
def proximal_weight_decay(weight_decay: NonNegative, mask: Any = None) -> Any:
    """Shrink the parameters after the step: (θ + u) / (1 + λ), which no λ takes past 0. Goes last in a chain.

    This is the proximal step for the penalty λ/2·‖θ‖²: the decay is evaluated at the new parameters, not the old ones.

    Args:
      weight_decay: λ; for a decay that follows the learning rate, pass η·λ.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Zhuang et al. 2022, https://arxiv.org/abs/2202.00089

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.proximal_weight_decay(3.0))
    >>> x = jnp.array(10.0)
    >>> gradtx.apply_updates(x, tx.update(jnp.array(2.0), tx.init(x), x)[0]).item()
    2.0
    """
    if mask is not None:
        return masked(proximal_weight_decay(weight_decay), mask)

    return leafwise(emit=lambda u, p: (u - weight_decay * p) / (1 + weight_decay))


@transformation
def add_l2_regularization(strength: NonNegative, mask: Any = None) -> Any:
    """Add the gradient of the penalty λ/2·‖θ‖²: g + λ·θ. Goes before the moments.

    Args:
      strength: λ.
      mask: which leaves; see `masked`. By default all.

    Source: Hoerl & Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634
    """
    return add_decayed_weights(strength, mask)


@transformation
def add_l1_regularization(strength: NonNegative, mask: Any = None) -> Any:
    """Add a subgradient of the penalty λ·‖θ‖₁: g + λ·sign(θ). Goes before the moments.

    Args:
      strength: λ.
      mask: which leaves; see `masked`. By default all.

    Source: Tibshirani 1996, https://doi.org/10.1111/j.2517-6161.1996.tb02080.x
    """
    if mask is not None:
        return masked(add_l1_regularization(strength), mask)
    return leafwise(emit=lambda u, p: u + strength * jnp.sign(p))

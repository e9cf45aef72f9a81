"""Cautious optimizers: apply an update only where it agrees with the gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import initialize, run
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import map_leaves

__all__ = ["cautious"]

Tree = Any


@transformation
def cautious(inner: Transformation) -> Any:
    """Apply an optimizer's update only where it descends along the current gradient: u·[u·g < 0] / max(share, 10⁻³).

    The rest is divided by the share of the leaf's elements that agree, so that the leaf moves about as far as before.

    Weight decay should not be masked; put it after this, as C-AdamW does:
    `chain(cautious(adam(η)), proximal_weight_decay(η·λ))`, or `decay_weights(λ)`.

    Args:
      inner: an optimizer whose updates step *down*: one that ends in `scale_by_learning_rate` or `scale(-1.0)`.

    State: that of the optimizer.

    Source: Liang et al. 2024, https://arxiv.org/abs/2411.16085; the share and its floor as in the authors' code,
    https://github.com/kyleliang919/C-Optim

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.cautious(gradtx.sgd(0.1, momentum=0.9))
    >>> _, state = tx.update(jnp.array([1.0, 1.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([1.0, -0.5]), state)[0].round(3).tolist()  # the second would move up its gradient: masked
    [-0.38..., 0.0]
    """

    def masked(u: jax.Array, g: jax.Array) -> jax.Array:
        # Signs first: a product of two small numbers would underflow to 0.
        agrees = (jnp.sign(u) * jnp.conj(jnp.sign(g))).real < 0
        share = jnp.sum(agrees) / max(np.size(u), 1)
        return jnp.where(agrees, (1 / jnp.maximum(share, 1e-3)) * u, 0)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        steps, state = run(inner, updates, state, params, extra_args)
        return map_leaves(masked, steps, updates), state

    return lambda params: initialize(inner, params), update

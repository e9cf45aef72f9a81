"""Cautious steps: only where the step and the gradient agree."""

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

"""Fromage: steps in proportion to the norm of each layer."""

from typing import Any

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.trust_ratio import scale_by_trust_ratio
from gradtx.atoms.weight_decay import proximal_weight_decay
from gradtx.core.arguments import NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["fromage"]


@optimizer
def fromage(learning_rate: NonNegative, min_norm: NonNegative = 1e-6) -> Any:
    """Each layer takes a step proportional to its own norm, and is then rescaled so that its norm does not grow:
    θ ← (θ − η·‖θ‖/‖g‖·g) / √(1 + η²).

    Args:
      learning_rate: η, relative to a layer's norm; 0.01 is a good first guess for any model.
      min_norm: smaller norms are replaced by this.

    Needs the parameters.

    Source: Bernstein et al. 2020, https://arxiv.org/abs/2002.03432

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.fromage(0.75)
    >>> x = jnp.array([4.0, 0.0])
    >>> updates, _ = tx.update(jnp.array([0.0, 9.0]), tx.init(x), x)
    >>> [f"{p:.3f}" for p in x + updates]  # a turn: its norm is still 4
    ['3.200', '-2.400']
    """
    growth = learning_rate**2 / (1 + (1 + learning_rate**2) ** 0.5)  # √(1 + η²) − 1, without cancellation
    return chain(
        scale_by_trust_ratio(min_norm),
        scale_by_learning_rate(learning_rate),
        proximal_weight_decay(growth),
    )

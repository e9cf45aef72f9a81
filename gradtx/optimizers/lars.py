"""LARS: gradient descent with a trust ratio for each layer."""

from typing import Any

from gradtx.atoms.averages import trace
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.trust_ratio import scale_by_trust_ratio
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain
from gradtx.core.select import masked
from gradtx.core.transformation import optimizer

__all__ = ["lars"]


@optimizer
def lars(
    learning_rate: NonNegative,
    weight_decay: NonNegative = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: NonNegative = 0.001,
    eps: NonNegative = 0.0,
    trust_ratio_mask: Any = True,
    momentum: Decay = 0.9,
    nesterov: bool = False,
) -> Any:
    """Momentum SGD with a trust ratio per layer, for large batches: each leaf moves in proportion to its own norm,
    b ← μ·b + η·c·‖θ‖/‖u‖·u with u = g + λ·θ.

    Args:
      learning_rate: η.
      weight_decay: λ.
      weight_decay_mask: which leaves decay; see `masked`.
      trust_coefficient: c.
      eps: added to ‖u‖.
      trust_ratio_mask: which leaves are scaled by their trust ratio.
      momentum: μ.
      nesterov: look ahead, as in `sgd`.

    Source: You et al. 2017, https://arxiv.org/abs/1708.03888

    >>> import gradtx
    >>> gradtx.lars(0.1, trust_ratio_mask="*kernel")
    lars(learning_rate=0.1, trust_ratio_mask='*kernel')
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps), trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )

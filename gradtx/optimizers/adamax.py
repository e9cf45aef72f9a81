"""AdaMax: Adam with an infinity norm in place of the root mean square."""

from typing import Any

from gradtx.atoms.averages import decaying_max
from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import absolute, reciprocal
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["adamax", "adamaxw", "scale_by_adamax"]


@transformation
def scale_by_adamax(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8) -> Any:
    """Adam's direction divided by a decaying maximum: m̂ / x, x ← max(β₂·x, |g| + ε).

    State: two slots per parameter.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """
    return product(direction(b1), chain(absolute(), decaying_max(b2, eps), reciprocal()))


@optimizer
def adamax(learning_rate: NonNegative, b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8) -> Any:
    """Adam with the infinity norm: x ← max(β₂·x, |g| + ε), θ ← θ − η·m̂/x.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂, decay of the maximum.
      eps: ε.

    Source: Kingma & Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980

    >>> import gradtx
    >>> gradtx.scale_by_adamax().formula
    product(
        chain(scale_by_momentum(), bias_correction(decay=0.9)),
        chain(absolute(), decaying_max(decay=0.999, eps=1e-08), reciprocal()),
    )
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@optimizer
def adamaxw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
) -> Any:
    """AdaMax with decoupled weight decay: θ ← θ − η·(m̂/x + λ·θ).

    Args:
      weight_decay: λ.
      mask: which leaves decay; see `masked`.

    The other arguments are those of `adamax`.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.adamaxw(1e-3, weight_decay=0.01)
    adamaxw(learning_rate=0.001, weight_decay=0.01)
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

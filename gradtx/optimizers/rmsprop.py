"""RMSprop: divide the gradient by the root of an average of its squares."""

from typing import Any

from gradtx.atoms.averages import trace
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import scale_by_rms, scale_by_stddev
from gradtx.core.arguments import Decay, NonNegative, Real
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["rmsprop"]


@optimizer
def rmsprop(
    learning_rate: NonNegative,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Real = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Decay | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Any:
    """Divide the gradient by its running root mean square: v ← γ·v + (1−γ)·g², θ ← θ − η·g/√(v + ε).

    Args:
      learning_rate: η.
      decay: γ (torch: 0.99).
      eps: ε.
      initial_scale: initial value of v.
      eps_in_sqrt: False for torch's √v + ε.
      centered: divide by the standard deviation instead, √(v − m² + ε).
      momentum: heavy-ball momentum, applied to the scaled steps; None for none.
      nesterov: Nesterov momentum, as in `sgd`.
      bias_correction: correct v for its bias towards zero.

    Source: Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf

    >>> import gradtx
    >>> gradtx.rmsprop(1e-3, centered=True, momentum=0.9).formula
    chain(scale_by_stddev(), scale_by_learning_rate(learning_rate=0.001), trace(decay=0.9))
    """
    scaled = scale_by_stddev if centered else scale_by_rms
    stages = [
        scaled(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
    ]
    return chain(*stages) if momentum is None else chain(*stages, trace(momentum, nesterov))

"""Grokfast: amplify the slowly varying part of the gradients, in front of any optimizer."""

from typing import Any

from gradtx.atoms.averages import ema
from gradtx.atoms.learning_rate import scale
from gradtx.core.arguments import Decay, NonNegative
from gradtx.core.combine import add, chain, identity
from gradtx.core.transformation import transformation
from gradtx.schedules.betas import after_first_step

__all__ = ["grokfast"]


@transformation
def grokfast(decay: Decay = 0.98, strength: NonNegative = 2.0) -> Any:
    """Amplify the slowly varying part of the gradients: g + λ·m, m ← α·m + (1−α)·g, m starting at the first gradient.

    Goes in front of an optimizer: `chain(grokfast(), adamw(1e-3))`.

    Args:
      decay: α.
      strength: λ.

    State: one slot per parameter.

    Source: Lee et al. 2024, https://arxiv.org/abs/2405.20233

    >>> import gradtx
    >>> gradtx.grokfast().formula
    add(
        identity(),
        chain(ema(decay=after_first_step(value=0.98), debias=False), scale(step_size=2.0)),
    )
    """
    return add(identity(), chain(ema(after_first_step(decay), debias=False), scale(strength)))

"""Gradient descent with noise."""

from typing import Any

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.noise import Key, add_noise
from gradtx.core.arguments import NonNegative, Real
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["noisy_sgd"]


@optimizer
def noisy_sgd(
    learning_rate: NonNegative,
    eta: NonNegative = 0.01,
    gamma: Real = 0.55,
    key: Key | None = None,
    *,
    seed: Key | None = None,
) -> Any:
    """Gradient descent with Gaussian noise that fades over time: θ ← θ − η·(g + √(σ²/tᵞ)·ε), ε standard normal.

    Args:
      learning_rate: η.
      eta: σ², the variance of the noise at the first step.
      gamma: γ, how fast the variance falls.
      key: an int or a key; see `add_noise`.
      seed: another name for `key`.

    State: two counts and a key.

    Source: Neelakantan et al. 2015, https://arxiv.org/abs/1511.06807

    >>> import gradtx
    >>> gradtx.noisy_sgd(0.1, key=42).formula
    chain(
        add_noise(eta=0.01, gamma=0.55, key=42),
        scale_by_learning_rate(learning_rate=0.1),
    )
    """
    return chain(add_noise(eta, gamma, key, seed=seed), scale_by_learning_rate(learning_rate))

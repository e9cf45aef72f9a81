"""Adam: bias-corrected momentum times the inverse root mean square of the gradients.

scale_by_adam = product( direction, inverse_rms ) = m̂ / (√v̂ + ε)"""

from typing import Any

from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import inverse_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative
from gradtx.core.combine import chain, product
from gradtx.core.transformation import optimizer, transformation

__all__ = ["adam", "adamw", "scale_by_adam"]


@transformation
def scale_by_adam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam's direction times Adam's preconditioner: m̂ / (√(v̂ + ε_root) + ε).

    Args:
      b1: β₁, decay of the average m of g.
      b2: β₂, decay of the average v of g².
      eps: ε, outside the root, added after bias correction.
      eps_root: ε_root, inside the root.
      mu_dtype: dtype of m.
      nesterov: NAdam's direction.

    State: two slots per parameter.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return product(direction(b1, nesterov, mu_dtype), inverse_rms(b2, eps, eps_root))


@optimizer
def adam(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Momentum divided by the root mean square of the gradients, both bias-corrected: θ ← θ − η·m̂/(√v̂ + ε).

    Args:
      learning_rate: η.
      b1: β₁, decay of the average m of g.
      b2: β₂, decay of the average v of g².
      eps: ε, outside the root, added after bias correction (Keras: 1e-7).
      eps_root: inside the root.
      mu_dtype: dtype of m.
      nesterov: NAdam's direction.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980

    >>> import gradtx
    >>> gradtx.adam(1e-3).expand()
    chain(
        product(
            chain(scale_by_momentum(), bias_correction(decay=0.9)),
            chain(
                square(),
                ema(decay=0.999, debias=False),
                bias_correction(decay=0.999),
                inverse_root(),
            ),
        ),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@optimizer
def adamw(
    learning_rate: NonNegative,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: Dtype | None = None,
    weight_decay: NonNegative = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam with decoupled weight decay: θ ← θ − η·(m̂/(√v̂ + ε) + λ·θ).

    The decay is multiplied by η, including its schedule (as in torch and Optax). For a decay of −λ·θ that ignores the
    schedule, use `add` to combine `adam` with `chain(set_to_zero(), add_decayed_weights(λ), scale(-1.0))`.

    Args:
      learning_rate: η.
      b1: β₁.
      b2: β₂.
      eps: ε.
      eps_root: inside the root.
      mu_dtype: dtype of m.
      weight_decay: λ (torch: 1e-2).
      mask: which leaves decay; see `masked`.
      nesterov: NAdam's direction.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.adamw(1e-3, mask="*kernel").formula
    chain(
        scale_by_adam(),
        add_decayed_weights(weight_decay=0.0001, mask='*kernel'),
        scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

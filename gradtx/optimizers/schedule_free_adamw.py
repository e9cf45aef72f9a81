"""Schedule-free optimizers, ready to use: SGD and AdamW inside `schedule_free`."""

from typing import Any

from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.preconditioners import scale_by_rms
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative, OpenDecay, Real, Steps
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer
from gradtx.schedules import warmup
from gradtx.wrappers.schedule_free import schedule_free

__all__ = ["schedule_free_adamw", "schedule_free_sgd"]


def _warmed_up(learning_rate: Any, warmup_steps: int | None) -> Any:
    return learning_rate if warmup_steps is None else warmup(learning_rate, warmup_steps)


@optimizer
def schedule_free_sgd(
    learning_rate: NonNegative = 1.0,
    warmup_steps: Steps | None = None,
    b1: OpenDecay = 0.9,
    weight_decay: NonNegative | None = None,
    weight_lr_power: Real = 2.0,
    state_dtype: Dtype | None = None,
) -> Any:
    """Schedule-free gradient descent: `schedule_free` around `sgd`.

    Args:
      warmup_steps: length of the linear warm-up of the learning rate from 0; None for none.
      weight_decay: λ, applied to the parameters y, multiplied by η.

    The other arguments as in `schedule_free`.

    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682

    >>> import gradtx
    >>> gradtx.schedule_free_sgd(1.0).formula
    schedule_free(
        base_optimizer=chain(scale_by_learning_rate(learning_rate=1.0)),
        learning_rate=1.0,
    )
    """
    learning_rate = _warmed_up(learning_rate, warmup_steps)
    decay = () if weight_decay is None else (add_decayed_weights(weight_decay),)
    base = chain(*decay, scale_by_learning_rate(learning_rate))
    return schedule_free(base, learning_rate, b1, weight_lr_power, state_dtype)


@optimizer
def schedule_free_adamw(
    learning_rate: NonNegative = 0.0025,
    warmup_steps: Steps | None = None,
    b1: OpenDecay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    weight_lr_power: Real = 2.0,
    state_dtype: Dtype | None = None,
) -> Any:
    """Schedule-free AdamW: `schedule_free` around AdamW without momentum; two slots per parameter, as many as AdamW.

    Args:
      warmup_steps: length of the linear warm-up of the learning rate from 0; None for none.
      weight_decay: λ, applied to the parameters y, multiplied by η.

    The other arguments as in `schedule_free` and `adamw`.

    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682

    >>> import gradtx
    >>> gradtx.schedule_free_adamw(0.0025).formula
    schedule_free(
        base_optimizer=chain(
            scale_by_rms(decay=0.999, eps_in_sqrt=False, bias_correction=True),
            add_decayed_weights(),
            scale_by_learning_rate(learning_rate=0.0025),
        ),
        learning_rate=0.0025,
    )
    """
    learning_rate = _warmed_up(learning_rate, warmup_steps)
    base = chain(
        scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(learning_rate),
    )
    return schedule_free(base, learning_rate, b1, weight_lr_power, state_dtype)

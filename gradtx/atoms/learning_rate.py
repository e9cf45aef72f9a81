"""Step lengths: constant factors, learning rates and schedules, and a factor that falls on a plateau."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative, Period, Real, Steps
from gradtx.core.leafwise import leafwise
from gradtx.core.roles import Number
from gradtx.core.transformation import transformation

__all__ = ["reduce_on_plateau", "scale", "scale_by_learning_rate", "scale_by_schedule"]


@transformation
def scale(step_size: Real) -> Any:
    """Multiply the updates by a number: s·u.

    Args:
      step_size: the factor s, of any sign; a float, an array or a schedule.
    """
    return leafwise(emit=lambda u: step_size * u)


@transformation(record=("learning_rate",))
def scale_by_learning_rate(learning_rate: NonNegative, *, flip_sign: bool = True) -> Any:
    """Multiply by the negative learning rate: −η·u. The state records η, constant or scheduled, and counts the steps.

    Args:
      learning_rate: η; a float, an array or a schedule.
      flip_sign: False for +η·u.

    State: a count and the learning rate in use; see `hyperparams`.
    """
    return leafwise(emit=lambda u: -(learning_rate * u) if flip_sign else learning_rate * u)


@transformation
def scale_by_schedule(step_size_fn: Real) -> Any:
    """Multiply the updates by a schedule: s(t)·u. Any function of the step count will do.

    Args:
      step_size_fn: s, called with the number of earlier steps.
    """
    return scale(step_size_fn)


class ReduceOnPlateauState(NamedTuple):
    """The factor in use, and the statistics that decide when it falls."""

    scale: Number  # the factor in use
    best_value: Number
    plateau_count: Number  # int32, windows since the best value
    cooldown_count: Number  # int32, windows of cooldown left
    count: Number  # int32, values in the current window
    sum_value: Number  # of the values in the current window

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"plateau_scale": self.scale}


@transformation
def reduce_on_plateau(
    factor: Decay = 0.1,
    patience: Steps = 10,
    rtol: Decay = 1e-4,
    atol: NonNegative = 0.0,
    cooldown: Steps = 0,
    accumulation_size: Period = 1,
    min_scale: NonNegative = 0.0,
) -> Any:
    """Scale the updates down when the loss stops falling; put it last in a chain.

    Pass the loss: `tx.update(grads, state, params, value=loss)` (`make_step` does).

    Args:
      factor: multiplies the scale on a plateau.
      patience: number of windows without improvement before that.
      rtol: the relative improvement that counts as one.
      atol: the absolute improvement that counts as one.
      cooldown: number of windows after a reduction that do not count towards `patience`.
      accumulation_size: steps per window; the mean loss of a window is judged.
      min_scale: the scale never falls below this.

    Raises:
      TypeError: `value` is not passed to `update`.

    The rule of Optax's `contrib.reduce_on_plateau`, except that a negative loss, too, must fall by `rtol` to improve.
    """

    def judged(s: ReduceOnPlateauState, *, value: jax.Array) -> ReduceOnPlateauState:
        count, total = s.count + 1, s.sum_value + value
        mean, full = total / count, count >= accumulation_size

        improved = mean < s.best_value * (1 - rtol * jnp.sign(s.best_value)) - atol
        cooling = s.cooldown_count > 0
        bad = jnp.where(improved | cooling, 0, s.plateau_count + 1)
        reduce = full & (bad >= patience) & ~improved & ~cooling
        cooldown_left = jnp.where(reduce, cooldown, jnp.maximum(s.cooldown_count - 1, 0))
        return ReduceOnPlateauState(
            scale=jnp.where(reduce, jnp.maximum(s.scale * factor, min_scale), s.scale),
            best_value=jnp.where(improved & full, mean, s.best_value),
            plateau_count=jnp.where(full, jnp.where(reduce, 0, bad), s.plateau_count),
            cooldown_count=jnp.where(full, cooldown_left, s.cooldown_count),
            count=jnp.where(full, 0, count),
            sum_value=jnp.where(full, 0.0, total),
        )

    return leafwise(
        init=lambda p: ReduceOnPlateauState(1.0, jnp.inf, 0, 0, 0, 0.0),
        count=judged,
        emit=lambda s, u: s.scale * u,
    )

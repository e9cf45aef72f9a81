"""Early stopping: watch a validation loss and keep the best parameters."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.training.step import Tree

__all__ = ["EarlyStopping"]


class EarlyStoppingState(NamedTuple):
    """What `EarlyStopping` remembers: plain arrays, to be carried through `jit`, `scan` and checkpoints."""

    best_value: jax.Array  # infinite before the first value
    best_params: Tree  # the parameters of the best value
    bad_count: jax.Array  # int32, values since the best one
    should_stop: jax.Array  # bool; once true, the state does not change any more


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a validation loss has not improved for some time, and keep the best parameters.

    Args:
      patience: the number of values without improvement before `should_stop`, at least 1.
      min_delta: an improvement must be below the best value by more than this. NaN never counts as one.

    For a score that should rise, pass its negative. Works inside and outside `jit`; in a loop that cannot break
    (`scan`), the state stays as it was at the stop.

    >>> import jax.numpy as jnp
    >>> from gradtx.training import EarlyStopping
    >>> stopper = EarlyStopping(patience=2)
    >>> state = stopper.init(params=jnp.zeros(()))
    >>> for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5, 0.1]):
    ...     state = stopper.update(state, loss, params=jnp.array(10.0 * epoch))
    ...     if state.should_stop:
    ...         break
    >>> epoch, state.best_value.item(), state.best_params.item()
    (3, 1.0, 10.0)
    """

    patience: int = 10
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or not self.min_delta >= 0:
            raise ValueError(f"EarlyStopping: patience must be at least 1 and min_delta at least 0, got {self}")

    def init(self, params: Tree) -> EarlyStoppingState:
        """The state before the first value. The parameters are copied, since a donating step may reuse their memory."""
        best = jnp.full((), jnp.inf, float)
        return EarlyStoppingState(best, jax.tree.map(jnp.array, params), jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def update(self, state: EarlyStoppingState, value: Any, params: Tree) -> EarlyStoppingState:
        """Record a value and the parameters that it belongs to.

        Raises:
          ValueError: the value is not one number.
        """
        value = jnp.asarray(value, state.best_value.dtype)
        if value.shape:
            raise ValueError(f"EarlyStopping: value must be one number, got an array of shape {value.shape}")
        improved = (value < state.best_value - self.min_delta) & ~state.should_stop
        bad_count = jnp.where(improved, 0, state.bad_count + ~state.should_stop)
        return EarlyStoppingState(
            best_value=jnp.where(improved, value, state.best_value),
            best_params=jax.tree.map(
                lambda new, best: jnp.where(improved, new, best).astype(best.dtype), params, state.best_params
            ),
            bad_count=bad_count,
            should_stop=bad_count >= self.patience,
        )

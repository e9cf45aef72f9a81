"""Names for annotations: what goes into and out of a transformation, and what may be given for a number.

def step(params: gradtx.Params, learning_rate: gradtx.ScalarOrSchedule = 1e-3) -> gradtx.Updates: …
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

__all__ = ["InitAndUpdate", "OptState", "Params", "ScalarOrSchedule", "Updates"]

# Any pytree will do, so there is nothing more to tell a type checker.
Params: TypeAlias = Any  # of arrays
Updates: TypeAlias = Any  # of arrays, like the parameters
OptState: TypeAlias = Any  # what `init` makes

# What may be given for a number: the number itself, an array of one (or of many, under `vmap`), or a function of the
# step count, such as a schedule of this library, of Optax or a lambda.
ScalarOrSchedule: TypeAlias = float | jax.Array | np.ndarray[Any, Any] | np.number[Any] | Callable[[jax.Array], Any]


class InitAndUpdate(Protocol):
    """A transformation of any library: anything with `init` and `update`."""

    @property
    def init(self) -> Callable[[Any], Any]:
        """`init(params) -> state`."""
        ...

    @property
    def update(self) -> Callable[..., tuple[Any, Any]]:
        """`update(updates, state, params=None, **extra_args) -> (updates, state)`."""
        ...

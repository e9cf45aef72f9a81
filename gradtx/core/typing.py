"""Names for what goes in and out of a transformation, for annotations: `def step(params: gradtx.Params, …)`."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

__all__ = ["OptState", "Params", "ScalarOrSchedule", "Updates"]

# Any pytree will do, so a type checker can be told no more.
Params: TypeAlias = Any  # of arrays
Updates: TypeAlias = Any  # of arrays, like the parameters
OptState: TypeAlias = Any  # what `init` makes
ScalarOrSchedule: TypeAlias = float | jax.Array | Callable[[Any], Any]  # what stands for a number

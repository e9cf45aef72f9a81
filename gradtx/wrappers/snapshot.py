"""Single measurements that the state keeps: the last value, or an average."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.atoms.averages import ema
from gradtx.core.arguments import Decay, Dtype
from gradtx.core.build import initialize, run
from gradtx.core.transformation import transformation
from gradtx.wrappers.monitor import monitor

__all__ = ["measure_with_ema", "snapshot"]

Tree = Any


@transformation
def measure_with_ema(measure: Any, decay: Decay, debias: bool = True, accumulator_dtype: Dtype | None = None) -> Any:
    """A measurement averaged over the steps, for `monitor`: the exponential moving average of `measure(updates)`.

    Args:
      measure: a function of the updates; returns a number or a tree of numbers.
      decay: β.
      debias: divide by 1−βᵗ.
      accumulator_dtype: dtype of the average; float32 at least by default.

    >>> import gradtx, jax.numpy as jnp
    >>> often = gradtx.measure_with_ema(lambda g: gradtx.global_norm(g) > 1.0, decay=0.5)
    >>> tx = gradtx.monitor({"clipped": often}, gradtx.clip_by_global_norm(1.0))
    >>> state = tx.init(jnp.zeros(2))
    >>> for size in (2.0, 0.1):
    ...     _, state = tx.update(jnp.array([size, 0.0]), state)
    >>> round(float(gradtx.metrics(state)["clipped"]), 3)
    0.333
    """
    if not callable(measure):
        raise TypeError(f"measure_with_ema: measure must be a function of the updates, got {measure!r}")
    average = ema(decay, debias, accumulator_dtype)

    def init(params: Tree) -> Tree:
        return initialize(average, jax.tree.map(jnp.zeros_like, jax.eval_shape(measure, params)))

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        return run(average, measure(updates), state, None, {})

    return init, update


@transformation
def snapshot(measure_name: str, measure: Any) -> Any:
    """Record a measurement of the updates passing through, `measure(updates)`: a `monitor` with a single measure.

    Args:
      measure_name: the name in `metrics(state)`.
      measure: a function of the updates, or the name of a measure; see `monitor`.

    >>> import gradtx, jax.numpy as jnp
    >>> largest = gradtx.snapshot("largest", lambda updates: jnp.max(jnp.abs(updates)))
    >>> tx = gradtx.chain(gradtx.scale(2.0), largest, gradtx.clip(1.0))
    >>> _, state = tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))
    >>> gradtx.metrics(state)["largest"].item()
    8.0
    """
    return monitor({measure_name: measure})

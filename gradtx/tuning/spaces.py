"""The search space of a sweep: the values of a grid, and distributions to sample from.

A distribution is its quantile function, from probabilities in [0, 1) to values: at 0.5 it gives the median.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gradtx.core.arguments import numeric
from gradtx.core.value import Value

__all__ = ["log_uniform", "uniform"]

Distribution = Callable[[np.ndarray], Any]


def uniform(low: float, high: float) -> Distribution:
    """A distribution for `sweep`: uniform from low to high.

    >>> import gradtx
    >>> gradtx.uniform(1.0, 3.0)(0.25)
    1.5
    """
    _check_bounds("uniform", low, high)
    return lambda share: low + (high - low) * share


def log_uniform(low: float, high: float) -> Distribution:
    """A distribution for `sweep`: uniform in the logarithm from low to high, e.g. for learning rates.

    >>> import gradtx
    >>> gradtx.log_uniform(1e-4, 1.0)(0.5)
    0.01
    """
    _check_bounds("log_uniform", low, high)
    if not low > 0:
        raise ValueError(f"log_uniform: low must be greater than 0, got {low}")
    return lambda share: low * (high / low) ** share


def _check_bounds(owner: str, low: float, high: float) -> None:
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{owner}: low < high must hold and both be finite, got {low} and {high}")


def combinations(space: Mapping[str, Any], samples: int | None, key: Any) -> dict[str, np.ndarray]:
    """All combinations, name -> (runs): every combination of the values with every sample."""
    drawn = [name for name, values in space.items() if callable(values)]
    if bool(drawn) != (samples is not None) or (samples is not None and samples < 1):
        what = f"{', '.join(drawn)}: how many samples=…?" if drawn else "there is no distribution to draw samples of"
        raise ValueError(f"sweep: {what} Got samples={samples}")
    tried = {name: _values(name, values) for name, values in space.items() if name not in drawn}
    shape = [len(values) for values in tried.values()]
    indices = np.indices([*shape, samples or 1]).reshape(len(shape) + 1, -1)
    columns = {name: values[index] for (name, values), index in zip(tried.items(), indices, strict=False)}
    key = jax.random.key(key) if isinstance(key, (int, np.integer)) else key
    for name, own in zip(drawn, jax.random.split(key, max(len(drawn), 1)), strict=False):
        columns[name] = np.asarray(space[name](_shares(own, samples or 1)), float)[indices[-1]]
    return {name: columns[name] for name in space}


def _values(name: str, values: Any) -> np.ndarray:
    """The values to try; an array of objects unless all are numbers."""
    if isinstance(values, (str, bytes, Value)) or not np.iterable(values):
        raise TypeError(f"sweep: {name!r} must be a sequence of values or a distribution, got {values!r}")
    values = list(values)
    if not values:
        raise ValueError(f"sweep: {name!r} has no values to try")
    if all(isinstance(x, (bool, int, float)) or (numeric(x) and np.ndim(x) == 0) for x in values):
        return np.asarray(values)
    objects = np.empty(len(values), object)
    for i, value in enumerate(values):
        objects[i] = value
    return objects


def _shares(key: jax.Array, samples: int) -> np.ndarray:
    """Numbers in [0, 1), one in each of `samples` equal intervals, in random order."""
    order, inside = jax.random.split(key)
    slices = np.asarray(jax.random.permutation(order, samples))
    return np.asarray((slices + np.asarray(jax.random.uniform(inside, (samples,)))) / samples)

"""The race on a test function: the path of every optimizer from the same point."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.race import entrants
from gradtx.race.loop import Loop, stack
from gradtx.test_functions import TestFunction

__all__ = ["TOLERANCE", "Travelled", "follow"]

TOLERANCE = 0.01  # a minimum is reached within this distance


@dataclass(frozen=True)
class Travelled:
    """The path of one optimizer at each of its learning rates.

    On a function without a minimum, where it would descend for ever, a path ends where it leaves the domain.
    """

    name: str
    function: TestFunction
    rates: tuple[float, ...]
    paths: tuple[np.ndarray, ...]  # for each learning rate, the points from the start on, (steps + 1, variables)
    values: tuple[np.ndarray, ...]  # for each learning rate, the function along the path, (steps + 1)
    compile_seconds: float
    run_seconds: float

    def distance(self, rate: int) -> float | None:
        """From the end of the path to the nearest minimum; None if the function has none."""
        return float(self._distances(rate)[-1]) if self.function.minima else None

    def _distances(self, rate: int) -> np.ndarray:
        minima = np.reshape(np.asarray(self.function.minima, float), (-1, 1, self.function.dimension))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.linalg.norm(self.paths[rate] - minima, axis=-1).min(axis=0)

    def steps_to_goal(self, rate: int) -> int | None:
        """The steps after which it stayed near a minimum, or, if there is none, first reached the function's goal."""
        if self.function.goal is not None:
            reached = np.flatnonzero(self.values[rate] <= self.function.goal)
            return int(reached[0]) if reached.size else None
        away = np.flatnonzero(~(self._distances(rate) <= TOLERANCE))  # NaN is away
        settled = int(away[-1]) + 1 if away.size else 0
        return settled if settled < len(self.paths[rate]) else None

    @property
    def diverged(self) -> np.ndarray:
        """For each learning rate, whether the path ended in infinite or NaN values."""
        return np.array([not np.isfinite([*path[-1], self.values[i][-1]]).all() for i, path in enumerate(self.paths)])

    @property
    def best(self) -> int:
        """The index of the learning rate that reached the goal soonest; the lower final value breaks ties."""
        diverged = self.diverged

        def rank(rate: int) -> tuple[bool, float, float]:
            steps = self.steps_to_goal(rate)
            return bool(diverged[rate]), np.inf if steps is None else steps, self.values[rate][-1]

        return min(range(len(self.rates)), key=rank)


def follow(
    function: TestFunction, names: list[str], rates_of: Callable[[str], tuple[float, ...]], steps: int
) -> Iterator[tuple[str, Travelled | None]]:
    """Follow each optimizer from the function's start point.

    Yields:
      (name, None) when its run is over, then (name, its paths).
    """
    start = jnp.asarray(function.start, float)
    evaluate = jax.jit(function)
    for name in names:
        rates = rates_of(name)
        loop = Loop([entrants.make(name, rate) for rate in rates], lambda x, _: function(x), start)
        later = loop.run(jnp.arange(steps))
        points = np.asarray(jnp.concatenate([stack([start[None]] * len(rates)), later], axis=1), float)
        values = np.asarray(evaluate(np.moveaxis(points, -1, 0) if start.ndim else points), float)
        points = points.reshape(len(rates), steps + 1, -1)
        ends = [_end(function, path) for path in points]
        yield name, None
        yield (
            name,
            Travelled(
                name,
                function,
                rates,
                tuple(path[:end] for path, end in zip(points, ends, strict=True)),
                tuple(value[:end] for value, end in zip(values, ends, strict=True)),
                loop.compile_seconds,
                loop.run_seconds,
            ),
        )


def _end(function: TestFunction, path: np.ndarray) -> int:
    """How many points count: on a function that has no minimum to return to, up to the first outside the domain."""
    low, high = np.transpose(function.domain)
    outside = np.flatnonzero(~((low <= path) & (path <= high)).all(axis=1))
    return int(outside[0]) + 1 if outside.size and not function.minima else len(path)

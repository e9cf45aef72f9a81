"""How it is measured: both libraries in one process, in turn, on the same buffers' worth of memory.

A step is `update` and `apply_updates` in one compiled function, with parameters and state donated, as in training. The
gradients are an argument: what a model costs is not measured. Times on a busy machine are noisy; steps therefore
alternate (A B A B …) and a ratio is one of medians. What needs no clock is counted: kernels, bytes, equations.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.compiled import count

__all__ = ["Compiled", "Device", "bandwidth", "compile_step", "forget", "random_like", "time_in_turn", "trace"]

Record = dict[str, Any]


def random_like(shapes: Any, seed: int = 0, scale: float = 1.0) -> Any:
    """A tree of normal numbers."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    # One small generator per shape, not one compiled function with a generator per leaf.
    return structure.unflatten(
        [scale * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )


class Device(NamedTuple):
    """A device, or several, that a step is compiled for without being there."""

    platform: str
    place: Callable[[Any], Any]  # gives the shapes of a tree their shardings


def trace(library: Any, tx: Any, shapes: Any, device: Device | None = None, through: bool = False) -> Any:
    """The traced step, what it is of, and the seconds that the trace took. See `Compiled`."""
    numbers, structure = jax.tree.flatten(tx if through else None)
    numbers = [jnp.asarray(x) for x in numbers]

    def step(gradients: Any, state: Any, params: Any, numbers: Any) -> Any:
        update = (structure.unflatten(numbers) if through else tx).update
        updates, state = update(gradients, state, params)
        return state, library.apply_updates(params, updates)

    like: Any = (shapes, jax.eval_shape(tx.init, shapes), shapes, numbers)
    if device:
        like = device.place(like)
    jitted = jax.jit(step, donate_argnums=(1, 2), keep_unused=through)
    begin = time.perf_counter()
    traced = jitted.trace(*like)
    return traced, like, time.perf_counter() - begin


class Compiled:
    """A compiled step of one library, with its parameters and state, and what can be said of it without a clock.

    Args:
      library: gradtx or Optax.
      tx: the optimizer.
      shapes: of the parameters.
      device: that the step is for; None for the one here.
      through: whether the optimizer's numbers are arguments, as `make_step` passes them, or constants.
    """

    def __init__(self, library: Any, tx: Any, shapes: Any, device: Device | None = None, through: bool = False):
        traced, like, seconds = trace(library, tx, shapes, device, through)
        marks = [time.perf_counter()]
        lowered = traced.lower(lowering_platforms=(device.platform,) if device else None)
        marks.append(time.perf_counter())
        self.step: Callable[..., Any] = lowered.compile()
        marks.append(time.perf_counter())
        lower, compile_ = (b - a for a, b in itertools.pairwise(marks))
        memory = self.step.memory_analysis()  # type: ignore[attr-defined]
        sizes = [_bytes(tree) for tree in like[:2]]
        counts = count(self.step.as_text())  # type: ignore[attr-defined]
        self.init, self.numbers = tx.init, like[3]
        self.record: Record = {
            "trace_s": seconds,
            "lower_s": lower,
            "compile_s": compile_,
            "equations": _equations(traced.jaxpr.jaxpr),
            "temporary_bytes": memory.temp_size_in_bytes,
            "aliased_bytes": memory.alias_size_in_bytes,
            "state_bytes": sizes[1],
            "moved_bytes": 3 * sizes[0] + 2 * sizes[1],  # gradients read; parameters and state read and written
            "kernels": counts.kernels,
            "traffic_bytes": counts.bytes,
            "collectives": counts.collectives,
        }

    def start(self, params: Any) -> None:
        """Make parameters and state to run on."""
        self.params = jax.tree.map(jnp.copy, params)
        self.state = jax.jit(self.init)(self.params)

    def run(self, gradients: Any, steps: int) -> float:
        """Seconds per step."""
        begin = time.perf_counter()
        for _ in range(steps):
            self.state, self.params = self.step(gradients, self.state, self.params, self.numbers)
        jax.block_until_ready((self.state, self.params))
        return (time.perf_counter() - begin) / steps


def compile_step(library: Any, tx: Any, shapes: Any, device: Device | None = None, through: bool = False) -> Compiled:
    """Trace, lower and compile one step, each timed, with nothing of it in JAX's caches. See `Compiled`."""
    forget(library, tx, through)
    return Compiled(library, tx, shapes, device, through)


def forget(library: Any, tx: Any, through: bool = False) -> None:
    """Empty JAX's caches, but for what every first trace pays: jnp's own functions, and a leaf of two numbers."""
    jax.clear_caches()
    trace(library, tx, {"warm": jax.ShapeDtypeStruct((2,), jnp.float32)}, through=through)


def time_in_turn(steps: dict[str, Compiled], gradients: Any, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds per step of each, in rounds: every one once, then again.

    Args:
      steps: by name, started.
      gradients: what each step gets.
      rounds: how many times each is timed.
      seconds: about how long one of these takes: short steps are repeated in it.
    """
    repeats = {}
    for name, compiled in steps.items():
        compiled.run(gradients, 1)
        repeats[name] = max(1, round(seconds / max(compiled.run(gradients, 1), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, compiled in steps.items():
            times[name].append(compiled.run(gradients, repeats[name]))
    return times


def bandwidth(size: int = 2**26, rounds: int = 15) -> float:
    """Bytes per second that this device streams: x + y in place of x, the median over rounds."""

    def add(x: jax.Array, y: jax.Array) -> jax.Array:
        return x + y

    x, y = jnp.ones(size), jnp.ones(size)
    step = jax.jit(add, donate_argnums=0)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        x = jax.block_until_ready(step(x, y))
        times.append(time.perf_counter() - begin)
    return 3 * x.nbytes / statistics.median(times)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _equations(jaxpr: Any) -> int:
    """Equations of a jaxpr and of those within it."""
    return sum(1 + sum(map(_equations, _inner(equation))) for equation in jaxpr.eqns)


def _inner(equation: Any) -> Iterator[Any]:
    for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            yield value

"""Sweeps: a function of hyperparameters, run for many settings at once, and a table of the results.

Numeric hyperparameters are arguments of the compiled function. A grid of them, or random samples, is then one
`jax.vmap`, in chunks that fit in memory: one compilation, whatever the number of runs.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import numeric
from gradtx.inspection.tables import html_table, text_table
from gradtx.state.paths import index_of
from gradtx.tuning.spaces import combinations

__all__ = ["SweepResult", "sweep"]

Numbers = dict[str, np.ndarray]


def sweep(
    run: Callable[..., Any],
    space: Mapping[str, Any],
    *,
    samples: int | None = None,
    key: Any = 0,
    static: Sequence[str] = (),
    chunk_size: int | None = None,
    max_bytes: float = 2**30,
    progress: bool | Callable[[int, int], Any] = False,
) -> "SweepResult":
    """Run a function for many settings of its hyperparameters at once.

    `run` is traced once. Numbers are passed as traced arguments, so it can build optimizers, keys and losses from them
    as under `jax.jit`. For values that are not numbers (strings, functions, optimizers) and for the names in `static`,
    it is compiled once for each value, or combination of values.

    Args:
      run: `run(**hyperparameters)` returns a number, or a dict of numbers and of 1-D curves.
      space: name -> the values to try, a sequence; all combinations are run, the last name varying fastest. Or name ->
        a distribution: `uniform`, `log_uniform` or any quantile function (array of probabilities in [0, 1) -> values),
        such as `scipy.stats.norm().ppf`. With both, every combination of the values is run with the same samples.
      samples: how many samples to draw from the distributions jointly: for each distribution, one from each of this
        many intervals of equal probability (a Latin hypercube).
      key: an int or a JAX key, for the samples.
      static: names whose numbers are passed untraced, for those needed at compile time (e.g. a number of steps).
      chunk_size: how many runs to compute at a time; by default as many as `max_bytes` allows, in chunks of equal size.
        The last one is padded with runs whose results are dropped.
      max_bytes: a limit for the temporaries and results of a chunk, as reported by the compiler.
      progress: True shows a bar if the output is a terminal or a notebook; a function is called with (runs done, total)
        after every chunk.

    Returns:
      A `SweepResult`, with one row per run. Curves of different lengths are padded with NaN.

    Raises:
      TypeError: hyperparameters that `run` does not take; a result that is not a number or a dict of numbers and
        curves; a traced number that is needed at compile time.
      ValueError: missing values or samples.

    Source: M. D. McKay, R. J. Beckman, W. J. Conover, "A Comparison of Three Methods for Selecting Values of Input
    Variables in the Analysis of Output from a Computer Code", 1979, https://doi.org/10.1080/00401706.1979.10489755
    (Latin hypercubes).

    >>> import gradtx, jax.numpy as jnp
    >>> def run(learning_rate, momentum):
    ...     tx = gradtx.sgd(learning_rate, momentum=momentum)
    ...     return gradtx.minimize(lambda x: jnp.sum(x**2), jnp.ones(3), tx, steps=20).value
    >>> gradtx.sweep(run, {"learning_rate": [0.01, 0.1, 1000.0], "momentum": [0.0, 0.5]}).sort()
    learning_rate  momentum  value
    ──────────────────────────────────
    0.1            0.5       2.351e-07
    0.1            0         0.0003988
    0.01           0.5       0.5988
    0.01           0         1.337
    1000           0         inf
    1000           0.5       inf
    ──────────────────────────────────
    6 runs, 2 diverged; least value 2.351e-07 at learning_rate=0.1, momentum=0.5
    """
    _check_names(run, space, static)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"sweep: chunk_size must be at least 1, got {chunk_size}")
    hyperparameters = combinations(space, samples, key)
    structural = [name for name, values in hyperparameters.items() if values.dtype == object or name in static]
    traced = [name for name in hyperparameters if name not in structural]
    total = len(next(iter(hyperparameters.values())))

    results: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []  # rows and their results
    with _shown(progress, total) as advance:
        for rows in _groups([hyperparameters[name] for name in structural], total):
            fixed = {name: hyperparameters[name][rows].tolist()[0] for name in structural}
            numbers = {name: hyperparameters[name][rows] for name in traced}
            with _explained(traced):
                call, size = _compiled(functools.partial(run, **fixed), numbers, len(rows), chunk_size, max_bytes)
            for start in range(0, len(rows), size):
                chosen = np.minimum(np.arange(start, start + size), len(rows) - 1)
                found = call({name: jnp.asarray(x[chosen]) for name, x in numbers.items()}, jnp.asarray(chosen))
                count = min(size, len(rows) - start)
                results.append((rows[chosen[:count]], {name: np.asarray(x)[:count] for name, x in found.items()}))
                advance(count)
    found = _assembled(results)
    clash = sorted(found.keys() & hyperparameters.keys())
    if clash:
        raise ValueError(f"sweep: run returns {clash[0]!r}, which is the name of a hyperparameter; call it otherwise")
    values = {name: x for name, x in found.items() if x.ndim == 1}
    return SweepResult(hyperparameters, values, {name: x for name, x in found.items() if x.ndim == 2})


# The result


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """The table of a sweep: one row per run.

    `result[0]` is a row as a dict; `result[:10]` and `result[~result.diverged]` are tables of some rows.
    """

    hyperparameters: Numbers  # name -> (runs)
    values: Numbers  # name -> (runs)
    curves: Numbers  # name -> (runs, length)

    @property
    def diverged(self) -> np.ndarray:
        """For each run, whether one of its values is infinite or NaN."""
        finite = [np.isfinite(x) for x in self.values.values()]
        return ~np.all(finite, axis=0) if finite else np.zeros(len(self), bool)

    def best(self, metric: str | None = None, *, largest: bool = False) -> dict[str, Any]:
        """The row with the smallest value of a metric, or the largest; see `sort`."""
        return self.sort(metric, largest=largest)[0]

    def sort(self, metric: str | None = None, *, largest: bool = False) -> "SweepResult":
        """The best runs first, those that diverged last.

        Args:
          metric: the name of one of the values; may be omitted if there is only one.
          largest: whether the largest is best; otherwise the smallest.

        Raises:
          LookupError: there is no such value; the message lists those that exist.
        """
        values = np.asarray(self.values[self._metric(metric)], float)
        ranks = np.where(np.isfinite(values), -values if largest else values, np.inf)
        return self[np.lexsort((ranks, self.diverged))]

    def __len__(self) -> int:
        return len(next(iter(self.hyperparameters.values())))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            columns = self.hyperparameters | self.values
            return {name: x[index].item() if hasattr(x[index], "item") else x[index] for name, x in columns.items()}
        parts = (self.hyperparameters, self.values, self.curves)
        return SweepResult(*({name: x[index] for name, x in part.items()} for part in parts))

    def __repr__(self) -> str:
        return text_table(self._table(), self._caption())

    def _repr_html_(self) -> str:
        return html_table(self._table(), self._caption())

    def to_pandas(self) -> Any:
        """A pandas DataFrame of the hyperparameters and the values."""
        try:
            import pandas as pd  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("SweepResult.to_pandas needs pandas: pip install pandas") from error
        return pd.DataFrame(self.hyperparameters | self.values)

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Plot the values against the hyperparameters; see `gradtx.plotting.plot_sweep`."""
        from gradtx.plotting import plot_sweep

        return plot_sweep(self, *args, **kwargs)

    def _metric(self, name: str | None) -> str:
        names = list(self.values)
        if name is None and len(names) == 1:
            return names[0]
        if name is None:
            raise LookupError(f"which metric? There are {', '.join(names)}")
        return names[index_of(name, [(n,) for n in names], "metric")]

    def _table(self, limit: int = 20) -> list[list[str]]:
        columns = self.hyperparameters | self.values
        rows = [[_cell(x) for x in self[i].values()] for i in range(min(limit, len(self)))]
        return [list(columns), *rows, *([["…"] * len(columns)] if len(self) > limit else [])]

    def _caption(self) -> str:
        caption = f"{len(self)} runs, {int(self.diverged.sum())} diverged"
        if len(self.values) == 1 and not self.diverged.all():
            (metric,) = self.values
            best = self.best()
            where = ", ".join(f"{name}={_cell(best[name])}" for name in self.hyperparameters)
            caption += f"; least {metric} {_cell(best[metric])} at {where}"
        lengths = [f"{name} ({x.shape[1]})" for name, x in self.curves.items()]
        return caption + f"; curves {', '.join(lengths)}" * bool(lengths)


def _cell(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float) else " ".join(str(x).split())


# The runs


def _check_names(run: Callable[..., Any], space: Mapping[str, Any], static: Sequence[str]) -> None:
    if not space:
        raise ValueError("sweep: the space is empty; give it names and values")
    signature = inspect.signature(run)
    try:
        signature.bind(**space)
    except TypeError as error:
        raise TypeError(f"sweep: {error}; run{signature} is to take {', '.join(space)}") from None
    for name in static:
        if name not in space:
            raise ValueError(f"sweep: static names {name!r}, which is not in the space; there are {', '.join(space)}")


def _groups(columns: Sequence[np.ndarray], total: int) -> Iterator[np.ndarray]:
    """Groups of rows with the same values in all of these columns, as arrays of indices."""
    groups: dict[Any, list[int]] = {}
    for row in range(total):
        same = tuple(id(x[row]) if x.dtype == object else x[row].item() for x in columns)
        groups.setdefault(same, []).append(row)
    return map(np.array, groups.values())


def _compiled(
    run: Callable[..., Any], numbers: Numbers, total: int, chunk_size: int | None, max_bytes: float
) -> tuple[Callable[..., Any], int]:
    """`run` compiled for a chunk of rows, as a function of (numbers, indices), and the chunk size."""
    one = jax.jit(lambda numbers, _: _checked(run(**numbers)))  # traced once, whatever the chunk size

    def compile_for(size: int) -> tuple[Any, float]:
        example = {name: jnp.asarray(np.resize(x, size)) for name, x in numbers.items()}
        compiled = jax.jit(jax.vmap(one)).lower(example, jnp.arange(size)).compile()
        memory: Any = compiled.memory_analysis()  # None if the compiler does not report it
        return compiled, (memory.temp_size_in_bytes + memory.output_size_in_bytes) if memory else 0

    if chunk_size is not None:
        size = min(chunk_size, total)
        return compile_for(size)[0], size
    chunks, size = 1, total
    compiled, needed = compile_for(size)
    while needed > max_bytes and size > 1:
        chunks = min(total, max(2 * chunks, math.ceil(chunks * needed / max_bytes)))
        size = math.ceil(total / chunks)
        compiled, needed = compile_for(size)
    return compiled, size


def _checked(result: Any) -> dict[str, jax.Array]:
    """The results of a run, by name."""
    result = result if isinstance(result, Mapping) else {"value": result}
    for name, x in result.items():
        if not (isinstance(x, (bool, int, float)) or numeric(x)) or np.ndim(x) > 1 or jnp.iscomplexobj(x):
            got = jax.typeof(x) if numeric(x) else f"a {type(x).__name__}"
            raise TypeError(
                f"sweep: run must return a real number, or a dict of numbers and of 1-D curves; {name!r} is {got}"
            )
    return {name: jnp.asarray(x) for name, x in result.items()}


@contextlib.contextmanager
def _explained(traced: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, jax.errors.JAXTypeError) and "Tracer" not in str(error):
            raise
        names = ", ".join(traced)
        raise TypeError(
            f"sweep: run is compiled for all values of {names} together, but needs one of them when compiling, as a "
            "number of steps or in a Python `if`; name it in static=[…], and it is compiled for each of its values"
        ) from error


def _assembled(results: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """The results of all rows, in order; curves are padded with NaN to the longest."""
    order = np.argsort(np.concatenate([rows for rows, _ in results]))
    forms = {tuple((name, x.ndim) for name, x in found.items()) for _, found in results}
    if len(forms) > 1:
        raise TypeError(f"sweep: run must return the same names for all values, got {forms}")

    def filled(x: np.ndarray, length: int) -> np.ndarray:
        if x.ndim == 1 or x.shape[1] == length:
            return x
        return np.pad(np.asarray(x, float), ((0, 0), (0, length - x.shape[1])), constant_values=np.nan)

    columns = {}
    for name in results[0][1]:
        parts = [found[name] for _, found in results]
        length = max(x.shape[-1] for x in parts)
        columns[name] = np.concatenate([filled(x, length) for x in parts])[order]
    return columns


@contextlib.contextmanager
def _shown(progress: bool | Callable[[int, int], Any], total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of runs just completed."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        show(done, total)

    show: Callable[[int, int], Any] = progress if callable(progress) else lambda done, total: None
    if progress is not True:
        yield advance
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        if sys.stderr.isatty():
            show = _print_progress
        yield advance
        return
    console = Console(stderr=True)
    seen = console.is_terminal or console.is_jupyter
    with Progress(console=console, transient=True, disable=not seen) as bar:
        task = bar.add_task("sweep", total=total)
        show = lambda done, total: bar.update(task, completed=done)  # noqa: E731
        yield advance


def _print_progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} runs", end="\n" if done == total else "", file=sys.stderr, flush=True)

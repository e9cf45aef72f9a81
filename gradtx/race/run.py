"""`python -m gradtx race`: from the options to a progress bar, a table, a plot and a JSON file."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gradtx.race import digits, entrants, functions, plots, report
from gradtx.race.errors import UsageError, needs_extra, unknown
from gradtx.test_functions import TEST_FUNCTIONS

__all__ = ["GRID", "Options", "race"]

GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
EPOCHS = 30
BATCH_SIZE = 100
STEPS = 500

Rates = Callable[[str], tuple[float, ...]]
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a race; None for those that were not given."""

    problem: str = "digits"
    optimizers: tuple[str, ...] = tuple(entrants.DEFAULT_RATES)
    rates: tuple[float, ...] | str | None = None  # "default", "grid" or numbers
    epochs: int | None = None
    batch_size: int | str | None = None  # "full" for the whole training set
    steps: int | None = None
    seed: int = 0
    output: Path = Path("race")


def race(options: Options) -> None:
    """Run the race, print its table, and write PROBLEM.png, PROBLEM.json and, for a grid, PROBLEM-rates.png.

    Raises:
      UsageError: a name, a value or an output folder that cannot be used; nothing has been computed then.
    """
    _check(options)
    with needs_extra():  # before anything that takes time
        import matplotlib  # noqa: F401
        import rich  # noqa: F401
    _prepare(options.output)
    written = _race_digits(options) if options.problem == "digits" else _race_function(options)
    print("Written: " + ", ".join(str(path) for path in written))


# The two kinds of race


def _race_digits(options: Options) -> list[Path]:
    rates = options.rates or "default"
    grid = _is_grid(rates)
    epochs = options.epochs or EPOCHS
    data = digits.load(options.seed)
    examples = len(data.images)
    size = BATCH_SIZE if options.batch_size is None else options.batch_size
    batch_size = digits.resolve_batch_size(None if isinstance(size, str) else size, examples)

    title = (
        f"Digits: {examples} images, network {'–'.join(map(str, digits.LAYERS))}, batches of {batch_size}, "
        f"{epochs} epoch{'s' * (epochs > 1)} of {examples // batch_size} step{'s' * (examples // batch_size > 1)}"
    )
    print(title + _at(rates, grid))
    training = digits.train(list(options.optimizers), _rates_of(rates), data, epochs, batch_size, options.seed)
    results = _with_progress(training, options.optimizers, epochs)
    report.digits_table(results, grid)

    settings = {"rates": rates, "epochs": epochs, "batch_size": batch_size, "seed": options.seed}
    written = [_write_json(options, settings, results), _path(options, ".png")]
    plots.save_curves(results, written[-1], title + _at(rates, grid))
    if grid:
        written.append(_path(options, "-rates.png"))
        plots.save_rates(results, written[-1], title)
    return written


def _race_function(options: Options) -> list[Path]:
    rates = options.rates or "grid"
    grid = _is_grid(rates)
    function, steps = TEST_FUNCTIONS[options.problem], options.steps or STEPS

    start = ", ".join(f"{x:g}" for x in (function.start if isinstance(function.start, tuple) else (function.start,)))
    title = f"{function.name}: {function.formula} from ({start}), {steps} step{'s' * (steps > 1)}"
    print(title)
    following = functions.follow(function, list(options.optimizers), _rates_of(rates), steps)
    results = _with_progress(following, options.optimizers, 1)
    report.functions_table(results, grid)

    written = [_write_json(options, {"rates": rates, "steps": steps}, results), _path(options, ".png")]
    plots.save_paths(results, written[-1], title + _at(rates, grid))
    return written


def _is_grid(rates: tuple[float, ...] | str) -> bool:
    return rates == "grid" or (isinstance(rates, tuple) and len(rates) > 1)


def _at(rates: tuple[float, ...] | str, grid: bool) -> str:
    return f", each at its {'best' if grid else 'default'} rate" if grid or rates == "default" else f", rate {rates[0]}"


def _rates_of(rates: tuple[float, ...] | str) -> Rates:
    if isinstance(rates, tuple):
        return lambda name: rates
    return lambda name: GRID if rates == "grid" else (entrants.default_rate(name),)


# Progress and files


def _with_progress(work: Iterator[tuple[str, Result | None]], names: Sequence[str], parts: int) -> list[Result]:
    """The results of `work`, which yields (name, None) after each part of a run; with a progress bar on stderr."""
    with needs_extra():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[Result] = []
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(names[0], total=parts * len(names))
        for name, result in work:
            bar.update(task, description=name, advance=int(result is None))
            if result is not None:
                results.append(result)
    return results


def _path(options: Options, ending: str) -> Path:
    return options.output / f"{options.problem}{ending}"


def _write_json(options: Options, settings: dict[str, Any], results: Sequence[Any]) -> Path:
    path = _path(options, ".json")
    written = report.report(options.problem, {"optimizers": options.optimizers, **settings}, results)
    path.write_text(json.dumps(written, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


# Checks, with messages for the user


def _check(options: Options) -> None:
    if options.problem != "digits" and options.problem not in TEST_FUNCTIONS:
        raise unknown("problem", options.problem, ["digits", *TEST_FUNCTIONS])
    for name in options.optimizers:
        entrants.make(name)
    given = {name: getattr(options, name) for name in ("epochs", "batch_size", "steps")}
    foreign = ("steps",) if options.problem == "digits" else ("epochs", "batch_size")
    for name in foreign:
        if given[name] is not None:
            kind = "a test function" if name == "steps" else "digits"
            raise UsageError(f"--{name.replace('_', '-')} is for {kind}, not for the problem {options.problem}")


def _prepare(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror or error}") from None

"""The results as tables for the terminal and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

import jax

import gradtx
from gradtx.race.digits import Learned
from gradtx.race.errors import needs_extra
from gradtx.race.functions import TOLERANCE, Travelled

__all__ = ["digits_table", "functions_table", "report"]

WIDTH = 120  # where the output is not a terminal


def digits_table(results: Sequence[Learned], grid: bool) -> None:
    """Print the results of each optimizer at its best learning rate, the lowest final training loss first."""
    rows = []
    for result in sorted(results, key=lambda r: (r.diverged[r.best], r.loss[r.best, -1])):
        best = result.best
        rows.append(
            [
                result.name,
                f"{result.rates[best]:g}",
                _or_diverged(f"{result.loss[best, -1]:.2g}", result.diverged[best]),
                f"{result.accuracy[best, -1]:.1%}",
                _steps(result.steps_to_target(best)),
                f"{result.state_bytes:.1f}",
                f"{result.compile_seconds + result.run_seconds:.1f}",
                *_failures(result, grid),
            ]
        )
    headers = ["training loss", "test accuracy", "steps to 95 %", "state B/param", "seconds"]
    _print(["optimizer", "best rate" if grid else "rate", *headers, *_failures_header(grid)], rows)


def functions_table(results: Sequence[Travelled], grid: bool) -> None:
    """Print the results of each optimizer at its best learning rate, the first to reach the goal first."""

    def rank(result: Travelled) -> tuple[bool, float, float]:
        best = result.best
        steps = result.steps_to_goal(best)
        return bool(result.diverged[best]), math.inf if steps is None else steps, result.values[best][-1]

    rows = []
    for result in sorted(results, key=rank):
        best, diverged = result.best, result.diverged[result.best]
        distance = result.distance(best)
        rows.append(
            [
                result.name,
                f"{result.rates[best]:g}",
                _or_diverged(f"{result.values[best][-1]:.3g}", diverged),
                "–" if distance is None or diverged else f"{distance:.2g}",
                _steps(result.steps_to_goal(best)),
                f"{result.compile_seconds + result.run_seconds:.1f}",
                *_failures(result, grid),
            ]
        )
    goal = results[0].function.goal
    arrived = f"steps to within {TOLERANCE:g}" if goal is None else f"steps to below {goal:g}"
    headers = ["final value", "distance", arrived, "seconds"]
    _print(["optimizer", "best rate" if grid else "rate", *headers, *_failures_header(grid)], rows)


def _failures_header(grid: bool) -> list[str]:
    return ["diverged"] if grid else []


def _failures(result: Learned | Travelled, grid: bool) -> list[str]:
    """With a grid, at how many of its learning rates the optimizer diverged."""
    return [f"{result.diverged.sum()} of {len(result.rates)}"] if grid else []


def _or_diverged(text: str, diverged: bool) -> str:
    return "diverged" if diverged else text


def _steps(steps: int | None) -> str:
    return "–" if steps is None else str(steps)


def _print(headers: list[str], rows: list[list[str]]) -> None:
    with needs_extra():
        from rich import box
        from rich.console import Console
        from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row, style="dim" if "diverged" in row else None)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


# JSON


def report(problem: str, options: dict[str, Any], results: Sequence[Learned | Travelled]) -> dict[str, Any]:
    """Everything that was measured, for `json.dump`: infinite and NaN values become null."""
    return {
        "problem": problem,
        "versions": {"gradtx": gradtx.__version__, "jax": jax.__version__},
        "options": options,
        "optimizers": {result.name: _entry(result) for result in results},
    }


def _entry(result: Learned | Travelled) -> dict[str, Any]:
    describe = _learned if isinstance(result, Learned) else _travelled
    own = {"state_bytes_per_parameter": result.state_bytes} if isinstance(result, Learned) else {}
    return {
        "best_rate": result.rates[result.best],
        "compile_seconds": result.compile_seconds,
        "run_seconds": result.run_seconds,
        **own,
        "rates": [
            {"rate": rate, "diverged": bool(result.diverged[i]), **describe(result, i)}  # type: ignore[arg-type]
            for i, rate in enumerate(result.rates)
        ],
    }


def _learned(result: Learned, rate: int) -> dict[str, Any]:
    return {
        "training_loss": _number(result.loss[rate, -1]),
        "test_accuracy": _number(result.accuracy[rate, -1]),
        "steps_to_95_percent": result.steps_to_target(rate),
        "curve": {
            "steps": result.steps.tolist(),
            "training_loss": [_number(x) for x in result.loss[rate]],
            "test_accuracy": [_number(x) for x in result.accuracy[rate]],
        },
    }


def _travelled(result: Travelled, rate: int) -> dict[str, Any]:
    distance = result.distance(rate)
    return {
        "final_value": _number(result.values[rate][-1]),
        "distance_to_minimum": None if distance is None else _number(distance),
        "steps_to_goal": result.steps_to_goal(rate),
        "curve": {
            "points": [[_number(x) for x in point] for point in result.paths[rate]],
            "values": [_number(x) for x in result.values[rate]],
        },
    }


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None

"""The results as pictures: curves by family of optimizers, loss against rate, paths on test functions."""

import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradtx.race import registry
from gradtx.race.digits import TARGET_ACCURACY, Learned
from gradtx.race.errors import needs_extra
from gradtx.race.functions import Travelled
from gradtx.test_functions import TestFunction

__all__ = ["save_curves", "save_paths", "save_rates"]

# Okabe and Ito's colours, told apart with any colour vision; without the yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.5, 1.5)))  # by turns, so that equal lines show each other
CONTEXT = "#DDDDDD"  # the optimizers of other panels
LEAST_LOSS = 1e-6  # below it, curves show rounding

Line = tuple[np.ndarray, np.ndarray]


# The race on digits


def save_curves(results: Sequence[Learned], path: Path, title: str) -> None:
    """Draw the training loss of every optimizer at its best rate against steps, and its final test accuracy."""

    def line(result: Learned) -> Line:
        return result.steps, result.loss[result.best]

    initial = float(np.nanmedian([result.loss[0, 0] for result in results]))
    figure, axes = _panels(results, line, title, initial * 4, extra=1)
    _name_axes(axes[:-1], "steps", "training loss")
    _draw_accuracy(axes[-1], results)
    _save(figure, path)


def save_rates(results: Sequence[Learned], path: Path, title: str) -> None:
    """Draw the final training loss of every optimizer against the learning rate."""

    def line(result: Learned) -> Line:
        order = np.argsort(result.rates)
        return np.asarray(result.rates)[order], np.where(result.diverged, np.inf, result.loss[:, -1])[order]

    figure, axes = _panels(results, line, title, ceiling=10.0, marker="o")
    _name_axes(axes, "learning rate", "final training loss")
    for ax in axes:
        ax.set_xscale("log")
    _save(figure, path)


def _name_axes(axes: Sequence[Any], x: str, y: str) -> None:
    for ax in axes:
        ax.set(xlabel=x, ylabel=y if ax.get_subplotspec().is_first_col() else "")


def _draw_accuracy(ax: Any, results: Sequence[Learned]) -> None:
    ranked = sorted(results, key=lambda r: r.accuracy[r.best, -1])
    shares = [100 * r.accuracy[r.best, -1] for r in ranked]
    ax.hlines(range(len(ranked)), min(shares) - 2, shares, color=CONTEXT, linewidth=1)
    ax.plot(shares, range(len(ranked)), "o", color=COLOURS[0], markersize=4)
    ax.axvline(100 * TARGET_ACCURACY, color="#888888", linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(ranked)), [r.name for r in ranked], fontsize=8)
    ax.set(xlabel="test accuracy, %", ylim=(-0.7, len(ranked) - 0.3), xlim=(min(shares) - 2, max(shares) + 1))
    ax.set_title("After the last epoch", loc="left", fontsize=10)


# Panels of labelled lines, a family in each


def _panels(
    results: Sequence[Learned],
    line: Callable[[Learned], Line],
    title: str,
    ceiling: float,
    extra: int = 0,
    marker: str = "",
) -> tuple[Any, list[Any]]:
    """A figure with a panel for each family, its lines labelled, all others pale behind; and `extra` empty panels."""
    families = list(_families([result.name for result in results]))
    lines = {result.name: line(result) for result in results}
    if not all(np.isfinite(y).all() for _, y in lines.values()):
        title += " (× diverged)"
    figure, axes = _figure(len(families) + extra, columns=3, size=(4.6, 3.5), title=title)
    least = min((float(np.nanmin(np.where(np.isfinite(y), y, np.nan), initial=1.0)) for _, y in lines.values()))
    limits = max(least / 2, LEAST_LOSS), ceiling
    for ax, (family, names) in zip(axes, families, strict=False):
        ax.set(yscale="log", ylim=limits)
        ax.margins(x=0.01)
        ax.set_title(textwrap.fill(family, 48), loc="left", fontsize=10)
        for name, (x, y) in lines.items():
            if name not in names:
                ax.plot(x, _drawn(y, limits), color=CONTEXT, linewidth=0.8, zorder=1)
        for i, name in enumerate(names):
            x, y = lines[name]
            style = {"color": COLOURS[i], "linestyle": DASHES[i % len(DASHES)], "marker": marker}
            ax.plot(x, _drawn(y, limits), linewidth=1.7, markersize=3.5, **style)
            if (gone := ~np.isfinite(y)).any():
                ax.plot(x[gone], np.full(gone.sum(), limits[1]), "x", color=COLOURS[i], markersize=7, clip_on=False)
        _label_ends(ax, [(name, _drawn(lines[name][1], limits)[-1], COLOURS[i]) for i, name in enumerate(names)])
    return figure, axes


def _families(names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The optimizers by the module they are from, with its title; modules with one or two of them share panels."""
    if len(names) <= len(COLOURS):
        yield "", names
        return
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(registry.make(name).constructor.__module__, []).append(name)
    titles = {m: (sys.modules[m].__doc__ or m).partition("\n")[0].partition(":")[0].rstrip(".") for m in modules}
    families = [(titles[m], members) for m, members in modules.items() if len(members) > 2]
    small = [m for m, members in modules.items() if len(members) <= 2]
    families.append(("; ".join(titles[m] for m in small), [name for m in small for name in modules[m]]))
    for title, members in families:
        for start in range(0, len(members), len(COLOURS)):
            yield title, members[start : start + len(COLOURS)]


def _drawn(y: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The values between the limits; infinite ones and no numbers at the upper one, where crosses mark them."""
    return np.clip(np.where(np.isnan(y), np.inf, y), *limits)


def _label_ends(ax: Any, ends: list[tuple[str, float, str]]) -> None:
    """Write names right of the axes at the heights of their lines' ends, pushed apart where they would touch."""
    low, high = np.log(ax.get_ylim())
    heights = [(math.log(value) - low) / (high - low) for _, value, _ in ends]
    for (name, _, colour), height in zip(ends, _apart(heights, 0.062), strict=True):
        ax.text(1.015, height, name, color=colour, transform=ax.transAxes, va="center", fontsize=9)


def _apart(heights: list[float], gap: float) -> list[float]:
    """Heights in the same order, moved apart in pairs until they are at least `gap` from each other."""
    order = np.argsort(heights, kind="stable")
    placed = np.asarray(heights, float)[order]
    for _ in range(200):
        for i in range(len(placed) - 1):
            push = max(0.0, gap - (placed[i + 1] - placed[i])) / 2
            placed[i : i + 2] += -push, push
        placed[0], placed[-1] = max(placed[0], 0.02), min(placed[-1], 1.0)
    result = np.empty(len(placed))
    result[order] = placed
    return result.tolist()


# The race on a test function


def save_paths(results: Sequence[Travelled], path: Path, title: str) -> None:
    """Draw the path of each optimizer at its best rate, each in a panel of its own."""
    figure, axes = _figure(len(results), columns=5, size=(2.6, 2.7), title=title)
    for ax, result in zip(axes, results, strict=True):
        draw = _draw_path if result.function.dimension == 2 else _draw_descent
        draw(ax, result)
        ax.set_title(f"{result.name}\n{_outcome(result)}", loc="left", fontsize=9)
        ax.tick_params(labelsize=7)
    _save(figure, path)


def _outcome(result: Travelled) -> str:
    steps = result.steps_to_goal(result.best)
    if result.diverged[result.best]:
        arrived = "diverged"
    else:
        arrived = "not there" if steps is None else f"{steps} step{'s' * (steps != 1)}"
    return f"rate {result.rates[result.best]:g}: {arrived}"


def _draw_path(ax: Any, result: Travelled) -> None:
    function, points = result.function, result.paths[result.best]
    (left, right), (bottom, top) = function.domain
    grid = np.stack(np.meshgrid(np.linspace(left, right, 201), np.linspace(bottom, top, 201)))
    values = np.asarray(function(grid))
    levels = np.unique(np.quantile(values, np.linspace(0, 1, 18)))
    ax.contour(*grid, values, levels=levels, colors="#BBBBBB", linewidths=0.6, linestyles="solid")
    ax.plot(*points.T, color=COLOURS[1], linewidth=1, marker=".", markersize=2.5)
    for minimum in function.minima:
        ax.plot(*np.reshape(minimum, (2, 1)), "*", color=COLOURS[0], markersize=9, zorder=4)
    ax.plot(*points[0], "o", markerfacecolor="white", markeredgecolor=COLOURS[4], markersize=5, zorder=4)
    ax.set(xlim=(left, right), ylim=(bottom, top))


def _draw_descent(ax: Any, result: Travelled) -> None:
    function: TestFunction = result.function
    points, values = result.paths[result.best][:, 0], result.values[result.best]
    x = np.linspace(*function.domain[0], 301)
    y = np.asarray(function(x))
    ax.plot(x, y, color="#999999", linewidth=1)
    ax.plot(points, values, color=COLOURS[1], linewidth=0.8, marker="o", markersize=2.5)
    for minimum in function.minima:
        ax.plot(minimum, function.minimum, "*", color=COLOURS[0], markersize=9, zorder=4)
    ax.plot(points[0], values[0], "o", markerfacecolor="white", markeredgecolor=COLOURS[4], markersize=5, zorder=4)
    margin = 0.08 * (y.max() - y.min())
    ax.set(xlim=function.domain[0], ylim=(y.min() - margin, y.max() + margin))


# Figures


def _figure(panels: int, columns: int, size: tuple[float, float], title: str) -> tuple[Any, list[Any]]:
    with needs_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    columns = min(panels, columns)
    rows = math.ceil(panels / columns)
    width = max(columns * size[0], 6.0)
    figure = Figure(figsize=(width, rows * size[1] + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[panels:]:
        ax.set_axis_off()
    for ax in axes[:panels]:
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(textwrap.fill(title, int(width * 11)), fontsize=11, x=0.01, horizontalalignment="left")
    return figure, axes[:panels]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=130)

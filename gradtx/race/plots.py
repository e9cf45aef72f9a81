"""The results as plots: loss curves in panels, loss against learning rate, paths on test functions."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradtx.plotting.style import ink, label_ends
from gradtx.plotting.trajectories import draw_function, draw_path
from gradtx.race.digits import TARGET_ACCURACY, Learned
from gradtx.race.errors import needs_extra
from gradtx.race.functions import Travelled

__all__ = ["save_curves", "save_paths", "save_rates"]

PER_PANEL = 7  # lines of different colours
LEAST_LOSS = 1e-6  # below it, curves show only rounding errors

Line = tuple[np.ndarray, np.ndarray]


# The race on digits


def save_curves(results: Sequence[Learned], path: Path, title: str) -> None:
    """Draw the training loss of every optimizer at its best learning rate, and its final test accuracy."""

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
    ground = ink(ax)
    ax.hlines(range(len(ranked)), min(shares) - 2, shares, color=ground.faint, linewidth=1)
    ax.plot(shares, range(len(ranked)), "o", color=ground.colours[0], markersize=4)
    ax.axvline(100 * TARGET_ACCURACY, color=ground.muted, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(ranked)), [r.name for r in ranked], fontsize=8)
    ax.set(xlabel="test accuracy, %", ylim=(-0.7, len(ranked) - 0.3), xlim=(min(shares) - 2, max(shares) + 1))
    ax.set_title("After the last epoch", loc="left", fontsize=10)


# Panels of labelled lines


def _panels(
    results: Sequence[Learned],
    line: Callable[[Learned], Line],
    title: str,
    ceiling: float,
    extra: int = 0,
    marker: str = "",
) -> tuple[Any, list[Any]]:
    """A figure with some of the runs in each panel, labelled, all others faint behind; and `extra` empty panels."""
    shares = _shares([result.name for result in results])
    lines = {result.name: line(result) for result in results}
    if not all(np.isfinite(y).all() for _, y in lines.values()):
        title += " (× diverged)"
    figure, axes = _figure(len(shares) + extra, columns=3, size=(4.6, 3.5), title=title)
    least = min((float(np.nanmin(np.where(np.isfinite(y), y, np.nan), initial=1.0)) for _, y in lines.values()))
    limits = max(least / 2, LEAST_LOSS), ceiling
    for ax, names in zip(axes, shares, strict=False):
        ground = ink(ax)
        ax.set(yscale="log", ylim=limits)
        ax.margins(x=0.01)
        for name, (x, y) in lines.items():
            if name not in names:
                ax.plot(x, _drawn(y, limits), color=ground.faint, alpha=0.6, linewidth=0.8, zorder=1)
        for i, name in enumerate(names):
            x, y = lines[name]
            style = ground.style(i)
            ax.plot(x, _drawn(y, limits), linewidth=1.7, marker=marker, markersize=3.5, **style)
            if (gone := ~np.isfinite(y)).any():
                mark = {"color": style["color"], "markersize": 7, "clip_on": False}
                ax.plot(x[gone], np.full(gone.sum(), limits[1]), "x", **mark)
        ends = [_drawn(lines[name][1], limits)[-1] for name in names]
        label_ends(ax, [(n, y, ground.style(i)["color"]) for i, (n, y) in enumerate(zip(names, ends, strict=True))])
    return figure, axes


def _shares(names: list[str]) -> list[list[str]]:
    """The names in panels of nearly equal size."""
    panels = -(-len(names) // PER_PANEL)
    return [list(share) for share in np.array_split(np.array(names, dtype=object), panels)]


def _drawn(y: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The values clipped to the limits; infinite and NaN ones are at the upper limit, where crosses mark them."""
    return np.clip(np.where(np.isnan(y), np.inf, y), *limits)


# The race on a test function


def save_paths(results: Sequence[Travelled], path: Path, title: str) -> None:
    """Draw the path of each optimizer at its best learning rate, each in a panel of its own."""
    figure, axes = _figure(len(results), columns=5, size=(2.6, 2.7), title=title)
    for ax, result in zip(axes, results, strict=True):
        points, values = result.paths[result.best], result.values[result.best]
        draw_function(ax, result.function, result.function.domain)
        points = points if result.function.dimension == 2 else points[:, 0]
        draw_path(ax, points, values, color=ink(ax).colours[1], marker=".", dots=True)
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

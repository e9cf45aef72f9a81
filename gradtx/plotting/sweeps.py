"""The final results of many runs of an optimizer, against its hyperparameters; and the learning-rate range test."""

from typing import Any

import numpy as np

from gradtx.plotting.curves import BANDS
from gradtx.plotting.style import (
    check_choice,
    ink,
    log_spaced,
    needs_matplotlib,
    new_axes,
    readable,
    set_scales,
    take,
    wide,
)

__all__ = ["plot_lr_range_test", "plot_sweep"]

Axes = Any

OFF_SCALE = 1e4  # times the median: higher results are drawn at the top edge, so that the others can be told apart


@needs_matplotlib
def plot_sweep(
    result: Any,
    x: str | None = None,
    y: str | None = None,
    metric: str | None = None,
    *,
    scale: str | None = None,
    ax: Axes = None,
) -> Axes:
    """Draw the final results of a sweep against one hyperparameter, or as a map over two.

    A star marks the best run, the one with the lowest value; runs that ended in infinite or NaN values are crosses at
    the top edge, or hatched cells in a map. Hyperparameters whose values look chosen on a log scale are drawn on one.

    Args:
      result: has `hyperparameters` and `values`, each name -> array of shape (runs,).
      x: the hyperparameter along the horizontal axis; may be left out if there is only one.
      y: a second hyperparameter. Without it a line joins the medians of the runs with equal x.
      metric: which of `values` to draw; by default "loss" if that is among them, or the only one.
      scale: of the metric, "linear" or "log"; by default log if it is positive and ranges over more than a factor of
        30. On a log scale, values beyond 10⁴ times the median are triangles at the top edge.
      ax: matplotlib axes to draw in; by default those of a new figure.

    Returns:
      The axes.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: an unknown hyperparameter, metric or scale; arrays of unequal lengths.

    >>> import gradtx, types
    >>> result = types.SimpleNamespace(
    ...     hyperparameters={"learning_rate": [0.001, 0.01, 0.1]}, values={"loss": [2.0, 0.5, float("inf")]}
    ... )
    >>> ax = gradtx.plotting.plot_sweep(result)
    >>> ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()
    ('log', 'learning_rate', 'loss')
    """
    check_choice("plot_sweep", "scale", scale, (None, "linear", "log"))
    x = _only("x", x, result.hyperparameters, "")
    metric = _only("metric", metric, result.values, "loss")
    across = take("plot_sweep", "hyperparameter", x, result.hyperparameters)
    values = take("plot_sweep", "metric", metric, result.values)
    up = None if y is None else take("plot_sweep", "hyperparameter", y, result.hyperparameters)
    for name, array in ((x, across), (y, up)):
        if array is not None and (array.shape != values.shape or values.ndim != 1):
            raise ValueError(
                f"plot_sweep: all arrays must have one shape (runs,); {metric} has {values.shape} "
                f"and {name} has {array.shape}"
            )
    scale = scale or ("log" if wide(values) else "linear")

    ax = ax or new_axes()[0]
    if up is None:
        _draw_points(ax, across, values, scale)
        ax.set_ylabel(metric)
    else:
        _draw_map(ax, across, up, values, scale, metric)
        ax.set_ylabel(y)
    ax.set_xlabel(x)
    return ax


def _only(argument: str, name: str | None, known: dict[str, Any], usual: str) -> str:
    """The name, or the usual or only one if none is given."""
    if name is not None:
        return name
    if usual in known or len(known) == 1:
        return usual if usual in known else next(iter(known))
    raise ValueError(f"plot_sweep: say which {argument}; there are {', '.join(map(repr, known))}")


def _medians(across: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median at each x; infinite where half of the runs or more are not finite."""
    places = np.unique(across)
    medians = [BANDS["range"](values[across == place][:, None])[1][0] for place in places]
    return places, np.asarray(medians)


def _scale(values: np.ndarray) -> str:
    return "log" if log_spaced(values) else "linear"


def _best(values: np.ndarray) -> int | None:
    return int(np.nanargmin(np.where(np.isfinite(values), values, np.nan))) if np.isfinite(values).any() else None


# One hyperparameter


def _draw_points(ax: Axes, across: np.ndarray, values: np.ndarray, scale: str) -> None:
    ground = ink(ax)
    colour = ground.colours[0]
    finite = np.isfinite(values)
    top = OFF_SCALE * np.median(values[finite]) if scale == "log" and finite.any() else np.inf
    within = finite & (values <= top)
    places, medians = _medians(across, values)
    shown = np.where(medians <= top, medians, np.nan)
    ax.plot(places, shown, color=colour, linewidth=1.5, label="_median", zorder=2)
    ax.plot(across[within], values[within], "o", color=colour, markersize=5, label="_runs", zorder=3)
    set_scales(ax, x=_scale(across), y=scale)
    edge = {"linestyle": "none", "clip_on": False, "transform": ax.get_xaxis_transform(), "zorder": 4}
    for marker, mask, name in (("^", finite & ~within, "off the scale"), ("x", ~finite, "diverged")):
        if mask.any():
            place = np.unique(across[mask])
            ax.plot(place, np.ones(len(place)), marker, color=ground.colours[1], markersize=7, label=name, **edge)
    best = _best(values)
    if best is not None:
        star = {"markersize": 13, "markeredgecolor": ground.background, "markeredgewidth": 0.8, "linestyle": "none"}
        name = f"best: {values[best]:.3g} at {across[best]:.3g}"
        ax.plot(across[best], values[best], "*", color=ground.foreground, label=name, zorder=5, **star)
    _legend(ax)


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        style: dict[str, Any] = {"fontsize": 9, "handletextpad": 0.3, "framealpha": 0.8}
        if ax.figure.figure.get_layout_engine() is not None:  # which makes room above
            style |= {"loc": "lower left", "bbox_to_anchor": (0, 1.02), "ncols": 3, "columnspacing": 1.2}
            style |= {"frameon": False, "borderpad": 0, "borderaxespad": 0.2}
        ax.legend(**style)


# Two hyperparameters


def _draw_map(ax: Axes, across: np.ndarray, up: np.ndarray, values: np.ndarray, scale: str, metric: str) -> None:
    from matplotlib.colors import LogNorm, Normalize

    ground = ink(ax)
    columns, rows = np.unique(across), np.unique(up)
    finite = values[np.isfinite(values)]
    limits = (finite.min(), finite.max()) if finite.size else (0.1, 1.0)
    if scale == "log":
        limits = limits[0], min(limits[1], OFF_SCALE * np.median(finite))
    shades = {"norm": (LogNorm if scale == "log" else Normalize)(*limits), "cmap": "cividis_r"}
    gone = {"facecolor": ground.faint, "edgecolor": ground.muted, "hatch": "////", "linewidth": 0}
    best = _best(values)
    star: dict[str, Any] = {"marker": "*", "color": "white", "edgecolor": "black", "s": 170, "zorder": 5}
    if best is not None:
        star["label"] = f"best: {values[best]:.3g} at {across[best]:.3g}, {up[best]:.3g}"

    if len(columns) * len(rows) > 2 * len(values):  # not a grid: every run has values of its own
        ok = np.isfinite(values)
        drawn = ax.scatter(across[ok], up[ok], c=values[ok], s=45, edgecolor=ground.muted, linewidth=0.5, **shades)
        if not ok.all():
            ax.scatter(across[~ok], up[~ok], marker="x", color=ground.colours[1], s=40, label="diverged")
        set_scales(ax, x=_scale(across), y=_scale(up))
        if best is not None:
            ax.scatter(across[best], up[best], **star)
    else:
        cells = np.full((len(rows), len(columns)), np.nan)
        for i, row in enumerate(rows):
            chosen = up == row
            places, medians = _medians(across[chosen], values[chosen])
            cells[i, np.searchsorted(columns, places)] = medians
        drawn = ax.pcolormesh(np.ma.masked_invalid(cells), edgecolor=ground.background, linewidth=1, **shades)
        for k, (i, j) in enumerate(zip(*np.nonzero(np.isinf(cells)), strict=True)):
            ax.add_patch(_cell(j, i, label="_" * (k > 0) + "diverged", **gone))
        names = [f"{x:.3g}" for x in columns]
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len("  ".join(names)) > 45 else {}
        ax.set_xticks(np.arange(len(columns)) + 0.5, names, **turned)
        ax.set_yticks(np.arange(len(rows)) + 0.5, [f"{y:.3g}" for y in rows])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        if best is not None:
            at = np.searchsorted(columns, across[best]) + 0.5, np.searchsorted(rows, up[best]) + 0.5
            ax.scatter(*at, **star)
    if finite.size:
        bar = ax.figure.colorbar(drawn, ax=ax, label=metric, extend="max" if finite.max() > limits[1] else "neither")
        bar.outline.set_visible(False)
    _legend(ax)


def _cell(column: int, row: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column, row), 1, 1, **style)


# Ranges of learning rates


@needs_matplotlib
def plot_lr_range_test(result: Any, *, ax: Axes = None) -> Axes:
    """Draw the loss as the learning rate rises, and the learning rate that this suggests.

    Args:
      result: has `rates`, `losses` and `smoothed`, each of shape (steps,), and `suggestion`, a learning rate or None.
      ax: matplotlib axes to draw in; by default those of a new figure.

    Returns:
      The axes. Losses far above the first are cut off at the top edge, so that they do not set the scale.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: arrays of unequal shapes.
    """
    rates, losses, mean = (np.asarray(getattr(result, name), float) for name in ("rates", "losses", "smoothed"))
    for name, array in (("losses", losses), ("smoothed", mean)):
        if array.shape != rates.shape or rates.ndim != 1:
            raise ValueError(
                f"plot_lr_range_test: all arrays must have one shape (steps,); rates has {rates.shape} "
                f"and {name} has {array.shape}"
            )
    ax = ax or new_axes()[0]
    ground = ink(ax)
    losses, mean = (np.where(np.isfinite(y), y, np.nan) for y in (losses, mean))
    ax.plot(rates, losses, color=ground.colours[0], alpha=0.5, linewidth=0.8, label="_losses")
    ax.plot(rates, mean, color=ground.colours[0], linewidth=1.8, label="_smoothed")
    known = mean[np.isfinite(mean)]
    if known.size:
        low, start = known.min(), known[0]
        room = max(start - low, 0.05 * abs(start), 1e-12)
        top = min(known.max(), start + 0.5 * room)
        ax.set_ylim(low - 0.1 * room, top + 0.1 * room)
    set_scales(ax, x=_scale(rates))
    ax.set(xlabel="learning rate", ylabel="loss")
    suggestion = np.nan if result.suggestion is None else float(result.suggestion)
    if np.isfinite(suggestion):
        ax.axvline(suggestion, color=ground.colours[1], linewidth=1.2, linestyle=(0, (4, 2)))
        style = {"color": readable(ground.colours[1], ground), "fontsize": 9}
        place = {"transform": ax.get_xaxis_transform(), "horizontalalignment": "center"}
        ax.text(suggestion, 1.01, f"suggested: {suggestion:.2g}", **place, **style)
    return ax

"""Curves over the steps: schedules, and the losses of runs with their spread over seeds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.plotting.style import (
    check_choice,
    ink,
    labelled,
    name_lines,
    needs_matplotlib,
    new_axes,
    one_line,
    set_scales,
)

__all__ = ["BANDS", "SCALES", "plot_curves", "plot_schedule", "smoothed"]

Axes = Any
Band = Callable[[np.ndarray], Any]  # (runs, steps) -> (low, centre, high), each of shape (steps,)

SCALES = ("linear", "log")


# Schedules


@needs_matplotlib
def plot_schedule(schedules: Any, steps: int, *, scale: str = "linear", names: bool = True, ax: Axes = None) -> Axes:
    """Draw the value of schedules at each step.

    Args:
      schedules: a schedule (or any function of the count), a list of them, or label -> schedule; without labels
        they are shown as they print.
      steps: the counts 0, …, steps − 1 are drawn.
      scale: of the values, "linear" or "log".
      names: False leaves out the names of the lines, for small multiples that share one legend. Names are placed
        according to the limits that the axes have at the time of the call: set limits, or share an axis, before it.
      ax: matplotlib axes to draw in; by default those of a new figure.

    Returns:
      The axes.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError: something given as a schedule is not one.
      ValueError: an unknown scale; fewer than 1 step; no schedule.

    >>> import gradtx
    >>> ax = gradtx.plotting.plot_schedule({"cosine": gradtx.cosine_decay_schedule(0.1, 100)}, 101)
    >>> [round(float(y), 3) for y in ax.lines[0].get_ydata()[[0, 50, 100]]]
    [0.1, 0.05, 0.0]
    """
    check_choice("plot_schedule", "scale", scale, SCALES)
    if steps < 1:
        raise ValueError(f"plot_schedule: steps must be at least 1, got {steps}")
    pairs = labelled("plot_schedule", schedules, one_line)
    for label, schedule in pairs:
        if not callable(schedule):
            raise TypeError(f"plot_schedule: {label} is {schedule!r}, which is no function of the step count")
    counts = jnp.arange(steps)
    values = [np.asarray(jax.vmap(schedule)(counts), float) for _, schedule in pairs]

    ax = ax or new_axes()[0]
    ground = ink(ax)
    lines = [
        ax.plot(np.arange(steps), y, linewidth=1.7, label=label, **ground.style(i))[0]
        for i, ((label, _), y) in enumerate(zip(pairs, values, strict=True))
    ]
    set_scales(ax, y=scale)
    ax.set_xlabel("step")
    ax.margins(x=0.01)
    if scale == "linear" and ax.get_ylim()[0] > 0:
        ax.set_ylim(bottom=0)  # so that heights are proportional to the values
    if names:
        name_lines(ax, lines)
    return ax


# Runs


def _quantiles(low: float, high: float) -> Band:
    """Quantiles that rank values that are not finite above all others; interpolating towards one gives infinity."""

    def band(y: np.ndarray) -> Any:
        found = np.quantile(np.where(np.isfinite(y), y, 1e300), (low, 0.5, high), axis=0)  # ∞ − ∞ would be NaN
        return np.where(found > 1e250, np.inf, found)

    return band


def _deviations(power: float) -> Band:
    def band(y: np.ndarray) -> Any:
        with np.errstate(invalid="ignore"):
            mean, spread = y.mean(axis=0), y.std(axis=0, ddof=int(len(y) > 1)) / len(y) ** power
        return mean - spread, mean, mean + spread

    return band


#: How a line and its band are computed from several runs.
BANDS: dict[str, Band] = {
    "quartiles": _quantiles(0.25, 0.75),
    "range": _quantiles(0.0, 1.0),
    "deviation": _deviations(0.0),
    "error": _deviations(0.5),
}


@needs_matplotlib
def plot_curves(
    runs: Any,
    *,
    x: Any = None,
    smoothing: float = 0.0,
    band: str | None = "quartiles",
    scale: str = "linear",
    names: bool = True,
    ax: Axes = None,
) -> Axes:
    """Draw curves of runs, such as losses: a line for each label and, over several seeds, a band.

    Args:
      runs: label -> array of shape (steps,) or (seeds, steps).
      x: the positions along the horizontal axis: by default the steps 0, 1, …; an array of shape (steps,) such as
        seconds, or label -> one.
      smoothing: β of a bias-corrected exponential moving average, in [0, 1). The raw curve of a single run stays
        visible, faintly.
      band: over seeds: "quartiles" or "range" around the median, "deviation" or "error" (standard) around the mean;
        None for the median alone. In quantiles, infinite and NaN values rank above all others, so that a run that
        diverged does not make the rest look better.
      scale: of the values, "linear" or "log".
      names: False leaves out the names of the lines, for small multiples that share one legend. Names are placed
        according to the limits that the axes have at the time of the call: set limits, or share an axis, before it.
      ax: matplotlib axes to draw in; by default those of a new figure.

    Returns:
      The axes. The label of a curve with values that are not finite says at which step they begin, or in how many runs
      they occur.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: arrays of wrong shapes, an unknown band or scale, a smoothing outside [0, 1).

    >>> import gradtx
    >>> ax = gradtx.plotting.plot_curves({"adam": [3.0, 2.0, 1.0], "sgd": [3.0, 2.5, 2.0]}, scale="log")
    >>> [line.get_label() for line in ax.lines]
    ['adam', 'sgd']
    """
    check_choice("plot_curves", "band", band, (*BANDS, None))
    check_choice("plot_curves", "scale", scale, SCALES)
    if not 0 <= smoothing < 1:
        raise ValueError(f"plot_curves: smoothing must be in [0, 1), got {smoothing!r}")
    if not isinstance(runs, dict):
        runs = {"_run": runs}
    curves = {str(label): _curves(label, y) for label, y in runs.items()}
    if not curves:
        raise ValueError("plot_curves: no runs")
    places = {str(label): _places(label, x, curves[str(label)].shape[1]) for label in runs}

    ax = ax or new_axes()[0]
    ground, lines = ink(ax), []
    for i, (label, raw) in enumerate(curves.items()):
        style, at = ground.style(i), places[label]
        y = smoothed(raw, smoothing)
        low, centre, high = BANDS[band or "range"](y)
        if band and len(y) > 1:
            drawn = np.isfinite(low) & np.isfinite(high)
            ax.fill_between(at, low, high, where=drawn, color=style["color"], alpha=0.25, linewidth=0)
        elif smoothing and len(y) == 1:
            ax.plot(at, _gaps(raw[0]), color=style["color"], alpha=0.4, linewidth=0.7, label="_raw", zorder=1)
        lines += ax.plot(at, _gaps(centre), linewidth=1.7, label=label + _fate(raw), **style)
    set_scales(ax, y=scale)
    if x is None:
        ax.set_xlabel("step")
    ax.margins(x=0.01)
    if names:
        name_lines(ax, lines)
    return ax


def smoothed(y: np.ndarray, decay: float) -> np.ndarray:
    """The exponential moving average along the last axis, divided by that of ones, so that it starts unbiased."""
    if not decay:
        return y
    result, total, weight = np.empty(y.shape), np.zeros(y.shape[:-1]), 0.0
    for step in range(y.shape[-1]):
        total = decay * total + (1 - decay) * y[..., step]
        weight = decay * weight + (1 - decay)
        result[..., step] = total / weight
    return result


def _curves(label: Any, y: Any) -> np.ndarray:
    y = np.asarray(y, float)
    if y.ndim not in (1, 2) or 0 in y.shape:
        raise ValueError(f"plot_curves: {label!r} must have the shape (steps,) or (seeds, steps), got {y.shape}")
    return np.atleast_2d(y)


def _places(label: Any, x: Any, steps: int) -> np.ndarray:
    if isinstance(x, dict):
        if label not in x:
            raise ValueError(f"plot_curves: x has nothing for {label!r}; it has {', '.join(map(repr, x))}")
        x = x[label]
    places = np.arange(steps) if x is None else np.asarray(x, float)
    if places.shape != (steps,):
        raise ValueError(f"plot_curves: x must have the shape ({steps},) of {label!r}, got {places.shape}")
    return places


def _gaps(y: np.ndarray) -> np.ndarray:
    """Values that are not finite as NaN, where matplotlib leaves a gap."""
    return np.where(np.isfinite(y), y, np.nan)


def _fate(y: np.ndarray) -> str:
    """A suffix for the label: empty, or what happened in the runs that are not finite."""
    gone = ~np.isfinite(y)
    if not gone.any():
        return ""
    if len(y) == 1:
        return f" ({'diverges' if np.isinf(y).any() else 'NaN'} at {int(np.argmax(gone[0]))})"
    return f" ({int(gone.any(axis=1).sum())} of {len(y)} not finite)"

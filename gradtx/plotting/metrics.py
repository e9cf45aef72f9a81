"""What a monitored run measured over its steps: everything in small panels, or effective learning rates as bands."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gradtx.core.schedule import Schedule
from gradtx.core.typing import InitAndUpdate
from gradtx.plotting.style import check_choice, ink, name_lines, needs_matplotlib, new_axes, set_scales, wide
from gradtx.updating import apply_updates
from gradtx.wrappers.monitor import metrics, monitor

__all__ = ["measure_run", "plot_metrics", "plot_rates"]

Axes = Any
Tree = Any

QUANTILES = ("min", "q25", "median", "q75", "max")


def measure_run(
    loss_fn: Callable[[Tree], jax.Array],
    params: Tree,
    tx: InitAndUpdate,
    steps: int,
    measures: Any = ("rate_quantiles",),
) -> dict[str, np.ndarray]:
    """Run an optimizer and measure each step: the input of `plot_rates` and `plot_metrics`, in one compiled loop.

    Args:
      loss_fn: a function of the parameters.
      params: where to start.
      tx: the optimizer.
      steps: how many steps to take.
      measures: see `gradtx.monitor`.

    Returns:
      name -> array of shape (steps,): the measurements, all other metrics in the state, and "loss" before each step.

    >>> import gradtx, jax.numpy as jnp
    >>> measured = gradtx.plotting.measure_run(lambda x: jnp.sum(x**2), jnp.ones(2), gradtx.sgd(0.25), steps=4)
    >>> measured["loss"].tolist(), measured["rate_quantiles/median"].tolist()
    ([2.0, 0.5, 0.125, 0.03125], [0.25, 0.25, 0.25, 0.25])
    """
    watched = monitor(measures, tx)

    def step(carry: tuple[Tree, Tree], _: Any) -> tuple[tuple[Tree, Tree], dict[str, jax.Array]]:
        params, state = carry
        value, grad = jax.value_and_grad(loss_fn)(params)
        updates, state = watched.update(grad, state, params, value=value, grad=grad, value_fn=loss_fn)
        return (apply_updates(params, updates), state), {"loss": value, **metrics(state)}

    run = jax.jit(lambda params: jax.lax.scan(step, (params, watched.init(params)), length=steps)[1])
    return {name: np.asarray(values) for name, values in run(params).items()}


@needs_matplotlib
def plot_rates(measurements: Any, *, bounds: Any = None, x: Any = None, scale: str = "log", ax: Axes = None) -> Axes:
    """Draw the distribution of the effective per-element learning rates, |update|/|gradient|, over the steps.

    The line is the median, the darker band holds half of the elements, the lighter one all.

    Args:
      measurements: name -> array of shape (steps,), or a list with the dict of each step, as `gradtx.metrics(state)`
        returns it where a `monitor` measures "rate_quantiles" or "update_quantiles"; all such groups are drawn.
      bounds: two numbers or schedules, the limits in which a method such as AdaBound keeps its step sizes.
      x: the steps of the measurements, shape (steps,); by default 0, 1, ….
      scale: of the effective learning rates, "log" or "linear".
      ax: matplotlib axes to draw in; by default those of a new figure.

    Returns:
      The axes.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: there are no quantiles in the measurements; an unknown scale; arrays of wrong shapes.
    """
    check_choice("plot_rates", "scale", scale, ("linear", "log"))
    series = _series("plot_rates", measurements)
    ends = f"/{QUANTILES[2]}"
    groups = [name.removesuffix(ends) for name in series if name.endswith(ends)]
    groups = [group for group in groups if all(f"{group}/{q}" in series for q in QUANTILES)]
    if not groups:
        raise ValueError(
            f"plot_rates: no quantiles in {', '.join(series)}; measure them with monitor(['rate_quantiles'], …)"
        )
    steps = _steps("plot_rates", series, x)

    ax = ax or new_axes()[0]
    ground, lines = ink(ax), []
    for i, group in enumerate(groups):
        low, q25, median, q75, high = (series[f"{group}/{q}"] for q in QUANTILES)
        style = ground.style(i)
        for bottom, top, strength in ((low, high, 0.15), (q25, q75, 0.3)):
            ax.fill_between(steps, bottom, top, color=style["color"], alpha=strength, linewidth=0)
        label = group if len(groups) > 1 else "median"
        lines += ax.plot(steps, median, linewidth=1.7, label=label, **style)
    limits = () if bounds is None else bounds
    for name, bound in zip(("lower bound", "upper bound"), limits, strict=bounds is not None):
        at = jax.vmap(bound)(np.asarray(steps, int)) if isinstance(bound, Schedule) else np.full(len(steps), bound)
        lines += ax.plot(steps, at, color=ground.foreground, linewidth=0.9, linestyle=":", label=name)
    set_scales(ax, y=scale)
    ax.set(xlabel="step", ylabel="|update| / |gradient|")
    ax.margins(x=0.01)
    name_lines(ax, lines)
    return ax


@needs_matplotlib
def plot_metrics(measurements: Any, *, x: Any = None, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw everything that was measured, with a panel for each number; the quantiles of a distribution share one panel.

    Args:
      measurements: name -> array of shape (steps,), or a list with the dict of each step, as `gradtx.metrics(state)`
        returns it.
      x: the steps of the measurements, shape (steps,); by default 0, 1, ….
      axes: as many matplotlib axes as there are panels; by default those of a new figure.

    Returns:
      The axes. The scale of a panel is logarithmic if its numbers are positive and range over more than a factor of 30.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: nothing was measured; dicts whose names differ; arrays of wrong shapes; too few axes.

    >>> import gradtx
    >>> axes = gradtx.plotting.plot_metrics([{"gradient_norm": 1.0, "loss": 2.0}, {"gradient_norm": 0.5, "loss": 1.0}])
    >>> [ax.get_title(loc="left") for ax in axes]
    ['gradient_norm', 'loss']
    """
    series = _series("plot_metrics", measurements)
    steps = _steps("plot_metrics", series, x)
    panels: dict[str, list[str]] = {}
    for name in series:
        group, _, last = name.rpartition("/")
        panels.setdefault(group if last in QUANTILES else name, []).append(name)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    if axes is None:
        axes = new_axes(rows, columns, size=(3.3, 2.1))
    axes = list(np.ravel(np.asarray(axes, object)))
    if len(axes) < len(panels):
        raise ValueError(f"plot_metrics: {len(panels)} numbers were measured, and there are {len(axes)} axes")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for i, (ax, (panel, names)) in enumerate(zip(axes, panels.items(), strict=False)):
        _draw_panel(ax, steps, {name: series[name] for name in names})
        ax.set_title(panel, loc="left", fontsize=9)
        if i + columns >= len(panels):
            ax.set_xlabel("step")
    return axes[: len(panels)]


def _draw_panel(ax: Axes, steps: np.ndarray, series: dict[str, np.ndarray]) -> None:
    colour = ink(ax).colours[0]
    quantiles = {name.rpartition("/")[2]: y for name, y in series.items()}
    if len(series) == len(QUANTILES):
        for bottom, top, strength in (("min", "max", 0.15), ("q25", "q75", 0.3)):
            ax.fill_between(steps, quantiles[bottom], quantiles[top], color=colour, alpha=strength, linewidth=0)
        series = {"median": quantiles["median"]}
    for y in series.values():
        ax.plot(steps, np.where(np.isfinite(y), y, np.nan), color=colour, linewidth=1.3)
        gone = ~np.isfinite(y)
        if gone.any():
            ax.plot(steps[gone], np.ones(gone.sum()), "x", color=colour, transform=ax.get_xaxis_transform())
    values = np.concatenate([y[np.isfinite(y)] for y in quantiles.values()])
    if wide(values):
        set_scales(ax, y="log")
    elif values.size and values.min() == values.max():
        ax.set_yticks(values[:1])  # ticks around it would look like a spread
    ax.margins(x=0.01)
    ax.tick_params(labelsize=8)


# Inputs


def _series(owner: str, measurements: Any) -> dict[str, np.ndarray]:
    """Measurements as name -> array over the steps."""
    if not isinstance(measurements, dict):
        rows = list(measurements)
        if not rows:
            raise ValueError(f"{owner}: nothing was measured")
        for i, row in enumerate(rows):
            if set(row) != set(rows[0]):
                raise ValueError(f"{owner}: step {i} has {', '.join(row)}; the first has {', '.join(rows[0])}")
        measurements = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    series = {name: np.asarray(y, float) for name, y in measurements.items()}
    if not series:
        raise ValueError(f"{owner}: nothing was measured")
    first = next(iter(series))
    for name, y in series.items():
        if y.ndim != 1 or y.shape != series[first].shape:
            raise ValueError(
                f"{owner}: all arrays must have one shape (steps,); "
                f"{first} has {series[first].shape} and {name} has {y.shape}"
            )
    return series


def _steps(owner: str, series: dict[str, np.ndarray], x: Any) -> np.ndarray:
    count = len(next(iter(series.values())))
    steps = np.arange(count) if x is None else np.asarray(x, float)
    if steps.shape != (count,):
        raise ValueError(f"{owner}: x must have the shape ({count},), got {steps.shape}")
    return steps

"""The paths of optimizers over a function of one or two variables, as a plot and as an animation.

All paths of a plot come from one compiled program. Optimizers that differ only in their numbers (the same constructor
with other learning rates) form one batch in it, so that the function is traced once for each structure.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import is_transformation
from gradtx.core.names import name_of
from gradtx.core.transformation import GradientTransformation
from gradtx.plotting.style import MARKERS, ink, labelled, name_lines, needs_matplotlib, new_axes
from gradtx.training.minimize import minimize

__all__ = ["animate_trajectories", "draw_function", "draw_path", "plot_trajectories", "trajectories"]

Axes = Any
Domain = tuple[tuple[float, float], ...]
Paths = dict[str, tuple[np.ndarray, np.ndarray]]

DOTTED = 60  # up to this many steps, each has a dot
CONTOURS = 18


def trajectories(function: Any, optimizers: Any, *, steps: int, start: Any = None) -> Paths:
    """The paths of many optimizers from one start, in one compiled run: the data of `plot_trajectories`.

    Args:
      function: of one number, or of an array of two; a `gradtx.test_functions` one, or any that JAX can differentiate.
        Compiled code is kept for each function, so define it once.
      optimizers: label -> transformation, or a list of them, named by their constructors.
      steps: how many each takes.
      start: a number or two; a test function has its own.

    Returns:
      label -> (points, values): where it was after 0, 1, … steps, shape (steps + 1,) or (steps + 1, 2), and the
      function there.

    Raises:
      TypeError: something given as an optimizer is not a transformation.
      ValueError: no start, or one that is neither a number nor two; nothing to run.

    >>> import gradtx
    >>> paths = gradtx.plotting.trajectories(lambda x: x**2, [gradtx.sgd(0.25)], steps=3, start=8.0)
    >>> paths["sgd"][0].tolist()
    [8.0, 4.0, 2.0, 1.0]
    """
    return _paths("trajectories", function, optimizers, steps, start)


def _paths(owner: str, function: Any, optimizers: Any, steps: int, start: Any) -> Paths:
    start = getattr(function, "start", None) if start is None else start
    if start is None:
        raise ValueError(f"{owner}: give the start; only functions of gradtx.test_functions have their own")
    start = np.asarray(start, float)
    if start.shape not in ((), (2,)):
        raise ValueError(f"{owner}: start must be a number or two numbers, got an array of shape {start.shape}")
    pairs = labelled(owner, optimizers, lambda tx: name_of(tx) if is_transformation(tx) else repr(tx))
    for label, tx in pairs:
        if not is_transformation(tx):
            raise TypeError(f"{owner}: {label} is {tx!r}, which is not a transformation; it has no init and update")
    values = tuple(
        tx if isinstance(tx, GradientTransformation) else GradientTransformation(tx.init, tx.update) for _, tx in pairs
    )
    found = jax.device_get(_run(function, values, jnp.asarray(start), steps))
    return {label: path for (label, _), path in zip(pairs, found, strict=True)}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(function: Any, optimizers: tuple[Any, ...], start: jax.Array, steps: int) -> list[Any]:
    def path(tx: Any) -> tuple[jax.Array, jax.Array]:
        history = minimize(function, start, tx, steps, record_params=True).history
        return history.params, history.value

    batches: dict[Any, list[int]] = {}
    for i, tx in enumerate(optimizers):
        numbers, structure = jax.tree.flatten(tx)
        batches.setdefault((structure, tuple(map(jnp.shape, numbers))), []).append(i)
    found: dict[int, Any] = {}
    for members in batches.values():
        first = optimizers[members[0]]
        if len(members) == 1 or not jax.tree.leaves(first):
            found |= dict.fromkeys(members, path(first))
        else:
            batch = jax.tree.map(lambda *numbers: jnp.stack(numbers), *(optimizers[i] for i in members))
            points, values = jax.vmap(path)(batch)
            found |= {i: (points[k], values[k]) for k, i in enumerate(members)}
    return [found[i] for i in range(len(optimizers))]


# Plots


@needs_matplotlib
def plot_trajectories(
    function: Any,
    optimizers: Any,
    *,
    steps: int,
    start: Any = None,
    domain: Domain | None = None,
    names: bool = True,
    ax: Axes = None,
) -> Axes:
    """Draw the paths of optimizers over the contours of a function of two variables, or over the curve of one.

    A circle marks the start, a star a minimum, a marker the end of a path. A path that leaves the plot for good is
    drawn up to the border, with a cross there, and its label says so, as it does for a path that ends in infinite or
    NaN values.

    Args:
      function, optimizers, steps, start: see `trajectories`.
      domain: the interval to draw for each variable; by default the test function's, or what the paths need.
      names: False leaves out the names of the paths, for small multiples that share one legend.
      ax: matplotlib axes to draw in; by default those of a new figure.

    Returns:
      The axes.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError, ValueError: see `trajectories`.

    >>> import gradtx
    >>> from gradtx.test_functions import ravine
    >>> ax = gradtx.plotting.plot_trajectories(ravine, [gradtx.sgd(0.3), gradtx.adam(0.3)], steps=50)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['sgd', 'adam']
    """
    return _draw("plot_trajectories", function, optimizers, steps, start, domain, ax, names=names)[0]


@needs_matplotlib
def animate_trajectories(
    function: Any,
    optimizers: Any,
    *,
    steps: int,
    start: Any = None,
    domain: Domain | None = None,
    ax: Axes = None,
    frames: int = 60,
    interval: int = 80,
) -> Any:
    """Animate the plot of `plot_trajectories`, step by step.

    Args:
      function, optimizers, steps, start, domain, ax: see `plot_trajectories`.
      frames: the maximum number of frames, evenly spaced over the steps, the first and the last included.
      interval: milliseconds between two frames.

    Returns:
      A matplotlib `FuncAnimation` that Jupyter shows with buttons to play it. Save it with
      `.save("paths.gif", writer="pillow")`; its figure is `.figure`.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError, ValueError: see `trajectories`; fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"animate_trajectories: frames must be at least 2, got {frames}")
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation

    class Animation(FuncAnimation):
        def _repr_html_(self) -> str:
            plt.close(self.figure)  # or Jupyter shows the last frame, too
            with plt.rc_context({"savefig.dpi": 80, "animation.frame_format": "jpeg"}):  # a quarter of the bytes
                return self.to_jshtml()

        @property
        def figure(self) -> Any:
            return ax.figure.figure

    ax, drawn = _draw("animate_trajectories", function, optimizers, steps, start, domain, ax)
    full = [np.asarray(path.line.get_data(), float) for path in drawn]

    def show(step: int) -> list[Any]:
        for path, points in zip(drawn, full, strict=True):
            for line in path.lines:
                line.set_data(points[:, : step + 1])
            for cross in path.crosses:
                cross.set_visible(step >= path.leaves)
        ax.set_title(f"step {step}", loc="right", fontsize=10)
        return [artist for path in drawn for artist in (*path.lines, *path.crosses)]

    shown = np.unique(np.linspace(0, steps, frames).round().astype(int))
    return Animation(ax.figure.figure, show, frames=shown.tolist(), interval=interval)


# Parts of plots


class Drawn(NamedTuple):
    """The matplotlib artists that draw a path."""

    line: Any  # through its points, up to the first after which it stays outside; a marker at the last
    dots: Any  # at each of them, or None
    crosses: tuple[Any, ...]  # where it leaves the plot; empty if it ends inside
    leaves: int  # the step with which it leaves

    @property
    def lines(self) -> tuple[Any, ...]:
        """All artists that go through its points."""
        return (self.line,) if self.dots is None else (self.line, self.dots)


def _draw(
    owner: str,
    function: Any,
    optimizers: Any,
    steps: int,
    start: Any,
    domain: Domain | None,
    ax: Axes,
    *,
    names: bool = True,
) -> tuple[Axes, list[Drawn]]:
    paths = _paths(owner, function, optimizers, steps, start)
    first, _ = next(iter(paths.values()))
    domain = _domain(owner, function, paths, domain, dimension=first[0].size)
    if ax is None:
        (ax,) = new_axes(size=(6.4, 4.4))
        ax.set_title(getattr(function, "formula", ""), loc="left", fontsize=10)
    draw_function(ax, function, domain)
    ground = ink(ax)
    drawn = []
    for i, (label, (points, values)) in enumerate(paths.items()):
        style = {"color": ground.colours[i % len(ground.colours)], "marker": MARKERS[i % len(MARKERS)]}
        drawn.append(draw_path(ax, points, values, dots=steps <= DOTTED, label=label, **style))
    if names:
        name_lines(ax, [path.line for path in drawn])
    return ax, drawn


def draw_function(ax: Axes, function: Any, domain: Domain) -> None:
    """Draw the contours of a function of two variables, or the curve of one, and stars at its known minima."""
    ground = ink(ax)
    if len(domain) == 2:
        (left, right), (bottom, top) = domain
        x, y = np.meshgrid(np.linspace(left, right, 201), np.linspace(bottom, top, 201))
        values = np.asarray(_values(function, jnp.stack([x.ravel(), y.ravel()], axis=1)), float).reshape(x.shape)
        values = np.ma.masked_invalid(values)
        if values.count():
            levels = np.unique(np.quantile(values.compressed(), np.linspace(0, 1, CONTOURS)))
            ax.contour(x, y, values, levels=levels, colors=[ground.faint], linewidths=0.6, linestyles="solid")
        ax.set(xlim=(left, right), ylim=(bottom, top))
    else:
        line = np.linspace(*domain[0], 301)
        y = np.asarray(_values(function, jnp.asarray(line)), float)
        ax.plot(line, y, color=ground.muted, linewidth=1, zorder=1)
        low, high = (np.min(y, where=np.isfinite(y), initial=np.inf), np.max(y, where=np.isfinite(y), initial=-np.inf))
        margin = 0.08 * (high - low)
        ax.set(xlim=domain[0], ylim=(low - margin, high + margin))
    for minimum in getattr(function, "minima", ()):
        at = minimum if len(domain) == 2 else (minimum, function.minimum)
        edge = {"markeredgecolor": ground.background, "markeredgewidth": 0.5}
        ax.plot(*np.reshape(at, (2, 1)), "*", color=ground.foreground, markersize=14, zorder=2, **edge)


def draw_path(
    ax: Axes, points: Any, values: Any, *, color: Any, marker: str, dots: bool, label: str = "_path"
) -> Drawn:
    """Draw the path of one optimizer, on axes that `draw_function` has drawn on."""
    ground = ink(ax)
    at = np.asarray(points.T if points.ndim == 2 else (points, values), float)
    finite = np.isfinite(at).all(axis=0) & np.isfinite(values)
    end = len(finite) if finite.all() else int(np.argmin(finite))
    box = np.array([ax.get_xlim(), ax.get_ylim()])
    inside = ((box[:, :1] <= at) & (at <= box[:, 1:])).all(axis=0) & (np.arange(len(finite)) < end)
    leaves = int(np.flatnonzero(inside)[-1]) + 1 if inside.any() else 0
    if end < len(finite):
        label += " (diverges)"
    elif leaves < end:
        label += " (leaves)"
    at = at[:, : min(end, leaves + 1)]  # later points are outside, whatever the path crosses between them
    seen = {"color": color, "marker": marker, "markeredgecolor": ground.background, "markeredgewidth": 0.6}
    (line,) = ax.plot(*at, linewidth=1.2, markevery=[-1], markersize=6, label=label, zorder=3, **seen)
    dotted = ax.plot(*at, ".", color=color, markersize=2.5, label="_dots", zorder=3)[0] if dots else None
    crosses: tuple[Any, ...] = ()
    if leaves and leaves < len(finite):
        border = _border(at[:, leaves - 1], at[:, leaves], box) if leaves < end else at[:, leaves - 1]
        crosses = tuple(ax.plot(*border, "x", color=color, markersize=8, clip_on=False, label="_leaves", zorder=5))
    edge = {"markerfacecolor": ground.background, "markeredgecolor": ground.foreground}
    ax.plot(*at[:, :1], "o", markersize=5, label="_start", zorder=4, **edge)
    return Drawn(line, dotted, crosses, leaves)


def _border(inner: np.ndarray, outer: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Where the line from a point in a box to one outside it crosses the border."""
    step = outer - inner
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (np.where(step > 0, box[:, 1], box[:, 0]) - inner) / step
    return np.clip(inner + np.nanmin(np.where(step == 0, np.nan, shares)) * step, *box.T)


def _domain(owner: str, function: Any, paths: Paths, domain: Any, dimension: int) -> Domain:
    """The given domain, the function's, or one around the points that are no higher than the start."""
    given = getattr(function, "domain", None) if domain is None else domain
    if given is not None:
        if np.shape(given) != (dimension, 2):
            raise ValueError(
                f"{owner}: domain must be an interval for each of {dimension} variables, got {given!r}, "
                f"e.g. {((-1.0, 1.0),) * dimension}"
            )
        return tuple((float(low), float(high)) for low, high in given)
    lower = [points[(values <= values[0]) & np.isfinite(values)] for points, values in paths.values()]
    visited = np.concatenate([points.reshape(-1, dimension) for points in lower])
    low, high = visited.min(axis=0), visited.max(axis=0)
    width = np.maximum(high - low, max(0.1 * (high - low).max(), 1e-6))
    middle = (low + high) / 2
    return tuple((float(m - 0.65 * w), float(m + 0.65 * w)) for m, w in zip(middle, width, strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _values(function: Any, points: jax.Array) -> jax.Array:
    return jax.vmap(function)(points)

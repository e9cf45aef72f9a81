"""What all plots share: colours, axes, and the naming of lines.

Colours are Okabe and Ito's, which can be told apart with any colour vision. What is black on a light background is
white on a dark one; greys are mixtures of the two. Dashes and markers cycle with other periods than the colours do, so
that 21 lines differ, and lines that coincide show through each other.

Names are written at the ends of the lines, if all of them end at the right and the figure makes room for it (its layout
is "constrained" or "tight"); otherwise in a legend.
"""

import functools
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from gradtx.core.build import is_transformation
from gradtx.inspection.registry import suggestion

__all__ = [
    "DASHES",
    "MARKERS",
    "Ink",
    "apart",
    "check_choice",
    "ink",
    "label_ends",
    "labelled",
    "log_spaced",
    "name_lines",
    "needs_matplotlib",
    "new_axes",
    "one_line",
    "readable",
    "set_scales",
    "take",
    "wide",
]

P = ParamSpec("P")
R = TypeVar("R")
Axes = Any
Colour = Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "", "#E69F00", "#56B4E9")  # "": black or white
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v")
LABEL_SIZE = 9.0  # points
LONG_LABEL = 30  # characters; longer ones would take up the room of the axes


# Axes


def needs_matplotlib(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that draws: before it computes anything, it says how to install what is missing.

    Raises (the decorated function):
      ImportError: matplotlib is not installed.
    """

    @functools.wraps(function)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib  # noqa: F401
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "matplotlib":
                raise
            install = 'pip install "gradtx[plot]"'
            raise ImportError(f"{function.__name__} needs matplotlib, which is not installed: {install}") from None
        return function(*args, **kwargs)

    return drawing


def new_axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (5.6, 3.6)) -> list[Axes]:
    """The axes of a new figure, shown by `plt.show()`; `size` is that of each in inches."""
    import matplotlib.pyplot as plt

    shape = size[0] * columns, size[1] * rows
    _, axes = plt.subplots(rows, columns, squeeze=False, figsize=shape, layout="constrained")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return list(axes.flat)


def set_scales(ax: Axes, **scales: str) -> None:
    """Set the scales of x or y; on a logarithmic one, numbers that are short are written without powers of ten."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Short(LogFormatterSciNotation):
        axis: Any

        def __call__(self, x: float, pos: Any = None) -> str:
            text = super().__call__(x, pos)
            low, high = sorted(self.axis.get_view_interval())
            return f"{x:g}" if text and low > 5e-4 and high < 2e4 else text

    for name, scale in scales.items():
        ax.set(**{f"{name}scale": scale})
        if scale == "log":
            axis = getattr(ax, f"{name}axis")
            axis.set_major_formatter(Short())
            axis.set_minor_formatter(Short(minor_thresholds=(1, 0.4)))


# Colours


class Ink(NamedTuple):
    """The colours to draw with on a given background."""

    background: Colour
    foreground: Colour
    muted: Colour  # for what is beside the data
    faint: Colour  # for what is behind the data
    colours: tuple[Colour, ...]

    def style(self, index: int) -> dict[str, Any]:
        """The style of the line with this index."""
        return {"color": self.colours[index % len(self.colours)], "linestyle": DASHES[index % len(DASHES)]}


def ink(ax: Axes) -> Ink:
    """Colours that are visible on these axes, whatever style is in use."""
    from matplotlib.colors import to_rgba

    grounds = [to_rgba(x.get_facecolor()) for x in (ax, ax.figure, ax.figure.figure)]
    background = next((ground[:3] for ground in grounds if ground[3] > 0.5), (1.0, 1.0, 1.0))
    foreground = max(((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), key=lambda x: _contrast(x, background))
    return Ink(
        background,
        foreground,
        _mixed(foreground, background, 0.45),
        _mixed(foreground, background, 0.72),
        tuple(colour or foreground for colour in COLOURS),
    )


def readable(colour: Colour, ground: Ink) -> Colour:
    """The colour, moved towards the foreground until text in it is readable (a contrast of 4.5, WCAG's AA)."""
    from matplotlib.colors import to_rgb

    shades = (_mixed(to_rgb(colour), ground.foreground, share) for share in np.linspace(0, 1, 11))
    return next(shade for shade in shades if _contrast(shade, ground.background) >= 4.5)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    return tuple((1 - share) * a + share * b for a, b in zip(one, other, strict=True))


def _contrast(one: Colour, other: Colour) -> float:
    """The ratio of the luminances, from 1 to 21. Source: WCAG 2.1, https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""

    def luminance(colour: Colour) -> float:
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in colour]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# Names


def labelled(owner: str, things: Any, label: Callable[[Any], str]) -> list[tuple[str, Any]]:
    """One thing, a list or a dict by label, as pairs (label, thing); things that would share a label get their repr."""
    if isinstance(things, dict):
        pairs = [(str(name), thing) for name, thing in things.items()]
    else:
        many = isinstance(things, Iterable) and not is_transformation(things)  # an Optax pair is a tuple
        things = list(things) if many else [things]
        names = [label(thing) for thing in things]
        pairs = [(one_line(x) if names.count(name) > 1 else name, x) for name, x in zip(names, things, strict=True)]
    if not pairs:
        raise ValueError(f"{owner}: nothing to draw, got {things!r}")
    return pairs


def one_line(thing: Any) -> str:
    """The repr of a thing, without line breaks."""
    return re.sub(r",?\s*\n\s*\)", ")", re.sub(r"\(\n\s*", "(", repr(thing))).replace("\n", " ").replace("     ", " ")


def name_lines(ax: Axes, lines: Sequence[Any]) -> None:
    """Name the lines: to the right of their ends if all end at the right, else in a legend.

    Names are placed according to the limits that the axes have now.
    """
    named = [line for line in lines if not line.get_label().startswith("_")]
    roomy = ax.figure.figure.get_layout_engine() is not None
    longest = max((len(line.get_label()) for line in named), default=0)
    short = 0 < longest <= LONG_LABEL
    if roomy and short and len(named) * _gap(ax) <= 1 and all(_ends_right(ax, x) for x in named):
        label_ends(ax, [(line.get_label(), _last(line)[1], line.get_color()) for line in named])
    elif named:
        handles = {"handles": named, "labels": [textwrap.fill(x.get_label(), 60) for x in named]}
        options: dict[str, Any] = {"fontsize": LABEL_SIZE, "framealpha": 0.8}
        if roomy and longest > LONG_LABEL:
            below = 4.2 if ax.get_xlabel() else 2.7  # in letter heights: below the labels of the axis
            options |= {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": below, "frameon": False}
        elif roomy:
            rows = max(1, int(0.75 / _gap(ax)))
            options |= {"loc": "upper left", "bbox_to_anchor": (1, 1.02), "frameon": False}
            options["ncols"] = -(-len(named) // rows)
        ax.legend(**handles, **options)


def label_ends(ax: Axes, ends: Sequence[tuple[str, float, Colour]]) -> None:
    """Write names to the right of the axes at the heights of their lines' ends, pushed apart where they would touch."""
    ground = ink(ax)
    heights = [float(np.clip(_place(ax, (ax.get_xlim()[1], y))[1], 0, 1)) for _, y, _ in ends]
    for (name, _, colour), height in zip(ends, apart(heights, _gap(ax)), strict=True):
        style = {"color": readable(colour, ground), "fontsize": LABEL_SIZE}
        ax.text(1.015, height, name, transform=ax.transAxes, verticalalignment="center", **style)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in the same order, pushed apart pair by pair until they are at least `gap` from each other."""
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


def _gap(ax: Axes) -> float:
    """The height of a label, as a fraction of the height of the axes."""
    return 1.2 * LABEL_SIZE / 72 / (ax.get_position().height * ax.figure.figure.get_figheight())


def _last(line: Any) -> tuple[float, float]:
    """The last point of a line that can be drawn."""
    x, y = (np.asarray(data, float) for data in line.get_data())
    drawn = np.isfinite(y) & ((y > 0) | (line.axes.get_yscale() != "log"))
    index = np.flatnonzero(drawn)[-1] if drawn.any() else -1
    return x[index], y[index]


def _ends_right(ax: Axes, line: Any) -> bool:
    end = _last(line)
    return bool(np.isfinite(end[1]) and _place(ax, end)[0] >= 0.9)


def _place(ax: Axes, point: tuple[float, float]) -> Any:
    """A point of the data in axes coordinates."""
    _ = ax.get_xlim(), ax.get_ylim()  # the limits are not computed from the data until they are asked for
    return ax.transAxes.inverted().transform(ax.transData.transform(point))


# Inputs


def check_choice(owner: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise a ValueError that lists the choices, unless the value is one of them."""
    if value not in choices:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def take(owner: str, kind: str, name: str, known: dict[str, Any]) -> np.ndarray:
    """An entry of a dict of arrays; the error for an unknown name suggests known ones."""
    if name not in known:
        raise ValueError(f"{owner}: no {kind} {name!r}; {suggestion(name, known)}")
    return np.asarray(known[name], float)


def log_spaced(values: Any) -> bool:
    """Whether numbers look as if chosen on a log scale: their ratios are more uniform than their differences."""
    points = np.unique(values)
    if len(points) < 2 or points[0] <= 0:
        return False
    if len(points) == 2:
        return bool(points[1] >= 10 * points[0])
    ratios, differences = np.diff(np.log(points)), np.diff(points)
    return bool(ratios.std() / ratios.mean() < differences.std() / differences.mean() and points[-1] >= 4 * points[0])


def wide(values: Any) -> bool:
    """Whether the finite values are positive and range over more than a factor of 30."""
    finite = np.asarray(values, float)[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > 30 * finite.min())

"""The text of `python -m gradtx list` and `python -m gradtx show NAME`."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import jax

from gradtx.core.transformation import GradientTransformation
from gradtx.inspection.describe import describe
from gradtx.race import entrants
from gradtx.race.errors import unknown

__all__ = ["list_text", "show_text"]

WIDTH = 110


def list_text() -> str:
    """Every optimizer with its source, every schedule, every other transformation, with a line on each."""
    sections = {
        "Optimizers": _entries(entrants.optimizers(), sources=True),
        "Names for settings of an optimizer": [f"  {name}  {_call(*made)}" for name, made in entrants.SETTINGS.items()],
        "Schedules": _entries(entrants.schedules()),
        "Transformations": _entries(entrants.transformations()),
    }
    return "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines)


def _entries(constructors: dict[str, Any], sources: bool = False) -> list[str]:
    column = max(map(len, constructors), default=0) + 4
    lines = []
    for name, constructor in constructors.items():
        lines.append(_wrapped(f"  {name}".ljust(column) + _description(name, constructor), column))
        if sources:
            lines.append(_wrapped(" " * column + constructor.source, column))
    return lines


def _wrapped(line: str, indent: int) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _call(name: str, settings: dict[str, Any]) -> str:
    return f"{name}(learning_rate, {', '.join(f'{key}={value}' for key, value in settings.items())})"


def _description(name: str, constructor: Any) -> str:
    """The first sentence of the docstring without its equation, which `show` prints."""
    if constructor.__name__ != name:
        return f"Another name of {constructor.__name__}"
    sentence = re.split(r"\.(?:\s|$)", entrants.summary(constructor))[0]
    return re.sub(r"[,:;] \S+ (←|=) .*", "", sentence).strip(" :")


def show_text(name: str) -> str:
    """Everything about one constructor: signature, description, formula, state, source.

    Raises:
      UsageError: there is no such constructor.
    """
    known = entrants.constructors()
    if name in entrants.racers():
        tx = entrants.make(name)
        return "\n\n".join([*_documentation(tx.constructor), *_value(tx)])
    if name not in known:
        raise unknown("name", name, known.keys() | set(entrants.racers()))
    return "\n\n".join(_documentation(known[name]))


def _documentation(constructor: Any) -> Iterator[str]:
    yield _signature(constructor)
    text, _, _ = (inspect.getdoc(constructor) or "").partition("\n>>> ")
    yield text.strip()


def _signature(constructor: Any) -> str:
    parameters = [p.replace(annotation=p.empty) for p in constructor.signature.parameters.values()]
    line = f"{constructor.__name__}{inspect.Signature(parameters)}"
    return textwrap.fill(line, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _value(tx: GradientTransformation) -> Iterator[str]:
    yield _titled("Value", repr(tx))
    yield _titled("Formula", repr(tx.formula))
    if tx.expand() != tx.formula:
        yield _titled("Expanded", repr(tx.expand()))
    yield _titled(f"State: {_slots(sum(entrants.state_slots(tx).values()))}", _example(tx))


def _example(tx: GradientTransformation) -> str:
    """The stages and their state for one layer."""
    layer = {"kernel": jax.ShapeDtypeStruct((1024, 1024), "float32"), "bias": jax.ShapeDtypeStruct((1024,), "float32")}
    return str(describe(tx, layer))


def _slots(number: float) -> str:
    if number == round(number):
        return f"{number:.0f} slot{'s' * (number != 1)} per parameter"
    return f"{number:.2g} slots per parameter of a 1024 × 1024 matrix"


def _titled(title: str, body: str) -> str:
    return f"{title}\n" + textwrap.indent(body, "    ")

"""Writes what follows from the code: the index of every room, the page of optimizers, and their list in CHANGELOG.md.

    python docs/generate.py

A room's `__init__.py` keeps its docstring; below it stands what its files call public (`__all__`). The tests say when
something here is out of date.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("schedules", "atoms", "wrappers", "optimizers", "inspection", "checkpoints", "training", "tuning")
WIDTH = 120


def public_names(path: Path) -> list[str]:
    """What a file's `__all__` lists; nothing where it has none."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__all__":
            return sorted(ast.literal_eval(statement.value), key=_order)
    return []


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order in which the linter sorts imports."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _members(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The modules and packages of a room, with what they call public."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            yield path.name, public_names(path / "__init__.py")
        elif path.suffix == ".py" and path.name != "__init__.py":
            yield path.stem, public_names(path)


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    below = "".join(f"    {name},\n" for name in names)
    return line if len(line) <= WIDTH else f"from {module} import (\n{below})"


def index(room: str) -> str:
    """The `__init__.py` of a room, docstring included."""
    package = ROOT / "gradtx"
    source = (package / room / "__init__.py").read_text()
    end = ast.parse(source).body[0].end_lineno
    members = [(name, names) for name, names in _members(package / room) if names]
    imports = [_import(f"gradtx.{room}.{name}", names) for name, names in members]
    listed = sorted({name for _, names in members for name in names}, key=_order)
    lines = [*source.splitlines()[:end], "", *imports, "", "__all__ = [", *(f'    "{name}",' for name in listed), "]"]
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/optimizers.md: every optimizer, what it does, and where it is from."""
    rows = []
    for name, constructor in _optimizers().items():
        place = "/".join(constructor.__module__.split("."))
        link = f"[`{name}`](../{place}.py)"
        rows.append(f"| {link} | {_summary(constructor)} | {_linked(constructor.source)} |")
    return "\n".join([*HEAD.format(number=len(rows)).splitlines(), *rows]) + "\n"


HEAD = """# The optimizers

All {number} of them, written by `docs/generate.py` from their docstrings. Update rules give the parameters θ after the
step; g is the gradient, η the learning rate; the other symbols are in the [glossary](../README.md#glossary).
`help(gradtx.adam)` says the rest: every argument, the state, an example. `gradtx.adam(1e-3).formula` shows what an
optimizer is made of.

| optimizer | what it does | source |
|---|---|---|"""


def _optimizers() -> dict[str, Any]:
    from gradtx.inspection import registry

    return {name: registry.constructors()[name] for name in registry.optimizers()}


def _summary(constructor: Any) -> str:
    """The first paragraph of its docstring, as a cell of a table."""
    first = (inspect.getdoc(constructor) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


def _linked(source: str) -> str:
    """Addresses as links."""
    return re.sub(r"https?://[^\s;,)]+", lambda found: f"<{found[0].rstrip('.')}>", source).replace("|", "\\|")


def changelog(text: str) -> str:
    """CHANGELOG.md with the list of optimizers brought up to date."""
    listed = textwrap.fill(f"- Optimizers: {', '.join(_optimizers())}.", WIDTH, subsequent_indent="  ")
    return re.sub(r"- Optimizers: .*?\.(?=\n- )", listed, text, count=1, flags=re.DOTALL)


def files() -> Iterator[tuple[Path, str]]:
    """What is generated: path and text. The rooms come first, for the rest is read off the package itself."""
    for room in ROOMS:
        yield ROOT / "gradtx" / room / "__init__.py", index(room)
    yield ROOT / "docs" / "optimizers.md", page()
    yield ROOT / "CHANGELOG.md", changelog((ROOT / "CHANGELOG.md").read_text())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this copy of the package
    for path, text in files():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")

"""Writes what follows from the code: the index of every room of the package, and the page of optimizers.

    python docs/generate.py

A room's `__init__.py` keeps its docstring; below it stands what its files call public (`__all__`). The tests say when
something here is out of date.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("schedules", "atoms", "wrappers", "optimizers", "inspection", "checkpoints", "training")
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


def index(room: str, package: Path = ROOT / "gradtx") -> str:
    """The `__init__.py` of a room, docstring included."""
    source = (package / room / "__init__.py").read_text()
    end = ast.parse(source).body[0].end_lineno
    members = [(name, names) for name, names in _members(package / room) if names]
    imports = [_import(f"gradtx.{room}.{name}", names) for name, names in members]
    listed = sorted({name for _, names in members for name in names}, key=_order)
    lines = [*source.splitlines()[:end], "", *imports, "", "__all__ = [", *(f'    "{name}",' for name in listed), "]"]
    return "\n".join(lines) + "\n"


def files(root: Path = ROOT) -> dict[Path, str]:
    """What is generated, by path."""
    return {root / "gradtx" / room / "__init__.py": index(room, root / "gradtx") for room in ROOMS}


if __name__ == "__main__":
    for path, text in files().items():
        if path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")

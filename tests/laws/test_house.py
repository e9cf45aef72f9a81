"""The house: what may import what, what follows from the code, and how much a new optimizer takes."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from helpers import ROOT

# Each room may use the rooms above it, and itself.
LAYERS = (
    ("core",),
    ("state",),
    ("losses", "projections", "test_functions", "tree", "updating"),
    ("schedules",),
    ("atoms",),
    ("wrappers",),
    ("optimizers",),
    ("inspection",),
    ("checkpoints",),
    ("training",),
    ("plotting",),
    ("tuning",),
    ("contrib", "tree_utils"),
    ("__init__",),
    ("__main__", "race"),
)


def imports(path):
    """(line, module) of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gradtx":
            yield from ((node.lineno, f"gradtx.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, f"gradtx.{'.' * node.level}{node.module}"  # no room
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def forbidden(package):
    """The imports that point the wrong way."""
    level = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}

    def is_allowed(room, module):
        if module.split(".")[0] != "gradtx":
            return True
        other = [*module.split("."), "__init__"][1]
        return other == room or level.get(other, len(LAYERS)) < level[room] or {room, other} == {"__main__", "race"}

    return [
        f"{path.relative_to(package.parent)}:{line} imports {module}"
        for path in sorted(package.rglob("*.py"))
        for line, module in imports(path)
        if not is_allowed(path.relative_to(package).with_suffix("").parts[0], module)
    ]


@pytest.fixture
def copy(tmp_path):
    """A copy of the project to write in."""
    for part in ("gradtx", "tests", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("README.md", "CHANGELOG.md", "pyproject.toml"):
        shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def test_imports_point_one_way():
    assert forbidden(ROOT / "gradtx") == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("optimizers/noisy_sgd.py", "from gradtx.training import make_step"),
        ("core/value.py", "from gradtx.atoms.averages import ema"),
        ("atoms/noise.py", "from gradtx import optimizers"),
        ("wrappers/sam.py", "import gradtx.optimizers.adam"),
        ("losses.py", "from gradtx import projections"),
        ("schedules/decays.py", "from ..atoms import averages"),
        ("state/paths.py", "    import gradtx"),
    ],
)
def test_a_forbidden_import_is_found(copy, path, line):
    target = copy / "gradtx" / path
    target.write_text(f"{target.read_text()}\n\ndef late():\n    {line.strip()}\n")
    found = forbidden(copy / "gradtx")
    assert len(found) == 1
    assert f"gradtx/{path}" in found[0]


def test_modules_are_short_and_say_what_they_are():
    for path in (ROOT / "gradtx").rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 405, f"{path.name} is long: is it one idea?"
        assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"


def test_no_two_modules_have_one_name():
    stems = [path.stem for path in (ROOT / "gradtx").rglob("*.py") if path.stem not in ("__init__", "__main__")]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    assert twice == set(), f"{twice}: which is which?"


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_up_to_date():
    stale = [str(path.relative_to(ROOT)) for path, text in generator().files() if path.read_text() != text]
    assert stale == [], "run python docs/generate.py"


FORMULA = '''"""HalfSGD: half a step."""

from typing import Any

from gradtx.atoms.learning_rate import scale, scale_by_learning_rate
from gradtx.core.arguments import NonNegative
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer

__all__ = ["half_sgd"]


@optimizer
def half_sgd(learning_rate: NonNegative) -> Any:
    """Half a step of gradient descent: θ ← θ − ½·η·g.

    Args:
      learning_rate: η.

    Source: nobody 2026, https://example.org/half

    >>> import gradtx
    >>> gradtx.half_sgd(1e-3)
    half_sgd(learning_rate=0.001)
    """
    return chain(scale(0.5), scale_by_learning_rate(learning_rate))
'''
ROW = '    _case("half_sgd", LR, slots=0, bounded_steps=False, source="paper"),\n'
ORACLE = '''

def half_sgd(θ, gradients, learning_rate):
    """Half a step."""
    for _, g, η in steps(gradients, learning_rate):
        θ = θ - η / 2 * g
        yield θ
'''


def run_tests(copy, *arguments):
    """The tests of the copy that are about the new optimizer."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    env = {"PYTHONPATH": str(copy), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(command, cwd=copy, env=os.environ | env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_new_optimizer_takes_a_formula_a_row_and_an_oracle(copy):
    """Everything else follows, or a test says what is missing."""

    def surface(*tests):
        return run_tests(copy, "tests/laws/test_surface.py", "-k", "every_optimizer and half_sgd", *tests)

    (copy / "gradtx/optimizers/half_sgd.py").write_text(FORMULA)
    _, told = run_tests(copy, "tests/laws/test_house.py", "-k", "up_to_date")
    assert "run python docs/generate.py" in told
    subprocess.run([sys.executable, "docs/generate.py"], cwd=copy, check=True, capture_output=True)

    _, told = surface()
    assert "half_sgd has no row in the table of tests/cases.py" in told
    cases = copy / "tests/cases.py"
    cases.write_text(cases.read_text().replace("CASES = (\n", "CASES = (\n" + ROW))
    _, told = surface()
    assert "half_sgd has no oracle" in told
    oracles = copy / "tests/oracles/textbook.py"
    oracles.write_text(oracles.read_text() + ORACLE)

    code, told = run_tests(copy, "tests/laws", "-k", "half_sgd or up_to_date or first_release")
    assert code == 0, told
    assert int(re.search(r"(\d+) passed", told)[1]) >= 15
    assert "half_sgd" in (copy / "docs/optimizers.md").read_text()
    assert "half_sgd" in (copy / "CHANGELOG.md").read_text()

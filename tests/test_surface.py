"""One conformance test walks the whole public surface; what is shown in docs is executed."""

import ast
import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest
from cases import CASES

import gradtx

ROOT = pathlib.Path(__file__).parent.parent
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(gradtx.__path__, "gradtx.")
    if "__main__" not in name and "gradtx.race" not in name
]
OPTIMIZERS = [
    name
    for name in gradtx.__all__
    if getattr(getattr(gradtx, name), "__module__", "").startswith("gradtx.formulas")
    and not name.startswith("scale_by_")
    and "learning_rate" in inspect.signature(getattr(gradtx, name)).parameters
]


def test_public_names_are_sorted_and_there():
    assert list(gradtx.__all__) == sorted(gradtx.__all__)
    assert all(hasattr(gradtx, name) for name in gradtx.__all__)
    exported = {name for module in map(importlib.import_module, MODULES) for name in getattr(module, "__all__", ())}
    assert set(gradtx.__all__) <= exported | {"LeafError", "global_norm"}


@pytest.mark.parametrize("name", gradtx.__all__)
def test_every_public_name_has_a_docstring(name):
    thing = getattr(gradtx, name)
    if callable(thing):
        assert len(inspect.getdoc(thing) or "") > 20


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_in_the_table_and_names_its_source(name):
    doc = inspect.getdoc(getattr(gradtx, name))
    assert re.search(r"Source: .*https?://", doc, re.DOTALL), "the docstring names its source with a link"
    assert ">>> " in doc, "the docstring has an executed example"
    assert name in {case.make.__name__ for case in CASES}, "the case table has a row"


def test_the_list_of_optimizers_is_not_empty():
    assert {"sgd", "adam", "adafactor", "adabound", "lamb", "adabelief"} <= set(OPTIMIZERS)


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_readme_blocks():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_import_needs_only_the_runtime_packages():
    optional = ["optax", "flax", "equinox", "torch", "sklearn", "matplotlib", "rich", "tqdm", "pandas", "yaml"]
    code = f"import sys, gradtx; print([m for m in {optional} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_imports_point_one_way():
    """formulas → atoms → core; nothing in the core knows what is built on it."""
    below = {"core": {"core"}, "atoms": {"core", "atoms"}, "formulas": {"core", "atoms", "formulas"}}

    def layer(module: str) -> str:
        part = module.split(".")[1]
        return part if part in below else "atoms"

    for module in MODULES:
        if layer(module) == "atoms" and module.split(".")[1] not in {"statistics", "clipping", "scaling", "factored"}:
            continue
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradtx."):
                assert layer(node.module) in below[layer(module)], f"{module} imports {node.module}"


def test_modules_are_short_and_say_what_they_are():
    for path in (ROOT / "gradtx").rglob("*.py"):
        text = path.read_text()
        if path != ROOT / "gradtx/__init__.py":  # a list of names
            assert len(text.splitlines()) <= 405, f"{path.name} is long: is it one idea?"
        assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"

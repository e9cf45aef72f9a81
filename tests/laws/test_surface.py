"""One conformance test walks the whole public surface; what is shown in docs is executed."""

import doctest
import importlib
import inspect
import pkgutil
import pydoc
import re
import subprocess
import sys

import pytest

import gradtx
from cases import CASES
from gradtx.inspection import registry
from helpers import PUBLIC, ROOT
from oracles import rule_named

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(gradtx.__path__, "gradtx.")
    if "__main__" not in name and "gradtx.race" not in name
]
OF_THE_FIRST_RELEASE = (ROOT / "tests/golden/names_0_1.txt").read_text().split()


def test_no_name_of_the_first_release_is_lost():
    assert len(OF_THE_FIRST_RELEASE) == 313
    assert [name for name in OF_THE_FIRST_RELEASE if not hasattr(gradtx, name)] == []


def test_public_names_are_said_by_the_file_that_has_them():
    assert set(OF_THE_FIRST_RELEASE) - {"optimizers"} <= set(PUBLIC)
    said = {name for module in map(importlib.import_module, MODULES) for name in getattr(module, "__all__", ())}
    assert set(PUBLIC) <= said


def test_a_person_sees_rooms():
    """What opens `help(gradtx)` is a map, and what it names is there."""
    doc = inspect.getdoc(gradtx)
    rooms = re.findall(r"^    gradtx\.(\w+) ", doc, re.MULTILINE)
    assert 8 <= len(rooms) <= 12
    for room in rooms:
        module = importlib.import_module(f"gradtx.{room}")
        assert getattr(gradtx, room) is module
        assert inspect.getdoc(module)
    assert len(pydoc.render_doc(gradtx)) < 120_000  # what was imported is listed where it is made


def test_the_optimizers_are_listed_by_the_room_that_they_are_in():
    assert gradtx.optimizers() == registry.optimizers()
    assert {"sgd", "adam", "momo", "schedule_free_adamw", "polyak_sgd"} <= set(gradtx.optimizers())
    assert all(callable(getattr(gradtx.optimizers, name)) for name in gradtx.optimizers())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    thing = getattr(gradtx, name)
    if callable(thing):
        assert len(inspect.getdoc(thing) or "") > 20


# Those that need the loss, and schedule-free forms: what is measured of them is in tests/optimizers.
WITH_TESTS_OF_THEIR_OWN = {"momo", "momo_adam", "polyak_sgd", "schedule_free_adamw", "schedule_free_sgd"}


@pytest.mark.parametrize("name", registry.optimizers())
def test_every_optimizer_names_its_source_and_has_an_example_a_case_and_an_oracle(name):
    constructor = registry.constructors()[name]
    assert re.search("https?://", constructor.source), (
        f"{name}: its docstring does not name the source: 'Source: AUTHORS YEAR, https://…'"
    )
    assert ">>> " in inspect.getdoc(constructor), f"{name}: its docstring has no example, '>>> …'"
    if name not in WITH_TESTS_OF_THEIR_OWN:
        assert name in {case.make.__name__ for case in CASES}, (
            f"{name} has no row in the table of tests/cases.py: add _case({name!r}, its arguments, what it claims)"
        )
        rule_named(name)


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

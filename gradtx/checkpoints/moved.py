"""Former module names, so that pickles of earlier versions can still be loaded.

A pickle refers to a class by its module. When a file is renamed, its former name is entered here, and the classes and
constructors that an old pickle asks it for are looked up by their own names, which do not change.
"""

import sys
from types import ModuleType
from typing import Any

__all__: list[str] = []

_FORMER_MODULES = """
accumulation averaging clipping conditional config factored foreign guards injection migration momentum_models
processing quasi_newton range_test registry scaling schedulefree sharpness spaces statistics summary sweeps tables
telemetry training linesearch linesearch.backtracking linesearch.objective linesearch.zoom
formulas formulas.adam formulas.adaptive formulas.belief formulas.bounded formulas.delayed formulas.descent
formulas.differences formulas.distance formulas.dual_averaging formulas.layerwise formulas.noisy formulas.orthogonal
formulas.parameter_free formulas.polyak formulas.quasi_newton formulas.rearranged formulas.second_order formulas.signs
formulas.sm3 formulas.two_averages formulas.variance_reduced formulas.variants
""".split()  # noqa: SIM905

_RENAMED = {"_injected": "inject_hyperparams"}


def install() -> None:
    """Make modules importable under their former names."""
    for name in (f"gradtx.{former}" for former in _FORMER_MODULES):
        module: Any = sys.modules.setdefault(name, ModuleType(name, "Kept for old pickles."))
        module.__getattr__ = _found


def _found(name: str) -> Any:
    """The object that has this name in any module of the library."""
    name = _RENAMED.get(name, name)
    if not name.startswith("__"):
        for place, module in list(sys.modules.items()):
            thing = vars(module).get(name) if place.startswith("gradtx.") else None
            if getattr(thing, "__module__", None) == place:
                return thing
    raise AttributeError(f"gradtx has no {name!r}")

"""The rules as their papers state them, in NumPy float64: what gradtx's numbers are held against.

Written from the formulas, not from gradtx: loops over one leaf, moments corrected by powers, nothing composed. A rule
has the name and the arguments (defaults too) of gradtx's constructor. It is given the parameter θ of one leaf and the
gradients of its steps, and yields θ after each. t counts from 1, η is the learning rate of the step. Rules that add
over all leaves are marked `whole`: they are given all leaves of a tree as one vector.
"""

import importlib
import pkgutil

__all__ = ["rule_named"]


def rule_named(name):
    """The oracle of this name, in whichever module of this package it stands."""
    for module in pkgutil.iter_modules(__path__, "oracles."):
        rule = getattr(importlib.import_module(module.name), name, None)
        if getattr(rule, "__module__", None) == module.name:
            return rule
    raise LookupError(f"{name} has no oracle: write its rule, in NumPy and from its paper, in tests/oracles")

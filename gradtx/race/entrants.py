"""The constructors of the library, sorted for a race; what their states cost; what their docstrings say."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.constructor import Constructor
from gradtx.core.schedule import Schedule
from gradtx.core.transformation import GradientTransformation
from gradtx.inspection.registry import constructors
from gradtx.race.errors import unknown

__all__ = [
    "DEFAULT_RATES",
    "SETTINGS",
    "constructors",
    "default_rate",
    "make",
    "optimizers",
    "racers",
    "schedules",
    "state_bytes",
    "state_slots",
    "summary",
    "transformations",
]

Constructors = dict[str, Constructor[..., Any]]

# The optimizers that race by default, at their usual learning rates: the defaults of torch (adagrad, adadelta, adam,
# adamax, nadam, adafactor, radam, …) or Keras (rmsprop), or those of the paper (adabound, yogi, adabelief, lion; lamb:
# 1e-3, as in its public versions). Gradient descent has none: 0.1 is common in tutorials, and a tenth of it with
# momentum 0.9, which makes steps ten times as long. LARS multiplies by a trust coefficient of 1e-3, so 1 is a
# thousandth of a layer's norm.
DEFAULT_RATES: dict[str, float] = {
    "sgd": 0.1,
    "momentum": 0.01,
    "nesterov": 0.01,
    "adagrad": 1e-2,
    "rmsprop": 1e-3,
    "adadelta": 1.0,
    "adam": 1e-3,
    "adamw": 1e-3,
    "adamax": 2e-3,
    "nadam": 2e-3,
    "amsgrad": 1e-3,
    "adafactor": 1e-2,
    "adabound": 1e-3,
    "amsbound": 1e-3,
    "yogi": 1e-2,
    "radam": 1e-3,
    "adabelief": 1e-3,
    "lion": 1e-4,
    "lamb": 1e-3,
    "lars": 1.0,
}

# Common names for settings of an optimizer.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum": ("sgd", {"momentum": 0.9}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}),
}


# The constructors


def schedules() -> Constructors:
    """The constructors of schedules."""
    return {name: x for name, x in constructors().items() if x.cls is Schedule}


def optimizers() -> Constructors:
    """The constructors of whole optimizers."""
    return {name: x for name, x in constructors().items() if x.is_optimizer}


def transformations() -> Constructors:
    """The constructors of all other transformations."""
    others = optimizers().keys() | schedules().keys()
    return {name: x for name, x in constructors().items() if name not in others}


def racers() -> list[str]:
    """The names that can race: the optimizers that need no argument but a learning rate, and the names in SETTINGS."""
    return sorted([*(name for name, x in optimizers().items() if _takes_a_rate(x)), *SETTINGS])


def _takes_a_rate(constructor: Constructor[..., Any]) -> bool:
    parameters = constructor.signature.parameters
    return "learning_rate" in parameters and {n for n, p in parameters.items() if p.default is p.empty} <= {
        "learning_rate"
    }


# Making one


def default_rate(name: str) -> float:
    """The learning rate to try first: the table's, the constructor's default, or that of the method it extends."""
    if name in DEFAULT_RATES:
        return DEFAULT_RATES[name]
    own = optimizers()[name].signature.parameters["learning_rate"].default
    return own if isinstance(own, float) else DEFAULT_RATES.get(name.removesuffix("w"), 1e-3)


def make(name: str, rate: float | None = None) -> GradientTransformation:
    """The optimizer of that name, at that learning rate or its default one.

    Raises:
      UsageError: there is no such optimizer.
    """
    base, settings = SETTINGS.get(name, (name, {}))
    if name not in racers():
        raise unknown("optimizer", name, racers())
    return optimizers()[base](learning_rate=default_rate(name) if rate is None else rate, **settings)


# The size of its state


def _large_leaves(tx: GradientTransformation, side: int) -> dict[str, int]:
    """The number of elements of each array in the state for one matrix, without scalars. Nothing is computed."""
    state = jax.eval_shape(tx.init, jax.ShapeDtypeStruct((side, side), jnp.float32))
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.size for path, leaf in paths if leaf.size > 1}


def state_slots(tx: GradientTransformation, side: int = 1024) -> dict[str, float]:
    """What the state keeps for a large square matrix of parameters: path -> numbers per parameter."""
    return {path: size / side**2 for path, size in _large_leaves(tx, side).items()}


def state_bytes(tx: GradientTransformation, params: Any) -> float:
    """The bytes of the state for these parameters, per parameter; nothing is computed."""
    state = jax.tree.leaves(jax.eval_shape(tx.init, params))
    return sum(x.size * x.dtype.itemsize for x in state) / sum(x.size for x in jax.tree.leaves(params))


# What its docstring says


def summary(constructor: Constructor[..., Any]) -> str:
    """The first paragraph of the docstring, as one line."""
    return " ".join((inspect.getdoc(constructor) or "").split("\n\n")[0].split())

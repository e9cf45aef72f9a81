"""Fill a state with the statistics of one from another library.

A table says which statistics each stage keeps, under Optax's names for them. Step counts and the weights of bias
corrections follow from the step count of the other state.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import build
from gradtx.core.hyperparameters import HyperparamsLeaf
from gradtx.core.leafwise import Atom
from gradtx.core.names import name_of
from gradtx.core.roles import Role
from gradtx.core.schedule import Schedule
from gradtx.core.tree import unshared
from gradtx.state.entries import Entry, entries
from gradtx.state.hyperparams import InjectHyperparamsState, hyperparams
from gradtx.state.paths import by_path
from gradtx.state.stages import Stage, stages

__all__ = []

Tree = Any


Path = tuple[str, ...]


Statistics = dict[str, dict[Path, Any]]  # name -> path of the parameter -> array


# The statistics of each stage in the order of its state, under Optax's names.
STATISTICS: dict[str, tuple[str, ...]] = {
    "ema": ("ema",),
    "scale_by_adadelta": ("e_g", "e_x"),
    "scale_by_adam": ("mu", "nu"),
    "scale_by_adamax": ("mu", "nu"),
    "scale_by_amsgrad": ("mu", "nu", "nu_max"),
    "scale_by_belief": ("mu", "nu"),
    "scale_by_factored_rms": ("v_row", "v_col", "v"),
    "scale_by_lion": ("mu",),
    "scale_by_nadam": ("mu", "nu"),
    "scale_by_radam": ("mu", "nu"),
    "scale_by_rms": ("nu",),
    "scale_by_rss": ("sum_of_squares",),
    "scale_by_stddev": ("nu", "mu"),
    "scale_by_yogi": ("mu", "nu"),
    "trace": ("trace",),
}


# A statistic that is kept for some parameters only is found by our name for it.
OF_SOME = {"row": "v_row", "column": "v_col", "second_moment": "v"}


def filled(
    tx: Any,
    params: Tree,
    statistics: Callable[[Stage, Path], Statistics],
    count_of: Callable[[Path], int | None],
    of_torch: bool = False,
    injected: Mapping[str, Any] = MappingProxyType({}),
) -> Tree:
    """The state of `tx` with these statistics, and the counts and weights that follow from the step count."""
    fresh = tx.init(params)
    leaves = by_path(fresh)
    kept = entries(fresh)

    def put(path: Path, value: Any) -> None:
        old = leaves[path]
        if np.shape(value) != old.shape:
            raise ValueError(f"'{'/'.join(path)}' has shape {old.shape}, the state that goes on {np.shape(value)}")
        leaves[path] = jnp.full(old.shape, value, old.dtype)

    rates: dict[Path, Any] = {}
    for stage, group, outermost in _visit(_with_schedules(stages(tx, params))):
        name, count = name_of(stage.tx), count_of(group)
        if name == "adafactor" and stage.tx.momentum is not None and not of_torch:
            raise ValueError("adafactor with momentum cannot go on from Optax's state: there, it includes the rate")
        if outermost:
            # torch multiplies by −η after averaging the momentum; here, as in Optax, −η may come first.
            factor = rates.get(group, 1) if of_torch and name == "trace" else 1
            found = statistics(stage, group)
            for (field, paths), named in zip(_fields(stage, kept), found.items(), strict=False):
                statistic, values = (OF_SOME[field], found[OF_SOME[field]]) if field in OF_SOME else named
                for path, parameter in paths:
                    if parameter in values:
                        put(path, factor * values[parameter])
                    elif not of_torch:
                        raise ValueError(f"'{'/'.join(path)}': the {statistic} that goes on has no such leaf")
        if count is None and any(_needs_count(stage, entry) for entry in kept):
            raise ValueError(f"'{'/'.join(stage.path)}': nothing in that state counts its steps; pass count=…")
        for path, value in _numbers(stage, count or 0):
            if path in leaves:
                put(path, value)
        if isinstance(stage.state, InjectHyperparamsState):
            for key in stage.state.hyperparams.keys() & injected.keys() - stage.state.scheduled.keys():
                put((*stage.path, "hyperparams", key), injected[key])
        if name == "scale_by_learning_rate":
            rates[group] = -_at(stage.tx.learning_rate, count or 0) * (1 if stage.tx.flip_sign else -1)
    return unshared(jax.tree.unflatten(jax.tree.structure(fresh), leaves.values()), params)


def _with_schedules(whole: Stage) -> Stage:
    """The stages, with the schedules that `inject_hyperparams` has replaced by their current values."""
    for stage in whole.walk():
        if isinstance(stage.state, InjectHyperparamsState):
            written = stages(stage.tx.inner, stage.params)
            for inner, other in zip(stage.parts[0].walk(), written.walk(), strict=True):
                inner.tx = other.tx
    return whole


def _visit(stage: Stage, group: Path = (), inside: bool = False) -> Iterator[tuple[Stage, Path, bool]]:
    """Every stage with the labels on the path to it, and whether it is the outermost with statistics of its own."""
    known = name_of(stage.tx) in STATISTICS
    yield stage, group, known and not inside
    for part in stage.parts:
        label = part.path[len(stage.path) :] if name_of(stage.tx) == "partition" else ()
        yield from _visit(part, group + label, inside or known)


def _fields(stage: Stage, kept: list[Entry]) -> list[tuple[str, list[tuple[Path, Path]]]]:
    """For each statistic that the stage keeps, in order: its field, and paths of its leaves and their parameters."""
    fields: dict[Any, list[tuple[Path, Path]]] = {}
    for entry in kept:
        if entry.path[: len(stage.path)] == stage.path and entry.role and entry.role.of_leaves:
            fields.setdefault((entry.stages, entry.field), []).append((entry.path, entry.below))
    return [(field, paths) for (_, field), paths in fields.items()]


def _numbers(stage: Stage, count: int) -> Iterator[tuple[Path, Any]]:
    """The numbers that follow from the step count, by path; some of these paths do not exist in the state."""
    tx, path = stage.tx, stage.path
    if isinstance(stage.state, InjectHyperparamsState):
        yield (*path, "count"), count
        known = hyperparams(tx.inner)
        for name in stage.state.scheduled.keys() & known.keys():
            yield (*path, "hyperparams", name), _at(known[name], max(count - 1, 0))
    leaf = build(tx)
    if isinstance(leaf, (Atom, HyperparamsLeaf)) and not leaf.together and not leaf.required:
        for entry in entries(_counted(leaf, count)):
            if entry.role and not entry.role.of_leaves:
                # Where a schedule is injected, no record of it is wrapped around the state of what uses it.
                yield (*path, *entry.path), entry.value
                yield (*path, *(name for name in entry.path if name != "inner_state")), entry.value


def _counted(leaf: Any, count: int) -> Any:
    """The state after `count` steps, as far as its numbers go: they advance without gradients."""

    def advanced(_: Any, s: Any) -> Any:
        return leaf.count(s, leaf.numbers(s, None, {}), {})

    return jax.lax.fori_loop(0, count, advanced, leaf.init(jnp.zeros(())))


def _needs_count(stage: Stage, entry: Entry) -> bool:
    """Whether a number of this stage cannot be determined without a count."""
    within = [entry.path[: len(s.path)] == s.path for s in (stage, *stage.parts)]
    if not within[0] or any(within[1:]):
        return False
    scheduled = isinstance(getattr(stage.tx, "arguments", {}).get(entry.path[-1]), Schedule)
    return entry.role is Role.WEIGHT or (entry.role is Role.HYPERPARAMETER and scheduled)


def _at(number: Any, count: int) -> Any:
    return np.asarray(number(count) if isinstance(number, Schedule) else number)

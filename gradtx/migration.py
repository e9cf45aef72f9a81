"""A state goes on after its transformation was changed.

Stages have names, and a state is a tree of them, so most of a state finds its place in that of another transformation
by its path. A path is "stage/…/stage/field/parameter":

    scale_by_adam/chain/scale_by_momentum/momentum/kernel         before
    adam/scale_by_adam/chain/scale_by_momentum/momentum/kernel    after `chain(clip(1.0), adam(…))`

The field and the parameter must be the same. Of the stages, those that were wrapped around or taken away may be on one
side only. What fits in several ways is not guessed.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.hyperparameters import HyperparamsState, InjectHyperparamsState, step_count
from gradtx.core.names import find
from gradtx.core.stages import stages
from gradtx.core.tree import by_path, unshared

__all__ = ["MigratedState", "MigrationReport", "Place", "migrate_state", "place_of"]

Tree = Any
Path = tuple[str, ...]

WEIGHTS = {"weight", "momentum_weight", "variance_weight"}  # fields: what an average has seen, for its bias correction


@dataclasses.dataclass(frozen=True)
class MigrationReport:
    """What became of each leaf, by its path; prints itself in short."""

    kept: dict[str, str]  # path in the new state -> path in the old one
    initialised: dict[str, str]  # path in the new state -> why nothing was taken from the old one
    dropped: tuple[str, ...]  # paths in the old state that have no place in the new one

    def __str__(self) -> str:
        lines = [f"kept {len(self.kept)} of {len(self.kept) + len(self.initialised)} leaves"]
        for reason in dict.fromkeys(self.initialised.values()):
            paths = [path for path, why in self.initialised.items() if why == reason]
            lines += [f"initialised {len(paths)} ({reason}):", *_listed(paths)]
        if self.dropped:
            lines += [f"dropped {len(self.dropped)} of the old state:", *_listed(self.dropped)]
        return "\n".join(lines)

    __repr__ = __str__


def _listed(paths: Iterable[str], limit: int = 6) -> list[str]:
    paths = list(paths)
    return [f"  {path}" for path in paths[:limit]] + [f"  … {len(paths) - limit} more"] * (len(paths) > limit)


class MigratedState(NamedTuple):
    """The state for the new transformation, and what became of the old one."""

    state: Tree
    report: MigrationReport


def migrate_state(
    old_state: Tree, new_tx: Any, params: Tree, *, renamed: Mapping[str, str] | None = None
) -> MigratedState:
    """A state for a changed transformation, with all that still fits of the old one. Look at the report.

    Stages may have been added, removed, put into a `chain`, `masked`, `partition` or `inject_hyperparams` or taken out
    of one; a number may have become a schedule. What has the path (see the module's docstring) and the shape of a leaf
    of the old state is kept, in the new dtype. Groups of a `partition` that come from one stage share its numbers, and
    give them to the stage that they become if they agree. The rest is initialised; the count of a schedule that is new
    goes on at that of the run, so that it is looked up where the run stands. Among stages of one name (`trace`,
    `trace_1`) the order tells which is which. A leaf that is initialised beside kept ones shares their bias correction.

    Args:
      old_state: of the old transformation (for one of Optax see `from_optax_state`); or nested dicts with the same
        names, as a checkpoint gives without a target.
      new_tx: the new transformation.
      params: the current parameters.
      renamed: old name -> new name, of stages and of the groups of a `partition`.

    Returns:
      `(state, report)`. The state shares no buffer with the old one: the step may donate it.

    Raises:
      LookupError: a name in `renamed` that is not in the old state.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"w": jnp.ones(3)}
    >>> old_state = gradtx.adam(1e-3).init(params)
    >>> new_tx = gradtx.chain(gradtx.trace(0.9), gradtx.adam(1e-3))
    >>> print(gradtx.migrate_state(old_state, new_tx, params).report)
    kept 6 of 7 leaves
    initialised 1 (nothing of that path in the old state):
      trace/trace/w
    """
    renamed = renamed or {}
    of_params = set(by_path(params))
    fresh = new_tx.init(params)
    new = by_path(fresh)
    old = by_path(old_state)
    for name in renamed:
        if not any(name in path for path in old):
            raise LookupError(f"migrate_state: nothing in the old state is named {name!r}")

    places = {path: place_of(path, of_params) for path in new}
    sources = {path: place_of(path, of_params, renamed) for path in old}
    taken: dict[Path, Path] = {}
    exact = {place: path for path, place in sources.items()}
    for path, place in places.items():
        if place in exact:
            taken[path] = exact.pop(place)
    free = [path for path in old if path not in set(taken.values())]
    of_statistic: dict[Path, list[Path]] = {}
    for path in free:
        of_statistic.setdefault(sources[path].statistic, []).append(path)
    options = {
        path: [o for o in of_statistic.get(places[path].statistic, ()) if _fits(places[path], sources[o])]
        for path in new
        if path not in taken
    }
    claims: dict[Path, list[Path]] = {}
    for path, found in options.items():
        for source in found:
            claims.setdefault(source, []).append(path)
    sees = _seen(new_tx, params, new)
    reasons = {}
    for path, found in options.items():
        if found and _agree([old[source] for source in found]) and _disjoint([sees[p] for p in claims[found[0]]]):
            taken[path] = found[0]
        else:
            reasons[path] = "ambiguous in the old state" if found else "nothing of that path in the old state"

    for path, source in list(taken.items()):
        shape, had = np.shape(new[path]), np.shape(old[source])
        if shape != had:
            reasons[path] = f"shape {shape}, was {had}"
            del taken[path]
    for path in [path for path in taken if path[-1] in WEIGHTS and len(places[path].statistic) == 1]:
        if not any(p in taken for p in _corrected(path, places)):  # beside zeros, an old weight is too large
            reasons[path] = "nothing that it corrects was kept"
            del taken[path]

    leaves = {path: jnp.asarray(old[taken[path]]).astype(x.dtype) if path in taken else x for path, x in new.items()}
    for path in [path for path in _step_counts(fresh) if path in reasons]:
        try:
            leaves[path] = step_count(old_state)
        except LookupError:
            continue
        reasons[path] = "a count, at that of the run"

    report = MigrationReport(
        kept={"/".join(path): "/".join(source) for path, source in taken.items()},
        initialised={"/".join(path): reasons[path] for path in new if path in reasons},
        dropped=tuple("/".join(path) for path in old if path not in set(taken.values())),
    )
    state = jax.tree.unflatten(jax.tree.structure(fresh), leaves.values())
    return MigratedState(unshared(state, old_state, params), report)


class Place(NamedTuple):
    """Where a leaf of a state belongs."""

    stages: Path
    statistic: Path  # the field, and the parameter that it is of


def place_of(path: Path, of_params: set[Path], renamed: Mapping[str, str] | None = None) -> Place:
    """The two parts of a path. Where a state is kept inside another does not matter."""
    end = next((n for n in range(len(path) - 1, 0, -1) if path[-n:] in of_params), 0)
    names = [renamed.get(name, name) if renamed else name for name in path[: -end - 1]]
    return Place(tuple(name for name in names if name != "inner_state"), path[-end - 1 :])


def _seen(tx: Any, params: Tree, leaves: Iterable[Path]) -> dict[Path, set[Path]]:
    """For each leaf of a state, the parameters that the innermost stage around it sees."""
    whole = stages(tx, params)
    seen = {stage.path: set(by_path(stage.params)) for stage in whole.walk()}
    return {path: next(seen[path[:end]] for end in range(len(path), -1, -1) if path[:end] in seen) for path in leaves}


def _agree(values: list[Any]) -> bool:
    """One value, or numbers that are all the same: then it does not matter which is taken."""
    return len(values) == 1 or all(np.ndim(x) == 0 and np.array_equal(x, values[0]) for x in values)


def _disjoint(sets: list[set[Path]]) -> bool:
    """No element is in two of the sets."""
    return sum(map(len, sets)) == len(set().union(*sets))


def _corrected(weight: Path, places: Mapping[Path, Place]) -> list[Path]:
    """The leaves of parameters nearest to the weight of a bias correction."""
    for end in range(len(weight) - 1, -1, -1):
        found = [path for path, place in places.items() if path[:end] == weight[:end] and len(place.statistic) > 1]
        if found:
            return found
    return [weight]  # of one bare array, or of nothing


def _step_counts(state: Tree) -> list[Path]:
    """Where the counts are that schedules are looked up at."""
    holders = (HyperparamsState, InjectHyperparamsState)
    return [(*path, "count") for path, _ in find(state, lambda x: isinstance(x, holders))]


def _fits(new: Place, old: Place) -> bool:
    """The same statistic, below stages of which one side has more, in the same order."""

    def within(few: Path, many: Path) -> bool:
        rest = iter(many)
        return all(name in rest for name in few)

    return new.statistic == old.statistic and (within(new.stages, old.stages) or within(old.stages, new.stages))

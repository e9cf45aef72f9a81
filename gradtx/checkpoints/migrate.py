"""Migrate a state to a transformation that has changed.

Stages have names, and a state is a tree of them, so most of a state can be matched by its path to the state of another
transformation. A path is "stage/…/stage/field/parameter":

    scale_by_adam/chain/scale_by_momentum/momentum/kernel         before
    adam/scale_by_adam/chain/scale_by_momentum/momentum/kernel    after `chain(clip(1.0), adam(…))`

The field and the parameter must be the same. Stages that were wrapped around others or removed may be on one side only.
Ambiguous matches are not guessed. The states say which part of a path is which (`gradtx.core.roles`); in nested dicts,
and in states that do not say, the end of a path is taken for a parameter's if it is the path of one.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import is_transformation
from gradtx.core.names import RENAMED
from gradtx.core.roles import Role, of_class
from gradtx.core.tree import key_name, unshared
from gradtx.core.typing import InitAndUpdate
from gradtx.core.value import show
from gradtx.state.entries import entries, statistic_of
from gradtx.state.hyperparams import step_count
from gradtx.state.paths import by_path
from gradtx.state.stages import stages

__all__ = ["MigrationReport", "migrate_state"]

Tree = Any
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class MigrationReport:
    """What became of each leaf, by its path; prints as a short summary."""

    kept: dict[str, str]  # path in the new state -> path in the old one
    initialised: dict[str, str]  # path in the new state -> why nothing was taken from the old one
    dropped: tuple[str, ...]  # paths in the old state that have no place in the new one
    split: tuple[str, ...] = ()  # weights of averages that partly begin anew: from now on one per parameter

    def __str__(self) -> str:
        lines = [f"kept {len(self.kept)} of {len(self.kept) + len(self.initialised)} leaves"]
        for reason in dict.fromkeys(self.initialised.values()):
            paths = [path for path, why in self.initialised.items() if why == reason]
            lines += [f"initialised {len(paths)} ({reason}):", *_listed(paths)]
        if self.split:
            lines += [f"split {len(self.split)}, as some of what they correct begins anew:", *_listed(self.split)]
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
    old_state: Tree, new_tx: InitAndUpdate, params: Tree, *, renamed: Mapping[str, str] | None = None
) -> MigratedState:
    """A state for a changed transformation, with everything of the old state that still fits. Look at the report.

    Stages may have been added, removed, put into a `chain`, `masked`, `partition` or `inject_hyperparams` or taken out
    of one; a number may have become a schedule. A leaf that has the path (see the module's docstring) and the shape of
    one in the old state is kept, in the new dtype. Where one stage was split into groups of a `partition`, all of them
    get its numbers; where groups were merged into one stage, it gets theirs if they agree. The rest is initialised; the
    count of a new schedule continues from that of the run, so that the schedule is evaluated where the run stands.
    Stages of the same name (`trace`, `trace_1`) are told apart by their order.

    A parameter that is new, or has another shape, begins as in a fresh state, bias correction included: where others of
    the same average are kept, the weight of that average becomes a tree, with a number for each parameter. (Not where
    one number for the whole run depends on it, as Prodigy's distance does.) From then on the state has more leaves than
    `new_tx.init(params)`: restore a checkpoint of it without a target, and pass the result to this function. A number
    for the whole run is kept if anything that it was measured from is kept.

    Args:
      old_state: of the old transformation (for one of Optax, see `from_optax_state`); or nested dicts with the same
        names, as a checkpoint restored without a target gives.
      new_tx: the new transformation.
      params: the current parameters.
      renamed: old name -> new name, of stages and of the groups of a `partition`.

    Returns:
      `(state, report)`. The state shares no buffer with the old one: the step may donate it.

    Raises:
      LookupError: a name in `renamed` that is not in the old state.
      TypeError: `new_tx` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"w": jnp.ones(3)}
    >>> old_state = gradtx.adam(1e-3).init(params)
    >>> new_tx = gradtx.chain(gradtx.trace(0.9), gradtx.adam(1e-3))
    >>> print(gradtx.migrate_state(old_state, new_tx, params).report)
    kept 6 of 7 leaves
    initialised 1 (nothing of that path in the old state):
      trace/trace/w
    """
    if not is_transformation(new_tx):
        raise TypeError(f"migrate_state(old_state, new_tx, params): new_tx is no transformation, got {show(new_tx)}")
    renamed = renamed or {}
    of_params = set(by_path(params))
    fresh = new_tx.init(params)
    new, places = _places(fresh, of_params)
    with_weight = {place.statistic[0] for place in places.values() if place.role is Role.WEIGHT}
    former = {name: now for name, now in RENAMED.items() if not any(name in path for path in new)}
    old, sources = _places(old_state, of_params, renamed, with_weight, former)
    for name in renamed:
        if not any(name in path for path in old):
            raise LookupError(f"migrate_state: nothing in the old state is named {name!r}")

    taken, reasons = _match(places, sources, old, _seen(new_tx, params, new))
    resized: set[Path] = set()
    for path, source in list(taken.items()):
        shape, had = np.shape(new[path]), np.shape(_any(old[source]))
        if shape != had:
            reasons[path] = f"shape {shape}, was {had}"
            del taken[path]
            resized |= _owners(places[path], of_params)
    for path, place in places.items():
        if path in taken and _owners(place, of_params) & resized:  # a norm, a row: computed from the old shape
            reasons[path] = "its parameter has another shape"
            del taken[path]
    for path, place in places.items():
        if path in taken and place.role is Role.NUMBER:
            beside = [p for p, other in places.items() if other.owner is place.owner and other.of_a_leaf]
            if beside and not any(p in taken for p in beside):
                reasons[path] = "nothing that it was measured of was kept"
                del taken[path]

    leaves: dict[Path, Any] = dict(new)
    leaves |= {path: _like(new[path], old[source]) for path, source in taken.items()}
    split = []
    for path in [path for path, place in places.items() if place.role is Role.WEIGHT and path in taken]:
        kept: dict[Path, bool] = {}
        for other in _corrected(path, places):
            kept[places[other].parameter] = other in taken and kept.get(places[other].parameter, True)
        if kept and not any(kept.values()):  # for zeros, the old weight is too large
            reasons[path], leaves[path] = "nothing that it corrects was kept", new[path]
            del taken[path]
        elif () not in kept and Role.NUMBER not in of_class(places[path].owner.__class__).values():
            own, begun = old[taken[path]], new[path]
            of_each = {p: own.get(p, begun) if isinstance(own, dict) else own for p in kept}
            weights = {p: _like(begun, weight if kept[p] else begun) for p, weight in of_each.items()}
            if len({np.asarray(weight).tobytes() for weight in weights.values()}) > 1:
                leaves[path] = _of_each(params, weights, begun)
                if not all(kept.values()):
                    split.append("/".join(path))

    for path in [path for path, place in places.items() if place.role is Role.COUNT and path in reasons]:
        try:
            leaves[path] = step_count(old_state)
        except LookupError:
            continue
        reasons[path] = "a count, at that of the run"

    report = MigrationReport(
        kept={"/".join(path): "/".join(source) for path, source in taken.items()},
        initialised={"/".join(path): reasons[path] for path in new if path in reasons},
        dropped=tuple("/".join(path) for path in old if path not in set(taken.values())),
        split=tuple(split),
    )
    state = jax.tree.unflatten(jax.tree.structure(fresh), leaves.values())
    return MigratedState(unshared(state, old_state, params), report)


def _match(
    places: "dict[Path, Place]", sources: "dict[Path, Place]", old: dict[Path, Any], sees: dict[Path, set[Path]]
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """For each path of the new state the one of the old state that it continues, or the reason why there is none."""
    taken: dict[Path, Path] = {}
    exact = {place.where: path for path, place in sources.items()}
    for path, place in places.items():
        if place.where in exact:
            taken[path] = exact.pop(place.where)
    free = [path for path in old if path not in set(taken.values())]
    of_statistic: dict[Path, list[Path]] = {}
    for path in free:
        of_statistic.setdefault(sources[path].statistic, []).append(path)
    options = {
        path: [o for o in of_statistic.get(places[path].statistic, ()) if _fits(places[path], sources[o])]
        for path in places
        if path not in taken
    }
    claims: dict[Path, list[Path]] = {}
    for path, found in options.items():
        for source in found:
            claims.setdefault(source, []).append(path)
    reasons = {}
    for path, found in options.items():
        if found and _agree([old[source] for source in found]) and _disjoint([sees[p] for p in claims[found[0]]]):
            taken[path] = found[0]
        else:
            reasons[path] = "ambiguous in the old state" if found else "nothing of that path in the old state"
    return taken, reasons


def _any(value: Any) -> Any:
    """A value, or one of the numbers of a split weight."""
    return next(iter(value.values())) if isinstance(value, dict) else value


def _like(new: Any, value: Any) -> Any:
    return jnp.asarray(_any(value)).astype(new.dtype)


def _of_each(params: Tree, numbers: Mapping[Path, Any], other: Any) -> Tree:
    """A tree like the parameters with a number for each."""
    return jax.tree_util.tree_map_with_path(lambda keys, _: numbers.get(tuple(map(key_name, keys)), other), params)


class Place(NamedTuple):
    """Where a leaf of a state belongs."""

    stages: Path
    statistic: Path  # the field, and the parameter that it belongs to
    role: Role | None
    owner: Any  # the state that it is in

    @property
    def where(self) -> tuple[Path, Path]:
        """What two states have in common for the same leaf."""
        return self.stages, self.statistic

    @property
    def parameter(self) -> Path:
        """The path of the parameter; empty for a number."""
        return self.statistic[1:]

    @property
    def of_a_leaf(self) -> bool:
        """Whether its role says that there is one for each parameter."""
        return self.role is not None and self.role.of_leaves


def _places(
    state: Tree,
    of_params: set[Path],
    renamed: Mapping[str, str] = MappingProxyType({}),
    weights: Iterable[str] = (),
    former: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[Path, Any], dict[Path, Place]]:
    """The leaves of a state and their places, by path; a weight that is split is one leaf, parameter -> number.

    Args:
      state: as for `migrate_state`.
      of_params: the paths of the parameters.
      renamed: old name -> new name.
      weights: fields that are weights, for states that do not say.
      former: former names of stages and fields -> those that the library has now.
    """
    leaves: dict[Path, Any] = {}
    places: dict[Path, Place] = {}
    for entry in entries(state):
        stages, statistic = statistic_of(entry, of_params)
        names = (renamed.get(name, former.get(name, name)) for name in stages)
        statistic = (former.get(statistic[0], statistic[0]), *statistic[1:])
        path = entry.path
        told = entry.role is Role.WEIGHT or (entry.role is None and statistic[0] in weights)
        if told and len(statistic) > 1:
            path = path[: 1 - len(statistic)]
            leaves.setdefault(path, {})[statistic[1:]] = entry.value
            statistic = statistic[:1]
        else:
            leaves[path] = entry.value
        places[path] = Place(tuple(n for n in names if n != "inner_state"), statistic, entry.role, entry.owner)
    return leaves, places


def _seen(tx: Any, params: Tree, leaves: Iterable[Path]) -> dict[Path, set[Path]]:
    """For each leaf of a state, the parameters that the innermost stage around it sees."""
    whole = stages(tx, params)
    seen = {stage.path: set(by_path(stage.params)) for stage in whole.walk()}
    return {path: next(seen[path[:end]] for end in range(len(path), -1, -1) if path[:end] in seen) for path in leaves}


def _owners(place: Place, of_params: set[Path]) -> set[Path]:
    """The parameter that a leaf of a state belongs to, or none; for rows and columns, the path goes on below it."""
    return {place.parameter[:end] for end in range(len(place.parameter) + 1)} & of_params if place.of_a_leaf else set()


def _agree(values: list[Any]) -> bool:
    """Whether there is one value, or numbers that are all equal: then it does not matter which is taken."""
    return len(values) == 1 or all(np.ndim(x) == 0 and np.array_equal(x, values[0]) for x in values)


def _disjoint(sets: list[set[Path]]) -> bool:
    """Whether no element is in two of the sets."""
    return sum(map(len, sets)) == len(set().union(*sets))


def _corrected(weight: Path, places: Mapping[Path, Place]) -> list[Path]:
    """The leaves for parameters that are nearest to a weight: those that it corrects."""
    for end in range(len(weight) - 1, -1, -1):
        found = [path for path, place in places.items() if path[:end] == weight[:end] and place.of_a_leaf]
        if found:
            return found
    return []


def _fits(new: Place, old: Place) -> bool:
    """Whether both are the same statistic and the stages of one, in order, are among those of the other."""

    def within(few: Path, many: Path) -> bool:
        rest = iter(many)
        return all(name in rest for name in few)

    return new.statistic == old.statistic and (within(new.stages, old.stages) or within(old.stages, new.stages))

"""States of Optax and of torch.optim, read so that a run that was begun there goes on here.

A table says which statistics each stage keeps, under the names that Optax has for them. Counts of steps and the weights
of bias corrections follow from the count of steps there.
"""

import itertools
import warnings
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
from gradtx.state.paths import by_path, find
from gradtx.state.stages import Stage, stages

__all__ = ["from_optax_state", "from_torch_state"]

Tree = Any
Path = tuple[str, ...]
Statistics = dict[str, dict[Path, Any]]  # name -> path of the parameter -> array

# The statistics of a stage in the order of its state, as Optax names them.
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

# The classes of Optax's states that are not named after our stage. (A field alone may be of another statistic.)
OPTAX_CLASSES: dict[str, str] = {
    "scale_by_adamax": "ScaleByAdam",
    "scale_by_factored_rms": "Factored",
    "scale_by_nadam": "ScaleByAdam",
    "scale_by_radam": "ScaleByAdam",
    "scale_by_stddev": "ScaleByRStdDev",
    "scale_by_yogi": "ScaleByAdam",
}

# Where a statistic is of some parameters only, it is found by our name for it.
OF_SOME = {"row": "v_row", "column": "v_col", "second_moment": "v"}

# What torch.optim calls them.
OF_TORCH: dict[str, tuple[str, ...]] = {
    "exp_avg": ("mu",),
    "exp_avg_sq": ("nu",),
    "exp_inf": ("nu",),
    "max_exp_avg_sq": ("nu_max",),
    "momentum_buffer": ("trace",),
    "square_avg": ("nu", "e_g"),
    "grad_avg": ("mu",),
    "acc_delta": ("e_x",),
    "sum": ("sum_of_squares",),
}

# What only one of torch's optimizers keeps: the stage that it is for.
TORCH_MARKS = {"exp_inf": "scale_by_adamax", "mu_product": "scale_by_nadam"}


# From Optax


def from_optax_state(optax_state: Tree, tx: Any, params: Tree, *, count: int | None = None) -> Tree:
    """The state of `tx` that continues a run of the same optimizer of Optax.

    Adam and its relatives, SGD with momentum, RMSprop, Adagrad, Adadelta, Adafactor, Lion, Yogi, RAdam, AdaBelief, in
    chains and `multi_transform`. (Not AMSGrad: Optax keeps another maximum, see `amsgrad`; nor Adafactor with momentum,
    which is averaged behind the rate there.) Values that were injected there are used here, where `tx` injects them.

    Args:
      optax_state: of the optimizer there.
      tx: the same optimizer here: the same stages in the same order; groups have the same labels.
      params: the current parameters.
      count: the number of steps, where nothing there counts them (SGD with a constant rate) and a schedule needs it.

    Raises:
      ValueError: a stage finds no state there, or a state there no stage; a shape does not fit; `count` is needed.

    >>> import gradtx, optax, jax.numpy as jnp
    >>> params = jnp.array([1.0, 2.0])
    >>> _, old_state = optax.adam(0.1).update(params, optax.adam(0.1).init(params))
    >>> state = gradtx.from_optax_state(old_state, gradtx.adam(0.1), params)
    >>> gradtx.step_count(state).item()
    1
    """

    def known(x: Any) -> bool:
        fields = set(getattr(x, "_fields", ())) - {"count"}
        return isinstance(x, tuple) and any(fields == set(names) for names in STATISTICS.values())

    found = list(find(optax_state, known))
    nodes = [(_optax_group(path), node) for path, node in found]
    for path, leaf in by_path(optax_state).items():
        inside = any(path[: len(place)] == place for place, _ in found)
        if np.ndim(leaf) and not inside and "hyperparams" not in path:
            raise ValueError(f"cannot go on from Optax's state: '{'/'.join(path)}' has no known counterpart")
    counts = [(_optax_group(path), int(node.count)) for path, node in find(optax_state, _with("count"))]
    injected = {k: v for _, node in find(optax_state, _with("hyperparams")) for k, v in node.hyperparams.items()}

    def statistics(stage: Stage, group: Path) -> Statistics:
        names = STATISTICS[name_of(stage.tx)]
        if "nu_max" in names:
            raise ValueError(f"{name_of(stage.tx)} cannot go on from Optax's state: its maximum is another one")
        for i, (where, node) in enumerate(nodes):
            if where == group and _is_state_of(name_of(stage.tx), node):
                del nodes[i]
                return {name: by_path(getattr(node, name)) for name in names}
        there = ", ".join(type(node).__name__ for _, node in nodes) or "nothing"
        wanted = ", ".join(names)
        raise ValueError(f"'{'/'.join(stage.path)}': no state with {wanted} is left in Optax's; it has {there}")

    def count_of(group: Path) -> int | None:
        there = [n for where, n in counts if where == group[: len(where)]]
        return max(there, default=None) if count is None else count

    state = _filled(tx, params, statistics, count_of, injected=injected)
    if nodes:
        raise ValueError(f"{name_of(tx)} has no stage for Optax's {type(nodes[0][1]).__name__}")
    return state


def _is_state_of(name: str, node: Any) -> bool:
    """Whether this is what Optax's transformation of our name keeps, with or without a count."""
    expected = OPTAX_CLASSES.get(name, name.replace("_", ""))
    found = type(node).__name__.removesuffix("State").removesuffix("WithCount")
    return found.lower() == expected.lower() and set(node._fields) - {"count"} == set(STATISTICS[name])


def _with(field: str) -> Callable[[Any], bool]:
    return lambda x: field in getattr(x, "_fields", ())


def _optax_group(path: Path) -> Path:
    """The labels on the way to a state of `optax.multi_transform`."""
    return tuple(label for step, label in itertools.pairwise(path) if step == "inner_states")


# From torch


def from_torch_state(
    state_dict: Mapping[str, Any],
    tx: Any,
    params: Tree,
    convert: Callable[[list[np.ndarray]], Tree] | None = None,
    count: int | None = None,
) -> Tree:
    """The state of `tx` that continues a run of the same optimizer of torch.optim.

    Adam, AdamW (with amsgrad, too), NAdam, RAdam, SGD with momentum, RMSprop, Adagrad, Adadelta, Adamax. A parameter
    that had no gradient so far has no state there, and starts afresh.

    Args:
      state_dict: `optimizer.state_dict()`, of one parameter group or several.
      tx: the same optimizer here, in torch's form where there are several: `rmsprop(…, eps_in_sqrt=False)`.
      params: the current parameters.
      convert: makes a tree like `params` of a list of arrays, one for each parameter of the torch optimizer in its
        order: what made your parameters (renamed, transposed) of torch's. By default the leaves of `params` are in
        that order.
      count: the number of steps, where torch does not keep it (SGD, RMSprop) and a schedule needs it.

    Warns:
      UserWarning: settings other than the rate are not those of `tx`; parameters have taken different numbers of steps.

    Raises:
      ValueError: a stage finds no statistic there, or the other way round; a shape does not fit; `count` is needed.
    """
    if not {"state", "param_groups"} <= state_dict.keys():
        raise ValueError(f"expected optimizer.state_dict(), which has state and param_groups; got {list(state_dict)}")
    settings = state_dict["param_groups"]
    indices = [index for group in settings for index in group["params"]]
    of_each = [state_dict["state"].get(index, {}) for index in indices]
    shapes = jax.tree.leaves(params)
    if len(indices) != len(shapes) and convert is None:
        raise ValueError(f"torch has {len(indices)} parameters, params {len(shapes)} leaves; pass convert=…")
    _compare(settings, tx, params)
    paths = by_path(params)
    there = {key for entry in of_each for key, value in entry.items() if value is not None}
    leaves: Statistics = {}
    present: list[str] = []
    for key, names in OF_TORCH.items():
        arrays: list[Any] = [_array(entry[key]) if entry.get(key) is not None else None for entry in of_each]
        if any(array is not None for array in arrays):
            if convert is not None:
                if any(array is None for array in arrays):
                    raise ValueError(f"torch has no {key} for some parameters, which had no gradient so far")
                converted = by_path(convert(arrays))
                for path in paths.keys() ^ converted.keys():
                    raise ValueError(f"convert must make a tree like params: '{'/'.join(path)}' is in one of them only")
                arrays = list(converted.values())
            present.append(key)
            leaves |= {n: {p: x for p, x in zip(paths, arrays, strict=True) if x is not None} for n in names}
    steps = [int(entry["step"]) for entry in of_each if "step" in entry]
    if len(set(steps) - {0}) > 1:
        warnings.warn(f"torch's parameters have taken {min(steps)} to {max(steps)} steps; the most count", stacklevel=2)
    if count is None:
        count = max(steps) if steps else None if there else 0  # torch makes its state in the first step
    used: set[str] = set()

    def statistics(stage: Stage, group: Path) -> Statistics:
        names = STATISTICS[name_of(stage.tx)]
        if not leaves:  # torch makes its state in the first step
            return {}
        missing = [name for name in names if name not in leaves]
        if missing:
            has = ", ".join(sorted(there))
            raise ValueError(f"'{'/'.join(stage.path)}': torch's state has no {missing[0]}; it has {has}")
        for key, name in TORCH_MARKS.items():
            if "mu" in names and (key in there) != (name_of(stage.tx) == name):
                has = "keeps" if key in there else "has no"
                raise ValueError(f"'{'/'.join(stage.path)}': torch's state {has} {key}, which is for {name}")
        used.update(names)
        return {name: leaves[name] for name in names}

    state = _filled(tx, params, statistics, lambda group: count, of_torch=True)
    left = [key for key in present if not used & set(OF_TORCH[key])]
    if left:
        raise ValueError(f"{name_of(tx)} has no stage for torch's {left[0]}")
    return state


def _array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())


def _compare(groups: list[Mapping[str, Any]], tx: Any, params: Tree) -> None:
    """Warn where torch's settings are not those of the transformation; learning rates may differ."""
    ours: dict[str, set[Any]] = {"weight_decay": set()}
    for stage, _, outermost in _visit(stages(tx, params)):
        stage_name, arguments = name_of(stage.tx), getattr(stage.tx, "arguments", {})
        if outermost or (stage_name == "add_decayed_weights" and not stage.parts):
            for name, value in arguments.items():
                name = "momentum" if (stage_name, name) == ("trace", "decay") else name
                if value is None or isinstance(value, (bool, float)):
                    ours.setdefault(name, set()).add(_short(value))
    for name, values in ours.items():
        theirs = {_setting(group, name) for group in groups}
        if name == "weight_decay":  # none is 0; and what is masked here is in a group of its own there
            values, theirs = values - {0.0} or {0.0}, theirs - {0.0} or {0.0}
        if theirs != {None} and theirs != values:
            here, there = (" or ".join(sorted(map(str, some))) for some in (values, theirs))
            warnings.warn(f"{name_of(tx)} has {name}={here}, torch's optimizer {there}", stacklevel=3)


def _setting(group: Mapping[str, Any], name: str) -> Any:
    """What a parameter group of torch says of our argument; None if nothing."""
    betas = dict(zip(("b1", "b2"), group.get("betas", ()), strict=False))
    return _short({**group, **betas, "decay": group.get("alpha"), "eps_in_sqrt": False}.get(name))


def _short(value: Any) -> Any:
    """A number to the digits that float32 keeps: our stages have theirs in it."""
    return value if value is None or isinstance(value, bool) else float(f"{float(value):.6g}")


# The state here


def _filled(
    tx: Any,
    params: Tree,
    statistics: Callable[[Stage, Path], Statistics],
    count_of: Callable[[Path], int | None],
    of_torch: bool = False,
    injected: Mapping[str, Any] = MappingProxyType({}),
) -> Tree:
    """The state of `tx` with these statistics, and the counts and weights of so many steps."""
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
            # torch's momentum averages what is then multiplied by −η; here, as in Optax, −η may come first.
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
    """The stages, with schedules where `inject_hyperparams` looks them up and makes a number of them."""
    for stage in whole.walk():
        if isinstance(stage.state, InjectHyperparamsState):
            written = stages(stage.tx.inner, stage.params)
            for inner, other in zip(stage.parts[0].walk(), written.walk(), strict=True):
                inner.tx = other.tx
    return whole


def _visit(stage: Stage, group: Path = (), inside: bool = False) -> Iterator[tuple[Stage, Path, bool]]:
    """Every stage with the labels on the way to it, and whether it is the outermost with statistics of its own."""
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
    """What follows from the count of steps, by path; some of these paths are not there."""
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
                # Where a schedule is injected, the state of what uses it is not around a record of it.
                yield (*path, *entry.path), entry.value
                yield (*path, *(name for name in entry.path if name != "inner_state")), entry.value


def _counted(leaf: Any, count: int) -> Any:
    """The state after so many steps, as to its numbers: they advance by themselves."""

    def advanced(_: Any, s: Any) -> Any:
        return leaf.count(s, leaf.numbers(s, None, {}), {})

    return jax.lax.fori_loop(0, count, advanced, leaf.init(jnp.zeros(())))


def _needs_count(stage: Stage, entry: Entry) -> bool:
    """Whether a number of this stage cannot be told without a count."""
    within = [entry.path[: len(s.path)] == s.path for s in (stage, *stage.parts)]
    if not within[0] or any(within[1:]):
        return False
    scheduled = isinstance(getattr(stage.tx, "arguments", {}).get(entry.path[-1]), Schedule)
    return entry.role is Role.WEIGHT or (entry.role is Role.HYPERPARAMETER and scheduled)


def _at(number: Any, count: int) -> Any:
    return np.asarray(number(count) if isinstance(number, Schedule) else number)

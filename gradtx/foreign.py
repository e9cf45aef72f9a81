"""States of Optax and of torch.optim, read so that a run that was begun there goes on here.

A table says which statistics each stage keeps, under the names that Optax has for them. Counts of steps and the weights
of bias corrections follow from the count of steps there.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.arguments import canonical
from gradtx.core.hyperparameters import hyperparams
from gradtx.core.names import find, name_of
from gradtx.core.schedule import Schedule
from gradtx.core.stages import Stage, stages
from gradtx.core.transformation import GradientTransformation
from gradtx.core.tree import by_path, unshared
from gradtx.migration import place_of

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

# Fields of states that are numbers, not statistics of the parameters.
NUMBERS = {"count", "weight", "momentum_weight", "variance_weight"}


# From Optax


def from_optax_state(optax_state: Tree, tx: Any, params: Tree) -> Tree:
    """The state of `tx` that continues a run of the same optimizer of Optax.

    Adam and its relatives, SGD with momentum, RMSprop, Adagrad, Adadelta, Adafactor, Lion, Yogi, RAdam, AdaBelief, in
    chains and `multi_transform`. (Not AMSGrad: Optax keeps another maximum, see `amsgrad`.)

    Args:
      optax_state: of the optimizer there.
      tx: the same optimizer here: the same stages in the same order; groups have the same labels.
      params: the current parameters.

    Raises:
      ValueError: a stage finds no state there, or a state there no stage; a shape does not fit.

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
    counts = [(_optax_group(path), int(node.count)) for path, node in find(optax_state, _has_count)]

    def statistics(stage: Stage, group: Path) -> Statistics:
        names = STATISTICS[name_of(stage.tx)]
        if "nu_max" in names:
            raise ValueError(f"{name_of(stage.tx)} cannot go on from Optax's state: its maximum is another one")
        for i, (where, node) in enumerate(nodes):
            if where == group and set(node._fields) - {"count"} == set(names):
                del nodes[i]
                return {name: by_path(getattr(node, name)) for name in names}
        there = ", ".join(type(node).__name__ for _, node in nodes) or "nothing"
        raise ValueError(
            f"'{'/'.join(stage.path)}': no state with {', '.join(names)} is left in Optax's; it has {there}"
        )

    def count_of(group: Path) -> int:
        return max([count for where, count in counts if where == group[: len(where)]], default=0)

    state = _filled(tx, params, statistics, count_of)
    if nodes:
        raise ValueError(f"{name_of(tx)} has no stage for Optax's {type(nodes[0][1]).__name__}")
    return state


def _has_count(x: Any) -> bool:
    return isinstance(x, tuple) and "count" in getattr(x, "_fields", ())


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

    Adam, AdamW (with amsgrad, too), SGD with momentum, RMSprop, Adagrad, Adadelta, Adamax.

    Args:
      state_dict: `optimizer.state_dict()`, of one parameter group or several with the same settings.
      tx: the same optimizer here, in torch's form where there are several: `rmsprop(…, eps_in_sqrt=False)`.
      params: the current parameters.
      convert: makes a tree like `params` of a list of arrays, one for each parameter of the torch optimizer in its
        order: what made your parameters (renamed, transposed) of torch's. By default the leaves of `params` are in
        that order.
      count: the number of steps, where torch does not keep it (SGD, RMSprop) and a schedule needs it.

    Warns:
      UserWarning: betas, momentum or alpha of a parameter group are not those of `tx`.

    Raises:
      ValueError: a stage finds no statistic there, or the other way round; a shape does not fit.
    """
    settings = state_dict["param_groups"]
    indices = [index for group in settings for index in group["params"]]
    of_each = [state_dict["state"].get(index, {}) for index in indices]
    shapes = jax.tree.leaves(params)
    if len(indices) != len(shapes) and convert is None:
        raise ValueError(f"torch has {len(indices)} parameters, params {len(shapes)} leaves; pass convert=…")
    _compare(settings[0], tx)
    leaves: Statistics = {}
    present: list[str] = []
    for key, names in OF_TORCH.items():
        arrays: list[Any] = [_array(entry[key]) if entry.get(key) is not None else None for entry in of_each]
        if any(array is not None for array in arrays):
            if convert is not None:
                if any(array is None for array in arrays):
                    raise ValueError(f"torch has no {key} for some parameters, which had no gradient so far")
                arrays = jax.tree.leaves(convert(arrays))
            present.append(key)
            paths = by_path(params)
            leaves |= {name: dict(zip(paths, (0 if x is None else x for x in arrays), strict=True)) for name in names}
    steps = [int(entry["step"]) for entry in of_each if "step" in entry]
    count = max(steps, default=0) if count is None else count
    used: set[str] = set()

    def statistics(stage: Stage, group: Path) -> Statistics:
        names = STATISTICS[name_of(stage.tx)]
        if not leaves:  # torch makes its state in the first step
            return {}
        missing = [name for name in names if name not in leaves]
        if missing:
            there = ", ".join(sorted({key for entry in of_each for key in entry}))
            raise ValueError(f"'{'/'.join(stage.path)}': torch's state has no {missing[0]}; it has {there}")
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


def _compare(group: Mapping[str, Any], tx: Any) -> None:
    """Warn where torch's decays are not those of the transformation."""
    theirs = dict(zip(("b1", "b2"), group.get("betas", ()), strict=False))
    theirs |= {ours: group[name] for ours, name in (("momentum", "momentum"), ("decay", "alpha")) if group.get(name)}
    for name, value in hyperparams(tx).items():
        known = theirs.get(name.split("/")[-1])
        if known is not None and isinstance(value, float) and not np.isclose(value, float(known)):
            warnings.warn(f"{name_of(tx)} has {name}={value}, torch's optimizer {float(known)}", stacklevel=3)


# The state here


def _filled(
    tx: Any,
    params: Tree,
    statistics: Callable[[Stage, Path], Statistics],
    count_of: Callable[[Path], int],
    of_torch: bool = False,
) -> Tree:
    """The state of `tx` with these statistics, and the counts and weights of so many steps."""
    fresh = tx.init(params)
    leaves = by_path(fresh)
    of_params = set(by_path(params))

    def put(path: Path, value: Any) -> None:
        old = leaves[path]
        if np.shape(value) not in ((), old.shape):
            raise ValueError(f"'{'/'.join(path)}' has shape {old.shape}, the state that goes on {np.shape(value)}")
        leaves[path] = jnp.full(old.shape, value, old.dtype)

    rates: dict[Path, Any] = {}
    for stage, group, outermost in _visit(stages(tx, params)):
        name, count = name_of(stage.tx), count_of(group)
        if outermost:
            # torch's momentum averages what is then multiplied by −η; here, as in Optax, −η may come first.
            factor = rates.get(group, 1) if of_torch and name == "trace" else 1
            found = statistics(stage, group)
            for paths, (statistic, values) in zip(_fields(stage, leaves, of_params), found.items(), strict=False):
                for path, parameter in paths:
                    if parameter not in values:
                        raise ValueError(f"'{'/'.join(path)}': the {statistic} that goes on has no such leaf")
                    put(path, factor * values[parameter])
        for path, value in _numbers(stage, count):
            if path in leaves:
                put(path, value)
        if name == "scale_by_learning_rate":
            rates[group] = -_at(stage.tx.learning_rate, count)
    return unshared(jax.tree.unflatten(jax.tree.structure(fresh), leaves.values()), params)


def _visit(stage: Stage, group: Path = (), inside: bool = False) -> Iterator[tuple[Stage, Path, bool]]:
    """Every stage with the labels on the way to it, and whether it is the outermost with statistics of its own."""
    known = name_of(stage.tx) in STATISTICS
    yield stage, group, known and not inside
    for part in stage.parts:
        label = part.path[len(stage.path) :] if name_of(stage.tx) == "partition" else ()
        yield from _visit(part, group + label, inside or known)


def _fields(stage: Stage, leaves: dict[Path, Any], of_params: set[Path]) -> list[list[tuple[Path, Path]]]:
    """For each statistic that the stage keeps, in order: the paths of its leaves, and of their parameters."""
    fields: dict[Any, list[tuple[Path, Path]]] = {}
    for path in leaves:
        place = place_of(path, of_params)
        if path[: len(stage.path)] == stage.path and place.statistic[0] not in NUMBERS and "hyperparams" not in path:
            fields.setdefault((place.stages, place.statistic[0]), []).append((path, place.statistic[1:]))
    return list(fields.values())


def _numbers(stage: Stage, count: int) -> Iterator[tuple[Path, Any]]:
    """What follows from the count of steps, by path; some of these paths are not there."""
    tx, path = stage.tx, stage.path
    yield (*path, "count"), count
    if not isinstance(tx, GradientTransformation):
        return
    for name, value in tx._recorded().items():
        yield (*path, "hyperparams", name), _at(value, max(count - 1, 0))
    if tx.name == "bias_correction":
        for inner in ((), ("inner_state",)):
            yield (*path, *inner, "weight"), _weight(tx.decay, count, tx.initial_weight)
    if tx.name == "scale_by_belief":
        yield (*path, "momentum_weight"), _weight(tx.b1, count)
        yield (*path, "variance_weight"), _weight(tx.b2, count)


def _at(number: Any, count: int) -> Any:
    return np.asarray(number(count) if isinstance(number, Schedule) else number)


def _weight(decay: Any, count: int, initial_weight: Any = 0.0) -> Any:
    """1 − (1−w₀)·∏βᵢ: what an average has seen after so many steps."""
    decays = _at(decay, np.arange(count)) if isinstance(decay, Schedule) else np.full(count, canonical(decay))  # type: ignore[arg-type]
    first = _at(canonical(initial_weight), 0)
    return 1 - (1 - first) * np.prod(np.asarray(decays, np.float64))

"""Convert states of torch.optim, so that a run that was begun there can continue here."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gradtx.checkpoints.filling import STATISTICS, Path, Statistics, Tree, _visit, filled
from gradtx.core.names import name_of
from gradtx.core.typing import InitAndUpdate
from gradtx.state.paths import by_path
from gradtx.state.stages import Stage, stages

__all__ = ["from_torch_state"]

# torch.optim's names for the statistics -> those of Optax.
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


# Entries that only one of torch's optimizers keeps -> the stage that they are for.
TORCH_MARKS = {"exp_inf": "scale_by_adamax", "mu_product": "scale_by_nadam"}


def from_torch_state(
    state_dict: Mapping[str, Any],
    tx: InitAndUpdate,
    params: Tree,
    convert: Callable[[list[np.ndarray]], Tree] | None = None,
    count: int | None = None,
) -> Tree:
    """The state of `tx` that continues a run of the same optimizer in torch.optim.

    Covers Adam and AdamW (also with amsgrad), NAdam, RAdam, SGD with momentum, RMSprop, Adagrad, Adadelta and Adamax. A
    parameter that has had no gradient so far has no state in torch, and starts afresh.

    Args:
      state_dict: `optimizer.state_dict()`, with one parameter group or several.
      tx: the same optimizer here, in torch's variant where there are several: `rmsprop(…, eps_in_sqrt=False)`.
      params: the current parameters.
      convert: turns a list of arrays, one for each parameter of the torch optimizer in its order, into a tree like
        `params`, the way torch's parameters were turned into yours (renamed, transposed). By default the leaves of
        `params` are taken to be in that order.
      count: the number of steps, if torch does not keep it (SGD, RMSprop) and a schedule needs it.

    Warns:
      UserWarning: settings other than the learning rate differ from those of `tx`; parameters have taken different
        numbers of steps.

    Raises:
      ValueError: a stage has no counterpart in torch's state, or the reverse; a shape does not fit; `count` is needed.
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

    state = filled(tx, params, statistics, lambda group: count, of_torch=True)
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
        if name == "weight_decay":  # none counts as 0; what is masked here is in a group of its own in torch
            values, theirs = values - {0.0} or {0.0}, theirs - {0.0} or {0.0}
        if theirs != {None} and theirs != values:
            here, there = (" or ".join(sorted(map(str, some))) for some in (values, theirs))
            warnings.warn(f"{name_of(tx)} has {name}={here}, torch's optimizer {there}", stacklevel=3)


def _setting(group: Mapping[str, Any], name: str) -> Any:
    """The value that a parameter group of torch has for our argument; None if it has none."""
    betas = dict(zip(("b1", "b2"), group.get("betas", ()), strict=False))
    return _short({**group, **betas, "decay": group.get("alpha"), "eps_in_sqrt": False}.get(name))


def _short(value: Any) -> Any:
    """A number rounded to the digits of float32, in which our stages keep theirs."""
    return value if value is None or isinstance(value, bool) else float(f"{float(value):.6g}")

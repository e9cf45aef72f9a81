"""Convert states of Optax, so that a run that was begun there can continue here."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradtx.checkpoints.filling import STATISTICS, Path, Statistics, Tree, filled
from gradtx.core.names import name_of
from gradtx.core.typing import InitAndUpdate
from gradtx.state.paths import by_path, find
from gradtx.state.stages import Stage

__all__ = ["from_optax_state"]

# Classes of Optax's states that are not named like our stage. (The fields alone may be those of another statistic.)
OPTAX_CLASSES: dict[str, str] = {
    "scale_by_adamax": "ScaleByAdam",
    "scale_by_factored_rms": "Factored",
    "scale_by_nadam": "ScaleByAdam",
    "scale_by_radam": "ScaleByAdam",
    "scale_by_stddev": "ScaleByRStdDev",
    "scale_by_yogi": "ScaleByAdam",
}


def from_optax_state(optax_state: Tree, tx: InitAndUpdate, params: Tree, *, count: int | None = None) -> Tree:
    """The state of `tx` that continues a run of the same optimizer in Optax.

    Covers Adam and its relatives, SGD with momentum, RMSprop, Adagrad, Adadelta, Adafactor, Lion, Yogi, RAdam and
    AdaBelief, in chains and `multi_transform`. (Not AMSGrad: Optax keeps a different maximum, see `amsgrad`; nor
    Adafactor with momentum, which Optax averages after the learning rate.) Injected values are carried over where `tx`
    injects them, too.

    Args:
      optax_state: the state of Optax's optimizer.
      tx: the same optimizer here: the same stages in the same order, groups with the same labels.
      params: the current parameters.
      count: the number of steps, if Optax's state has none (SGD with a constant learning rate) and a schedule needs it.

    Raises:
      ValueError: a stage has no counterpart in Optax's state, or the reverse; a shape does not fit; `count` is needed.

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

    state = filled(tx, params, statistics, count_of, injected=injected)
    if nodes:
        raise ValueError(f"{name_of(tx)} has no stage for Optax's {type(nodes[0][1]).__name__}")
    return state


def _is_state_of(name: str, node: Any) -> bool:
    """Whether this is the state of Optax's counterpart of the stage of this name, with or without a count."""
    expected = OPTAX_CLASSES.get(name, name.replace("_", ""))
    found = type(node).__name__.removesuffix("State").removesuffix("WithCount")
    return found.lower() == expected.lower() and set(node._fields) - {"count"} == set(STATISTICS[name])


def _with(field: str) -> Callable[[Any], bool]:
    return lambda x: field in getattr(x, "_fields", ())


def _optax_group(path: Path) -> Path:
    """The labels on the path to a state within `optax.multi_transform`."""
    return tuple(label for step, label in itertools.pairwise(path) if step == "inner_states")

"""States of Optax, read so that a run that was begun there goes on here."""

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

# The classes of Optax's states that are not named after our stage. (A field alone may be of another statistic.)
OPTAX_CLASSES: dict[str, str] = {
    "scale_by_adamax": "ScaleByAdam",
    "scale_by_factored_rms": "Factored",
    "scale_by_nadam": "ScaleByAdam",
    "scale_by_radam": "ScaleByAdam",
    "scale_by_stddev": "ScaleByRStdDev",
    "scale_by_yogi": "ScaleByAdam",
}


def from_optax_state(optax_state: Tree, tx: InitAndUpdate, params: Tree, *, count: int | None = None) -> Tree:
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

    state = filled(tx, params, statistics, count_of, injected=injected)
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

"""The contents of a state by name: get them, set them, map over those that belong to parameters.

A name is a field of a named tuple, an attribute, a key of a dict, or the name of a named tuple's class. `hyperparams`
and `set_hyperparams` do the same for hyperparameters only, under the names that the optimizer uses.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from gradtx.core.roles import is_state, map_fields
from gradtx.state.entries import entries

__all__ = [
    "NamedTupleKey",
    "get",
    "get_all_with_path",
    "map_params",
    "set",
]

Tree = Any
Path = tuple[Any, ...]
Filter = Callable[[Path, Any], bool]


@dataclass(frozen=True)
class NamedTupleKey:
    """A step of a path into a named tuple; it tells fields of the same name apart."""

    tuple_name: str  # of its class
    name: str  # of the field

    def __str__(self) -> str:
        return f"{self.tuple_name}.{self.name}"


_INJECTED = NamedTupleKey("InjectHyperparamsState", "hyperparams")
_RECORDED = NamedTupleKey("HyperparamsState", "hyperparams")


def get_all_with_path(tree: Tree, key: Any, filtering: Filter | None = None) -> list[tuple[Path, Any]]:
    """Everything with a given name in a tree, outer before inner.

    The records of an injected hyperparameter (`inject_hyperparams`) further inside are left out.

    Args:
      tree: a state of this library or of Optax, or any pytree.
      key: the name; see the module's docstring.
      filtering: `f(path, value) -> bool`, which of them to keep.

    Returns:
      (path, value) for each. `jax.tree_util.keystr(path)` prints a path; a step into a named tuple is a
      `NamedTupleKey`.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> state = gradtx.chain(gradtx.trace(0.9), gradtx.trace(0.5)).init(jnp.ones(2))
    >>> for path, value in gradtx.tree.get_all_with_path(state, "trace", lambda path, value: len(path) == 2):
    ...     print(*path, value)
    CompositionState.trace TraceState.trace [0. 0.]
    CompositionState.trace_1 TraceState.trace [0. 0.]
    """
    found = [(path, node) for path, node in _nodes(tree) if _is_called(path, node, key)]
    injected = [path[:-2] for path, _ in found if path[-2:-1] == (_INJECTED,)]
    found = [
        (path, node)
        for path, node in found
        if path[-2:-1] != (_RECORDED,) or not any(path[: len(place)] == place for place in injected)
    ]
    return [(path, node) for path, node in found if filtering is None or filtering(path, node)]


def get(tree: Tree, key: Any, default: Any | None = None, filtering: Filter | None = None) -> Any:
    """The one value with a given name in a tree; `default` if there is none.

    Args:
      tree: as for `get_all_with_path`.
      key: the name.
      default: what to return if nothing has this name.
      filtering: `f(path, value) -> bool`, to choose among several.

    Raises:
      KeyError: several values have this name; the message lists their paths.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> state = gradtx.sgd(0.1, momentum=0.9).init(jnp.ones(2))
    >>> float(gradtx.tree.get(state, "learning_rate"))
    0.1...
    """
    found = get_all_with_path(tree, key, filtering)
    inner = [path for path, _ in found]
    # A stage with the same name as the statistic in it (`trace`) is not meant.
    found = [(path, node) for path, node in found if not any(p[: len(path)] == path != p for p in inner)]
    if len(found) > 1:
        paths = ", ".join(jax.tree_util.keystr(path) or "the tree itself" for path, _ in found)
        raise KeyError(f"several values are called {key!r}: {paths}; choose with filtering")
    return found[0][1] if found else default


def set(tree: Tree, filtering: Filter | None = None, /, **kwargs: Any) -> Tree:
    """The tree with new values for some names, wherever they occur.

    Args:
      tree: as for `get_all_with_path`.
      filtering: `f(path, value) -> bool`, which of the values to replace.
      **kwargs: name=value.

    Raises:
      KeyError: nothing has this name.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> state = gradtx.tree.set(gradtx.sgd(0.1).init(jnp.ones(2)), count=jnp.array(7))
    >>> int(gradtx.step_count(state))
    7
    """
    for key in kwargs:
        if not get_all_with_path(tree, key, filtering):
            kept = " that the filtering keeps" if filtering else ""
            raise KeyError(f"nothing{kept} is called {key!r}; there are {', '.join(_names(tree)) or 'no names'}")

    def edited(path: Path, node: Any) -> Any:
        for key, new in kwargs.items():
            if _is_called(path, node, key) and (filtering is None or filtering(path, node)):
                return new
        steps, children, structure = _children(node)
        if not steps:
            return node
        return structure.unflatten([edited((*path, step), child) for step, child in zip(steps, children, strict=True)])

    return edited((), tree)


@jax.tree_util.register_static
class _Params:
    """Stands for the parameters while a state is initialised: a tree without leaves, passed on wherever they go."""


def map_params(
    initable: Any,
    f: Callable[..., Any],
    state: Tree,
    /,
    *rest: Any,
    transform_non_params: Callable[..., Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Tree:
    """Map a function over those parts of a state that have the structure of the parameters.

    Args:
      initable: the transformation that made the state, or its `init`.
      f: `f(leaf, *leaves of rest) -> leaf`.
      state: its state. None in place of a leaf (masked out) stays None.
      *rest: trees with the structure of the parameters, such as their shardings.
      transform_non_params: for the other leaves (counts, learning rates); by default they stay as they are.
      is_leaf: as in `jax.tree.map`.

    Raises:
      ValueError: a part of the state belongs to another library and cannot be laid out without the parameters, because
        leaves are chosen by a tree. Choose them by patterns or by a predicate `(path, leaf) -> bool`.

    >>> import gradtx.tree, jax.numpy as jnp
    >>> tx = gradtx.sgd(0.1, momentum=0.9)
    >>> names = gradtx.tree.map_params(tx, lambda leaf, name: name, tx.init({"w": jnp.ones(2)}), {"w": "here"})
    >>> gradtx.tree.get(names, "trace", filtering=lambda path, value: isinstance(value, dict))
    {'w': 'here'}
    """
    init = initable.init if callable(getattr(initable, "init", None)) else initable

    def stop(x: Any) -> bool:
        return x is None or bool(is_leaf and is_leaf(x))

    def of_parameter(*others_and_part: Any) -> Any:  # one array, or several, like the rows and columns of sm3
        *others, part = others_and_part
        return jax.tree.map(lambda x: None if x is None else f(x, *others), part, is_leaf=stop)

    def mapped(place: Any, part: Any) -> Any:
        if isinstance(place, _Params):
            return jax.tree.map(of_parameter, *rest, part, is_leaf=stop) if rest else of_parameter(part)
        return part if transform_non_params is None else jax.tree.map(transform_non_params, part)

    def by_role(node: Any) -> Any:
        if not is_state(node):
            return jax.tree.map(by_role, node, is_leaf=lambda x: x is not node)
        return map_fields(lambda role, x: mapped(role.of_leaves and _Params(), x), node, by_role)

    if all(entry.role for entry in entries(state)):
        return by_role(state)
    try:
        places = init(_Params())
    except ValueError as error:
        raise ValueError(
            "map_params: the state cannot be laid out without the parameters; where a mask is a tree, "
            f"make it a pattern or a predicate (path, leaf) -> bool: {error}"
        ) from error
    return jax.tree.map(mapped, places, state, is_leaf=lambda x: isinstance(x, _Params))


# Parts


def _children(node: Any) -> tuple[list[Any], list[Any], Any]:
    """The children of a node: the steps to them, the children, and the structure to rebuild the node with."""
    flat, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if jax.tree_util.treedef_is_leaf(structure):
        return [], [], structure
    steps = [path[0] for path, _ in flat]
    if _is_named_tuple(node):
        steps = [NamedTupleKey(type(node).__name__, name) for name in node._fields]
    return steps, [child for _, child in flat], structure


def _nodes(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every node with its path, starting with this one."""
    yield path, node
    steps, children, _ = _children(node)
    for step, child in zip(steps, children, strict=True):
        yield from _nodes(child, (*path, step))


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _is_called(path: Path, node: Any, key: Any) -> bool:
    by_class = _is_named_tuple(node) and type(node).__name__ == key
    return by_class or (bool(path) and _name(path[-1]) == (key,))


def _name(step: Any) -> tuple[Any, ...]:
    """The name of a step, as a 1-tuple; empty for a position in a list."""
    if isinstance(step, jax.tree_util.DictKey):
        return (step.key,)
    return (step.name,) if isinstance(step, (NamedTupleKey, jax.tree_util.GetAttrKey)) else ()


def _names(tree: Tree) -> list[str]:
    return list(dict.fromkeys(str(name) for path, _ in _nodes(tree) for step in path[-1:] for name in _name(step)))

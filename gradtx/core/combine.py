"""The algebra: transformations compose in sequence (`chain`) and side by side (`product`, `add`).

    chain(a, b, …)      b after a; associative, and identity() is its unit
    product(a, b, …)    each sees the same updates; the results are multiplied leaf by leaf
    add(a, b, …)        the same, added

Nothing in a composition sees more than what comes in: updates, its own state, the parameters, named extra arguments.
The state of a composition is a named tuple: by position, and by the names of its parts.
"""

import collections
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Real
from gradtx.core.hyperparameters import EmptyState
from gradtx.core.names import checked_name, part_names
from gradtx.core.recompute import remembering
from gradtx.core.transformation import (
    GradientTransformation,
    Transformation,
    has,
    initialize,
    run,
    transformation,
)
from gradtx.core.tree import LeafError, as_float32, check_match, is_none, map_leaves, present, real_like

__all__ = [
    "add",
    "apply_updates",
    "cast_to_params",
    "chain",
    "identity",
    "named_chain",
    "product",
    "scale",
    "set_to_zero",
    "stateless",
    "stateless_with_tree_map",
]

Tree = Any


# States with names


@functools.cache
def _state_type(names: tuple[str, ...]) -> type:
    """The named tuple that holds the states of parts with these names; one type for equal names."""
    make: Any = collections.namedtuple
    state_type = make("CompositionState", names)
    state_type.__reduce__ = lambda self: (_rebuild_state, (names, tuple(self)))
    state_type.__doc__ = f"States of {', '.join(names)}."
    state_type.__getitem__ = lambda self, key: (
        getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)
    )
    state_type.__getattr__ = _no_attribute
    if "count" not in names:  # a tuple's method, which a loop written for another library would take for its counter
        state_type.count = property(lambda self: _no_attribute(self, "count"))
    return state_type


def _no_attribute(state: Any, name: str) -> Any:
    raise AttributeError(
        f"this state holds {', '.join(state._fields)} and has no {name!r}; gradtx.step_count(state) counts the steps, "
        f"gradtx.tree.get(state, 'momentum') finds a statistic by its name"
    )


def _rebuild_state(names: tuple[str, ...], states: tuple[Any, ...]) -> Any:
    return _state_type(names)(*states)


def _named(transformations: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The parts by the names of their states."""
    return dict(zip(part_names(transformations, named), (*transformations, *named.values()), strict=True))


def _check_state(owner: str, state: Any, expected: type) -> None:
    if getattr(state, "_fields", None) != expected._fields:  # type: ignore[attr-defined]
        names = ", ".join(getattr(state, "_fields", ())) or f"a {type(state).__name__}"
        ours = ", ".join(expected._fields)  # type: ignore[attr-defined]
        raise ValueError(f"{owner}: the state is not one of this transformation: expected ({ours}), got ({names})")


# In sequence


def _parts(tx: GradientTransformation) -> tuple[Any, ...]:
    return (*tx.arguments["transformations"], *tx.arguments["named"].values())


def _any_real(tx: GradientTransformation) -> bool:
    return any(has(part, "real") for part in _parts(tx))


def _all_elementwise(tx: GradientTransformation) -> bool:
    return all(has(part, "elementwise") for part in _parts(tx))


@transformation(real=_any_real, elementwise=_all_elementwise)
def chain(*transformations: Transformation, **named: Transformation) -> Any:
    """Apply transformations one after another: the updates that leave one enter the next.

    Args:
      *transformations: of this library, or any `(init, update)` pair, such as Optax's.
      **named: further ones, with names under which their states are kept.

    Returns:
      A transformation whose state is a named tuple with one field per part, named after its constructor (`_1`, `_2`,
      … for repeats).

    Raises:
      TypeError: something that is not a transformation.

    >>> import gradtx
    >>> gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3))
    chain(clip_by_global_norm(max_norm=1.0), adam(learning_rate=0.001))
    """
    parts = _named(transformations, named)
    state_type = _state_type(tuple(parts))
    # A part may take norms of what the parts before it have computed.
    measured = not all(has(part, "elementwise") for part in list(parts.values())[1:])

    def init(params: Tree) -> Tree:
        states = []
        for part in parts.values():
            states.append(initialize(part, params))
            params = real_like(params) if has(part, "real") else params
        return state_type(*states)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        _check_state("chain", state, state_type)
        new_states = []
        with remembering(measured):
            for part, part_state in zip(parts.values(), state, strict=True):
                updates, new_state = run(part, updates, part_state, params, extra_args)
                new_states.append(new_state)
        return updates, state_type(*new_states)

    return init, update


def named_chain(*pairs: tuple[str, Any]) -> GradientTransformation:
    """`chain` with names given as pairs, as Optax writes it: `named_chain(("clip", clip(1.0)), ("opt", adam(1e-3)))`.

    Raises:
      ValueError: a name that is given twice, or is not a Python identifier (names become fields of the state).
    """
    names = [checked_name(name) for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"named_chain: the name {name!r} is given twice")
    return chain(**dict(pairs))


# Side by side


def _side_by_side(owner: str, parts: dict[str, Any], combine: Callable[..., Any]) -> Any:
    if not parts:
        raise ValueError(f"{owner} needs at least one transformation")
    state_type = _state_type(tuple(parts))

    def init(params: Tree) -> Tree:
        return state_type(*(initialize(part, params) for part in parts.values()))

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        _check_state(owner, state, state_type)
        pairs = [run(part, updates, s, params, extra_args) for part, s in zip(parts.values(), state, strict=True)]
        results, new_states = zip(*pairs, strict=True)
        return map_leaves(lambda *xs: functools.reduce(combine, xs), *results), state_type(*new_states)

    return init, update


def _all_real(tx: GradientTransformation) -> bool:
    return all(has(part, "real") for part in _parts(tx))


@transformation(real=_all_real, elementwise=_all_elementwise)
def product(*transformations: Transformation, **named: Transformation) -> Any:
    """Multiply, leaf by leaf, what several transformations make of the same updates.

    Adam is the product of a direction (the corrected momentum) and a rate (the inverse root mean square).

    Args:
      *transformations: as in `chain`.
      **named: as in `chain`.

    >>> import gradtx, jax.numpy as jnp
    >>> square = gradtx.product(gradtx.identity(), gradtx.identity())
    >>> square.update(jnp.array([1.0, -3.0]), square.init(jnp.zeros(2)))[0].tolist()
    [1.0, 9.0]
    """
    return _side_by_side("product", _named(transformations, named), operator.mul)


@transformation(real=_all_real, elementwise=_all_elementwise)
def add(*transformations: Transformation, **named: Transformation) -> Any:
    """Add, leaf by leaf, what several transformations make of the same updates.

    Args:
      *transformations: as in `chain`.
      **named: as in `chain`.

    >>> import gradtx, jax.numpy as jnp
    >>> double = gradtx.add(gradtx.identity(), gradtx.identity())
    >>> double.update(jnp.array([1.0, -3.0]), double.init(jnp.zeros(2)))[0].tolist()
    [2.0, -6.0]
    """
    return _side_by_side("add", _named(transformations, named), operator.add)


# The small ones


@transformation
def stateless(f: Callable[[Tree, Tree], Tree]) -> Any:
    """A transformation without state from a function `f(updates, params) -> updates` of whole trees."""
    return None, lambda updates, state, params=None: (f(updates, params), state)


@transformation
def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> Any:
    """A transformation without state from a function `f(update, param) -> update` of leaves.

    `param` is None when `update` is called without parameters. Leaves arrive in float32 or wider.
    """

    def update(updates: Tree, state: EmptyState, params: Tree = None) -> tuple[Tree, EmptyState]:
        if params is None:
            return map_leaves(lambda u: f(u, None), updates), state
        return map_leaves(f, updates, params), state

    return None, update


@transformation(elementwise=True)
def identity() -> Any:
    """Pass the updates on unchanged: the unit of `chain`."""
    return None, lambda updates, state, params=None: (updates, state)


@transformation(elementwise=True)
def set_to_zero() -> Any:
    """Make every update exactly zero, NaN and infinite ones too."""
    return None, lambda updates, state, params=None: (map_leaves(jnp.zeros_like, updates), state)


@transformation(elementwise=True)
def scale(step_size: Real) -> Any:
    """Multiply the updates by a number: s·u.

    Args:
      step_size: the factor s, of any sign; a float, an array or a schedule.
    """
    return None, lambda updates, state, params=None: (map_leaves(lambda u: step_size * u, updates), state)


@transformation
def cast_to_params() -> Any:
    """Round the updates to the dtypes of the parameters; last in a chain, for loops that add them with `p + u`.

    Updates leave every transformation in float32 or wider, and `apply_updates` rounds once, after the addition. A
    loop that adds them itself (`eqx.apply_updates`, a `lax.scan` over bfloat16 parameters) would widen the parameters.

    Needs the parameters.
    """

    def cast(u: Any, p: Any) -> Any:
        return u.astype(jnp.result_type(p)) if present(u) else u

    return None, lambda updates, state, params: (
        jax.tree.map(cast, updates, params, is_leaf=is_none),
        state,
    )


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """θ + u, computed in float32 or wider and cast once, to the dtype of each parameter.

    Args:
      params: a pytree of arrays (or numbers).
      updates: the same structure and shapes; a None leaf leaves its parameter as it is.

    Raises:
      LeafError: the structures or shapes differ.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.apply_updates({"w": jnp.ones(2), "fixed": 7}, {"w": jnp.full(2, 0.5), "fixed": None})
    {'fixed': 7, 'w': Array([1.5, 1.5], dtype=float32)}
    """
    check_match(updates, params)

    def new(update: Any, param: Any) -> Any:
        if not present(update):
            return param
        dtype = jnp.result_type(param)
        if jnp.iscomplexobj(update) and not jnp.iscomplexobj(param):
            raise LeafError("a complex update for a real parameter")
        if jnp.issubdtype(dtype, jnp.floating):
            return (as_float32(param) + as_float32(update)).astype(dtype)
        return jnp.asarray(param + update).astype(dtype)

    return jax.tree.map(new, updates, params, is_leaf=is_none)

"""What the body of a constructor returns, made ready to run, for combinators and for the outermost `update` alike.

It is built once per step, or once and for all where no number is traced.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.names import name_of
from gradtx.core.roles import EmptyState
from gradtx.core.tree import LeafError, cast_like
from gradtx.core.value import Value

__all__ = [
    "Body",
    "Pair",
    "build",
    "initialize",
    "is_transformation",
    "naming",
    "outgoing",
    "run",
    "run_from",
    "watcher",
]

Tree = Any

# Called instead of each `init`, with that `init`, the transformation and the parameters: see `gradtx.state.stages`.
watcher: ContextVar[Any] = ContextVar("gradtx_watcher", default=None)


class Body:
    """A transformation ready to run, and what it takes."""

    tx: Any = None
    name = "transformation"
    needs_params = False
    extra_args: frozenset[str] = frozenset()  # "*" for any
    required: frozenset[str] = frozenset()  # the extra arguments without a default
    takes_all = False  # whether it is given every extra argument, to pass them on

    def init(self, params: Tree) -> Tree:
        """The state to start from."""
        raise NotImplementedError

    def update(self, updates: Tree, state: Tree, params: Tree, extra_args: Any, source: Any = None) -> Any:
        """The updates, the state, and how to recompute these updates; `source` recomputes the incoming ones."""
        raise NotImplementedError

    def check(self, state: Tree, params: Tree, extra_args: dict[str, Any]) -> None:
        """Raise if something that is needed was not passed, or the state belongs to another transformation."""
        for name in sorted(self.required - extra_args.keys()):
            raise TypeError(f"{self.name} needs the extra argument {name!r}: update(updates, state, params, {name}=…)")
        if self.needs_params and params is None:
            raise ValueError(f"{self.name} needs the parameters: update(updates, state, params)")


class Pair(Body):
    """Two functions of trees; the signature of the second says what they take."""

    def __init__(self, init: Callable[..., Any] | None, update: Callable[..., Any]):
        self._init, self._update = init, update
        parameters = inspect.signature(update).parameters.values()
        named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.extra_args = frozenset(p.name for p in named) | ({"*"} if self.takes_all else set())
        self.required = frozenset(p.name for p in named if p.default is p.empty)
        self.needs_params = any(p.name == "params" and p.default is p.empty for p in parameters)
        self.atom = True  # whether its new state is to get the dtypes of the old one

    def init(self, params: Tree) -> Tree:
        """The function's state without weak types (`jnp.full((), jnp.inf)` has one): one trace serves all steps."""
        state = EmptyState() if self._init is None else self._init(params)
        return jax.tree.map(_strong, state) if self.atom else state

    def update(self, updates: Tree, state: Tree, params: Tree, extra_args: Any, source: Any = None) -> Any:
        """What the function returns, with the dtypes of the old state."""
        result = self._update(updates, state, params, **extra_args)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(f"{self.name}: update must return (updates, state), it returned {type(result).__name__}")
        return result[0], cast_like(result[1], state) if self.atom else result[1], None


def _strong(x: Any) -> Any:
    return jnp.asarray(x, x.dtype) if getattr(x, "weak_type", False) else x


def is_transformation(x: Any) -> bool:
    """True for our values and for any other library's `(init, update)` pair, such as Optax's."""
    return callable(getattr(x, "init", None)) and callable(getattr(x, "update", None))


def build(tx: Any) -> Body:
    """What to run for a transformation, our own or any pair with `init` and `update`."""
    if isinstance(tx, Body):
        return tx
    if isinstance(tx, Value):
        return tx._once("built", tx._build)
    pair = Pair(tx.init, tx.update)
    pair.tx, pair.name = tx, name_of(tx)
    return pair


def initialize(tx: Any, params: Tree) -> Tree:
    """`tx.init` as combinators call it: without the checks that the outermost transformation has already made."""
    body, watch = build(tx), watcher.get()
    with naming(body):
        return watch(body.init, body.tx, params) if watch else body.init(params)


def run(tx: Any, updates: Tree, state: Tree, params: Tree, extra_args: dict[str, Any]) -> tuple[Tree, Tree]:
    """`tx.update` as combinators call it: passes each transformation the extra arguments that it declares.

    The new state gets exactly the dtypes of the old one, so that a step is traced once and donation always aliases.
    """
    return run_from(None, tx, updates, state, params, extra_args)[:2]


def run_from(source: Any, tx: Any, updates: Tree, state: Tree, params: Tree, extra_args: dict[str, Any]) -> Any:
    """`run` for updates that `source` can recompute; also returns how to recompute the outgoing ones."""
    body = build(tx)
    if not body.takes_all:
        extra_args = {name: extra_args[name] for name in body.extra_args & extra_args.keys()}
    with naming(body):
        body.check(state, params, extra_args)
        return body.update(updates, state, params, extra_args, source)


def outgoing(tx: Any, params: Tree, state: Tree) -> Tree:
    """An example of the outgoing updates for incoming ones like `params`: squares of complex updates are real."""
    body = build(tx)
    if body.required or not any(map(jnp.iscomplexobj, jax.tree.leaves(params))):
        return params
    shapes = jax.eval_shape(lambda u, s: run(body, u, s, u, {})[0], params, state)
    return jax.tree.map(lambda p, u: p if jnp.iscomplexobj(u) else jnp.real(p), params, shapes)


@contextlib.contextmanager
def naming(named: Any) -> Iterator[None]:
    """Adds the transformation's name to a leaf error that has none yet (the innermost one wins)."""
    try:
        yield
    except LeafError as error:
        error.owner = error.owner or named.name
        raise

"""Atoms defined on one leaf.

A leaf-wise transformation says what happens to *one leaf*: the slots that it keeps, how they advance, and the update
that leaves, computed from the *new* state. Its functions read, by the names of their parameters,

    s   the state as this leaf sees it: its own slots, and the numbers that all leaves share
    u   the update that comes in (or g, where it is a gradient)
    p   the parameter
    n   numbers that all leaves share in this step
    x   what was computed from this leaf before it advanced
    t   what was computed from all leaves together

and a step goes

    together = (of a leaf, of all)      t, a norm or a sum over the whole tree
    numbers(s, t)                       n, once for all leaves
    count(s, n)                         the numbers in the state, once for all leaves
    before(s, u, p, n)                  x, such as norms of this leaf, or parts of its old state
    advance(s, u, p, n, x)              its new slots
    emit(s, u, p, n, x)                 the update that leaves

Up to `count`, s is the state before the step; after it the numbers are new, and in `emit` the slots are, too. `lifting`
applies this to a tree.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.build import Body
from gradtx.core.lifting import advance_tree
from gradtx.core.numerics import aside
from gradtx.core.roles import EmptyState, Role, is_state, map_fields
from gradtx.core.tree import as_float32, cast_like, is_none, misfit, no_wider

__all__ = ["Again", "Atom", "Leafwise", "leafwise"]

Tree = Any
Again = Callable[[], Any] | None  # recomputes an update; None where it is in memory


class Leafwise(Body):
    """What a transformation does to one leaf, by default nothing. Atoms are leaf-wise, and so are compositions of them.

    `init` works on trees, everything else on the state as one leaf sees it.
    """

    passes = True  # whether the update leaves as it came in, in its own dtype
    together: tuple[Any, Any] | None = None  # (s, u, p) -> numbers of a leaf; and how a vector of them is reduced

    def update(self, updates: Tree, state: Tree, params: Tree, extra_args: Any, source: Any = None) -> Any:
        """A step of all leaves."""
        return advance_tree(self, updates, state, params, extra_args, source)

    def numbers(self, s: Any, t: Any, extra_args: dict[str, Any]) -> Any:
        """n, from the state before the step."""

    def count(self, s: Any, n: Any, extra_args: dict[str, Any]) -> Any:
        """The state with its numbers advanced."""
        return s

    def step(self, s: Any, u: Any, p: Any, n: Any, again: Again) -> tuple[Any, Any, Any]:
        """The new state, the update that leaves, and x. `again()` recomputes u, for a norm of it."""
        return s, u, None

    def emit(self, s: Any, u: Any, p: Any, n: Any, x: Any) -> Any:
        """The update that leaves, from the new state."""
        return u

    def choices(self, tree: Tree) -> list[Any]:
        """For each leaf, what `resolve` has to know about it."""
        return [None] * len(jax.tree.leaves(tree, is_leaf=is_none))

    def resolve(self, choice: Any) -> "Leafwise":
        """What this does to a leaf for which `choices` says `choice`."""
        return self


# Atoms


def leafwise(
    *,
    init: Callable[[Any], Any] | None = None,
    begin: Callable[[Tree], dict[str, Any]] | None = None,
    together: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
    numbers: Callable[..., Any] | None = None,
    count: Callable[..., Any] | None = None,
    before: Callable[..., Any] | None = None,
    advance: Callable[..., Any] | None = None,
    emit: Callable[..., Any] | None = None,
) -> "Atom":
    """What the body of a leaf-wise transformation returns; see the module's docstring.

    Leaves arrive in float32 or wider; what is stored keeps the dtypes that `init` gave it.

    Each function is a `def` or a `lambda` without side effects. While a step is traced, those of a leaf are called once
    for all leaves that look alike, and `emit` again where a norm of the update is needed. In a step without `jit`,
    functions of your own run as plain Python, one leaf after another; see `transformation`.

    Args:
      init: `init(p)`, the state of a leaf: a named tuple whose fields declare their roles (`Slot`, `Weight`, …), from
        the parameter in its own dtype. Numbers that all leaves share must not depend on p. None for no state.
      begin: `begin(params)`, numbers of the state by name that depend on the parameters as a whole.
      together: `f(s, u, p)`, computed for each leaf, a number or a tuple of them; and a function that reduces the
        vector of them over all leaves, such as `jnp.sum`.
      numbers: `numbers(s, t, *, value)`, n; takes extra arguments by keyword.
      count: `count(s, n, *, value)`, the state with its numbers advanced.
      before: `before(s, u, p, n)`; it may reduce.
      advance: `advance(s, u, p, n, x)`, the state with its slots advanced, element by element.
      emit: `emit(s, u, p, n, x)`, element by element; cheap enough to be computed twice. By default u.

    Raises:
      TypeError: a function reads something else.

    >>> import gradtx, jax.numpy as jnp
    >>> from typing import NamedTuple
    >>> class LargestState(NamedTuple):
    ...     largest: gradtx.Slot
    >>> @gradtx.transformation
    ... def divide_by_largest():
    ...     return gradtx.leafwise(
    ...         init=lambda p: LargestState(jnp.zeros_like(p, jnp.float32)),
    ...         advance=lambda s, u: LargestState(jnp.maximum(s.largest, jnp.abs(u))),
    ...         emit=lambda s, u: u / s.largest,
    ...     )
    >>> tx = divide_by_largest()
    >>> _, state = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([1.0, 2.0]), state)[0].tolist()
    [0.25, 1.0]
    """
    return Atom(init, begin, together, numbers, count, before, advance, emit)


class _Function:
    """A function of some of the things that a leaf-wise function may read, called with all of them."""

    def __init__(self, what: str, f: Callable[..., Any], known: str):
        if not inspect.isfunction(f):
            raise TypeError(f"leafwise: {what} must be a def or lambda, whose parameters name what it reads; got {f!r}")
        code = f.__code__
        named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
        self.f, self.reads = f, code.co_varnames[: named[0]]
        self.extra_args = frozenset(code.co_varnames[slice(*named)])
        self.required = self.extra_args - (f.__kwdefaults__ or {}).keys()
        for name in self.reads:
            if name not in (*known, *("g" if "u" in known else "")):
                may = ", ".join(known).replace("u", "u (or g)")
                raise TypeError(f"leafwise: {what} reads {name!r}; it may read {may}")

    def __call__(self, extra_args: dict[str, Any] | None = None, /, **given: Any) -> Any:
        extra = {name: extra_args[name] for name in self.extra_args & extra_args.keys()} if extra_args else {}
        return self.f(*(given["u" if name == "g" else name] for name in self.reads), **extra)


class Atom(Leafwise):
    """What `leafwise` returns."""

    def __init__(
        self, init: Any, begin: Any, together: Any, numbers: Any, count: Any, before: Any, advance: Any, emit: Any
    ):
        def reading(what: str, f: Any, known: str) -> Any:
            return f and _Function(what, f, known)

        self._init, self._begin = init, begin
        self._numbers, self._count = reading("numbers", numbers, "st"), reading("count", count, "sn")
        self._before, self._advance = reading("before", before, "supn"), reading("advance", advance, "supnx")
        self._emit = reading("emit", emit, "supnx")
        of_leaf = reading("together", together and together[0], "sup")
        if of_leaf:
            self.together = lambda s, u, p: of_leaf(s=_wide(s), u=u, p=p), together[1]
        self.passes = emit is None
        functions = [f for f in (self._numbers, self._count, self._before, self._advance, self._emit, of_leaf) if f]
        self.extra_args = frozenset().union(*(f.extra_args for f in functions))
        self.required = frozenset().union(*(f.required for f in functions))
        self.needs_params = any("p" in f.reads for f in functions)

    def init(self, params: Tree) -> Tree:
        if self._init is None:
            return EmptyState()
        structure: Any
        leaves, structure = jax.tree.flatten(params, is_leaf=is_none)
        states = [None if p is None else self._init(p) for p in leaves]
        example = next((s for s in states if s is not None), None)
        example = self._init(jnp.zeros(())) if example is None else example
        if not is_state(example):
            needed = f"{self.name}: init must return a named tuple whose fields say their roles (Slot, Weight, …)"
            raise TypeError(f"{needed}; it returned {type(example).__name__}")
        fields = [s and iter(s) for s in states]

        def gathered(role: Role, value: Any) -> Any:
            own = [s and next(s) for s in fields]
            return structure.unflatten(own) if role.of_leaves else jax.tree.map(_number, value)

        state = map_fields(gathered, example)
        return state._replace(**jax.tree.map(_number, self._begin(params))) if self._begin else state

    def numbers(self, s: Any, t: Any, extra_args: dict[str, Any]) -> Any:
        return self._numbers and self._numbers(extra_args, s=s, t=t)

    def count(self, s: Any, n: Any, extra_args: dict[str, Any]) -> Any:
        return _stored(self._count(extra_args, s=s, n=n), s) if self._count else s

    def step(self, s: Any, u: Any, p: Any, n: Any, again: Again) -> tuple[Any, Any, Any]:
        wide, x = _wide(s), None
        if self._before and again:
            x = aside(lambda *_: self._before(s=wide, u=again(), p=p, n=n), u)
        elif self._before:
            x = self._before(s=wide, u=u, p=p, n=n)
        if self._advance:
            s = _stored(self._advance(s=wide, u=u, p=p, n=n, x=x), s)
        return s, self.emit(s, u, p, n, x), x

    def emit(self, s: Any, u: Any, p: Any, n: Any, x: Any) -> Any:
        if not self._emit:
            return u
        wide = _wide(s)
        result = self._emit(s=wide, u=u, p=p, n=n, x=x)
        if result is None or np.shape(result) != np.shape(u):
            raise misfit(np.shape(u), result)
        return no_wider(result, [u, *([] if p is None else [p]), *_slots(wide)])


def _number(x: Any) -> jax.Array:
    """A number of a state: an int32 or a float in JAX's precision, unless it is an array already."""
    if hasattr(x, "dtype"):
        return jnp.asarray(x, x.dtype)  # a dtype given by name is not weak
    return jnp.asarray(x, jnp.int32 if isinstance(x, int) else float)


def _wide(s: Any) -> Any:
    """The state with its slots in float32 or wider, to compute with."""

    def widened(role: Role, value: Any) -> Any:
        if not role.of_leaves:
            return value
        return jax.tree.map(lambda x: as_float32(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, value)

    return map_fields(widened, s)


def _stored(new: Any, old: Any) -> Any:
    """The new state with the dtypes of the old one."""
    if type(new) is not type(old):
        raise TypeError(f"the new state must be a {type(old).__name__}, as s._replace(…) is; got {type(new).__name__}")
    return type(old)(*(a if a is b else cast_like(a, b) for a, b in zip(new, old, strict=True)))


def _slots(s: Any) -> list[Any]:
    found: list[Any] = []
    map_fields(lambda role, value: found.extend(jax.tree.leaves(value)) if role.of_leaves else None, s)
    return found

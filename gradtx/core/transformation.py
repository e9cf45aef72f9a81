"""A gradient transformation is a pair of pure functions, made by a constructor that `@transformation` decorates.

    init(params) -> state
    update(updates, state, params=None, **extra_args) -> (updates, state)

The constructor's body is the mathematics. It returns `(init, update)` (an atom), or another transformation (a
formula). The decorator supplies, once for all transformations, what the mathematics should not have to say: values,
schedules for any number, fixed state dtypes, extra arguments by name, and errors that say where.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, ParamSpec, overload

import jax
import jax.numpy as jnp

from gradtx.core.constructor import constructor_of, is_constructor
from gradtx.core.elementwise import leaf_by_leaf
from gradtx.core.hyperparameters import EmptyState, Functions, with_hyperparams
from gradtx.core.names import name_of
from gradtx.core.schedule import Schedule, as_schedule
from gradtx.core.stages import watched
from gradtx.core.tree import LeafError, cast_like, check_arrays, check_match, is_none, present, unshared
from gradtx.core.value import Value, show, wrap_all

__all__ = [
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "Transformation",
    "has",
    "initialize",
    "is_transformation",
    "run",
    "transformation",
    "transformation_of",
]

P = ParamSpec("P")
Tree = Any

# Extra arguments that training loops pass to every optimizer, whether it uses them or not.
WELL_KNOWN = frozenset({"value", "grad", "value_fn", "grad_fn", "obj_fn", "key"})


class GradientTransformation(Value):
    """A transformation of updates: an immutable value, a pytree of its hyperparameters, an `(init, update)` pair.

    `init, update = tx` unpacks it, so that anything written for Optax's pairs takes it as it is. Made by the
    constructors of this library, by those that you decorate with `@transformation`, or from two functions:
    `GradientTransformation(init, update)`.
    """

    __slots__ = ()

    def __new__(cls, init: Callable[..., Any], update: Callable[..., Any]) -> "GradientTransformation":
        """Make a transformation of two functions."""
        return _pair(init, update)

    def init(self, params: Tree) -> Tree:
        """The state to start from.

        Args:
          params: any pytree of arrays; None leaves are left alone. Shapes suffice: works under `jax.eval_shape`.

        Raises:
          LeafError: a leaf is not an array (an unfiltered model).
        """
        with _owner(self):
            check_arrays(params)
        return unshared(initialize(self, params), params, self)

    def update(self, updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        """Transform the updates and advance the state.

        Args:
          updates: gradients, or what an earlier transformation made of them; structure and shapes of `params`.
          state: from `init` or the previous `update`.
          params: the current parameters, for transformations that read them (weight decay, trust ratios, …).
          **extra_args: by name, for transformations that declare them (`value` for a plateau schedule, …).
            `value`, `grad`, `value_fn`, `grad_fn`, `obj_fn` and `key` are always accepted.

        Raises:
          LeafError: updates and params do not match.
          TypeError: an extra argument that nothing here takes, or one that is missing.
          ValueError: `params` is needed and missing, or the state belongs to another transformation.
        """
        accepted = WELL_KNOWN | self.extra_args
        unknown = [name for name in extra_args if name not in accepted]
        if unknown and "*" not in accepted:
            raise TypeError(
                f"{self.name} takes no extra argument {unknown[0]!r}; it takes {', '.join(sorted(accepted))}"
            )
        if params is not None:
            with _owner(self):
                check_match(updates, params)
        try:
            return run(self, updates, state, params, extra_args)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            explanation = _foreign_state(self, updates, state, params)
            if explanation is None:
                raise
            raise ValueError(explanation) from error

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))

    @property
    def formula(self) -> "GradientTransformation":
        """The composition that this transformation stands for; an atom stands for itself."""
        body = self._once("formula", lambda: self._result(self.arguments))
        return body if isinstance(body, GradientTransformation) else self

    def expand(self) -> "GradientTransformation":
        """The formula with every formula in it expanded, down to atoms and combinators."""
        if self.formula is not self:
            return self.formula.expand()
        return self._make(self.constructor, wrap_all(self.constructor, _expand(self.arguments)))

    @property
    def extra_args(self) -> frozenset[str]:
        """The extra arguments that `update` makes use of; "*" means any (an Optax transformation that takes all)."""

        def collect() -> frozenset[str]:
            own = self._declares.names
            parts = [self.formula] if self.formula is not self else _transformations_in(self.arguments)
            # A combinator passes on what it is given: what it takes is what its parts take.
            return (own - {"*"}).union(*map(_extra_args, parts)) if parts else own

        return self._once("extra_args", collect)

    @property
    def _is_atom(self) -> bool:
        return self._once("is_atom", lambda: self.formula is self and not _transformations_in(self.arguments))

    @property
    def _declares(self) -> "_Declared":
        return self._once("declares", lambda: _declared(self._functions[1]))

    @property
    def _functions(self) -> Functions:
        def build() -> Functions:
            body = self._result(self._rounded)
            if isinstance(body, GradientTransformation):
                return body._functions
            if not isinstance(body, tuple) or len(body) != 2 or not callable(body[1]):
                raise TypeError(f"{self.name} must return (init, update) or a transformation, its body gave {body!r}")
            recorded = self._recorded()
            return with_hyperparams(self, body[1], recorded) if recorded else body

        return self._once("functions", build)

    def _recorded(self) -> dict[str, Any]:
        """The hyperparameters that this atom keeps in its state: those that are schedules or always recorded."""
        always = self.constructor.record  # type: ignore[attr-defined]
        return {
            name: argument
            for name, argument in self._rounded.items()
            if name in always or isinstance(argument, Schedule)
        }


GradientTransformationExtraArgs = GradientTransformation  # Optax's name for those that take extra arguments


@overload
def transformation(body: Callable[P, Any], /) -> Callable[P, GradientTransformation]: ...


@overload
def transformation(
    *,
    real: bool | Callable[[GradientTransformation], bool] = False,
    elementwise: bool | Callable[[GradientTransformation], bool] = False,
    record: tuple[str, ...] = (),
) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]: ...


def transformation(
    body: Callable[P, Any] | None = None,
    /,
    *,
    real: Any = False,
    elementwise: Any = False,
    record: tuple[str, ...] = (),
) -> Any:
    """Decorate a constructor whose body returns `(init, update)` or another transformation.

    Args:
      body: the constructor. Annotate numbers with their kind (`Decay`, `NonNegative`, `Positive`, `Real`): they then
        take a float, an array or a schedule, and are checked. `init(params)` may be left out (None) by a
        transformation without state. `update` takes `params` without a default if it needs them, and names the extra
        arguments that it uses as keyword-only parameters.
      real: the outgoing updates are real for complex parameters too (|g|, |g|²), so what follows keeps real state;
        True, or for a combinator a function of the transformation.
      elementwise: each element of the updates is treated by itself, with shared numbers that do not depend on the
        updates; true of most. It is then traced once for all leaves of a shape. For a combinator as `real`.
      record: hyperparameters whose value in use is kept in the state even if it is constant.

    >>> import gradtx, jax
    >>> @gradtx.transformation
    ... def sign_of_sum(decay: gradtx.Decay = 0.9):
    ...     return gradtx.chain(gradtx.trace(decay), gradtx.scale_by_sign())
    >>> sign_of_sum(0.5)
    sign_of_sum(decay=0.5)
    >>> sign_of_sum(1.5)
    Traceback (most recent call last):
      ...
    ValueError: sign_of_sum: decay must be in [0, 1), got 1.5
    """

    def decorate(body: Callable[P, Any]) -> Callable[P, GradientTransformation]:
        return transformation_of(GradientTransformation, body, real=real, elementwise=elementwise, record=record)

    return decorate if body is None else decorate(body)


def transformation_of(
    cls: type[Value], body: Any, *, real: Any = False, elementwise: Any = False, record: tuple[str, ...] = ()
) -> Any:
    """The constructor that `transformation` makes of a body, for values of a class of their own."""
    return constructor_of(cls, body, as_schedule=as_schedule, real=real, elementwise=elementwise, record=record)


@transformation
def _pair(init: Any, update: Any) -> Any:
    return init, update


_pair.__name__ = "GradientTransformation"


# Running a transformation, own or foreign (any pair with `init` and `update`)


class Part:
    """The kind of an argument that is a transformation, or holds several."""

    ordered = True  # of a dict of them, the order counts

    def __repr__(self) -> str:
        return "Transformation"

    def check(self, owner: str, name: str, value: Any) -> Any:
        """Raise a TypeError unless the value, or each in a tuple or dict of them, is a transformation."""
        for part in value.values() if isinstance(value, Mapping) else value if type(value) is tuple else (value,):
            if is_transformation(part):
                continue
            hint = ""
            if isinstance(part, (list, tuple)) and part and all(map(is_transformation, part)):
                hint = f"; give them one by one: {owner}(*transformations)"
            elif is_constructor(part):
                hint = f"; did you mean {part.__name__}(…)?"
            raise TypeError(f"{owner}: {show(part)} is not a transformation (it has no init and update){hint}")
        return value


Transformation = Annotated[Any, Part()]


def is_transformation(x: Any) -> bool:
    """True for our values and for any other library's `(init, update)` pair, such as Optax's."""
    return callable(getattr(x, "init", None)) and callable(getattr(x, "update", None))


def _transformations_in(arguments: Any) -> list[Any]:
    if is_transformation(arguments):
        return [arguments]
    parts = arguments.values() if isinstance(arguments, dict) else arguments
    return (
        [tx for part in parts for tx in _transformations_in(part)] if isinstance(arguments, (dict, tuple, list)) else []
    )


def _expand(argument: Any) -> Any:
    if isinstance(argument, GradientTransformation):
        return argument.expand()
    if isinstance(argument, dict):
        return {key: _expand(item) for key, item in argument.items()}
    return tuple(map(_expand, argument)) if type(argument) is tuple else argument


class _Declared(NamedTuple):
    names: frozenset[str]  # extra arguments; "*" for any
    required: frozenset[str]  # those without a default
    needs_params: bool


def _declared(update: Callable[..., Any]) -> _Declared:
    """What an update function's signature says of its arguments."""
    parameters = inspect.signature(update).parameters.values()
    names = frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    required = frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
    anything = {"*"} if any(p.kind is p.VAR_KEYWORD for p in parameters) else set()
    needs = any(p.name == "params" and p.default is p.empty for p in parameters)
    return _Declared(names | anything, required, needs)


def _extra_args(tx: Any) -> frozenset[str]:
    return tx.extra_args if isinstance(tx, GradientTransformation) else _declared(tx.update).names


def initialize(tx: Any, params: Tree) -> Tree:
    """`tx.init` as combinators call it: without the checks that the outermost transformation has already made."""
    return watched(_initialize, tx, params)


def _initialize(tx: Any, params: Tree) -> Tree:
    if not isinstance(tx, GradientTransformation):
        return _strong(tx.init(params))
    init, _ = tx._functions
    with _owner(tx):
        state = EmptyState() if init is None else init(params)
        return _strong(state) if tx._is_atom else state


def _strong(state: Tree) -> Tree:
    """Without weak types (`jnp.full((), jnp.inf)` has one), as `run` returns it: one trace for all steps."""
    return jax.tree.map(lambda x: jnp.asarray(x, x.dtype) if getattr(x, "weak_type", False) else x, state)


def run(tx: Any, updates: Tree, state: Tree, params: Tree, extra_args: dict[str, Any]) -> tuple[Tree, Tree]:
    """`tx.update` as combinators call it: gives each transformation the extra arguments that it declares.

    The new state gets exactly the dtypes of the old one, so that a step is traced once and donation always aliases.
    """
    own = isinstance(tx, GradientTransformation)
    update = tx._functions[1] if own else tx.update
    declared = tx._declares if own else _declared(update)
    name = name_of(tx)
    missing = declared.required - extra_args.keys()
    if missing:
        needed = min(missing)
        raise TypeError(f"{name} needs the extra argument {needed!r}: update(updates, state, params, {needed}=…)")
    if declared.needs_params and params is None:
        raise ValueError(f"{name} needs the parameters: update(updates, state, params)")
    if "*" not in declared.names:
        extra_args = {key: extra_args[key] for key in declared.names if key in extra_args}

    def advance(updates: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        result = update(updates, state, params, **extra_args)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(f"{name}: update must return (updates, state), it returned {type(result).__name__}")
        updates, new_state = result
        return updates, new_state if own and not tx._is_atom else cast_like(new_state, state)

    with _owner(tx):
        if own and not tx.extra_args and has(tx, "elementwise"):
            try:
                done = leaf_by_leaf(name, advance, updates, state, params)
            except Exception:  # below, with all leaves at once, an error can say which leaf
                done = None
            if done is not None:
                return done
        return advance(updates, state, params)


def has(tx: Any, flag: str) -> bool:
    """Whether a transformation is what constructors declare: its updates "real" whatever comes in, or "elementwise"."""
    if not isinstance(tx, GradientTransformation):
        return False
    if tx.formula is not tx:
        return has(tx.formula, flag)
    declared = getattr(tx.constructor, flag)
    return declared(tx) if callable(declared) else declared


class _owner:
    """Adds the transformation's name to a leaf error that has none yet (the innermost one wins)."""

    def __init__(self, tx: Any):
        self.tx = tx

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, LeafError) and error.owner is None:
            error.owner = name_of(self.tx)


def _foreign_state(tx: GradientTransformation, updates: Tree, state: Tree, params: Tree) -> str | None:
    """After a failure: if the state is not one that `tx` makes, say at which path it differs first."""
    if params is None:
        params = updates
        if not all(map(present, jax.tree.leaves(updates, is_leaf=is_none))):
            return None  # leaves that get no update this time: the parameters may have them
    try:
        expected = jax.eval_shape(lambda p: initialize(tx, p), params)
    except Exception:  # the failure was not the state's
        return None
    flat = jax.tree_util.tree_flatten_with_path
    ours = {jax.tree_util.keystr(path): leaf for path, leaf in flat(expected)[0]}
    given = {jax.tree_util.keystr(path): leaf for path, leaf in flat(state)[0]}
    for path in [*ours, *given]:
        if path not in given:
            return f"{tx.name}: the state is not one of this transformation: it has no {path}"
        if path not in ours:
            return f"{tx.name}: the state is not one of this transformation: {path} is not expected"
        if ours[path].shape != jnp.shape(given[path]):
            return (
                f"{tx.name}: the state does not fit the parameters: {path} has shape {jnp.shape(given[path])}, "
                f"expected {ours[path].shape}"
            )
    return None

"""A gradient transformation is a pair of pure functions, made by a constructor that `@transformation` decorates.

    init(params) -> state
    update(updates, state, params=None, **extra_args) -> (updates, state)

The constructor's body is the mathematics. It returns another transformation (a formula), what happens to a leaf (a
leaf-wise atom, see `leafwise`), or `(init, update)`. The decorator supplies, once for all transformations, what the
mathematics should not have to deal with: values, schedules for any number, fixed state dtypes, extra arguments by
name, and errors that say where they occurred.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ParamSpec, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.core.arguments import Kind
from gradtx.core.build import Body, Pair, build, initialize, is_transformation, naming, run
from gradtx.core.constructor import Constructor, constructor_in
from gradtx.core.hyperparameters import HyperparamsLeaf, with_hyperparams
from gradtx.core.leafwise import Atom, Leafwise
from gradtx.core.schedule import Schedule, as_schedule
from gradtx.core.tree import check_arrays, check_match, is_none, present, unshared
from gradtx.core.typing import InitAndUpdate
from gradtx.core.value import Static, Value, keeping, show

__all__ = [
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "Transformation",
    "Transformations",
    "optimizer",
    "transformation",
]

P = ParamSpec("P")
T = TypeVar("T", bound="GradientTransformation")
Tree = Any

# Extra arguments that training loops pass to every optimizer, whether it uses them or not.
WELL_KNOWN = frozenset({"value", "grad", "value_fn", "grad_fn", "obj_fn", "key"})


class GradientTransformation(Value):
    """A transformation of updates: an immutable value, a pytree of its hyperparameters, an `(init, update)` pair.

    `init, update = tx` unpacks it, so that anything written for Optax's pairs accepts it as it is. It is made by the
    constructors of this library, by those that you decorate with `@transformation`, or from two functions:
    `GradientTransformation(init, update)`.
    """

    __slots__ = ()

    def __new__(cls, init: Callable[..., Any], update: Callable[..., Any]) -> "GradientTransformation":
        """Make a transformation from two functions."""
        return _pair(init, update)

    @keeping()
    def init(self, params: Tree) -> Tree:
        """The state to start from.

        Args:
          params: any pytree of arrays; None leaves are left alone. Shapes suffice: works under `jax.eval_shape`.

        Raises:
          LeafError: a leaf is not an array (an unfiltered model).
        """
        with naming(self):
            check_arrays(params)
        return unshared(initialize(self, params), params, self)

    @keeping()
    def update(self, updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        """Transform the updates and advance the state.

        Without `jit` it runs as one compiled function if all Python in it is this library's; see `transformation`.

        Args:
          updates: gradients, or the updates of an earlier transformation, with the structure and shapes of `params`.
          state: from `init` or the previous `update`.
          params: the current parameters, for transformations that read them (weight decay, trust ratios, …).
          **extra_args: by name, for transformations that declare them (`value` for a plateau schedule, …).
            `value`, `grad`, `value_fn`, `grad_fn`, `obj_fn` and `key` are always accepted.

        Raises:
          LeafError: updates and params do not match.
          TypeError: an extra argument that nothing here takes, or one that is missing.
          ValueError: `params` is needed and missing, or the state belongs to another transformation.
        """
        body = build(self)
        accepted = WELL_KNOWN | body.extra_args
        unknown = [name for name in extra_args if name not in accepted]
        if unknown and "*" not in accepted:
            raise TypeError(
                f"{self.name} takes no extra argument {unknown[0]!r}; it takes {', '.join(sorted(accepted))}"
            )
        if params is not None:
            with naming(self):
                check_match(updates, params)
        try:
            taken = extra_args.keys() if body.takes_all else body.extra_args & extra_args.keys()
            needed = {name: extra_args[name] for name in taken}
            if _are_arrays((self, updates, state, params, needed)) and self._once("ours", lambda: _is_ours(self)):
                numbers = self._once("numbers", lambda: jax.tree.map(jnp.asarray, self))
                return _compiled(numbers, updates, state, params, needed)
            return run(body, updates, state, params, extra_args)
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
        return self.constructor.made_of(_expand(self.arguments))

    @property
    def extra_args(self) -> frozenset[str]:
        """The extra arguments that `update` uses; "*" means any (an Optax transformation that takes all)."""
        return build(self).extra_args

    def _build(self) -> Body:
        result = self._result(self._rounded)
        parts = list(map(build, _transformations_in(self.arguments)))
        recorded = self._recorded()
        if isinstance(result, GradientTransformation):
            body = copy.copy(build(result))
        elif isinstance(result, Leafwise):
            body = HyperparamsLeaf(self, recorded, result) if recorded and isinstance(result, Atom) else result
        elif isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
            body = Pair(*(with_hyperparams(self, result[1], recorded) if recorded else result))
            body.atom = not parts
            if parts:  # a combinator passes on what it is given, so it takes what its parts take
                body.extra_args = (body.extra_args - {"*"}).union(*(part.extra_args for part in parts))
        else:
            raise TypeError(f"{self.name} must return (init, update) or a transformation, its body gave {result!r}")
        body.tx, body.name = self, self.name
        return body

    def _recorded(self) -> dict[str, Any]:
        """The hyperparameters that this atom keeps in its state: those that are schedules or always recorded."""
        always = self.constructor.record
        return {name: x for name, x in self._rounded.items() if name in always or isinstance(x, Schedule)}


GradientTransformationExtraArgs = GradientTransformation  # Optax's name for those that take extra arguments


@overload
def transformation(body: Callable[P, Any], /) -> Constructor[P, GradientTransformation]: ...


@overload
def transformation(
    *, name: str | None = None, record: tuple[str, ...] = ()
) -> Callable[[Callable[P, Any]], Constructor[P, GradientTransformation]]: ...


@overload
def transformation(
    *, cls: type[T], name: str | None = None, record: tuple[str, ...] = ()
) -> Callable[[Callable[P, Any]], Constructor[P, T]]: ...


def transformation(
    body: Any = None, /, *, cls: Any = None, name: str | None = None, record: tuple[str, ...] = ()
) -> Any:
    """Decorate a constructor whose body returns another transformation, `leafwise(…)` or `(init, update)`.

    A step called without `jit` runs as one compiled function if all Python in it is this library's. A constructor that
    you decorate is Python of your own, and so is a function among the arguments (a mask, a schedule): then the whole
    step, with the parts around it, runs line by line, on arrays whose values can be printed and branched on. Inside
    `jax.jit` or `make_step` it is traced, and must not rely on that.

    Args:
      body: the constructor. Annotate numbers with their kind (`Decay`, `NonNegative`, `Positive`, `Real`): they then
        take a float, an array or a schedule, and are checked. `init(params)` may be left out (None) by a
        transformation without state. `update` takes `params` without a default if it needs them, and names the extra
        arguments that it uses as keyword-only parameters.
      record: hyperparameters whose value in use is kept in the state even if it is constant.
      cls: a subclass of `GradientTransformation` that its values belong to, for methods of their own.
      name: its name, where that is not the body's.

    Raises:
      TypeError: a parameter has the name of an attribute of every value (`name`, `init`, `formula`, …).

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

    def decorate(body: Any) -> Any:
        return Constructor(cls or GradientTransformation, body, as_schedule, name=name, record=record)

    return decorate if body is None else decorate(body)


@overload
def optimizer(body: Callable[P, Any], /) -> Constructor[P, GradientTransformation]: ...


@overload
def optimizer(*, record: tuple[str, ...]) -> Callable[[Callable[P, Any]], Constructor[P, GradientTransformation]]: ...


def optimizer(body: Any = None, /, *, record: tuple[str, ...] = ()) -> Any:
    """`transformation` for a whole optimizer: one whose updates are steps, and whose docstring names its source.

    What it decorates is listed by `gradtx.optimizers()`, in the catalogue and in the documentation.
    """

    def decorate(body: Any) -> Any:
        return Constructor(GradientTransformation, body, as_schedule, record=record, is_optimizer=True)

    return decorate if body is None else decorate(body)


@transformation(name="GradientTransformation")
def _pair(*functions: Any) -> Any:
    return functions


# Running a transformation, ours or foreign (any pair with `init` and `update`)


class Part(Kind):
    """The kind of an argument that is a transformation, or holds several."""

    ordered = True  # in a dict of them, the order counts

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
            elif constructor := constructor_in(part):
                hint = f"; did you mean {constructor.__name__}(…)?"
            raise TypeError(f"{owner}: {show(part)} is not a transformation (it has no init and update){hint}")
        return value


Transformation: TypeAlias = Annotated[InitAndUpdate, Part()]
Transformations: TypeAlias = Annotated[Mapping[Any, InitAndUpdate], Part()]  # by label


def _transformations_in(arguments: Any) -> list[Any]:
    if is_transformation(arguments):
        return [arguments]
    parts = tuple(arguments.values()) if isinstance(arguments, dict) else arguments
    return [tx for part in parts for tx in _transformations_in(part)] if isinstance(parts, (tuple, list)) else []


def _expand(argument: Any) -> Any:
    if isinstance(argument, GradientTransformation):
        return argument.expand()
    if isinstance(argument, dict):
        return {key: _expand(item) for key, item in argument.items()}
    return tuple(map(_expand, argument)) if type(argument) is tuple else argument


# Eager steps


@jax.jit
def _compiled(tx: Any, updates: Tree, state: Tree, params: Tree, extra_args: dict[str, Any]) -> tuple[Tree, Tree]:
    """An eager step as one program: the structure of the optimizer is its key, the numbers are arguments."""
    return run(tx, updates, state, params, extra_args)


def _are_arrays(tree: Tree) -> bool:
    """Whether all leaves are concrete arrays (or numbers), not tracers of an ongoing trace."""
    return all(
        (isinstance(x, (jax.Array, np.ndarray, np.generic)) and present(x) and not isinstance(x, Tracer))
        or isinstance(x, (bool, int, float, complex))
        for x in jax.tree.leaves(tree)
    )


def _is_ours(x: Any) -> bool:
    """Whether all Python in it is this library's: no constructor or function (a mask, a schedule) of a user's."""
    if isinstance(x, Static):
        return not callable(x.value) or isinstance(x.value, type)
    if not isinstance(x, Value):
        return True
    inside = jax.tree.leaves(list(x._arguments.values()), is_leaf=lambda x: isinstance(x, (Static, Value)))
    return (x.constructor.__module__ or "").startswith("gradtx.") and all(map(_is_ours, inside))


# Errors


def _foreign_state(tx: GradientTransformation, updates: Tree, state: Tree, params: Tree) -> str | None:
    """After a failure: if the state is not one that `tx` makes, say at which path it first differs."""
    if params is None:
        params = updates
        if not all(map(present, jax.tree.leaves(updates, is_leaf=is_none))):
            return None  # leaves without an update this time; the parameters may have them
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
                f"expected {ours[path].shape}; migrate_state(state, tx, params) carries over what fits"
            )
    return None

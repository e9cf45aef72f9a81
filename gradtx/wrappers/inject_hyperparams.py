"""Hyperparameters that live in the state, to be read and set in a running loop."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, overload

import jax
import jax.numpy as jnp

from gradtx.core.build import initialize, is_transformation, run
from gradtx.core.constructor import Constructor, constructor_in
from gradtx.core.numerics import increment
from gradtx.core.roles import EmptyState
from gradtx.core.schedule import Schedule, as_schedule
from gradtx.core.transformation import GradientTransformation, Transformation, transformation
from gradtx.core.typing import InitAndUpdate
from gradtx.state.hyperparams import InjectHyperparamsState
from gradtx.state.paths import index_of, is_within, numbers, shortest_names

__all__ = ["inject_hyperparams"]

Tree = Any


class _OfEither(Constructor[..., GradientTransformation]):
    """Takes a finished transformation; or, as in Optax, a constructor of one, and then returns a constructor."""

    @overload
    def __call__(self, inner: InitAndUpdate, /, *names: str) -> GradientTransformation: ...

    @overload
    def __call__(self, *, inner: InitAndUpdate) -> GradientTransformation: ...

    @overload
    def __call__(
        self,
        inner: Callable[..., Any],
        /,
        *names: str,
        static_args: str | Iterable[str] = ...,
        hyperparam_dtype: Any = ...,
    ) -> Callable[..., GradientTransformation]: ...

    def __call__(
        self, inner: Any, *names: str, static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
    ) -> Any:
        if is_transformation(inner) and not isinstance(inner, type):
            _chosen(inner, names)
            return super().__call__(inner, *names)
        if not callable(inner):
            raise TypeError(f"inject_hyperparams: {inner!r} is neither a transformation nor a constructor of one")
        given: Any = (*names, *(static_args, hyperparam_dtype)[len(names) :])  # Optax takes them by position
        static_args, hyperparam_dtype = given
        if hyperparam_dtype is not None and jnp.finfo(hyperparam_dtype).bits < 32:
            raise ValueError(f"inject_hyperparams: hyperparameters are float32 or wider, got {hyperparam_dtype!r}")
        return _factory(inner, {static_args} if isinstance(static_args, str) else set(static_args))

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__call__)
        return signature.replace(return_annotation=super().__signature__.return_annotation)


# From a finished transformation


@functools.partial(_OfEither, GradientTransformation, as_schedule=as_schedule)
def inject_hyperparams(inner: Transformation, *names: str) -> Any:
    """Move hyperparameters into the state, where a loop can read and set them without recompiling.

    Read them with `hyperparams(state)`, set them with `set_hyperparams(state, learning_rate=…)` (or, outside `jit`,
    as with Optax: `state.hyperparams["learning_rate"] = 3e-4`). A hyperparameter that is a schedule is evaluated at
    each step; its value can be read there, but not set.

    Args:
      inner: a finished transformation. Or, as in Optax, a constructor of one, from any library:
        `inject_hyperparams(optax.adam)(learning_rate=1e-3)` injects all floats among its arguments and defaults, and
        functions, which are taken for schedules. A further positional argument is then `static_args`, as in Optax.
      *names: which ones; a name may need part of its path in front, "encoder/learning_rate", and may go on below the
        argument, "learning_rate/peak_value" of a schedule. By default all numbers and schedules.
      static_args: with a constructor, names of arguments to leave as they are.
      hyperparam_dtype: has no effect; they are float32 (float64 under x64), whatever the parameters are.

    State: count, hyperparams (name -> value), and the inner state.

    Raises:
      LookupError: no hyperparameter, or several, match a name; the message lists the candidates.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.inject_hyperparams(gradtx.adam(1e-3), "learning_rate")
    >>> state = gradtx.set_hyperparams(tx.init(jnp.zeros(3)), learning_rate=0.5)
    >>> updates, state = tx.update(jnp.ones(3), state)
    >>> updates.round(3).tolist()
    [-0.5, -0.5, -0.5]
    """
    keys, leaves, structure = _chosen(inner, names)

    def at(values: dict[str, Any]) -> Any:
        return structure.unflatten(
            [leaf if key is None else values.get(key, leaf) for key, leaf in zip(keys, leaves, strict=True)]
        )

    items = {key: leaf for key, leaf in zip(keys, leaves, strict=True) if key is not None}
    schedules = {key: item for key, item in items.items() if isinstance(item, Schedule)}

    def scheduled(count: jax.Array) -> dict[str, jax.Array]:
        return {key: jnp.asarray(item(count), float) for key, item in schedules.items()}

    def init(params: Tree) -> InjectHyperparamsState:
        count = jnp.zeros((), jnp.int32)
        values = {key: jnp.asarray(item, float) for key, item in items.items() if key not in schedules}
        markers = {key: EmptyState() for key in schedules}
        with jax.ensure_compile_time_eval():
            first = scheduled(jnp.zeros((), jnp.int32))
        return InjectHyperparamsState(count, values | first, markers, initialize(at(first), params))

    def update(
        updates: Tree, state: InjectHyperparamsState, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, InjectHyperparamsState]:
        unknown = sorted(state.hyperparams.keys() - items.keys())
        if unknown:  # assigned to, as in Optax: state.hyperparams["learning_rate"] = …
            known = ", ".join(items)
            raise LookupError(f"inject_hyperparams: no hyperparameter {unknown[0]!r} was injected; there are {known}")
        values = {key: jnp.asarray(value, float) for key, value in state.hyperparams.items()}
        values |= scheduled(state.count)
        updates, inner_state = run(at(values), updates, state.inner_state, params, extra_args)
        return updates, InjectHyperparamsState(increment(state.count), values, state.scheduled, inner_state)

    return init, update


def _chosen(inner: Any, names: tuple[str, ...]) -> tuple[list[str | None], list[Any], Any]:
    """The leaves and the structure of a transformation, and which leaf goes by which name; None for the others.

    A chosen schedule is one leaf; any other is taken apart.
    """
    arguments = list(numbers(inner, lambda x: isinstance(x, Schedule)))
    within = list(numbers(inner, lambda x: False))  # the numbers in schedules, too
    chosen: dict[tuple[str, ...], str] = {}
    if not names:
        paths = [path for path, _ in arguments]
        chosen = dict(zip(paths, shortest_names(paths), strict=True))
    for name in names:
        try:
            path = arguments[index_of(name, [path for path, _ in arguments], "hyperparameter")][0]
        except LookupError:
            if not any(is_within(tuple(name.split("/")), path) for path, _ in within):
                raise
            path = within[index_of(name, [path for path, _ in within], "hyperparameter")][0]
        chosen[path] = name
    whole = {id(item) for path, item in arguments if path in chosen and isinstance(item, Schedule)}
    leaves, structure = jax.tree.flatten(inner, is_leaf=lambda x: id(x) in whole)
    return [chosen.get(path) for path, _ in numbers(inner, lambda x: id(x) in whole)], leaves, structure


# From a constructor, as in Optax


def _factory(make: Callable[..., Any], static: set[str]) -> Callable[..., Any]:
    signature = inspect.signature(make)
    unknown = static - signature.parameters.keys()
    if unknown:
        known = ", ".join(signature.parameters)
        raise ValueError(f"inject_hyperparams: {min(unknown)!r} is no argument of {make.__name__}; it has {known}")

    @functools.wraps(make)
    def constructor(*args: Any, **kwargs: Any) -> GradientTransformation:
        if constructor_in(make):
            made = make(*args, **kwargs)
            paths = [path for path, _ in numbers(made, lambda x: isinstance(x, Schedule))]
        else:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            left = {name: a for name, a in bound.arguments.items() if name in static}
            given = {n: as_schedule(a) if callable(a) else a for n, a in bound.arguments.items() if n not in static}
            made = made_by(make, given, left)
            paths = [path[1:] for path, _ in numbers(made, lambda x: isinstance(x, Schedule)) if path[0] == "given"]
        names = ["/".join(path) for path in paths if path[0] not in static]
        return inject_hyperparams(made, *names) if names else made

    return constructor


@transformation
def made_by(factory: Any, given: Any, static: Any) -> Any:
    """What a function of any library returns for these arguments; their floats are the numbers of this value."""
    bound = inspect.BoundArguments(inspect.signature(factory), given | static)
    return factory(*bound.args, **bound.kwargs)

"""Transformations that act only in some steps, or only on some leaves.

A step that is not taken is not computed: the choice is a branch (`lax.cond`), with the state updated in place."""

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.atoms.stateless import freeze
from gradtx.core.build import initialize, run
from gradtx.core.combine import chain
from gradtx.core.numerics import increment
from gradtx.core.roles import Inner, Number
from gradtx.core.select import masked, select
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import cast_like, map_leaves

__all__ = [
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "conditionally_mask",
    "conditionally_transform",
    "selective_transform",
]

Tree = Any


class ConditionallyTransformState(NamedTuple):
    """The state of the inner transformation, and the count of all steps."""

    inner_state: Inner
    step: Number  # int32


class ConditionallyMaskState(NamedTuple):
    """The state of the inner transformation, and the count of all steps."""

    step: Number  # int32
    inner_state: Inner


def run_if(
    now: jax.Array,
    inner: Any,
    updates: Tree,
    state: Tree,
    params: Tree,
    extra_args: dict[str, Any],
    otherwise: Callable[[jax.Array], jax.Array],
) -> tuple[Tree, Tree]:
    """The step of `inner` if `now` is true, else `otherwise` of the updates, and the old state."""
    updates = map_leaves(lambda u: u, updates)  # in float32 or wider: both branches have the same dtypes

    def taken(updates: Tree, state: Tree) -> tuple[Tree, Tree]:
        new, new_state = run(inner, updates, state, params, extra_args)
        return cast_like(new, updates), cast_like(new_state, state)

    def not_taken(updates: Tree, state: Tree) -> tuple[Tree, Tree]:
        return map_leaves(otherwise, updates), state

    return jax.lax.cond(now, taken, not_taken, updates, state)


def _conditionally(inner: Any, condition: Any, forward: bool, otherwise: Any, state_type: Any) -> Any:
    parameters = list(inspect.signature(condition).parameters.values())[1:] if forward else []
    taken = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def init(params: Tree) -> Tree:
        return state_type(step=jnp.zeros((), jnp.int32), inner_state=initialize(inner, params))

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        forwarded = {name: x for name, x in extra_args.items() if anything or name in taken}
        now = condition(state.step, **forwarded)
        if jnp.shape(now) or not jnp.issubdtype(jnp.result_type(now), jnp.bool_):
            raise ValueError(f"should_transform_fn must return one boolean, got {jax.typeof(now)}")
        updates, inner_state = run_if(now, inner, updates, state.inner_state, params, extra_args, otherwise)
        return updates, state_type(step=increment(state.step), inner_state=inner_state)

    # The extra arguments that the condition names are among those that this transformation takes.
    own = inspect.signature(update)
    arguments = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in taken if n != "params"]
    head, rest = list(own.parameters.values())[:3], list(own.parameters.values())[3:]
    update.__signature__ = own.replace(parameters=[*head, *arguments, *rest])  # type: ignore[attr-defined]
    return init, update


@transformation
def conditionally_transform(
    inner: Transformation, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Any:
    """Transform the updates in the steps that a function of the step count chooses; pass them through in the others.

    In a step that is not chosen, the inner state stays as it is. To set the updates to zero instead, use
    `conditionally_mask`.

    Args:
      inner: the transformation.
      should_transform_fn: `step -> bool`; it is given the number of earlier steps, as an array, inside `jit`.
      forward_extra_args: also pass the function those extra arguments of `update` that it names:
        `lambda step, *, value: value < 10`.

    State: that of the inner transformation, and a count.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.conditionally_transform(gradtx.clip(1.0), lambda step: step >= 2)
    >>> state = tx.init(jnp.zeros(()))
    >>> for _ in range(3):
    ...     update, state = tx.update(jnp.array(5.0), state)
    ...     print(update)
    5.0
    5.0
    1.0
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args, lambda u: u, ConditionallyTransformState)


@transformation
def conditionally_mask(
    inner: Transformation, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Any:
    """Transform the updates in the steps that a function of the step count chooses; set them to zero in the others.

    In a step that is not chosen, the inner state stays as it is: an optimizer that takes every k-th step, say, sees no
    other gradient. (`accumulate` gives it the mean of all.)

    Args:
      inner: the transformation.
      should_transform_fn: `step -> bool`; see `conditionally_transform`.
      forward_extra_args: also pass the function extra arguments; see `conditionally_transform`.

    State: that of the inner transformation, and a count.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.conditionally_mask(gradtx.sgd(1.0), lambda step: step % 2 == 0)
    >>> state = tx.init(jnp.zeros(()))
    >>> for _ in range(3):
    ...     update, state = tx.update(jnp.array(5.0), state)
    ...     print(update)
    -5.0
    0.0
    -5.0
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args, jnp.zeros_like, ConditionallyMaskState)


@transformation
def selective_transform(optimizer: Transformation, *, freeze_mask: Any) -> Any:
    """Optimize all leaves but the chosen ones, which are frozen and have no state.

    Args:
      optimizer: for the other leaves.
      freeze_mask: which leaves to freeze: a pattern, a predicate, a tree of booleans, or one boolean for all; see
        `masked`.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    >>> tx = gradtx.selective_transform(gradtx.sgd(0.5), freeze_mask="bias")
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([0., 0.], dtype=float32), 'kernel': Array([-0.5, -0.5], dtype=float32)}
    """

    def trained(params: Tree) -> Tree:
        return jax.tree.map(operator.not_, select(freeze_mask, params))

    return chain(masked(optimizer, trained), freeze(freeze_mask))

"""Gradient accumulation: one step from many small batches.

    accumulate      the optimizer sees the mean gradient of k calls; the other calls change nothing
    apply_every     the updates of k calls, added up at the end of a chain

The single buffer of `accumulate` holds the mean so far, in float32. After a step it holds the update that was applied:
updates are returned through the buffer, so that the compiled step needs no other memory. Whether a call is a step is
decided by a branch (`lax.cond`), not a select: in between, the optimizer's state is neither read nor written, and in a
step it is overwritten in place.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Dtype, Kind, Period, checked
from gradtx.core.build import initialize, run
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import global_norm, increment
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.schedule import Schedule
from gradtx.core.transformation import GradientTransformation, Transformation, transformation
from gradtx.core.tree import cast_like, is_none, map_leaves, present, zeros_like
from gradtx.state.paths import find

__all__ = [
    "ApplyEvery",
    "MultiSteps",
    "MultiStepsState",
    "accumulate",
    "apply_every",
    "skip_large_updates",
    "skip_not_finite",
]

Tree = Any
Skip = Callable[[Tree, jax.Array, Tree], tuple[jax.Array, Tree]]


class _Every(Kind):
    """The kind of an argument that is a number of calls, or a function that returns one, given the steps so far."""

    def __repr__(self) -> str:
        return "Period"

    def check(self, owner: str, name: str, value: Any) -> Any:
        return value if callable(value) else checked(Period, owner, name, value)


Every: TypeAlias = Annotated[int | Callable[[jax.Array], Any], _Every()]


class MultiStepsState(NamedTuple):
    """The gradients since the last step, and the optimizer."""

    mini_step: Number  # int32, gradients in the buffer
    gradient_step: Number  # int32, steps of the optimizer
    inner_opt_state: Inner
    acc_grads: Slot  # the mean (or sum) so far; while mini_step is 0, the update that the last step applied
    skip_state: Number  # what the skip function last returned
    total_skipped: Number  # int32, gradients that were skipped
    has_updated: Number  # bool, whether the last call was a step

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics` collects."""
        told = self.skip_state if isinstance(self.skip_state, dict) else {}
        return {"total_skipped": self.total_skipped, **told}


@transformation(name="accumulate")
def _accumulated(
    inner: Transformation, every: tuple[Any], use_grad_mean: bool, should_skip: Skip | None, dtype: Any = None
) -> Any:
    # `every` is wrapped in a tuple: a schedule as a plain argument would be evaluated at the count of calls.

    def skips(updates: Tree, step: jax.Array, params: Tree) -> tuple[jax.Array, Tree]:
        if should_skip is None:
            return jnp.zeros((), bool), ()
        skip, skip_state = should_skip(updates, step, params)
        if jnp.shape(skip) or not jnp.issubdtype(jnp.result_type(skip), jnp.bool_):
            raise ValueError(f"accumulate: the skip function must return one boolean first, got {jax.typeof(skip)}")
        return jnp.asarray(skip), jax.tree.map(jnp.asarray, skip_state)

    def init(params: Tree) -> MultiStepsState:
        zero, buffer = jnp.zeros((), jnp.int32), zeros_like(params)
        if dtype is not None:
            buffer = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, dtype)), buffer)
        _, skip_state = jax.eval_shape(skips, buffer, zero, params)
        skip_state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), skip_state)
        return MultiStepsState(zero, zero, initialize(inner, params), buffer, skip_state, zero, jnp.zeros((), bool))

    def update(
        updates: Tree, state: MultiStepsState, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, MultiStepsState]:
        n, (k,) = state.mini_step, every
        k = jnp.asarray(k(state.gradient_step) if isinstance(k, Schedule) else k).astype(jnp.int32)
        skip, skip_state = skips(updates, state.gradient_step, params)
        step = ~skip & (n >= k - 1)
        first, share = n == 0, 1 / jnp.asarray(n + 1, float)

        def gathered(total: jax.Array, g: jax.Array) -> jax.Array:
            new = total + share * (g - total) if use_grad_mean else total + g
            # The first gradient overwrites the last update, whatever that was, so that a NaN does not persist.
            return jnp.where(skip, total, jnp.where(first, g, new))

        def gather(buffer: Tree) -> Tree:
            return cast_like(map_leaves(gathered, buffer, updates), buffer)

        def kept(buffer: Tree, inner_state: Tree) -> tuple[Tree, Tree]:
            return late(buffer), inner_state

        def applied(buffer: Tree, inner_state: Tree) -> tuple[Tree, Tree]:
            gradients = jax.tree.map(lambda u, g: g if present(u) else None, updates, late(buffer), is_leaf=is_none)
            new, new_state = run(inner, gradients, inner_state, params, extra_args)
            return cast_like(new, buffer), cast_like(new_state, inner_state)

        # Before the branch, XLA:CPU accumulates in place and other backends need extra memory; within it, the reverse.
        early, late = _on_cpu(gather), _elsewhere(gather)
        buffer, inner_state = jax.lax.cond(step, applied, kept, early(state.acc_grads), state.inner_opt_state)
        new_state = MultiStepsState(
            mini_step=jnp.where(step, 0, jnp.where(skip, n, n + 1)),
            gradient_step=jnp.where(step, increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner_state,
            acc_grads=buffer,
            skip_state=cast_like(skip_state, state.skip_state),
            total_skipped=jnp.where(skip, increment(state.total_skipped), state.total_skipped),
            has_updated=step,
        )
        return map_leaves(lambda _, x: jnp.where(step, x, 0), updates, buffer), new_state

    return init, update


def _on_cpu(f: Callable[[Tree], Tree]) -> Callable[[Tree], Tree]:
    return lambda tree: jax.lax.platform_dependent(tree, cpu=f, default=lambda tree: tree)


def _elsewhere(f: Callable[[Tree], Tree]) -> Callable[[Tree], Tree]:
    return lambda tree: jax.lax.platform_dependent(tree, cpu=lambda tree: tree, default=f)


@transformation
def accumulate(
    inner: Transformation, every: Every, *, use_grad_mean: bool = True, should_skip_update_fn: Skip | None = None
) -> Any:
    """Accumulate gradients: every k-th call takes a step with the mean of k gradients, the others return zero updates.

    The steps are those that the optimizer would take if the k batches were one. Its schedules advance once per step.

    Args:
      inner: the optimizer.
      every: k; or a function of the number of steps taken so far, to let the batch grow (a schedule is rounded down).
      use_grad_mean: False takes the sum of the gradients instead.
      should_skip_update_fn: `(updates, gradient_step, params) -> (whether to leave them out, a tree of numbers)`, such
        as `skip_not_finite`. Gradients left out do not count: the mean of a step is still over k gradients.

    State: one slot per parameter, in float32 or wider, and that of the optimizer. `metrics` reads how many gradients
    were skipped and what the skip function last returned.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.accumulate(gradtx.sgd(0.5), every=2)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0, 5.0, 7.0):
    ...     update, state = tx.update(jnp.array(gradient), state)
    ...     print(float(update))
    0.0
    -1.0
    0.0
    -3.0
    """
    return _accumulated(inner, (every,), use_grad_mean, should_skip_update_fn)


class MultiSteps(GradientTransformation):
    """`accumulate` with the interface of Optax: `MultiSteps(adam(1e-3), every_k_schedule=4)`.

    Here it is itself a transformation, for any chain or training loop; `gradient_transformation()` is there for code
    that calls it.

    Args:
      opt: the optimizer.
      every_k_schedule: k, or a function of the number of steps taken so far.
      use_grad_mean: False takes the sum of the gradients instead.
      should_skip_update_fn: which gradients to leave out; see `accumulate`.
      accumulator_dtype: float64 for a wider buffer; it is never narrower than float32 and the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.MultiSteps(gradtx.adam(0.1), every_k_schedule=2, should_skip_update_fn=gradtx.skip_not_finite)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, jnp.nan, 2.0):
    ...     update, state = tx.update(jnp.array(gradient), state)
    >>> round(float(update), 3), bool(tx.has_updated(state)), gradtx.metrics(state)["total_skipped"].item()
    (-0.1, True, 1)
    """

    __slots__ = ()
    made_by: ClassVar[Any]

    def __new__(
        cls,
        opt: Any,
        every_k_schedule: Any,
        use_grad_mean: bool = True,
        should_skip_update_fn: Skip | None = None,
        accumulator_dtype: Any = None,
    ) -> "MultiSteps":
        """Make the transformation."""
        return _multi_steps(opt, every_k_schedule, use_grad_mean, should_skip_update_fn, accumulator_dtype)

    @property
    def inner_opt(self) -> Any:
        """The optimizer."""
        return self.arguments["opt"]

    def gradient_transformation(self) -> GradientTransformation:
        """This transformation."""
        return self

    def has_updated(self, state: Tree) -> jax.Array:
        """Whether the last call was a step of the optimizer, rather than one in between or one that was skipped.

        Args:
          state: of this transformation, or any pytree that holds one.

        Raises:
          LookupError: nothing in it accumulates gradients.
        """
        for _, found in find(state, lambda x: isinstance(x, MultiStepsState)):
            return found.has_updated
        raise LookupError("MultiSteps: nothing in this state accumulates gradients")


@transformation(cls=MultiSteps, name="MultiSteps")
def _multi_steps(
    opt: Transformation,
    every_k_schedule: Every,
    use_grad_mean: bool = True,
    should_skip_update_fn: Skip | None = None,
    accumulator_dtype: Dtype | None = None,
) -> Any:
    return _accumulated(opt, (every_k_schedule,), use_grad_mean, should_skip_update_fn, accumulator_dtype)


MultiSteps.made_by = _multi_steps  # found by name, as any constructor is
_multi_steps.__doc__ = MultiSteps.__doc__


# Which gradients to leave out


def skip_not_finite(updates: Tree, gradient_step: jax.Array, params: Tree) -> tuple[jax.Array, Tree]:
    """For `accumulate`: leave out gradients with an infinite or NaN element.

    Args:
      updates: the gradients.
      gradient_step: not used.
      params: not used.

    Returns:
      Whether to skip, and `{"should_skip", "num_not_finite"}`.
    """
    counts = [jnp.sum(~jnp.isfinite(g)) for g in jax.tree.leaves(updates) if present(g)]
    total = sum(counts, jnp.zeros((), jnp.int32))
    return total > 0, {"should_skip": total > 0, "num_not_finite": total}


def skip_large_updates(
    updates: Tree, gradient_step: jax.Array, params: Tree, max_squared_norm: Any
) -> tuple[jax.Array, Tree]:
    """For `accumulate`: leave out gradients whose norm is too large, infinite or NaN.

    Use it as `functools.partial(skip_large_updates, max_squared_norm=100.0)`.

    Args:
      updates: the gradients.
      gradient_step: not used.
      params: not used.
      max_squared_norm: the squared norm over all leaves, Σ|g|², must be below this.

    Returns:
      Whether to skip, and `{"should_skip", "norm_squared"}`.
    """
    squared = global_norm(updates) ** 2
    skip = ~(squared < max_squared_norm)  # true for NaN, too
    return skip, {"should_skip": skip, "norm_squared": squared}


# At the end of a chain


class ApplyEvery(NamedTuple):
    """The sum of the updates since one was last let through."""

    count: Number  # int32, calls so far, modulo k
    grad_acc: Slot  # their sum


@transformation
def apply_every(k: Period = 1) -> Any:
    """Sum the updates and let the sum through in every k-th call; zero in the others.

    The transformations before it in a chain still take a step in every call. For one step of a whole optimizer per k
    calls, use `accumulate`.

    Args:
      k: the number of updates to sum.

    State: one slot per parameter, in float32 or wider.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(0.5), gradtx.apply_every(2))
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0):
    ...     update, state = tx.update(jnp.array(gradient), state)
    ...     print(float(update))
    0.0
    -2.0
    """

    return leafwise(
        init=lambda p: ApplyEvery(0, zeros_like(p)),
        numbers=lambda s: s.count,
        count=lambda s, n: s._replace(count=(n + 1) % k),
        advance=lambda s, u, n: s._replace(grad_acc=jnp.where(n == 0, u, s.grad_acc + u)),
        emit=lambda s, n: jnp.where(n >= k - 1, s.grad_acc, 0),
    )

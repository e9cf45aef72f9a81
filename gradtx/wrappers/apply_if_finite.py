"""Guards: keep bad gradients away from a transformation.

A bad step is skipped: there is no update, and the inner state stays as it was. `metrics` reads how many were skipped.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Positive, Steps
from gradtx.core.build import initialize, run
from gradtx.core.numerics import global_norm, increment
from gradtx.core.roles import Inner, Number
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import map_leaves, present

__all__ = ["apply_if_finite", "skip_spikes"]

Tree = Any


def _run_if(
    good: jax.Array, inner: Any, updates: Tree, state: Tree, params: Tree, extra_args: dict[str, Any]
) -> tuple[Tree, Tree]:
    """The step of `inner` if it is a good one; else zero updates and the old state.

    Both are computed and one is selected: a branch (`lax.cond`) could be fused with neither the gradients before it nor
    the parameters' update after it. Where the step is skipped, `inner` sees zeros, so that it produces no NaN.
    """

    def kept(u: jax.Array) -> jax.Array:
        return jnp.where(good, u, 0)

    updates, new_state = run(inner, map_leaves(kept, updates), state, params, extra_args)
    return map_leaves(kept, updates), jax.tree.map(lambda new, old: jnp.where(good, new, old), new_state, state)


# Non-finite gradients


class ApplyIfFiniteState(NamedTuple):
    """Counts of the steps skipped so far."""

    notfinite_count: Number  # int32, skipped steps in a row
    last_finite: Number  # bool, of the last step
    total_notfinite: Number  # int32, all skipped steps
    gave_up: Number  # bool, at some point more were skipped in a row than are allowed
    inner_state: Inner

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {name: getattr(self, name) for name in ("notfinite_count", "total_notfinite", "gave_up")}


@transformation
def apply_if_finite(inner: Transformation, max_consecutive_errors: Steps) -> Any:
    """Skip the steps whose gradients have an infinite or NaN element.

    After more than `max_consecutive_errors` in a row, `gave_up` in the state becomes true and stays so: a loop should
    check it (`metrics(state)["gave_up"]`) and stop. Even then, gradients that are not finite are skipped and finite
    ones used as before: no parameter becomes NaN. (Optax applies non-finite gradients from then on.)

    Args:
      inner: the transformation.
      max_consecutive_errors: how many steps may be skipped in a row without giving up.

    State: counts of skipped steps, and that of the inner transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.apply_if_finite(gradtx.adam(0.1), max_consecutive_errors=3)
    >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
    >>> updates.tolist(), gradtx.metrics(state)["total_notfinite"].item()
    ([0.0, 0.0], 1)
    """

    def init(params: Tree) -> ApplyIfFiniteState:
        zero = jnp.zeros((), jnp.int32)
        return ApplyIfFiniteState(zero, jnp.ones((), bool), zero, jnp.zeros((), bool), initialize(inner, params))

    def update(
        updates: Tree, state: ApplyIfFiniteState, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, ApplyIfFiniteState]:
        largest = [jnp.max(jnp.abs(u), initial=0) for u in jax.tree.leaves(updates) if present(u)]
        finite = jnp.all(jnp.stack([x < jnp.inf for x in largest])) if largest else jnp.ones((), bool)
        in_a_row = jnp.where(finite, 0, increment(state.notfinite_count))
        updates, inner_state = _run_if(finite, inner, updates, state.inner_state, params, extra_args)
        return updates, ApplyIfFiniteState(
            notfinite_count=in_a_row,
            last_finite=finite,
            total_notfinite=jnp.where(finite, state.total_notfinite, increment(state.total_notfinite)),
            gave_up=state.gave_up | (in_a_row > max_consecutive_errors),
            inner_state=inner_state,
        )

    return init, update


# Spikes


class SkipSpikesState(NamedTuple):
    """The running average and variance, and the number of steps skipped so far."""

    num_values: Number  # int32, values in the averages
    mean: Number
    variance: Number
    limit: Number  # what the next value may not exceed; infinite while warming up
    total_skipped: Number  # int32
    inner_state: Inner

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"total_skipped": self.total_skipped, "spike_limit": self.limit}


@transformation
def skip_spikes(
    inner: Transformation,
    num_sigmas: Positive = 6.0,
    decay: Decay = 0.99,
    warmup_steps: Steps = 20,
    of: str = "gradient_norm",
) -> Any:
    """Skip the steps whose gradient norm (or loss) is far above its running average: x > mean + k·σ, or not finite.

    Mean and σ are exponential moving averages; σ is taken to be at least 1 % of the mean. A spike enters them clipped
    to the limit that it exceeded: a single one hardly moves them, and a lasting rise is followed after a few steps.

    Args:
      inner: the transformation.
      num_sigmas: k.
      decay: β of the averages; 0.99 looks back about 100 steps.
      warmup_steps: the number of initial steps in which no finite value is skipped.
      of: "gradient_norm", the norm of the incoming updates over all leaves; or "value", the loss passed to `update`
        (`make_step` passes it).

    State: the averages, a count of skipped steps, and that of the inner transformation.

    Raises:
      TypeError: `of` is "value", and `value` is not passed to `update`.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.skip_spikes(gradtx.sgd(1.0), warmup_steps=3)
    >>> state = tx.init(jnp.zeros(1))
    >>> for size in (1.0, 1.1, 0.9, 1.0, 50.0):
    ...     updates, state = tx.update(jnp.array([size]), state)
    >>> updates.item(), gradtx.metrics(state)["total_skipped"].item()
    (0.0, 1)
    """
    if of not in ("gradient_norm", "value"):
        raise ValueError(f"skip_spikes: of must be 'gradient_norm' or 'value', got {of!r}")

    def init(params: Tree) -> SkipSpikesState:
        zero, count = jnp.zeros((), float), jnp.zeros((), jnp.int32)
        limit = jnp.full((), jnp.inf, float)
        return SkipSpikesState(count, zero, zero, limit, count, initialize(inner, params))

    def update(
        updates: Tree, state: SkipSpikesState, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, SkipSpikesState]:
        if of == "value" and "value" not in extra_args:
            raise TypeError("skip_spikes needs the extra argument 'value': update(updates, state, params, value=…)")
        x = jnp.asarray(extra_args["value"] if of == "value" else global_norm(updates), float)
        finite = jnp.isfinite(x)
        good = finite & (x <= state.limit)
        updates, inner_state = _run_if(good, inner, updates, state.inner_state, params, extra_args)

        # A plain average until it spans as many steps as the exponential one, then the latter (West 1979).
        count = jnp.where(finite, increment(state.num_values), state.num_values)
        weight = jnp.where(finite, jnp.maximum(1 - decay, 1 / jnp.maximum(count, 1)), 0)
        change = jnp.where(finite, jnp.minimum(x, state.limit) - state.mean, 0)
        mean = state.mean + weight * change
        variance = (1 - weight) * (state.variance + weight * change**2)
        deviation = jnp.maximum(jnp.sqrt(variance), 0.01 * jnp.abs(mean))
        return updates, SkipSpikesState(
            num_values=count,
            mean=mean,
            variance=variance,
            limit=jnp.where(count >= warmup_steps, mean + num_sigmas * deviation, jnp.inf),
            total_skipped=jnp.where(good, state.total_skipped, increment(state.total_skipped)),
            inner_state=inner_state,
        )

    return init, update

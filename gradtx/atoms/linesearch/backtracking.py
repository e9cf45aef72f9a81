"""Backtracking: shrink the step size until the loss falls by a given fraction of what its slope predicts."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.atoms.linesearch.objective import Line, call_compiled, for_value_fn, scalar_dtype, scaled, slope
from gradtx.core.arguments import NonNegative, OpenDecay, Positive, Range, Steps
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.transformation import transformation
from gradtx.core.tree import cast_like, map_leaves, zeros_like

__all__ = ["scale_by_backtracking_linesearch"]

Tree = Any
Factor: TypeAlias = Annotated[float, Range("Factor", lambda x: x >= 1, "at least 1")]


class BacktrackingLinesearchInfo(NamedTuple):
    """How the last search went."""

    num_linesearch_steps: Number  # int32, evaluations of the loss
    decrease_error: Number  # by how much the last step size tried misses the condition
    failed: Number  # bool, no step size was found, and no step taken


class BacktrackingLinesearchState(NamedTuple):
    """The result of the last search."""

    learning_rate: Number  # the step size; where none was found, the last one tried
    value: Number  # the loss at the new parameters; infinite before the first step
    grad: Slot  # its gradient there, as `jax.grad` returns it; None unless it is kept
    info: Inner  # BacktrackingLinesearchInfo

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {
            "linesearch_rate": self.learning_rate,
            "linesearch_steps": self.info.num_linesearch_steps,
            "linesearch_failed": self.info.failed,
        }


@transformation
def scale_by_backtracking_linesearch(
    max_backtracking_steps: Steps,
    slope_rtol: NonNegative = 1e-4,
    decrease_factor: OpenDecay = 0.8,
    increase_factor: Factor = 1.5,
    max_learning_rate: Positive = 1.0,
    atol: NonNegative = 0.0,
    rtol: NonNegative = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> Any:
    """Scale the updates by the first step size t of a decreasing sequence that satisfies Armijo's condition:

        f(θ + t·u) ≤ f(θ) + δ·|f(θ)| + c·t·⟨∇f(θ), u⟩ + τ

    Where u does not point downhill, the slope counts as 0. A step size at which the loss is not finite is too large. If
    no step size satisfies the condition, the updates are zero, and the next search continues from the last one tried.
    (Optax takes that step, although the loss may rise.)

    Args:
      max_backtracking_steps: how often t is decreased, at most; the loss may be evaluated once more than that.
      slope_rtol: c.
      decrease_factor: the factor from one t to the next.
      increase_factor: the factor from the last t to the first of the next search; infinite to start at the largest.
      max_learning_rate: the largest t.
      atol: τ.
      rtol: δ.
      store_grad: keep the gradient at the new parameters; see `value_and_grad_from_state`.
      verbose: print a message if no step size was found.

    Takes the extra arguments `value`, `grad` and `value_fn(params)`: the loss and its gradient at the parameters, and
    the loss as a function, which must be pure: it is traced once. Others are passed on to it. Needs the parameters.

    State: none per parameter, or one slot if the gradient is kept.

    Raises:
      TypeError: an extra argument that `value_fn` does not take.

    Source: Armijo 1966, https://doi.org/10.2140/pjm.1966.16.1; for stochastic losses Vaswani et al. 2019,
    https://arxiv.org/abs/1905.09997

    >>> import gradtx, jax.numpy as jnp
    >>> search = gradtx.scale_by_backtracking_linesearch(max_backtracking_steps=15, decrease_factor=0.5)
    >>> step = gradtx.make_step(lambda x: jnp.sum(8 * x**2), gradtx.chain(gradtx.sgd(1.0), search))
    >>> state = step.init(jnp.ones(2))
    >>> _, state, value = step(jnp.ones(2), state)
    >>> new = state.scale_by_backtracking_linesearch
    >>> new.learning_rate.item(), value.item(), new.value.item()
    (0.0625, 16.0, 0.0)
    """
    rules = {
        "c": slope_rtol,
        "decrease": decrease_factor,
        "increase": increase_factor,
        "limit": max_learning_rate,
        "atol": atol,
        "rtol": rtol,
    }

    def init(params: Tree) -> BacktrackingLinesearchState:
        dtype = scalar_dtype(params)
        infinite = jnp.full((), jnp.inf, dtype)
        info = BacktrackingLinesearchInfo(jnp.zeros((), jnp.int32), infinite, jnp.zeros((), bool))
        grad = zeros_like(params) if store_grad else None
        return BacktrackingLinesearchState(jnp.ones((), dtype), infinite, grad, info)

    def update(
        updates: Tree,
        state: BacktrackingLinesearchState,
        params: Tree,
        *,
        value: Any,
        grad: Tree,
        value_fn: Callable[..., Any],
        **extra_args: Any,
    ) -> tuple[Tree, BacktrackingLinesearchState]:
        arguments = for_value_fn("scale_by_backtracking_linesearch", value_fn, params, grad, extra_args)
        data = arguments, max_backtracking_steps, store_grad, verbose
        dtype = scalar_dtype(params)
        numbers = {name: jnp.asarray(x, dtype) for name, x in rules.items()}
        updates, grad = map_leaves(lambda u: u, updates), map_leaves(jnp.conj, grad)
        start = jnp.asarray(value, dtype), grad
        return call_compiled(_backtrack, value_fn, data, updates, params, start, state.learning_rate, numbers)

    return init, update


class _Search(NamedTuple):
    tried: jax.Array  # how many step sizes
    stepsize: jax.Array
    value: jax.Array
    grad: Tree
    error: jax.Array


def _backtrack(
    value_fn: Callable[..., Any], data: Any, updates: Tree, params: Tree, start: Any, last: jax.Array, rules: Any
) -> tuple[Tree, BacktrackingLinesearchState]:
    arguments, max_steps, store_grad, verbose = data
    line = Line(lambda params: value_fn(params, **arguments), params, updates)
    value, grad = start
    promised = jnp.minimum(slope(grad, updates), 0)
    here = cast_like(grad, zeros_like(params)) if store_grad else None

    def unfinished(s: _Search) -> jax.Array:
        return ~(s.error <= rules["atol"]) & (s.tried <= max_steps)

    def step(s: _Search) -> _Search:
        stepsize = jnp.where(s.tried == 0, 1, rules["decrease"]) * s.stepsize
        new, gradient = line.at(stepsize)
        error = jnp.maximum(new - value - rules["rtol"] * jnp.abs(value) - rules["c"] * stepsize * promised, 0)
        error = jnp.where(jnp.isfinite(new), error, jnp.inf)
        # Evaluated once at most: as soon as the condition holds, the search is over.
        kept = jax.lax.cond(error <= rules["atol"], gradient, lambda: s.grad) if store_grad else None
        return _Search(s.tried + 1, stepsize, new, kept, error)

    first = jnp.minimum(rules["increase"] * last, rules["limit"])
    s = jax.lax.while_loop(
        unfinished, step, _Search(jnp.zeros((), jnp.int32), first, value, here, jnp.full_like(value, jnp.inf))
    )
    found = s.error <= rules["atol"]
    if verbose:
        jax.lax.cond(found, lambda: None, lambda: _report(s, value, promised))
    info = BacktrackingLinesearchInfo(s.tried, s.error, ~found)
    state = BacktrackingLinesearchState(s.stepsize, jnp.where(found, s.value, value), s.grad, info)
    return scaled(jnp.where(found, s.stepsize, 0), updates), state


def _report(s: _Search, value: jax.Array, promised: jax.Array) -> None:
    jax.debug.print(
        "scale_by_backtracking_linesearch: after {n} evaluations the decrease is missed by {d}; value {v}, slope {s}, "
        "last rate {t}",
        n=s.tried,
        d=s.error,
        v=value,
        s=promised,
        t=s.stepsize,
    )

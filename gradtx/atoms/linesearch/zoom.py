"""A step size that is neither too small nor too large: the loss falls enough, and its slope is no longer steep.

The search keeps an interval that contains such a step size. One end, `low`, is the best step size so far; the other,
`high`, is infinite until a step size has been too large. Every trial becomes one of the ends. Finding an interval and
zooming into it are thus a single loop, which evaluates the loss in one place.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.atoms.linesearch.objective import Line, call_compiled, for_value_fn, scalar_dtype, scaled, slope
from gradtx.core.arguments import NonNegative, Period, Positive, Range
from gradtx.core.roles import Inner, Number, Slot
from gradtx.core.transformation import transformation
from gradtx.core.tree import cast_like, map_leaves, zeros_like

__all__ = ["scale_by_zoom_linesearch"]

Tree = Any
Factor: TypeAlias = Annotated[float, Range("Factor", lambda x: x > 1, "greater than 1")]


class ZoomLinesearchInfo(NamedTuple):
    """How the last search went."""

    num_linesearch_steps: Number  # int32, evaluations of the loss and its gradient
    decrease_error: Number  # 0, or, if no step size was found, by how much the last one tried misses the condition
    curvature_error: Number  # by how much the slope is still too steep
    failed: Number  # bool, no step size was found and no step taken, although the slope was not 0


class ZoomLinesearchState(NamedTuple):
    """The result of the last search."""

    learning_rate: Number  # the step size; where none was found, the last one tried
    value: Number  # the loss at the new parameters; infinite before the first step
    grad: Slot  # its gradient there, as `jax.grad` returns it
    info: Inner  # ZoomLinesearchInfo

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {
            "linesearch_rate": self.learning_rate,
            "linesearch_steps": self.info.num_linesearch_steps,
            "linesearch_failed": self.info.failed,
        }


@transformation
def scale_by_zoom_linesearch(
    max_linesearch_steps: Period,
    max_learning_rate: Positive | None = None,
    tol: NonNegative = 0.0,
    increase_factor: Factor = 2.0,
    slope_rtol: NonNegative = 1e-4,
    curv_rtol: NonNegative = 0.9,
    approx_dec_rtol: NonNegative | None = 1e-6,
    stepsize_precision: NonNegative = 1e-5,
    initial_guess_strategy: str = "keep",
    verbose: bool = False,
) -> Any:
    """Scale the updates by a step size t that satisfies the strong Wolfe conditions:

        f(θ + t·u) ≤ f(θ) + c₁·t·⟨∇f(θ), u⟩ + τ         and         |⟨∇f(θ + t·u), u⟩| ≤ c₂·|⟨∇f(θ), u⟩| + τ

    Where rounding hides the decrease, f(θ + t·u) ≤ f(θ) + c₃·|f(θ)| and ⟨∇f(θ + t·u), u⟩ ≤ (2c₁−1)·⟨∇f(θ), u⟩ + τ
    together suffice for the first. A step size at which the loss or its slope is not finite is too large.

    If no step size satisfies both, the best one that satisfies the first is taken. If there is none of those either, or
    u does not point downhill, the updates are zero: the loss never rises (except within the tolerance c₃).

    Args:
      max_linesearch_steps: evaluations of the loss and its gradient, at most.
      max_learning_rate: the largest t.
      tol: τ.
      increase_factor: the factor from one t to the next while t is too small.
      slope_rtol: c₁.
      curv_rtol: c₂; infinite for the first condition alone.
      approx_dec_rtol: c₃; None to allow no such exception to the first condition.
      stepsize_precision: an interval shorter than this ends the search, if some t in it satisfies the first condition.
      initial_guess_strategy: which t to try first: "one", for Newton-like steps, or "keep", the last one.
      verbose: print a message if a condition is not satisfied.

    Takes the extra arguments `value`, `grad` and `value_fn(params)`: the loss and its gradient at the parameters, and
    the loss as a function, which must be pure: it is traced once. Others are passed on to it. Needs the parameters.

    State: one slot per parameter, the gradient at the new parameters; see `value_and_grad_from_state`.

    Raises:
      TypeError: an extra argument that `value_fn` does not take.
      ValueError: an unknown strategy.

    Interpolation is cubic, through the values and slopes at both ends. Where the cubic has no minimum well inside the
    interval, the interval is bisected.

    Source: Nocedal & Wright 2006, algorithms 3.5 and 3.6, https://doi.org/10.1007/978-0-387-40065-5; Hager & Zhang
    2006, https://doi.org/10.1145/1132973.1132979

    >>> import gradtx, jax, jax.numpy as jnp
    >>> fn = lambda x: jnp.sum(jnp.array([1.0, 50.0]) * x**2)
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_zoom_linesearch(max_linesearch_steps=15))
    >>> x = jnp.array([1.0, 1.0])
    >>> value, grad = jax.value_and_grad(fn)(x)
    >>> updates, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=fn)
    >>> search = state.scale_by_zoom_linesearch
    >>> f"{value} → {search.value:.3f} at the rate {search.learning_rate:.4f}"
    '51.0 → 0.960 at the rate 0.0100'
    """
    if initial_guess_strategy not in ("one", "keep"):
        raise ValueError(
            f"scale_by_zoom_linesearch: initial_guess_strategy is 'one' or 'keep', got {initial_guess_strategy!r}"
        )
    rules = {
        "limit": jnp.inf if max_learning_rate is None else max_learning_rate,
        "tol": tol,
        "growth": increase_factor,
        "c1": slope_rtol,
        "c2": curv_rtol,
        "c3": -1.0 if approx_dec_rtol is None else approx_dec_rtol,
        "precision": stepsize_precision,
    }

    def init(params: Tree) -> ZoomLinesearchState:
        dtype = scalar_dtype(params)
        infinite = jnp.full((), jnp.inf, dtype)
        info = ZoomLinesearchInfo(jnp.zeros((), jnp.int32), infinite, infinite, jnp.zeros((), bool))
        return ZoomLinesearchState(jnp.ones((), dtype), infinite, zeros_like(params), info)

    def update(
        updates: Tree,
        state: ZoomLinesearchState,
        params: Tree,
        *,
        value: Any,
        grad: Tree,
        value_fn: Callable[..., Any],
        **extra_args: Any,
    ) -> tuple[Tree, ZoomLinesearchState]:
        data = (
            for_value_fn("scale_by_zoom_linesearch", value_fn, params, grad, extra_args),
            max_linesearch_steps,
            verbose,
        )
        dtype = scalar_dtype(params)
        numbers = {name: jnp.asarray(x, dtype) for name, x in rules.items()}
        guess = jnp.ones((), dtype) if initial_guess_strategy == "one" else state.learning_rate
        updates, grad = map_leaves(lambda u: u, updates), map_leaves(jnp.conj, grad)
        start = jnp.asarray(value, dtype), cast_like(grad, state.grad)
        return call_compiled(_zoom, value_fn, data, updates, params, start, guess, numbers)

    return init, update


class _Point(NamedTuple):
    stepsize: jax.Array
    value: jax.Array
    slope: jax.Array


class _Search(NamedTuple):
    tried: jax.Array  # how many step sizes
    low: _Point  # the best so far; at first t = 0, the parameters as they are
    high: _Point
    grad: Tree  # at low
    last: _Point
    done: jax.Array


def _zoom(
    value_fn: Callable[..., Any], data: Any, updates: Tree, params: Tree, start: Any, guess: jax.Array, rules: Any
) -> tuple[Tree, ZoomLinesearchState]:
    arguments, max_steps, verbose = data
    line = Line(lambda params: value_fn(params, **arguments), params, updates)
    value, grad = start
    origin = _Point(jnp.zeros_like(value), value, slope(grad, updates))
    downhill = origin.slope < 0

    def decrease_error(p: _Point) -> jax.Array:
        armijo = p.value - origin.value - rules["c1"] * p.stepsize * origin.slope
        flatter = p.slope - (2 * rules["c1"] - 1) * origin.slope
        near = p.value - origin.value - rules["c3"] * jnp.abs(origin.value)
        approximate = jnp.where(rules["c3"] < 0, jnp.inf, jnp.maximum(flatter, near))
        error = jnp.maximum(jnp.minimum(armijo, approximate), 0)
        return jnp.where(jnp.isfinite(p.value) & jnp.isfinite(p.slope), error, jnp.inf)

    def curvature_error(p: _Point) -> jax.Array:
        return jnp.maximum(jnp.abs(p.slope) - rules["c2"] * jnp.abs(origin.slope), 0)

    def unfinished(s: _Search) -> jax.Array:
        short = (jnp.abs(s.high.stepsize - s.low.stepsize) <= rules["precision"]) & (s.low.stepsize > 0)
        return ~s.done & ~short & (s.tried < max_steps)

    def step(s: _Search) -> _Search:
        further = jnp.where(s.tried == 0, guess, rules["growth"] * s.low.stepsize)
        bracketed = s.high.stepsize < jnp.inf
        stepsize = jnp.minimum(jnp.where(bracketed, _between(s.low, s.high), further), rules["limit"])
        new_value, gradient = line.at(stepsize)
        new_grad = gradient()
        new = _Point(stepsize, new_value, slope(new_grad, updates))

        enough = decrease_error(new) <= rules["tol"]
        both = enough & (curvature_error(new) <= rules["tol"])
        better = both | (enough & (new.value < s.low.value))
        # From its better end, the loss falls into the interval. A new point that is worse becomes its other end.
        turned = better & ((new.slope >= 0) == (s.high.stepsize > s.low.stepsize))
        high = _where(better, _where(turned, s.low, s.high), new)
        at_limit = (stepsize >= rules["limit"]) & (high.stepsize == jnp.inf)
        return _Search(
            s.tried + 1, _where(better, new, s.low), high, _where(better, new_grad, s.grad), new, both | at_limit
        )

    nowhere = origin._replace(stepsize=jnp.full_like(value, jnp.inf))
    s = jax.lax.while_loop(
        unfinished, step, _Search(jnp.zeros((), jnp.int32), origin, nowhere, grad, origin, ~downhill)
    )
    found = s.low.stepsize > 0
    failed = ~found & (origin.slope != 0)
    missed = jnp.where(failed, jnp.where(downhill, decrease_error(s.last), jnp.inf), 0)
    info = ZoomLinesearchInfo(s.tried, missed, curvature_error(s.low), failed)
    if verbose:
        _report(info, origin, s.low, rules["tol"])
    rate = jnp.where(found, s.low.stepsize, jnp.where(s.tried > 0, s.last.stepsize, guess))
    return scaled(s.low.stepsize, updates), ZoomLinesearchState(rate, s.low.value, s.grad, info)


def _where(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jax.lax.select(condition, a, b), yes, no)


def _between(low: _Point, high: _Point) -> jax.Array:
    """The minimum of the cubic through both values and slopes if it is well inside the interval, else the middle."""
    length = high.stepsize - low.stepsize
    mean = 3 * (high.value - low.value) / length
    d = low.slope + high.slope - mean
    root = jnp.sign(length) * jnp.sqrt(d * d - low.slope * high.slope)
    fraction = 1 - (high.slope + root - d) / (high.slope - low.slope + 2 * root)
    inside = (fraction > 0.05) & (fraction < 0.95)  # False for NaN
    return low.stepsize + jnp.where(inside, fraction, 0.5) * length


def _report(info: ZoomLinesearchInfo, origin: _Point, low: _Point, tol: jax.Array) -> None:
    def show() -> None:
        jax.debug.print(
            "scale_by_zoom_linesearch: after {n} evaluations the decrease is missed by {d}, the curvature by {c}; "
            "value {v}, slope {s}, rate {t}",
            n=info.num_linesearch_steps,
            d=info.decrease_error,
            c=info.curvature_error,
            v=origin.value,
            s=origin.slope,
            t=low.stepsize,
        )

    jax.lax.cond((info.decrease_error > tol) | (info.curvature_error > tol), show, lambda: None)

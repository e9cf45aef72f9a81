"""The learning-rate range test: raise the rate from step to step, and see where the loss falls and where it diverges.

A few dozen training steps, each at a higher rate than the last, show the order of magnitude of a good rate without a
single full run.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.schedule import Schedule
from gradtx.core.transformation import GradientTransformation
from gradtx.core.typing import InitAndUpdate
from gradtx.state.paths import numbers, replace_found, shortest_names
from gradtx.training.minimize import number_of_batches
from gradtx.training.step import as_arguments, make_step

__all__ = ["LRRangeTest", "lr_range_test"]

Tree = Any

RULES = {
    "steepest": "where the smoothed loss falls fastest, against the logarithm of the rate",
    "minimum / 10": "a tenth of the rate at which the smoothed loss is least",
}


@dataclasses.dataclass(frozen=True, eq=False)
class LRRangeTest:
    """The result of `lr_range_test`. Entry k of the arrays belongs to the k-th step, up to divergence."""

    rates: np.ndarray  # the learning rate of each step
    losses: np.ndarray  # the loss after each step, on the next batch
    smoothed: np.ndarray  # the moving average of the losses
    suggestions: dict[str, float]  # rule -> rate; NaN if the loss never fell
    rule: str  # the one that gives `suggestion`
    diverged: bool  # whether the loss diverged, which ended the test

    @property
    def suggestion(self) -> float:
        """The rate that the rule suggests."""
        return self.suggestions[self.rule]

    def plot(self, ax: Any = None) -> Any:
        """Plot the losses against the rates; see `gradtx.plotting.plot_lr_range_test`."""
        from gradtx.plotting import plot_lr_range_test

        return plot_lr_range_test(self, ax=ax)

    def __repr__(self) -> str:
        end = "diverged at" if self.diverged else "up to"
        first = f"{len(self.rates)} steps, rates from {self.rates[0]:.3g}, {end} {self.rates[-1]:.3g}"
        suggested = [
            f"{'*' if name == self.rule else ' '} {rate:<9.3g} {name}: {RULES[name]}"
            for name, rate in self.suggestions.items()
        ]
        return "\n".join([f"LRRangeTest: {first}", *suggested])


def lr_range_test(
    loss_fn: Callable[..., Any],
    tx: InitAndUpdate,
    params: Tree,
    batches: Any = (),
    *,
    min_rate: float = 1e-7,
    max_rate: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    stop_factor: float = 4.0,
    rule: str = "steepest",
) -> LRRangeTest:
    """Find a learning rate: train for some steps while it grows by a constant factor per step.

    Stops when the loss diverges: the average L̂ is not finite, or exceeds its minimum m by more than
    (stop_factor − 1)·|m| (for positive losses: exceeds stop_factor·m). The step is compiled once. `params` are not
    modified.

    Args:
      loss_fn: `loss_fn(params, *batch) -> loss`, one real number.
      tx: a gradtx transformation with a `learning_rate` anywhere in it, which is set to the rate; a schedule there is
        replaced. Several learning rates (in a `partition`) keep their ratios, and the rate is the largest of them.
      params: the initial parameters.
      batches: arrays, stacked as for `minimize`; or any iterable of batches of equal shapes (a list, a data loader),
        read one batch at a time. A batch that is a tuple or a list gives several arguments. After the last batch, the
        first one follows again. By default none: `loss_fn(params)`.
      min_rate: the rate of the first step.
      max_rate: the rate of the last step.
      steps: the number of steps; they use one more batch than that.
      smoothing: β of the average L̂ₖ = (1 − β)·Σ βᵏ⁻ⁱ Lᵢ / (1 − βᵏ⁺¹), in [0, 1). 0.9 averages over about ten steps; a
        larger β responds later to the loss falling and rising, and so gives a larger suggestion.
      stop_factor: above 1; infinite for no limit.
      rule: how to choose `suggestion`: "steepest", where L̂ falls fastest against the logarithm of the rate, or
        "minimum / 10", a tenth of the rate at which L̂ is smallest.

    Returns:
      An `LRRangeTest` with `suggestion`; it prints as text, and `plot()` draws it.

    Raises:
      TypeError: `tx` has no learning rate that can be set; the message lists what it has.
      ValueError: numbers out of range; batches that run out before the steps; a loss that is not finite at the start.

    Source: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", 2015, https://arxiv.org/abs/1506.01186;
    the suggestions as in fast.ai's lr_find.

    >>> import gradtx, jax.numpy as jnp
    >>> found = gradtx.lr_range_test(lambda x: jnp.sum(x**2), gradtx.sgd(0.1), jnp.ones(3))
    >>> 0.01 < found.suggestion < 1.0  # below 1, where the steps begin to grow
    True
    """
    _check(steps, min_rate, max_rate, smoothing, stop_factor, rule)
    rates = np.geomspace(min_rate, max_rate, steps)
    losses, smoothed, total, diverged = [], [], 0.0, False
    for loss in _losses(loss_fn, _rate_setter(tx), rates, params, batches):
        losses.append(loss)
        total = smoothing * total + (1 - smoothing) * loss
        smoothed.append(total / (1 - smoothing ** len(losses)))
        least = min(smoothed)
        diverged = not smoothed[-1] <= least + (stop_factor - 1) * abs(least)  # also if it is NaN
        if diverged:
            break
    if not (losses and np.isfinite(losses[0])):
        raise ValueError(
            f"lr_range_test: the loss is {losses[0]} before any step" if losses else _ENDED.format(0, steps)
        )
    if not diverged and len(losses) <= steps:
        raise ValueError(_ENDED.format(len(losses), steps))
    # The first loss is from before any step; it enters only the average.
    rates, after = rates[: len(losses) - 1], np.array(smoothed[1:])
    return LRRangeTest(rates, np.array(losses[1:]), after, _suggestions(rates, after), rule, diverged)


_ENDED = (
    "lr_range_test: the batches ended after {}, and {} steps need one more than that many; take fewer steps, or give "
    "what can be iterated again (a list, a data loader, stacked arrays)"
)


def _check(steps: int, min_rate: float, max_rate: float, smoothing: float, stop_factor: float, rule: str) -> None:
    for fits, words in (
        (steps >= 2, f"steps must be at least 2, got {steps}"),
        (0 < min_rate < max_rate < np.inf, f"0 < min_rate < max_rate must hold, got {min_rate} and {max_rate}"),
        (0 <= smoothing < 1, f"smoothing must be in [0, 1), got {smoothing}"),
        (stop_factor > 1, f"stop_factor must be above 1, got {stop_factor}"),
        (rule in RULES, f"no rule {rule!r}; there are {', '.join(map(repr, RULES))}"),
    ):
        if not fits:
            raise ValueError(f"lr_range_test: {words}")


# The optimizer at a rate


def _rate_setter(tx: Any) -> Callable[[float], GradientTransformation]:
    """A function from a rate to the optimizer with that rate, always of the same structure."""
    if not isinstance(tx, GradientTransformation):
        raise TypeError(f"lr_range_test: {tx!r} is not one of gradtx's transformations; no learning rate can be set")

    def whole(x: Any) -> bool:
        return isinstance(x, Schedule)

    # Injected hyperparameters would be read from the state.
    tx = replace_found(tx, lambda x: getattr(x, "name", None) == "inject_hyperparams", lambda _, x: x.inner)
    found = list(numbers(tx, whole))
    paths = [path for path, _ in found if path[-1] == "learning_rate"]
    if len(paths) < 2:
        tx.replace(learning_rate=1.0)  # if there is none, the error lists what there is
        return lambda rate: tx.replace(learning_rate=rate)

    values = [value if path in paths else None for path, value in found]
    listed = ", ".join(shortest_names(paths))
    if any(map(whole, values)):
        raise TypeError(f"lr_range_test: several learning rates keep their ratios, so none may be a schedule: {listed}")
    largest = max(float(np.max(value)) for value in values if value is not None)
    if not largest > 0:
        raise ValueError(f"lr_range_test: all learning rates are 0: {listed}")
    structure: Any
    leaves, structure = jax.tree.flatten(tx, is_leaf=whole)
    return lambda rate: structure.unflatten(
        [
            leaf if value is None else np.asarray(value) * (rate / largest)
            for leaf, value in zip(leaves, values, strict=True)
        ]
    )


# The steps


def _losses(loss_fn: Any, at_rate: Any, rates: np.ndarray, params: Tree, batches: Any) -> Iterator[float]:
    """The loss before the first step and after each step; training ends when the caller stops iterating."""
    step = make_step(loss_fn, at_rate(rates[0]))
    state = step.init(params)
    params = jax.tree.map(jnp.array, params)  # copies: the step overwrites its arguments
    for rate, batch in zip([*rates, rates[-1]], _repeated(batches), strict=False):
        params, state, loss = step.with_tx(at_rate(rate))(params, state, *batch)
        yield float(loss)


def _repeated(batches: Any) -> Iterator[tuple[Any, ...]]:
    """Batch after batch, as arguments; after the last, again from the start."""
    one_by_one = isinstance(batches, (list, Iterator))
    stacked = not one_by_one and all(hasattr(x, "shape") for x in jax.tree.leaves(batches))
    length = number_of_batches("lr_range_test", batches) if stacked else 0

    def once() -> Iterable[Any]:
        return (jax.tree.map(operator.itemgetter(k), batches) for k in range(length)) if stacked else batches

    ended = False
    while not ended:
        ended = True
        for batch in once():
            ended = False
            yield as_arguments(batch)


# The suggestions


def _suggestions(rates: np.ndarray, smoothed: np.ndarray) -> dict[str, float]:
    finite = np.isfinite(smoothed)  # the last may not be
    rates, smoothed = rates[finite], smoothed[finite]
    slope = np.gradient(smoothed, np.log(rates)) if len(rates) > 1 else np.zeros(1)
    if not slope.min() < -1e-6 * abs(smoothed).max(initial=0):  # beyond rounding
        return dict.fromkeys(RULES, float("nan"))
    return dict(zip(RULES, (float(rates[slope.argmin()]), float(rates[smoothed.argmin()]) / 10), strict=True))

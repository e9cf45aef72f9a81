"""Measurements during training: a transformation takes them, the state keeps them, `metrics` collects them.

    tx = monitor(["gradient_norm", "update_ratio"], adamw(1e-3), every=10)
    …
    logger.log(metrics(state), step)

A monitor sees what enters the transformation inside it and what leaves it. Without one, it can stand anywhere in a
chain. Only the measures asked for are computed.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Period
from gradtx.core.build import initialize, is_transformation, run
from gradtx.core.combine import identity
from gradtx.core.numerics import global_norm, increment
from gradtx.core.roles import Count, Inner, Number
from gradtx.core.select import arity, select
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import cast_like, is_none, key_name, present
from gradtx.state.paths import find, shortest_names

__all__ = ["metrics", "monitor"]

Tree = Any


def _ratio(updates: Tree, params: Tree) -> jax.Array:
    size, step = global_norm(params), global_norm(updates)
    return jnp.where(size > 0, step / jnp.where(size > 0, size, 1), 0)


def _changed(incoming: Tree, outgoing: Tree, params: Tree) -> jax.Array:
    pairs = zip(jax.tree.leaves(incoming), jax.tree.leaves(outgoing), strict=True)
    changed = [jnp.any(u != g) for g, u in pairs]
    return jnp.any(jnp.stack(changed)).astype(float) if changed else jnp.zeros(())


def _nonfinite(incoming: Tree, outgoing: Tree, params: Tree) -> jax.Array:
    return sum((jnp.sum(~jnp.isfinite(g)) for g in jax.tree.leaves(incoming)), jnp.zeros((), jnp.int32))


def _quantiles(sizes: list[jax.Array]) -> dict[str, jax.Array]:
    """Quantiles of all elements, or of 2¹⁴ evenly spaced ones: sorting a large model's would cost more than a step."""
    step = max(1, sum(x.size for x in sizes) >> 14)
    sample = jnp.concatenate([jnp.ravel(x)[::step].astype(float) for x in sizes] or [jnp.full(1, jnp.nan)])
    values = jnp.nanquantile(sample, jnp.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    return dict(zip(("min", "q25", "median", "q75", "max"), values, strict=True))


def _rates(incoming: Tree, outgoing: Tree, params: Tree) -> dict[str, jax.Array]:
    pairs = zip(jax.tree.leaves(incoming), jax.tree.leaves(outgoing), strict=True)
    return _quantiles([jnp.where(g == 0, jnp.nan, jnp.abs(u) / jnp.where(g == 0, 1, jnp.abs(g))) for g, u in pairs])


# Functions of the incoming updates, the outgoing ones and the parameters. Those in _MEANS are averaged over the steps.
MEASURES: dict[str, Callable[[Tree, Tree, Tree], Any]] = {
    "gradient_norm": lambda incoming, outgoing, params: global_norm(incoming),
    "update_norm": lambda incoming, outgoing, params: global_norm(outgoing),
    "param_norm": lambda incoming, outgoing, params: global_norm(params),
    "update_ratio": lambda incoming, outgoing, params: _ratio(outgoing, params),
    "nonfinite": _nonfinite,
    "rate_quantiles": _rates,
    "update_quantiles": lambda incoming, outgoing, params: _quantiles([jnp.abs(u) for u in jax.tree.leaves(outgoing)]),
    "clip_fraction": _changed,
    "clip_rate": _changed,  # its former name
}


_MEANS = {"clip_fraction", "clip_rate"}


_OF_PARAMS = {"param_norm", "update_ratio"}


class MonitorState(NamedTuple):
    """The latest measurements; zeros before the first."""

    count: Count  # int32, steps taken
    measurements: Number  # name -> a number, or a tree of them
    measure_states: Inner  # of the measures that are transformations, in order
    inner_state: Inner

    @property
    def metrics(self) -> dict[str, Tree]:
        """What `metrics` collects."""
        return self.measurements


@transformation
def monitor(measures: Any, inner: Transformation | None = None, *, by: Any = None, every: Period = 1) -> Any:
    """Measure what enters a transformation and what leaves it; read the measurements with `metrics(state)`.

    Args:
      measures: names from the list below; or a dict, name -> one of these names, a function of the incoming updates (or
        of three arguments: incoming updates, outgoing updates, parameters), or a transformation that turns updates into
        a measurement (`measure_with_ema`). A measurement is a number or a tree of numbers.

        - "gradient_norm", "update_norm", "param_norm": 2-norms of what comes in, of what goes out, of the parameters;
        - "update_ratio": update norm over parameter norm, about 1e-3 in a healthy run;
        - "clip_fraction": the share of the measured steps in which the output differed from the input;
        - "rate_quantiles": min, q25, median, q75, max of |out|/|in| over the elements: the effective learning rates;
        - "update_quantiles": the same of |out|; around a preconditioner such as `inverse_rms()`, those of its scaling;
        - "nonfinite": how many incoming elements are infinite or NaN.
      inner: the transformation to measure; by default none: input and output are then the same.
      by: None for one number over all leaves, "leaf" for one each, or name -> selection of leaves (see `masked`) for
        groups. Applies to the measures that are given by name.
      every: measure only at every k-th step, the first included. Nothing is measured at the others, but the tensors to
        measure are kept for the branch, across which XLA may not fuse: around a whole optimizer, that can cost more
        than a norm does. A monitor without a transformation inside is the cheapest.

    State: the measurements, the state of the inner transformation, and a count.

    Raises:
      ValueError: an unknown measure; a measure that needs the parameters, without them.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.monitor(["gradient_norm", "update_norm"], gradtx.sgd(0.5))
    >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
    >>> {name: float(value) for name, value in gradtx.metrics(state).items()}
    {'gradient_norm': 5.0, 'update_norm': 2.5}
    """
    measures = [measures] if isinstance(measures, str) else measures
    named = dict(measures) if isinstance(measures, Mapping) else {name: name for name in measures}
    for measure in named.values():
        if (
            measure not in MEASURES
            if isinstance(measure, str)
            else not (callable(measure) or is_transformation(measure))
        ):
            raise ValueError(
                f"monitor: {measure!r} is no measure; there are {', '.join(MEASURES)}, functions of updates"
            )
    inside = identity() if inner is None else inner
    stateful = {name: measure for name, measure in named.items() if is_transformation(measure)}

    def measured(incoming: Tree, outgoing: Tree, params: Tree) -> dict[str, Tree]:
        """The measurements that need no state."""
        taken = {}
        for name, measure in named.items():
            if isinstance(measure, str):
                if params is None and measure in _OF_PARAMS:
                    raise ValueError(f"monitor: {measure} needs the parameters: update(updates, state, params)")
                taken[name] = _by(by, MEASURES[measure], incoming, outgoing, params)
            elif name not in stateful:
                taken[name] = measure(incoming, outgoing, params) if arity(measure) == 3 else measure(incoming)
        return taken

    def advanced(
        incoming: Tree, states: tuple[Tree, ...], params: Tree, extra_args: dict[str, Any]
    ) -> tuple[dict[str, Tree], tuple[Tree, ...]]:
        """The measurements that have a state, and their new states."""
        pairs = [run(m, incoming, s, params, extra_args) for m, s in zip(stateful.values(), states, strict=True)]
        return {name: taken for name, (taken, _) in zip(stateful, pairs, strict=True)}, tuple(s for _, s in pairs)

    def init(params: Tree) -> MonitorState:
        states = tuple(initialize(measure, params) for measure in stateful.values())

        def first(params: Tree) -> dict[str, Tree]:
            return measured(params, params, params) | advanced(params, states, params, {})[0]

        shapes = jax.eval_shape(first, params)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return MonitorState(jnp.zeros((), jnp.int32), zeros, states, initialize(inside, params))

    def update(updates: Tree, state: MonitorState, params: Tree = None, **extra_args: Any) -> tuple[Tree, MonitorState]:
        outgoing, inner_state = run(inside, updates, state.inner_state, params, extra_args)

        def measure_now() -> tuple[dict[str, Tree], tuple[Tree, ...]]:
            averaged, states = advanced(updates, state.measure_states, params, extra_args)
            taken = measured(updates, outgoing, params) | averaged
            samples = state.count // every + 1
            for name in taken:
                if isinstance(named[name], str) and named[name] in _MEANS:
                    taken[name] = jax.tree.map(
                        lambda old, x: old + (x - old) / samples, state.measurements[name], taken[name]
                    )
            return cast_like(taken, state.measurements), states

        if every == 1:
            measurements, states = measure_now()
        else:
            kept = state.measurements, state.measure_states
            measurements, states = jax.lax.cond(state.count % every == 0, measure_now, lambda: kept)
        return outgoing, MonitorState(increment(state.count), measurements, states, inner_state)

    return init, update


def _by(by: Any, measure: Callable[..., Any], incoming: Tree, outgoing: Tree, params: Tree) -> Any:
    """A measure taken of all leaves, of each, or of groups of them; only of leaves that have an update."""
    trees = incoming, outgoing, jax.tree.map(lambda _: None, incoming) if params is None else params
    if by == "leaf":
        return jax.tree.map(lambda *row: measure(*row) if present(row[0]) else None, *trees, is_leaf=is_none)
    if by is not None and not isinstance(by, Mapping):
        raise ValueError(f"monitor: by must be None, 'leaf' or a dict of selections, got {by!r}")

    def of(answers: Tree) -> Any:
        def keep(g: Any, answer: Any, x: Any) -> Any:
            return x if answer and present(g) else None

        return measure(*(jax.tree.map(keep, incoming, answers, tree, is_leaf=is_none) for tree in trees))

    if by is None:
        return of(jax.tree.map(lambda _: True, incoming, is_leaf=is_none))
    return {name: of(select(where, incoming)) for name, where in by.items()}


def metrics(state: Tree) -> dict[str, jax.Array]:
    """All metrics of the run that a state holds: measurements, skipped steps, the scale of a plateau schedule.

    Every state contributes that is a named tuple with a property `metrics`, a dict of numbers or trees of numbers.

    Args:
      state: a state of any transformation, or any pytree that holds one (a flax TrainState, an nnx.Optimizer).

    Returns:
      name -> number, flat, for a logger: "gradient_norm", or with `by` "gradient_norm/encoder/bias". A name that occurs
      more than once is preceded by as much of its path as tells it apart: the label of its group, or the name of its
      stage, `chain(before=monitor(…), adam(1e-3), after=monitor(…))`.
    """
    paths, values = [], []
    for place, node in find(state, _has_metrics):
        for name, measurement in node.metrics.items():
            for keys, value in jax.tree_util.tree_flatten_with_path(measurement)[0]:
                if keys and getattr(keys[-1], "name", None) == "value":  # nnx.Optimizer wraps every array
                    keys = keys[:-1]
                paths.append((*place, "/".join([name, *map(key_name, keys)])))
                values.append(value)
    return dict(zip(shortest_names(paths), values, strict=True))


def _has_metrics(x: Any) -> bool:
    return isinstance(x, tuple) and isinstance(getattr(x, "metrics", None), dict)

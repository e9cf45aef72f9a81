"""A value is a constructor and its arguments: printing, equality, hashing, pickling, editing, and being a pytree."""

import copy
import inspect
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from cases import CASES
from helpers import assert_close, random_tree, run_steps

NAMES = {**vars(gradtx), "array": jnp.array, "inf": float("inf")}

VALUES = [case.tx for case in CASES] + [
    gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3)),
    gradtx.chain(first=gradtx.clip(0.5), second=gradtx.scale(-1.0)),
    gradtx.named_chain(("clip", gradtx.clip(0.5)), ("sgd", gradtx.sgd(0.1))),
    gradtx.partition({"*kernel": gradtx.adam(1e-3), "*": gradtx.sgd(0.1)}),
    gradtx.partition({"a": gradtx.adam(1e-3), "b": gradtx.set_to_zero()}, {"layer": "a", "scalar": "b", "stack": "b"}),
    gradtx.masked(gradtx.scale(2.0), {"layer": True, "scalar": False, "stack": False}),
    gradtx.freeze("*bias"),
    gradtx.adamw(1e-3, mask="*kernel"),
    gradtx.adam(np.float32(0.5)),
    gradtx.scale(jnp.array([1.0, 2.0])),
    gradtx.reduce_on_plateau(patience=3),
    gradtx.clip_by_bounds(lower=0.0),
    gradtx.adafactor(dtype_momentum=jnp.float32),
]


@pytest.mark.parametrize("tx", VALUES, ids=lambda tx: tx.name)
def test_round_trips(tx):
    assert eval(repr(tx), NAMES) == tx
    assert eval(repr(tx.formula), NAMES) == tx.formula
    for again in (pickle.loads(pickle.dumps(tx)), copy.deepcopy(tx), copy.copy(tx), jax.tree.map(lambda x: x, tx)):
        assert again == tx
        assert hash(again) == hash(tx)
        assert repr(again) == repr(tx)


def test_values_differ_by_what_they_hold():
    distinct = {
        gradtx.adam(1e-3),
        gradtx.adam(1e-2),
        gradtx.adamw(1e-3),
        gradtx.adam(1e-3, nesterov=True),
        gradtx.chain(gradtx.scale(1.0), gradtx.clip(1.0)),
        gradtx.chain(gradtx.clip(1.0), gradtx.scale(1.0)),
        gradtx.scale(jnp.array([1.0, 2.0])),
        gradtx.scale(jnp.array([1.0, 3.0])),
        gradtx.partition({"a*": gradtx.scale(1.0), "*": gradtx.scale(2.0)}),
        gradtx.partition({"*": gradtx.scale(2.0), "a*": gradtx.scale(1.0)}),  # the first match wins: order counts
    }
    assert len(distinct) == 10
    assert gradtx.adam(1) == gradtx.adam(1.0) == gradtx.adam(jnp.float32(1.0))
    assert gradtx.adam(1e-3) != "adam(learning_rate=0.001)"


def test_repr_and_formula():
    tx = gradtx.adam(1e-3)
    assert repr(tx) == "adam(learning_rate=0.001)"
    assert repr(tx.formula) == "chain(scale_by_adam(), scale_by_learning_rate(learning_rate=0.001))"
    assert tx.expand() == gradtx.chain(
        gradtx.product(
            gradtx.chain(gradtx.scale_by_momentum(0.9), gradtx.bias_correction(0.9)),
            gradtx.chain(
                gradtx.square(), gradtx.ema(0.999, debias=False), gradtx.bias_correction(0.999), gradtx.inverse_root()
            ),
        ),
        gradtx.scale_by_learning_rate(1e-3),
    )
    assert gradtx.scale(2.0).formula == gradtx.scale(2.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_formula_is_the_optimizer(case):
    """Same numbers, and (one level down) the same state, so that either can continue the other's run."""
    params, gradients = random_tree(), [random_tree(i) for i in range(1, 4)]
    ours, state = run_steps(case.tx, params, gradients)
    theirs, formula_state = run_steps(case.tx.formula, params, gradients)
    assert_close(ours, theirs, rtol=2e-6, atol=1e-8)
    assert jax.tree.structure(state) == jax.tree.structure(formula_state)


def test_replace():
    tx = gradtx.adamw(1e-3, weight_decay=0.1)
    assert tx.replace(learning_rate=3e-4) == gradtx.adamw(3e-4, weight_decay=0.1)
    assert tx == gradtx.adamw(1e-3, weight_decay=0.1)
    with pytest.raises(TypeError, match="adamw has no argument 'lr'; it has learning_rate, b1"):
        tx.replace(lr=1.0)
    with pytest.raises(TypeError, match=r"chain has no argument 'lr'; it has .*max_norm, learning_rate, b1"):
        gradtx.chain(gradtx.clip_by_global_norm(1.0), tx).replace(lr=1.0)
    with pytest.raises(ValueError, match="adamw: b1"):
        tx.replace(b1=1.0)
    both = gradtx.chain(gradtx.scale(1.0), last=gradtx.clip(1.0))
    assert both.replace(transformations=(gradtx.scale(3.0),)) == gradtx.chain(gradtx.scale(3.0), last=gradtx.clip(1.0))


def test_replace_finds_the_part_that_has_the_argument():
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3))
    assert tx.replace(learning_rate=0.5, max_norm=2.0) == gradtx.chain(
        gradtx.clip_by_global_norm(2.0), gradtx.adam(0.5)
    )
    groups = gradtx.partition({"a": gradtx.sgd(0.1), "b": gradtx.trace(0.5)}, lambda path, leaf: path)
    assert groups.replace(learning_rate=0.5).transforms["a"] == gradtx.sgd(0.5)
    named = gradtx.chain(gradtx.clip(1.0), last=gradtx.sgd(0.1))
    assert named.last == gradtx.sgd(0.1)
    assert named.replace(last=gradtx.sgd(0.2)) == gradtx.chain(gradtx.clip(1.0), last=gradtx.sgd(0.2))
    with pytest.raises(TypeError, match=r"several parts with an argument 'learning_rate': sgd.*adam"):
        gradtx.chain(gradtx.sgd(0.1), gradtx.adam(0.1)).replace(learning_rate=1.0)


def test_help_shows_kinds_by_name():
    assert str(inspect.signature(gradtx.ema)).startswith("(decay: Decay, debias: bool = True")
    assert str(inspect.signature(gradtx.sgd)).endswith("-> GradientTransformation")
    assert "momentum: Decay | None = None" in str(inspect.signature(gradtx.sgd))


def test_hyperparams_of_a_value():
    assert gradtx.hyperparams(gradtx.sgd(0.1, momentum=0.9)) == {"learning_rate": 0.1, "momentum": 0.9}
    assert gradtx.hyperparams(gradtx.chain(gradtx.clip(1.0), gradtx.scale(2.0))) == {"max_delta": 1.0, "step_size": 2.0}


def test_immutable():
    tx = gradtx.adam(1e-3)
    with pytest.raises(AttributeError, match="immutable"):
        tx.learning_rate = 1.0
    assert tx.learning_rate == 1e-3
    with pytest.raises(AttributeError, match="no attribute or argument 'rate'"):
        _ = tx.rate


def test_leaves_are_the_numbers():
    assert jax.tree.leaves(gradtx.adam(1e-3)) == [1e-3, 0.9, 0.999, 1e-8, 0.0]
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_flatten_with_path(gradtx.sgd(0.1, 0.9))[0]]
    assert paths == [".learning_rate", ".momentum"]
    assert jax.tree.leaves(gradtx.chain(gradtx.scale(2.0), gradtx.clip(1.0))) == [2.0, 1.0]
    # ints, bools, strings and functions are structure
    assert jax.tree.leaves(gradtx.reduce_on_plateau(patience=7)) == [0.1, 1e-4, 0.0, 0.0]
    assert jax.tree.structure(gradtx.reduce_on_plateau(patience=7)) != jax.tree.structure(gradtx.reduce_on_plateau())


def test_three_rates_one_trace():
    def step(tx, params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return gradtx.apply_updates(params, updates), state

    jitted = jax.jit(chex.assert_max_traces(step, n=1))
    params, gradient = random_tree(), random_tree(1)
    for rate in (1e-1, 1e-2, 1e-3):
        tx = gradtx.adamw(rate)
        ours, _ = jitted(tx, params, tx.init(params), gradient)
        assert_close(ours, step(tx, params, tx.init(params), gradient)[0], rtol=1e-6)


def test_equal_values_do_not_recompile_as_static_arguments():
    init = chex.assert_max_traces(lambda tx, params: tx.init(params), n=1)
    jitted = jax.jit(init, static_argnums=0)
    for _ in range(3):
        jitted(gradtx.adam(1e-3, b1=0.8), random_tree())


@pytest.mark.parametrize("name", ["adam", "nadam", "adabound", "lion", "rmsprop", "adafactor", "lamb"])
def test_a_vmapped_batch_trains_as_each_alone(name):
    rates = [0.1, 0.03, 0.01]
    params, gradients = random_tree(), [random_tree(i) for i in range(1, 5)]
    batch = jax.tree.map(lambda *xs: jnp.stack(xs), *[getattr(gradtx, name)(rate) for rate in rates])
    together = jax.jit(jax.vmap(lambda tx: run_steps(tx, params, gradients, jit=False)[0]))(batch)
    for i, rate in enumerate(rates):
        alone, _ = run_steps(getattr(gradtx, name)(rate), params, gradients)
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone, rtol=1e-5, atol=1e-7)


def test_order_of_a_dict_survives_jit():
    tx = gradtx.partition({"*kernel": gradtx.scale(2.0), "*": gradtx.scale(3.0)})  # sorted, "*" would come first
    params = random_tree()
    updates = jax.jit(lambda tx: tx.update(params, tx.init(params))[0])(tx)
    assert_close(updates["layer"]["kernel"], 2 * params["layer"]["kernel"])
    assert_close(updates["layer"]["bias"], 3 * params["layer"]["bias"])


def test_placeholders_never_reach_the_mathematics():
    """JAX rebuilds values with arbitrary objects for leaves, to compare structures."""
    for tx in (gradtx.adam(1e-3), gradtx.adabound(1e-3), gradtx.partition({"*": gradtx.sgd(1.0)})):
        leaves, structure = jax.tree.flatten(tx)
        hollow = structure.unflatten([object()] * len(leaves))
        assert jax.tree.structure(hollow) == structure
        assert jax.tree.structure(jax.tree.map(lambda x: 0, tx)) == structure  # as vmap's in_axes are given


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.adam(1e-3, b1=1.0), r"adam: b1 must be in \[0, 1\), got 1.0"),
        (lambda: gradtx.adam(1e-3, b2=-0.1), r"adam: b2 must be in \[0, 1\)"),
        (lambda: gradtx.adam(-1e-3), "adam: learning_rate must be at least 0, got -0.001"),
        (lambda: gradtx.adam(float("nan")), "adam: learning_rate must be at least 0, got nan"),
        (lambda: gradtx.adam(jnp.array([0.1, -0.1])), "adam: learning_rate must be at least 0"),
        (lambda: gradtx.adam(jnp.float32(-1.0)), "adam: learning_rate must be at least 0"),
        (lambda: gradtx.adabound(gamma=0.0), "adabound: gamma must be greater than 0"),
        (lambda: gradtx.clip(-1.0), "clip: max_delta must be at least 0"),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.adam("fast"), "adam: learning_rate must be a number, an array or a schedule, got 'fast'"),
        (lambda: gradtx.adam(), "adam: missing a required argument: 'learning_rate'"),
        (lambda: gradtx.adam(1e-3, beta1=0.9), "adam: no argument 'beta1'; did you mean 'b1'. its signature is"),
        (lambda: gradtx.adam(learning_rat=1e-3), "adam: no argument 'learning_rat'; did you mean 'learning_rate'"),
        (lambda: gradtx.adam(lr=1e-3), "adam: no argument 'lr'; did you mean 'learning_rate'"),
        (lambda: gradtx.adam(None), "adam: learning_rate must be a number, an array or a schedule, got None"),
        (lambda: gradtx.chain(gradtx.adam), r"chain: adam is not a transformation .*did you mean adam\(…\)"),
        (lambda: gradtx.chain([gradtx.clip(1.0), gradtx.adam(1e-3)]), r"one by one: chain\(\*transformations\)"),
        (lambda: gradtx.masked("*", "*"), "masked: '.' is not a transformation"),
        (lambda: gradtx.partition({"a": gradtx.clip(1.0), "b": None}), "partition: None is not a transformation"),
        (lambda: gradtx.as_schedule(abs) * jnp.ones(3), "a schedule combines with numbers and schedules"),
        (lambda: gradtx.as_schedule(abs) + "x", "not with 'x'"),
    ],
)
def test_wrong_calls(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_traced_numbers_are_not_checked():
    assert jax.jit(lambda b1: gradtx.ema(b1).init(jnp.ones(2)).ema.ema)(2.0).shape == (2,)


def test_a_hypergradient_is_a_value():
    def loss(tx):
        params, _ = run_steps(tx, jnp.array([1.0, 2.0]), [jnp.array([0.5, -1.0])] * 3, jit=False)
        return jnp.sum(params**2)

    tx = gradtx.adam(0.1)
    slope = jax.grad(loss)(tx)
    step = 1e-3
    difference = (loss(gradtx.adam(0.1 + step)) - loss(gradtx.adam(0.1 - step))) / (2 * step)
    np.testing.assert_allclose(slope.learning_rate, difference, rtol=1e-2)
    assert jax.tree.structure(slope) == jax.tree.structure(tx)

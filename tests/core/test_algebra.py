"""Laws of the algebra, names of states, extra arguments, and what transformations say when they are misused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.core.tree import map_leaves
from helpers import assert_close, assert_same_form, random_tree, run_steps

A = gradtx.clip_by_global_norm(0.5)
B = gradtx.scale_by_adam()
C = gradtx.chain(gradtx.trace(0.9), gradtx.scale(-0.1))
PARAMS = random_tree()
GRADIENTS = [random_tree(i) for i in range(1, 5)]


def outcome(tx):
    return run_steps(tx, PARAMS, GRADIENTS)[0]


# Laws


def test_chain_is_associative():
    flat = outcome(gradtx.chain(A, B, C))
    assert_close(outcome(gradtx.chain(gradtx.chain(A, B), C)), flat)
    assert_close(outcome(gradtx.chain(A, gradtx.chain(B, C))), flat)


def test_identity_is_the_unit_of_chain():
    alone = outcome(B)
    assert_close(outcome(gradtx.chain(gradtx.identity(), B)), alone)
    assert_close(outcome(gradtx.chain(B, gradtx.identity())), alone)
    assert_close(outcome(gradtx.chain()), outcome(gradtx.identity()))


def test_product_and_add_see_the_same_updates():
    updates, _ = gradtx.product(A, C).update(GRADIENTS[0], gradtx.product(A, C).init(PARAMS))
    a, c = (tx.update(GRADIENTS[0], tx.init(PARAMS))[0] for tx in (A, C))
    assert_close(updates, jax.tree.map(jnp.multiply, a, c))
    summed, _ = gradtx.add(A, C).update(GRADIENTS[0], gradtx.add(A, C).init(PARAMS))
    assert_close(summed, jax.tree.map(jnp.add, a, c))


def test_product_and_add_commute_and_distribute():
    assert_close(outcome(gradtx.product(A, B)), outcome(gradtx.product(B, A)), rtol=1e-5)
    assert_close(outcome(gradtx.add(A, B)), outcome(gradtx.add(B, A)), rtol=1e-5)
    factored = gradtx.product(gradtx.add(A, B), gradtx.scale(2.0))
    spread = gradtx.add(gradtx.product(A, gradtx.scale(2.0)), gradtx.product(B, gradtx.scale(2.0)))
    assert_close(outcome(factored), outcome(spread), rtol=1e-4)


def test_a_debiased_average_of_a_constant_is_the_constant():
    tx = gradtx.ema(0.999)
    ones = jnp.ones(3)
    update = jax.jit(tx.update)
    state = tx.init(ones)
    for _ in range(50):
        average, state = update(ones, state)
        np.testing.assert_allclose(average, ones, rtol=2e-7)  # average and weight are the same recursion


def test_bias_correction_holds_for_a_scheduled_decay():
    decay = gradtx.as_schedule(lambda count: 0.5 + 0.4 * (count > 2))
    tx = gradtx.ema(decay)
    state = tx.init(jnp.zeros(()))
    values, weights = [], []
    for t, x in enumerate([3.0, -1.0, 2.0, 5.0, 4.0]):
        updates, state = tx.update(jnp.asarray(x), state)
        b = 0.5 + 0.4 * (t > 2)
        values, weights = [*values, x], [w * b for w in weights] + [1 - b]
        np.testing.assert_allclose(updates, np.dot(values, weights) / np.sum(weights), rtol=1e-6)


def test_decay_of_zero_adds_nothing():
    assert_close(outcome(gradtx.adamw(0.1, weight_decay=0.0)), outcome(gradtx.adam(0.1)))
    assert_close(outcome(gradtx.nadamw(0.1, weight_decay=0.0)), outcome(gradtx.nadam(0.1)))
    assert_close(outcome(gradtx.adamaxw(0.1, weight_decay=0.0)), outcome(gradtx.adamax(0.1)))
    assert_close(outcome(gradtx.adaboundw(0.1, weight_decay=0.0)), outcome(gradtx.adabound(0.1)))


def test_scheduled_constant_is_the_constant():
    constant = gradtx.as_schedule(lambda count: 0.05)
    for name in ("sgd", "adam", "nadam", "adabound", "lion", "adafactor", "radam"):
        make = getattr(gradtx, name)
        assert_close(outcome(make(constant)), outcome(make(0.05)), rtol=2e-6, atol=1e-8)
    decay = gradtx.as_schedule(lambda count: 0.8)
    assert_close(outcome(gradtx.adam(0.05, b1=decay)), outcome(gradtx.adam(0.05, b1=0.8)), rtol=2e-6)
    assert_close(outcome(gradtx.nadam(0.05, b1=decay)), outcome(gradtx.nadam(0.05, b1=0.8)), rtol=2e-6)


# States


def test_states_have_names_and_positions():
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.scale(2.0), gradtx.scale(3.0), last=gradtx.adam(1e-3))
    state = tx.init(PARAMS)
    assert state._fields == ("clip", "scale", "scale_1", "last")
    assert state[3] is state.last
    momentum = state.last.scale_by_adam.chain.scale_by_momentum.momentum
    assert jax.tree.structure(momentum) == jax.tree.structure(PARAMS)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    assert ".last.scale_by_adam.inverse_rms.ema.ema['scalar']" in paths


def test_adding_a_stage_leaves_the_other_paths_alone():
    def paths(tx):
        flat = jax.tree_util.tree_flatten_with_path(jax.eval_shape(tx.init, PARAMS))[0]
        return {jax.tree_util.keystr(path) for path, _ in flat}

    assert paths(gradtx.chain(gradtx.trace(0.9), C)) < paths(gradtx.chain(gradtx.ema(0.5), gradtx.trace(0.9), C))


def test_named_chain():
    tx = gradtx.named_chain(("one", A), ("two", B))
    assert tx == gradtx.chain(one=A, two=B)
    assert tx.init(PARAMS)._fields == ("one", "two")
    with pytest.raises(ValueError, match="'my-stage' cannot name a field"):
        gradtx.named_chain(("my-stage", A))
    with pytest.raises(ValueError, match="'a' is given twice"):
        gradtx.named_chain(("a", A), ("a", B))


def test_a_rate_and_a_schedule_have_the_same_state():
    """A checkpoint of a run at a constant rate can be continued on a schedule."""
    schedule = gradtx.as_schedule(lambda count: 0.1 / (count + 1))
    constant, scheduled = (jax.eval_shape(gradtx.adam(rate).init, PARAMS) for rate in (0.1, schedule))
    assert jax.tree.structure(constant) == jax.tree.structure(scheduled)


def test_hyperparams():
    schedule = gradtx.as_schedule(lambda count: 0.1 * (count + 1))
    tx = gradtx.sgd(schedule)
    state = tx.init(PARAMS)
    assert gradtx.hyperparams(state)["learning_rate"] == pytest.approx(0.1)  # what the first step will use
    for t in range(3):
        updates, state = tx.update(GRADIENTS[0], state)
        assert gradtx.hyperparams(state)["learning_rate"] == pytest.approx(0.1 * (t + 1))  # what this step used
        assert_close(updates, jax.tree.map(lambda g, t=t: -0.1 * (t + 1) * g, GRADIENTS[0]), rtol=1e-5)
    two = gradtx.partition({"*kernel": gradtx.adam(1e-3), "*": gradtx.sgd(0.1)}).init(PARAMS)
    assert {k: float(v) for k, v in gradtx.hyperparams(two).items()} == pytest.approx(
        {"*kernel/scale_by_learning_rate/learning_rate": 1e-3, "*/scale_by_learning_rate/learning_rate": 0.1}
    )
    assert gradtx.hyperparams(gradtx.trace(0.9).init(PARAMS)) == {}


def test_any_hyperparameter_takes_a_schedule():
    halving = gradtx.as_schedule(lambda count: 1.0 * 0.5**count)
    tx = gradtx.chain(gradtx.clip_by_bounds(-halving, halving), gradtx.scale(10.0))
    state = tx.init(jnp.zeros(()))
    for t in range(4):
        updates, state = tx.update(jnp.asarray(7.0), state)
        assert updates == 10 * 0.5**t
    assert gradtx.hyperparams(state) == {"lower": -0.125, "upper": 0.125}


def test_counts_saturate():
    last = jnp.iinfo(jnp.int32).max
    tx = gradtx.sgd(gradtx.as_schedule(lambda count: jnp.where(count == last, 1.0, 0.0)))
    state = jax.tree.map(lambda x: jnp.asarray(last, jnp.int32) if x.dtype == jnp.int32 else x, tx.init(PARAMS))
    updates, state = tx.update(GRADIENTS[0], state)
    assert state.scale_by_learning_rate.count == last
    assert_close(updates, jax.tree.map(jnp.negative, GRADIENTS[0]))


# Other libraries' pairs, and our own from two functions


def test_foreign_parts():
    tx = gradtx.chain(optax.clip_by_global_norm(0.5), gradtx.scale(-1.0), optax.trace(0.9))
    assert tx.init(PARAMS)._fields == ("clip_by_global_norm", "scale", "trace")
    assert_close(outcome(tx), outcome(optax.chain(optax.clip_by_global_norm(0.5), optax.scale(-1.0), optax.trace(0.9))))


def test_a_pair_of_functions_is_a_transformation():
    init, update = gradtx.adam(0.1)
    tx = gradtx.GradientTransformation(init, update)
    assert_close(outcome(tx), outcome(gradtx.adam(0.1)))
    assert isinstance(tx, gradtx.GradientTransformation)
    assert_close(outcome(gradtx.chain(tx, gradtx.identity())), outcome(gradtx.adam(0.1)))


def test_stateless():
    double = gradtx.stateless(lambda updates, params: jax.tree.map(lambda u: 2 * u, updates))
    decay = gradtx.stateless_with_tree_map(lambda u, p: u + 0.1 * p)
    assert_close(double.update(PARAMS, double.init(PARAMS))[0], jax.tree.map(lambda u: 2 * u, PARAMS))
    assert_close(
        decay.update(GRADIENTS[0], decay.init(PARAMS), PARAMS)[0],
        jax.tree.map(lambda u, p: u + 0.1 * p, GRADIENTS[0], PARAMS),
    )


def test_none_leaves_pass_through():
    params = {"w": jnp.ones(2), "f": None, "deep": {"x": None, "y": jnp.ones(())}}
    gradient = {"w": jnp.full(2, 0.5), "f": None, "deep": {"x": None, "y": None}}  # y is not trained this time
    for tx in (gradtx.adam(0.1), gradtx.adamw(0.1), gradtx.adafactor(0.1), gradtx.lamb(0.1), gradtx.adabelief(0.1)):
        state = tx.init(params)
        updates, new_state = tx.update(gradient, state, params)
        assert_same_form(new_state, state)
        assert updates["f"] is None
        assert updates["deep"] == {"x": None, "y": None}
        new = gradtx.apply_updates(params, updates)
        assert new["deep"]["y"] is params["deep"]["y"]
        assert new["w"][0] != params["w"][0]


def test_integer_leaves_get_no_update():
    params = {"w": jnp.ones(2), "steps": jnp.asarray(3)}
    gradient = jax.grad(lambda p: jnp.sum(p["w"] ** 2), allow_int=True)(params)
    tx = gradtx.adam(0.1)
    updates, _ = tx.update(gradient, tx.init(params), params)
    new = gradtx.apply_updates(params, updates)
    assert new["steps"] == 3
    assert new["steps"].dtype == jnp.int32


# Extra arguments


@gradtx.transformation
def scale_by_loss():
    return None, lambda updates, state, params=None, *, value: (jax.tree.map(lambda u: value * u, updates), state)


@gradtx.transformation
def scale_by_temperature():
    def update(updates, state, params=None, *, temperature=1.0):
        return jax.tree.map(lambda u: temperature * u, updates), state

    return None, update


def test_extra_arguments_reach_those_that_declare_them():
    tx = gradtx.chain(gradtx.clip(1.0), scale_by_loss(), gradtx.masked(scale_by_temperature(), "*"))
    assert tx.extra_args == {"value", "temperature"}
    state = tx.init(PARAMS)
    updates, _ = tx.update(GRADIENTS[0], state, value=3.0, temperature=2.0, key=None)
    assert_close(updates, jax.tree.map(lambda g: 6 * jnp.clip(g, -1, 1), GRADIENTS[0]))
    assert_close(tx.update(GRADIENTS[0], state, value=3.0)[0], jax.tree.map(lambda u: u / 2, updates))


def test_misspelt_extra_argument():
    tx = gradtx.chain(gradtx.clip(1.0), scale_by_temperature())
    message = "chain takes no extra argument 'temprature'; it takes grad, .*key, .*temperature, value"
    with pytest.raises(TypeError, match=message):
        tx.update(GRADIENTS[0], tx.init(PARAMS), temprature=2.0)


def test_missing_extra_argument():
    tx = gradtx.chain(gradtx.clip(1.0), scale_by_loss())
    with pytest.raises(TypeError, match="scale_by_loss needs the extra argument 'value'"):
        tx.update(GRADIENTS[0], tx.init(PARAMS))


# Errors


def test_missing_params():
    tx = gradtx.chain(gradtx.scale_by_adam(), gradtx.add_decayed_weights(0.1))
    with pytest.raises(ValueError, match=r"add_decayed_weights needs the parameters: update\(updates, state, params\)"):
        tx.update(GRADIENTS[0], tx.init(PARAMS))


@pytest.mark.parametrize("tx", [gradtx.sgd(0.1), gradtx.adam(0.1), gradtx.adafactor(0.1)], ids=lambda tx: tx.name)
def test_shapes_do_not_broadcast(tx):
    gradient = GRADIENTS[0] | {"layer": {"kernel": jnp.ones(4), "bias": jnp.ones(4)}}
    with pytest.raises(gradtx.LeafError, match=rf"{tx.name}: leaf 'layer/kernel': the update has shape \(4,\), the"):
        tx.update(gradient, tx.init(PARAMS), PARAMS)


def test_shapes_do_not_broadcast_without_params():
    gradient = GRADIENTS[0] | {"layer": {"kernel": jnp.ones(4), "bias": jnp.ones(4)}}
    with pytest.raises(ValueError, match=r"layer.*kernel"):
        gradtx.adam(0.1).update(gradient, gradtx.adam(0.1).init(PARAMS))


def test_structures_must_match():
    missing = {key: value for key, value in GRADIENTS[0].items() if key != "stack"}
    with pytest.raises(gradtx.LeafError, match="adam: the parameters have a leaf 'stack' that the updates lack"):
        gradtx.adam(0.1).update(missing, gradtx.adam(0.1).init(PARAMS), PARAMS)
    with pytest.raises(gradtx.LeafError, match="the updates have a leaf 'extra' that the parameters lack"):
        gradtx.apply_updates(PARAMS, GRADIENTS[0] | {"extra": jnp.ones(1)})


def test_unfiltered_model():
    with pytest.raises(gradtx.LeafError, match=r"adam: leaf 'act' is <.*>, not an array; filter the model first"):
        gradtx.adam(0.1).init({"w": jnp.ones(2), "act": jnp.tanh})
    with pytest.raises(gradtx.LeafError, match="leaf 'name' is 'dense', not an array"):
        gradtx.adam(0.1).init({"w": jnp.ones(2), "name": "dense"})


@pytest.mark.parametrize(
    ("tx", "other", "message"),
    [
        (gradtx.adam(0.1), gradtx.sgd(0.1, momentum=0.9), r"^adam: .*it has no \.scale_by_adam\.chain"),
        (gradtx.adam(0.1), gradtx.nadam(0.1), r"^adam: .*it has no \.scale_by_adam\.chain"),
        (
            gradtx.sgd(0.1),
            gradtx.sgd(0.1, momentum=0.9),
            r"^sgd: .*\.trace\.trace\['layer'\]\['bias'\] is not expected",
        ),
        (gradtx.trace(0.9), gradtx.ema(0.9, debias=False), r"^trace: .*it has no \.trace\['layer'\]\['bias'\]"),
        (gradtx.chain(gradtx.trace(0.9)), gradtx.trace(0.9), r"^chain: .*it has no \.trace\.trace"),
    ],
)
def test_state_of_another_transformation(tx, other, message):
    for params in (PARAMS, None):
        with pytest.raises(ValueError, match=message):
            tx.update(GRADIENTS[0], other.init(PARAMS), params)


def test_state_of_other_parameters():
    tx = gradtx.adam(0.1)
    with pytest.raises(
        ValueError, match=r"adam: the state does not fit .*\['scalar'\] has shape \(7,\), expected \(\)"
    ):
        tx.update(GRADIENTS[0], tx.init(PARAMS | {"scalar": jnp.ones(7)}), PARAMS)


def test_an_array_that_does_not_fit_is_not_broadcast():
    with pytest.raises(gradtx.LeafError, match=r"scale_by_learning_rate: leaf .* became \(8,\).*jax.vmap"):
        gradtx.sgd(jnp.ones(8)).update(jnp.ones(()), gradtx.sgd(jnp.ones(8)).init(jnp.ones(())))


def test_a_body_must_return_a_pair():
    @gradtx.transformation
    def forgot():
        pass

    with pytest.raises(TypeError, match=r"forgot must return \(init, update\) or a transformation, its body gave None"):
        forgot().init(PARAMS)


def test_schedules_reach_numbers_without_a_kind():
    @gradtx.transformation
    def times(factor=1.0):
        return None, lambda updates, state, params=None: (jax.tree.map(lambda u: factor * u, updates), state)

    tx = times(gradtx.linear_schedule(1.0, 0.0, 2))
    state = tx.init(PARAMS)
    _, state = tx.update(PARAMS, state)
    assert_close(tx.update(PARAMS, state)[0], jax.tree.map(lambda p: 0.5 * p, PARAMS))


def test_cast_to_params():
    params = {"w": jnp.ones(2, jnp.bfloat16), "x": None}
    tx = gradtx.chain(gradtx.adam(0.1), gradtx.cast_to_params())
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["w"].dtype == jnp.bfloat16
    assert updates["x"] is None


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.adabound(gradtx.linear_schedule(0.1, 0.01, 10)),
        gradtx.adam(gradtx.cosine_decay_schedule(0.1, 10), b1=gradtx.linear_schedule(0.8, 0.9, 5)),
        gradtx.nadam(gradtx.exponential_decay(0.1, 5, 0.9), momentum_decay=4e-3),
    ],
    ids=lambda tx: tx.name,
)
def test_schedules_go_through_jit_as_part_of_the_optimizer(tx):
    traced = jax.jit(lambda tx: run_steps(tx, PARAMS, GRADIENTS, jit=False)[0])(tx)
    assert_close(traced, outcome(tx), rtol=2e-6, atol=1e-7)


def test_trees_that_differ_are_named_the_right_way_round():
    tx = gradtx.trace(0.9)
    with pytest.raises(ValueError, match="'stack'"):
        tx.update({k: v for k, v in PARAMS.items() if k != "stack"}, tx.init(PARAMS))
    with pytest.raises(gradtx.LeafError, match="the others have a leaf 'b' that the first leaves lack"):
        map_leaves(jnp.add, {"a": 1.0}, {"a": 1.0, "b": 2.0})
    with pytest.raises(gradtx.LeafError, match="the first leaves have a leaf 'b' that the others lack"):
        map_leaves(jnp.add, {"a": 1.0, "b": 2.0}, {"a": 1.0})


def test_a_composed_state_says_how_to_read_it():
    """`opt_state[0].count` is what loops for Optax read; it must not be the method of a tuple."""
    state = gradtx.adam(0.1).init(jnp.ones(2))
    for part, name in ((state, "count"), (state[0], "mu")):
        assert not hasattr(part, name)
        with pytest.raises(
            AttributeError, match=rf"this state holds .* and has no '{name}'; gradtx.step_count\(state\)"
        ):
            getattr(part, name)
    named = gradtx.chain(count=gradtx.trace(0.9)).init(jnp.ones(2))
    assert named.count.trace.shape == (2,)
    assert named["count"] is named.count is named[0]  # as a dict, which Optax's named_chain has


def test_an_update_that_returns_no_pair_is_named():
    forgetful = gradtx.GradientTransformation(lambda params: (), lambda updates, state, params=None: updates)
    tx, x = gradtx.chain(forgetful, gradtx.sgd(0.1)), {"a": jnp.ones(1)}
    with pytest.raises(TypeError, match=r"update must return \(updates, state\), it returned dict"):
        tx.update(x, tx.init(x))

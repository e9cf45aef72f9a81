"""Hyperparameters of any state are read by name; injected ones are set in a running loop, in any framework."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from cases import CASES
from helpers import assert_close, assert_same_form, random_tree, run_steps

PARAMS = random_tree()
GRADIENTS = [random_tree(i) for i in range(1, 5)]


def injected(tx=None, *names):
    return gradtx.inject_hyperparams(gradtx.adam(1e-2) if tx is None else tx, *names)


# The same numbers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_injected_gives_what_constants_give(case):
    tx = injected(case.tx)
    ours, state = run_steps(tx, PARAMS, GRADIENTS)
    theirs, _ = run_steps(case.tx, PARAMS, GRADIENTS)
    assert_close(ours, theirs, rtol=1e-6, atol=1e-9)  # XLA folds what is made of constants, in another order
    assert_same_form(state, tx.init(PARAMS))
    assert gradtx.get_hyperparam(state, "learning_rate").dtype == jnp.float32


def test_hyperparameters_stay_float32_with_bfloat16_parameters():
    params = random_tree(dtype=jnp.bfloat16)
    tx = injected(gradtx.adam(1e-2, b2=0.999))
    _, state = run_steps(tx, params, [params] * 3)
    assert {x.dtype for x in gradtx.hyperparams(state).values()} == {jnp.dtype("float32")}
    assert float(gradtx.get_hyperparam(state, "b2")) == np.float32(0.999)
    chex.assert_tree_all_finite(state)


def test_setting_takes_effect_without_a_trace():
    tx = injected(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3)), "learning_rate", "weight_decay")
    counted = chex.assert_max_traces(lambda grads, state, params: tx.update(grads, state, params), n=1)
    update, state = jax.jit(counted), tx.init(PARAMS)
    for rate in (1e-3, 0.5, 2e-2):
        state = gradtx.set_hyperparams(state, learning_rate=rate, weight_decay=rate / 10)
        updates, new = update(GRADIENTS[0], state, PARAMS)
        plain = tx.inner.replace(learning_rate=rate, weight_decay=rate / 10)
        assert_close(updates, plain.update(GRADIENTS[0], state.inner_state, PARAMS)[0], rtol=1e-6)
        state = new


def test_setting_inside_jit_and_vmap():
    tx = injected()
    state = tx.init(PARAMS)
    step = jax.jit(lambda rate: tx.update(GRADIENTS[0], gradtx.set_hyperparams(state, learning_rate=rate), PARAMS)[0])
    rates = jnp.array([0.1, 0.2])
    together = jax.vmap(step)(rates)
    assert_close(jax.tree.map(lambda x: x[1], together), step(0.2), rtol=1e-6)
    assert_close(step(0.2), jax.tree.map(lambda x: 2 * x, step(0.1)), rtol=1e-6)


def test_a_donated_step_runs_in_place():
    tx, params = injected(), jnp.ones(1 << 16)

    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return gradtx.apply_updates(params, updates), state

    lowered = jax.jit(step, donate_argnums=(0, 1), keep_unused=True).lower(params, tx.init(params), params)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 0.01 * params.nbytes


def test_a_hypergradient_through_the_state():
    def loss(rate):
        state = gradtx.set_hyperparams(injected(gradtx.sgd(0.1)).init(jnp.ones(2)), learning_rate=rate)
        updates, _ = injected(gradtx.sgd(0.1)).update(jnp.ones(2), state)
        return jnp.sum(updates)

    assert jax.grad(loss)(0.3) == -2.0


# Names


@pytest.mark.parametrize("labels", [("*/bias", "*"), ("dec/bias", "dec"), ("b/a", "a"), ("b", "*")])
def test_a_rate_is_not_hidden_by_that_of_another_group(labels):
    params = {"a": {"bias": jnp.ones(2)}, "b": {"a": jnp.ones(2)}, "dec": {"bias": jnp.ones(2), "w": jnp.ones(2)}}
    one, other = labels
    rates = {one: gradtx.sgd(0.25), other: gradtx.sgd(0.5)}
    tx = gradtx.partition(rates if "*" in rates else rates | {"*": gradtx.set_to_zero()})
    assert sorted(gradtx.hyperparams(tx.init(params)).values()) == [0.25, 0.5]
    with pytest.raises(LookupError, match="several hyperparameters match"):
        gradtx.get_hyperparam(tx.init(params), "learning_rate")
    injected_one = injected(tx, f"{other}/learning_rate").init(params)
    found = gradtx.hyperparams(gradtx.set_hyperparams(injected_one, **{f"{other}/learning_rate": 2.0}))
    assert sorted(found.values()) == [0.25, 2.0]


def test_a_rate_is_not_hidden_by_that_of_an_outer_chain():
    tx = gradtx.chain(gradtx.sgd(0.25), gradtx.chain(gradtx.clip(1.0), gradtx.sgd(0.5)))
    assert sorted(gradtx.hyperparams(tx.init(PARAMS)).values()) == [0.25, 0.5]


def test_what_is_not_a_number_is_not_set():
    state = injected(gradtx.sgd(0.1)).init(PARAMS)
    with pytest.raises(ValueError, match="learning_rate must be a number, got 'fast'"):
        gradtx.set_hyperparams(state, learning_rate="fast")


def test_names_of_a_partition():
    tx = gradtx.partition({"layer": gradtx.adam(1e-3), "*": gradtx.sgd(0.1, momentum=0.9)})
    state = injected(tx, "layer/learning_rate", "momentum").init(PARAMS)
    assert set(gradtx.hyperparams(state)) == {
        "layer/learning_rate",
        "momentum",
        "scale_by_learning_rate/learning_rate",  # of the other group: a record
    }
    with pytest.raises(LookupError, match=r"several hyperparameters match 'learning_rate': .*learning_rate, "):
        injected(tx, "learning_rate")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: gradtx.get_hyperparam(s, "lr"), "no hyperparameter matches 'lr'; there are .*learning_rate"),
        (lambda s: gradtx.get_hyperparam((s, s), "b1"), "several hyperparameters match 'b1': 0/b1, 1/b1"),
        (
            lambda s: gradtx.set_hyperparams(s, lr=1.0),
            "no injected hyperparameter matches 'lr'; there are learning_rate",
        ),
        (lambda s: gradtx.get_hyperparam((), "b1"), "there is no hyperparameter"),
        (lambda s: injected(gradtx.adam(1.0), "b3"), "no hyperparameter matches 'b3'; there are learning_rate, b1"),
        (lambda s: gradtx.set_hyperparams(gradtx.sgd(1.0).init(1.0), learning_rate=2.0), "inject_hyperparams.tx, 'lea"),
        (lambda s: gradtx.step_count(gradtx.scale_by_adam().init(1.0)), "nothing in this state counts steps"),
    ],
)
def test_unknown_and_ambiguous_names_raise(ask, message):
    with pytest.raises(LookupError, match=message):
        ask(injected().init(PARAMS))


def test_values_that_do_not_fit_raise():
    state = injected().init(PARAMS)
    with pytest.raises(ValueError, match=r"learning_rate has shape \(\) in this state, got \(2,\)"):
        gradtx.set_hyperparams(state, learning_rate=jnp.ones(2))
    with pytest.raises(ValueError, match="learning_rate must be a number, got nan"):
        gradtx.set_hyperparams(state, learning_rate=float("nan"))
    with pytest.raises(TypeError, match="neither a transformation nor a constructor"):
        gradtx.inject_hyperparams(3.0)
    with pytest.raises(ValueError, match="float32 or wider"):
        gradtx.inject_hyperparams(gradtx.adam, hyperparam_dtype=jnp.bfloat16)


def test_a_part_of_the_path_is_enough():
    state = gradtx.chain(gradtx.adam(0.1), gradtx.sgd(0.2)).init(PARAMS)
    assert float(gradtx.get_hyperparam(state, "adam/learning_rate")) == np.float32(0.1)
    assert float(gradtx.get_hyperparam({"x": state, "y": 0}, "x/sgd/learning_rate")) == np.float32(0.2)


# Schedules


def test_a_schedule_is_evaluated_and_read_under_its_argument():
    schedule = gradtx.linear_schedule(0.0, 1.0, 10)
    tx = injected(gradtx.adam(schedule, b1=gradtx.linear_schedule(0.5, 0.9, 4)), "learning_rate", "b1")
    ours, state = run_steps(tx, PARAMS, GRADIENTS)
    theirs, plain = run_steps(tx.inner, PARAMS, GRADIENTS)
    assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    assert float(gradtx.get_hyperparam(state, "learning_rate")) == pytest.approx(0.3)
    assert float(state.hyperparams["b1"]) == pytest.approx(0.8)
    assert gradtx.step_count(state) == gradtx.step_count(plain) == 4
    with pytest.raises(LookupError, match="follows a schedule"):
        gradtx.set_hyperparams(state, b1=0.5)


def test_a_number_of_a_schedule_can_be_injected():
    tx = injected(gradtx.sgd(gradtx.linear_schedule(0.0, 1.0, 10)), "learning_rate/end_value")
    state = gradtx.set_hyperparams(tx.init(0.0), end_value=5.0)
    for expected in (0.0, 0.5, 1.0):
        updates, state = tx.update(1.0, state)
        assert float(updates) == pytest.approx(-expected)


def test_step_count_of_other_states():
    assert gradtx.step_count(run_steps(gradtx.sgd(0.1), PARAMS, GRADIENTS)[1]) == 4
    assert gradtx.step_count(run_steps(optax.adam(0.1), PARAMS, GRADIENTS)[1]) == 4
    plateau = gradtx.chain(gradtx.sgd(0.1), gradtx.reduce_on_plateau(accumulation_size=3))
    assert gradtx.step_count(run_steps(plateau, PARAMS, GRADIENTS, value=1.0)[1]) == 4


# As Optax has it


@pytest.mark.parametrize("make", [gradtx.adam, optax.adam, lambda learning_rate, b1=0.9: optax.adam(learning_rate, b1)])
def test_the_factory_form(make):
    schedule = gradtx.linear_schedule(0.1, 0.2, 4)
    ours = gradtx.inject_hyperparams(make)(learning_rate=schedule, b1=0.8)
    theirs = optax.inject_hyperparams(optax.adam)(learning_rate=schedule, b1=0.8)
    ours_params, state = run_steps(ours, PARAMS, GRADIENTS)
    theirs_params, their_state = run_steps(theirs, PARAMS, GRADIENTS)
    assert_close(ours_params, theirs_params, rtol=1e-4, atol=1e-5)
    for name in state.hyperparams:
        np.testing.assert_allclose(state.hyperparams[name], their_state.hyperparams[name], rtol=1e-6)
    state.hyperparams["b1"] = their_state.hyperparams["b1"] = 0.0
    updates, state = jax.jit(ours.update)(GRADIENTS[0], state, PARAMS)
    assert_close(updates, theirs.update(GRADIENTS[0], their_state, PARAMS)[0], rtol=1e-4)
    assert set(state.hyperparams) >= {"learning_rate", "b1"}


def test_static_arguments_of_the_factory_form():
    tx = gradtx.inject_hyperparams(optax.adamw, static_args=("mask", "b1"))(
        0.1, mask=lambda p: jax.tree.map(jnp.ndim, p)
    )
    state = tx.init({"w": jnp.ones(2)})
    assert "b1" not in state.hyperparams
    assert "b2" in state.hyperparams
    same = gradtx.inject_hyperparams(gradtx.adam, "b1")(0.1)
    assert "b1" not in same.init(PARAMS).hyperparams
    with pytest.raises(ValueError, match="'beta' is no argument of adam; it has learning_rate"):
        gradtx.inject_hyperparams(optax.adam, static_args="beta")


# Frameworks


def test_flax_train_state():
    train_state = pytest.importorskip("flax.training.train_state")
    state = train_state.TrainState.create(apply_fn=None, params=PARAMS, tx=injected())
    traces = []

    @jax.jit
    def step(state, grads):
        traces.append(1)
        return state.apply_gradients(grads=grads)

    state = step(step(state, GRADIENTS[0]), GRADIENTS[0])  # the first `step` of a TrainState is a Python number
    assert gradtx.step_count(state) == 2
    state = gradtx.set_hyperparams(state, learning_rate=0.0)
    assert gradtx.get_hyperparam(state, "learning_rate") == 0
    assert_close(step(state, GRADIENTS[1]).params, state.params)
    assert len(traces) == 1


def test_flax_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, injected(), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda m: jnp.mean(m(jnp.ones((4, 3))) ** 2))(model))

    step(model, optimizer)
    assert float(gradtx.get_hyperparam(optimizer, "learning_rate")) == np.float32(0.01)
    assert gradtx.step_count(optimizer) == 1
    optimizer.opt_state = gradtx.set_hyperparams(optimizer.opt_state, learning_rate=0.0)
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    step(model, optimizer)
    assert_close(nnx.state(model, nnx.Param), before)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    tx = injected()
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda m: jnp.sum(m(jnp.ones(3)) ** 2))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    model, state = step(model, state)
    state = gradtx.set_hyperparams(state, learning_rate=0.0)
    still, state = step(model, state)
    assert eqx.tree_equal(model, still)
    assert gradtx.step_count(state) == 2


def test_a_plain_compiled_loop():
    step = gradtx.make_step(lambda w, x: jnp.sum((w - x) ** 2), injected(gradtx.sgd(0.1)))
    w, x = jnp.zeros(3), jnp.ones(3)
    state = step.init(w)
    w, state, _ = step(w, state, x)
    state = gradtx.set_hyperparams(state, learning_rate=0.5)
    w, state, _ = step(w, state, x)
    np.testing.assert_allclose(w, x, rtol=1e-6)


def test_a_misspelt_assignment_is_an_error():
    tx = gradtx.inject_hyperparams(gradtx.adam)(learning_rate=0.1)
    state = tx.init(jnp.ones(2))
    state.hyperparams["lr"] = jnp.asarray(0.5)
    with pytest.raises(LookupError, match="no hyperparameter 'lr' was injected; there are learning_rate, b1"):
        tx.update(jnp.ones(2), state)

"""Transformations that act in some steps only, or on some leaves only, and optimizers that follow one another."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from helpers import assert_close, assert_same_form, random_tree, run_steps

PARAMS = random_tree()
GRADIENTS = [random_tree(i) for i in range(1, 9)]


def every_third(step):
    return step % 3 == 1


@pytest.mark.parametrize("name", ["conditionally_transform", "conditionally_mask"])
def test_conditional_steps_as_in_optax(name):
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(22)]
        ours, state = run_steps(getattr(gradtx, name)(gradtx.adamw(0.1), every_third), params, gradients)
        theirs, _ = run_steps(getattr(optax, name)(optax.adamw(0.1), every_third), params, gradients)
        assert_close(ours, theirs, rtol=1e-10, atol=1e-11)
        assert (state.step, gradtx.step_count(state)) == (22, 7)


@pytest.mark.parametrize("wrap", [gradtx.conditionally_transform, gradtx.conditionally_mask])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.complex64])
def test_any_dtype_and_absent_leaves(wrap, dtype):
    params = {"a": jnp.ones(2, dtype), "b": None, "c": jnp.ones((0, 2), dtype)}
    tx = wrap(gradtx.adam(0.1), every_third)
    state, one = tx.init(params), jax.jit(tx.update)
    for _ in range(3):
        updates, new = one(params, state, params)
        assert_same_form(new, state)
        chex.assert_tree_all_finite(updates)
        assert updates["b"] is None
        assert updates["a"].dtype == jnp.promote_types(dtype, jnp.float32)
        state = new


def test_what_maps_to_real_inside_stays_complex_outside():
    params = jnp.ones(2, jnp.complex64)
    tx = gradtx.chain(gradtx.conditionally_transform(gradtx.absolute(), every_third), gradtx.trace(0.9))
    state = tx.init(params)
    _, new = tx.update(params, state)
    assert_same_form(new, state)


def test_the_state_is_left_alone_and_nan_does_not_enter():
    tx = gradtx.conditionally_mask(gradtx.adam(0.1), lambda step: step != 1)
    nan = jax.tree.map(lambda g: g * jnp.nan, GRADIENTS[0])
    ours, state = run_steps(tx, PARAMS, [GRADIENTS[0], nan, GRADIENTS[1]])
    theirs, _ = run_steps(gradtx.adam(0.1), PARAMS, GRADIENTS[:2])
    assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    chex.assert_tree_all_finite(state)


def test_a_condition_can_read_extra_arguments():
    tx = gradtx.conditionally_mask(gradtx.sgd(1.0), lambda step, *, value, trust: (value < 10.0) & trust, True)
    tx = gradtx.chain(gradtx.clip(5.0), tx)
    state = tx.init(jnp.ones(()))
    taken = []
    for value, trust in ((1.0, True), (20.0, True), (1.0, False)):
        updates, state = tx.update(jnp.ones(()), state, value=jnp.array(value), trust=jnp.array(trust))
        taken.append(bool(updates != 0))
    assert taken == [True, False, False]
    with pytest.raises(TypeError, match="takes no extra argument 'trsut'"):
        tx.update(jnp.ones(()), state, value=1.0, trsut=True)


def test_a_condition_with_any_arguments_gets_the_well_known_ones():
    def small(step, **extra_args):
        return extra_args["value"] < 10.0

    ours, theirs = (lib.conditionally_mask(lib.sgd(1.0), small, forward_extra_args=True) for lib in (gradtx, optax))
    for value in (1.0, 20.0):
        a, b = (tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=jnp.array(value))[0] for tx in (ours, theirs))
        assert_close(a, b)


def test_extra_arguments_pass_through():
    tx = gradtx.conditionally_transform(gradtx.reduce_on_plateau(), every_third)
    tx.update(PARAMS, tx.init(PARAMS), value=1.0)
    with pytest.raises(TypeError, match="takes no extra argument 'step'"):
        tx.update(PARAMS, tx.init(PARAMS), step=1.0)


def test_a_condition_must_be_a_boolean():
    tx = gradtx.conditionally_mask(gradtx.sgd(0.1), lambda step: step)
    with pytest.raises(ValueError, match="must return one boolean, got int32"):
        tx.update(PARAMS, tx.init(PARAMS))
    constant = gradtx.conditionally_mask(gradtx.sgd(0.1), lambda step: True)
    assert_close(*(tx.update(PARAMS, tx.init(PARAMS))[0] for tx in (constant, gradtx.sgd(0.1))))


def test_conditional_transformations_are_values():
    tx = gradtx.conditionally_mask(gradtx.adam(0.1), every_third)
    assert tx == pickle.loads(pickle.dumps(tx)) == eval(repr(tx), vars(gradtx) | globals())
    assert hash(tx) == hash(tx.replace(learning_rate=0.1))


# Some leaves


@pytest.mark.parametrize(
    "mask",
    [
        "*kernel",
        {"scalar": False, "layer": {"kernel": True, "bias": False}, "stack": False},
        lambda path, x: x.ndim == 2,
    ],
    ids=["pattern", "tree", "predicate"],
)
def test_chosen_leaves_are_held_and_have_no_state(mask):
    nan = GRADIENTS[0] | {"layer": GRADIENTS[0]["layer"] | {"kernel": jnp.full((3, 4), jnp.nan)}}
    tx = gradtx.selective_transform(gradtx.adam(0.1), freeze_mask=mask)
    new, state = run_steps(tx, PARAMS, [nan] * 2)
    theirs, _ = run_steps(gradtx.adam(0.1), PARAMS, [GRADIENTS[0]] * 2)
    assert_close(new["layer"]["kernel"], PARAMS["layer"]["kernel"], rtol=0)
    assert_close(new["stack"], theirs["stack"])
    assert not any(x.shape == (3, 4) for x in jax.tree.leaves(state))


@pytest.mark.parametrize("mask", [True, False])
def test_one_boolean_holds_all_or_nothing_as_in_optax(mask):
    ours, _ = run_steps(gradtx.selective_transform(gradtx.sgd(0.1), freeze_mask=mask), PARAMS, GRADIENTS)
    expected = PARAMS if mask else run_steps(gradtx.sgd(0.1), PARAMS, GRADIENTS)[0]
    assert_close(ours, expected)


def test_selective_transform_as_in_optax_and_by_keyword_only():
    mask = jax.tree.map(lambda p: p.ndim == 1, PARAMS)
    ours, _ = run_steps(gradtx.selective_transform(gradtx.adam(0.1), freeze_mask=mask), PARAMS, GRADIENTS)
    theirs, _ = run_steps(optax.transforms.selective_transform(optax.adam(0.1), freeze_mask=mask), PARAMS, GRADIENTS)
    assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="selective_transform"):
        gradtx.selective_transform(gradtx.adam(0.1), mask)


# One after another


def test_each_optimizer_takes_over_as_if_it_were_made_then():
    tx = gradtx.switch_at([3, 5], gradtx.adam(0.1), gradtx.sgd(0.1, momentum=0.9), gradtx.schedule_free_sgd(0.3))
    params = PARAMS
    for part, gradients in (
        (gradtx.adam(0.1), GRADIENTS[:3]),
        (gradtx.sgd(0.1, momentum=0.9), GRADIENTS[3:5]),
        (gradtx.schedule_free_sgd(0.3), GRADIENTS[5:]),
    ):
        params, last = run_steps(part, params, gradients)
    ours, state = run_steps(tx, PARAMS, GRADIENTS)
    assert_close(ours, params, rtol=1e-5, atol=1e-6)
    assert_same_form(state, tx.init(PARAMS))
    assert_close(state.inner_states.schedule_free_sgd, last, rtol=1e-5, atol=1e-6)
    assert_close(gradtx.eval_params(state, ours), gradtx.eval_params(last, params), rtol=1e-5, atol=1e-6)


def test_only_the_running_optimizer_tells_what_to_evaluate():
    tx = gradtx.switch_at(2, gradtx.schedule_free_sgd(0.3), gradtx.sgd(0.1))
    new, state = run_steps(tx, PARAMS, GRADIENTS[:2])
    assert not np.allclose(gradtx.eval_params(state, new)["stack"], new["stack"])
    new, state = run_steps(tx, PARAMS, GRADIENTS[:3])
    assert_close(gradtx.eval_params(state, new), new, rtol=0)


def test_schedules_begin_at_their_optimizers_first_step():
    line = gradtx.linear_schedule(1.0, 0.0, 4)
    tx = gradtx.switch_at(2, gradtx.sgd(line), gradtx.sgd(line))
    state, moved = tx.init(jnp.ones(())), []
    for _ in range(5):
        updates, state = tx.update(jnp.ones(()), state)
        moved.append(float(updates))
    assert moved == [-1.0, -0.75, -1.0, -0.75, -0.5]
    rates = {"sgd": 0.75, "sgd_1": 0.5}
    for name, rate in rates.items():
        assert gradtx.get_hyperparam(state, f"{name}/learning_rate") == rate


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.complex64])
def test_a_switch_with_any_dtype_and_absent_leaves(dtype):
    params = {"a": jnp.ones(2, dtype), "b": None}
    tx = gradtx.switch_at(1, optax.sgd(0.1), gradtx.adam(0.1))
    state = tx.init(params)
    step = jax.jit(chex.assert_max_traces(tx.update, n=1))
    for _ in range(3):
        updates, new = step(params, state, params)
        assert_same_form(new, state)
        chex.assert_tree_all_finite(updates)
        state = new


def test_zero_gradients_change_nothing():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    new, state = run_steps(gradtx.switch_at(2, gradtx.adam(0.1), gradtx.sgd(0.1)), PARAMS, [zeros] * 4)
    assert_close(new, PARAMS, rtol=0)
    chex.assert_tree_all_finite(state)


def test_a_switch_is_a_value_and_checks_its_arguments():
    tx = gradtx.switch_at(5, gradtx.adam(0.1), gradtx.sgd(0.2))
    assert repr(tx) == "switch_at((5,), adam(learning_rate=0.1), sgd(learning_rate=0.2))"
    assert eval(repr(tx), vars(gradtx)) == tx == pickle.loads(pickle.dumps(tx))
    with pytest.raises(ValueError, match="2 steps part 3 optimizers, got 2"):
        gradtx.switch_at([1, 2], gradtx.adam(0.1), gradtx.sgd(0.2)).init(PARAMS)
    with pytest.raises(ValueError, match=r"switch_at: steps must not fall, got \(5, 2\)"):
        gradtx.switch_at([5, 2], gradtx.adam(0.1), gradtx.sgd(0.2), gradtx.sgd(0.1))
    with pytest.raises(ValueError, match=r"switch_at: steps must be an integer, at least 0, got 1\.5"):
        gradtx.switch_at(1.5, gradtx.adam(0.1), gradtx.sgd(0.2))


def test_a_switch_needs_no_more_memory_than_its_update():
    params = {f"w{i}": jax.ShapeDtypeStruct((1 << 14,), jnp.float32) for i in range(4)}
    tx = gradtx.switch_at(10, gradtx.adam(0.1), gradtx.sgd(0.1, momentum=0.9))
    state = jax.eval_shape(tx.init, params)

    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return gradtx.apply_updates(params, updates), state

    memory = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1.01 * 4 * (4 << 14)

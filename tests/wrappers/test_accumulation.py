"""Accumulated steps are the steps of the optimizer on the mean gradient, in place, and nothing happens in between."""

import functools
import pickle

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
GRADIENTS = [random_tree(i) for i in range(1, 9)]


def mean(gradients):
    return jax.tree.map(lambda *gs: sum(gs) / len(gs), *gradients)


def nan_in(gradient):
    return gradient | {"stack": gradient["stack"].at[0, 0, 0].set(jnp.nan)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_accumulated_steps_are_steps_on_the_mean(case):
    params, *gradients = (tree["layer"] for tree in (PARAMS, *GRADIENTS[:6]))
    ours, state = run_steps(gradtx.accumulate(case.tx, 2), params, gradients)
    theirs, plain = run_steps(case.tx, params, [mean(gradients[i : i + 2]) for i in (0, 2, 4)])
    assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert_same_form(state.inner_opt_state, plain)
    assert_same_form(state, gradtx.accumulate(case.tx, 2).init(params))
    assert state.gradient_step == 3


@pytest.mark.parametrize("use_grad_mean", [True, False])
@pytest.mark.parametrize("every", [1, 3, lambda step: jnp.where(step < 2, 2, 4)], ids=["1", "3", "growing"])
def test_as_in_optax(use_grad_mean, every):
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(24)]
        rate = gradtx.linear_schedule(0.1, 0.0, 12)
        ours, our_state = run_steps(gradtx.MultiSteps(gradtx.adamw(rate), every, use_grad_mean), params, gradients)
        tx = optax.MultiSteps(optax.adamw(rate), every, use_grad_mean, accumulator_dtype=jnp.float64)
        theirs, their_state = run_steps(tx, params, gradients)
        assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        for name in ("mini_step", "gradient_step"):
            assert getattr(our_state, name) == getattr(their_state, name)


def test_nothing_moves_in_between_and_schedules_count_steps():
    tx = gradtx.accumulate(gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 4)), 3)
    params, state, moved = jnp.zeros(2), tx.init(jnp.zeros(2)), []
    for _ in range(9):
        updates, new = tx.update(jnp.ones(2), state, params)
        moved.append(float(updates[0]))
        if not new.has_updated:
            assert_close(new.inner_opt_state, state.inner_opt_state, rtol=0)
        state = new
    assert moved == [0, 0, -1.0, 0, 0, -0.75, 0, 0, -0.5]
    assert gradtx.step_count(state) == 3
    assert gradtx.get_hyperparam(state, "learning_rate") == 0.5


def test_the_number_of_calls_may_be_a_schedule_of_the_steps():
    tx = gradtx.accumulate(gradtx.sgd(1.0), gradtx.piecewise_constant_schedule(1.0, {2: 3.0}))
    state, steps = tx.init(jnp.zeros(())), []
    for _ in range(8):
        updates, state = tx.update(jnp.ones(()), state)
        steps.append(bool(updates != 0))
    assert steps == [True, True, False, False, True, False, False, True]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_mean_of_low_precision_gradients_is_taken_in_float32(dtype):
    """In bfloat16, 256 + 1 is 256."""
    params = jnp.ones(3, dtype)
    tx = gradtx.accumulate(gradtx.sgd(1.0), 512, use_grad_mean=False)
    state = tx.init(params)
    assert state.acc_grads.dtype == jnp.float32

    def step(state, _):
        updates, state = tx.update(params, state, params)
        return state, updates[0]

    _, updates = jax.lax.scan(step, state, None, length=512)
    assert updates[-1] == -512
    assert updates.dtype == jnp.float32


def test_complex_and_absent_leaves():
    params = {"a": jnp.array([1.0 + 2.0j]), "b": None, "c": jnp.ones((0, 3))}
    tx = gradtx.accumulate(gradtx.adam(0.1), 2)
    new, state = run_steps(tx, params, [params, jax.tree.map(lambda x: 3 * x, params)])
    theirs, _ = run_steps(gradtx.adam(0.1), params, [jax.tree.map(lambda x: 2 * x, params)])
    assert_close(new, theirs)
    assert_same_form(state, tx.init(params))
    updates, state = tx.update(params, state, params)
    assert updates["b"] is None
    assert not jnp.any(updates["a"])


def test_zero_gradients_change_nothing():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    new, state = run_steps(gradtx.accumulate(gradtx.adam(0.1), 2), PARAMS, [zeros] * 4)
    assert_close(new, PARAMS, rtol=0)
    chex.assert_tree_all_finite(state)


def test_one_trace_and_jit_equals_eager():
    tx = gradtx.accumulate(gradtx.adam(0.1), 2, should_skip_update_fn=gradtx.skip_not_finite)
    compiled, _ = run_steps(tx, PARAMS, GRADIENTS[:4])
    eager, _ = run_steps(tx, PARAMS, GRADIENTS[:4], jit=False)
    assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
    counted = chex.assert_max_traces(lambda tx, g, s: tx.update(g, s), n=1)
    step, state = jax.jit(counted), tx.init(PARAMS)
    for rate in (0.1, 0.2, 0.3):
        _, state = step(tx.replace(learning_rate=rate), GRADIENTS[0], state)


def test_extra_arguments_pass_through():
    tx = gradtx.accumulate(gradtx.reduce_on_plateau(patience=1), 2)
    state = tx.init(PARAMS)
    _, state = jax.jit(lambda g, s, v: tx.update(g, s, value=v))(PARAMS, state, 1.0)
    with pytest.raises(TypeError, match="takes no extra argument 'valeu'"):
        tx.update(PARAMS, state, valeu=1.0)


# Memory


def temporaries(tx, leaves=4, size=1 << 19):
    params = {f"w{i}": jax.ShapeDtypeStruct((size,), jnp.float32) for i in range(leaves)}
    state = jax.eval_shape(tx.init, params)

    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return gradtx.apply_updates(params, updates), state

    memory = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile().memory_analysis()
    total = 4 * size * leaves
    return memory.temp_size_in_bytes / total, memory.alias_size_in_bytes / total


@pytest.mark.parametrize("every", [1, 4, gradtx.linear_schedule(1.0, 8.0, 10)], ids=str)
def test_accumulation_needs_one_buffer_and_no_temporaries(every):
    temporary, kept = temporaries(gradtx.accumulate(gradtx.adamw(1e-3), every))
    assert temporary < 0.01
    assert 4 <= kept < 4.01  # the parameters, two moments and the buffer
    temporary, _ = temporaries(optax.MultiSteps(optax.adamw(1e-3), 4))
    assert temporary > 1  # the measure sees what is there


def test_skipping_large_updates_needs_no_temporaries():
    skip = functools.partial(gradtx.skip_large_updates, max_squared_norm=100.0)
    assert temporaries(gradtx.accumulate(gradtx.adamw(1e-3), 4, should_skip_update_fn=skip), leaves=1)[0] < 0.01


def test_apply_every_needs_no_temporaries():
    assert temporaries(gradtx.chain(gradtx.sgd(0.1), gradtx.apply_every(4)))[0] < 0.01


# What is left out


def test_skipped_gradients_count_for_nothing_and_are_counted():
    tx = gradtx.MultiSteps(gradtx.adam(0.1), 2, should_skip_update_fn=gradtx.skip_not_finite)
    bad = [nan_in(GRADIENTS[7])]
    ours, state = run_steps(tx, PARAMS, bad + GRADIENTS[:1] + bad + bad + GRADIENTS[1:4])
    theirs, _ = run_steps(tx, PARAMS, GRADIENTS[:4])
    assert_close(ours, theirs, rtol=0)
    chex.assert_tree_all_finite(state)
    told = gradtx.metrics(state)
    assert (told["total_skipped"], told["should_skip"], told["num_not_finite"]) == (3, False, 0)
    _, state = tx.update(bad[0], state, PARAMS)
    assert (gradtx.metrics(state)["total_skipped"], gradtx.metrics(state)["num_not_finite"]) == (4, 1)
    assert not tx.has_updated(state)  # Optax's says True here: its last call but one was a step


def test_without_a_skip_function_a_nan_spoils_one_step_and_not_the_buffer():
    tx = gradtx.accumulate(gradtx.sgd(0.1), 2)
    state = tx.init(PARAMS)
    for gradient in (nan_in(GRADIENTS[0]), *GRADIENTS[:3]):
        updates, state = tx.update(gradient, state)
    chex.assert_tree_all_finite(updates)
    chex.assert_tree_all_finite(state)


def test_skipping_as_in_optax():
    bad = [*GRADIENTS[:3], jax.tree.map(lambda g: 100 * g, GRADIENTS[3]), *GRADIENTS[4:]]
    ours = functools.partial(gradtx.skip_large_updates, max_squared_norm=1e3)
    theirs = functools.partial(optax.skip_large_updates, max_squared_norm=1e3)
    a, our_state = run_steps(gradtx.MultiSteps(gradtx.sgd(0.1), 2, True, ours), PARAMS, bad)
    b, their_state = run_steps(optax.MultiSteps(optax.sgd(0.1), 2, True, theirs), PARAMS, bad)
    assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert our_state.gradient_step == their_state.gradient_step
    np.testing.assert_allclose(our_state.skip_state["norm_squared"], their_state.skip_state["norm_squared"], rtol=1e-5)


@pytest.mark.parametrize("size", [1e30, np.inf, np.nan])
def test_large_updates_are_told_without_overflow_to_false(size):
    skip, told = gradtx.skip_large_updates({"a": jnp.array([size, 1.0 + 1.0j]), "b": None}, 0, None, 10.0)
    assert skip
    assert not told["norm_squared"] < 10.0
    assert not gradtx.skip_large_updates(jnp.array([1.0 + 1.0j]), 0, None, 2.1)[0]


def test_a_skip_function_must_return_a_boolean():
    tx = gradtx.accumulate(gradtx.sgd(0.1), 2, should_skip_update_fn=lambda u, step, params: (1.0, ()))
    with pytest.raises(ValueError, match=r"accumulate: the skip function must return one boolean first, got ~?float32"):
        tx.init(PARAMS)


# The class


def test_multi_steps_is_a_value_like_any_other():
    tx = gradtx.MultiSteps(gradtx.adam(1e-3), every_k_schedule=4)
    assert repr(tx) == "MultiSteps(opt=adam(learning_rate=0.001), every_k_schedule=4)"
    assert tx == pickle.loads(pickle.dumps(tx)) == tx.replace(learning_rate=1e-3)
    assert isinstance(tx.replace(learning_rate=0.1), gradtx.MultiSteps)
    assert hash(tx) == hash(gradtx.MultiSteps(gradtx.adam(1e-3), 4))
    assert tx.gradient_transformation() is tx
    assert tx.inner_opt == gradtx.adam(1e-3)
    state = gradtx.chain(gradtx.clip(1.0), tx).init(PARAMS)
    assert not tx.has_updated(state)
    with pytest.raises(LookupError, match="accumulates gradients"):
        tx.has_updated(gradtx.adam(0.1).init(PARAMS))


def test_optax_takes_it_and_it_takes_optax():
    inside = optax.chain(optax.clip(1.0), gradtx.MultiSteps(optax.adam(0.1), 2).gradient_transformation())
    ours, _ = run_steps(inside, PARAMS, GRADIENTS[:4])
    theirs, _ = run_steps(optax.chain(optax.clip(1.0), optax.MultiSteps(optax.adam(0.1), 2)), PARAMS, GRADIENTS[:4])
    assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="accumulate: every must be an integer, at least 1, got 0"):
        gradtx.accumulate(gradtx.sgd(0.1), 0)
    with pytest.raises(ValueError, match=r"^MultiSteps: every_k_schedule must be an integer, at least 1, got 1\.5"):
        gradtx.MultiSteps(gradtx.sgd(0.1), 1.5)
    with pytest.raises(TypeError, match="did you mean sgd"):
        gradtx.MultiSteps(gradtx.sgd, 2)


@pytest.mark.parametrize(("asked", "buffer"), [("bfloat16", "float32"), ("float64", "float64")])
def test_the_buffer_may_be_wider_and_is_never_narrower(asked, buffer):
    with jax.enable_x64(True):
        params = jnp.ones(2, jnp.float32)
        tx = gradtx.MultiSteps(gradtx.sgd(0.1), 2, accumulator_dtype=asked)
        assert tx.init(params).acc_grads.dtype == buffer
        new, state = run_steps(tx, params, [params] * 2)
        assert_same_form(state, tx.init(params))
        np.testing.assert_allclose(new, 0.9)


# apply_every


def test_apply_every_as_in_optax():
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(21)]
        for k in (1, 3):
            ours, state = run_steps(gradtx.chain(gradtx.adam(0.1), gradtx.apply_every(k)), params, gradients)
            theirs, _ = run_steps(optax.chain(optax.adam(0.1), optax.apply_every(k)), params, gradients)
            assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
            assert state.apply_every.count == 0


def test_apply_every_adds_up_in_float32_and_forgets_a_nan():
    tx = gradtx.apply_every(2)
    state = tx.init({"a": jnp.ones(2, jnp.bfloat16), "b": None})
    assert state.grad_acc["a"].dtype == jnp.float32
    for gradient in (jnp.nan, 1.0, 256.0, 1.0):
        updates, new = tx.update({"a": jnp.full(2, gradient, jnp.bfloat16), "b": None}, state)
        assert_same_form(new, state)
        state = new
    assert updates["a"].tolist() == [257.0, 257.0]

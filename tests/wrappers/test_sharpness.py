"""Sharpness-aware minimisation."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx
from cases import CASES
from helpers import assert_close, assert_same_form, random_tree, run_steps

PARAMS = random_tree()
GRADIENTS = [random_tree(i) for i in range(1, 9)]
TARGET = random_tree(99)


def loss(params):
    return sum(jnp.sum((p - t) ** 2 + 0.1 * p**4) for p, t in zip(*map(jax.tree.leaves, (params, TARGET)), strict=True))


def descend(tx, params, steps, **extra_args):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params, **extra_args)
        return gradtx.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def pair(lib, contrib, rho, momentum=None):
    return lib.adam(0.1), lib.chain(contrib.normalize(), lib.sgd(rho, momentum))


@pytest.mark.parametrize("period", [2, 3])
@pytest.mark.parametrize("reset", [True, False])
def test_transparent_sam_as_in_optax(period, reset):
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(25)]
        ours = gradtx.sam(*pair(gradtx, gradtx, 0.05), period, reset)
        theirs = optax.contrib.sam(*pair(optax, optax.contrib, 0.05), period, reset)
        a, _ = run_steps(ours, params, gradients)
        b, _ = run_steps(theirs, params, gradients)
        assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("period", [2, 3])
def test_opaque_sam_as_in_optax(period):
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)

        def grad_fn(p, i):
            return jax.tree.map(lambda g: g * (1 + 0.1 * i), jax.grad(loss)(p))

        ours = gradtx.sam(*pair(gradtx, gradtx, 0.05), period, opaque_mode=True)
        theirs = optax.contrib.sam(*pair(optax, optax.contrib, 0.05), period, opaque_mode=True)
        a, state = descend(ours, params, 20, grad_fn=grad_fn)
        b, _ = descend(theirs, params, 20, grad_fn=grad_fn)
        assert_close(a, b, rtol=1e-10, atol=1e-11)
        assert state.cache is None


def test_both_modes_are_the_paper():
    tx = {opaque: gradtx.sam(gradtx.sgd(0.05), opaque_mode=opaque) for opaque in (True, False)}
    expected = PARAMS
    for _ in range(4):
        gradient = jax.grad(loss)(expected)
        size = np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in jax.tree.leaves(gradient)))
        uphill = jax.tree.map(lambda p, g: p + 0.05 * g / size, expected, gradient)  # noqa: B023
        expected = jax.tree.map(lambda p, g: p - 0.05 * g, expected, jax.grad(loss)(uphill))
    transparent, _ = descend(tx[False], PARAMS, 8)
    opaque, _ = descend(tx[True], PARAMS, 4, grad_fn=lambda p, i: jax.grad(loss)(p))
    through_the_loss, _ = descend(tx[True], PARAMS, 4, value_fn=loss)
    for found in (transparent, opaque, through_the_loss):
        assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_eval_params_are_without_the_step_uphill():
    tx = gradtx.sam(gradtx.chain(gradtx.sgd(0.05), gradtx.ema_params(0.5)), gradtx.sgd(0.1))
    plain = gradtx.sam(gradtx.sgd(0.05), gradtx.sgd(0.1))
    below, state = descend(plain, PARAMS, 4)
    assert_close(gradtx.eval_params(state, below), below, rtol=0)
    above, state = descend(plain, PARAMS, 5)
    assert not np.allclose(above["stack"], below["stack"], atol=1e-4)
    assert_close(gradtx.eval_params(state, above), below, rtol=0)
    above, state = descend(tx, PARAMS, 5)
    assert_close(gradtx.eval_params(state, above), state.opt_state.ema_params.average, rtol=0)


def test_there_is_one_learning_rate():
    assert gradtx.get_hyperparam(gradtx.sam(gradtx.adam(0.1)).init(PARAMS), "learning_rate") == np.float32(0.1)


def test_a_period_of_one_is_the_optimizer():
    ours, _ = run_steps(gradtx.sam(gradtx.adam(0.1), sync_period=1), PARAMS, GRADIENTS)
    theirs, _ = run_steps(gradtx.adam(0.1), PARAMS, GRADIENTS)
    assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opaque", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_zero_gradients_change_nothing(opaque, dtype):
    params = random_tree(dtype=dtype)
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = gradtx.sam(gradtx.adam(0.1), opaque_mode=opaque)
    extra_args = {"grad_fn": lambda p, i: jax.tree.map(jnp.zeros_like, p)} if opaque else {}
    new, state = run_steps(tx, params, [zeros] * 5, **extra_args)
    assert_close(new, params, rtol=0)
    chex.assert_tree_all_finite(state)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sam_goes_over_any_optimizer(case):
    tx = gradtx.sam(case.tx)
    params = {"kernel": PARAMS["layer"]["kernel"], "weak": jnp.asarray(1.0)}
    new, state = run_steps(tx, params, [params] * 3)
    chex.assert_tree_all_finite((new, state))
    assert_same_form(state, tx.init(params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_other_dtypes_and_absent_leaves(dtype):
    params = {"a": jnp.ones(2, dtype), "b": None, "c": jnp.ones((0, 3), dtype)}
    for tx in (gradtx.sam(gradtx.sgd(0.1)), gradtx.sam(gradtx.sgd(0.1), opaque_mode=True)):
        value_fn = {"value_fn": lambda p: jnp.sum(jnp.abs(p["a"]).astype(float) ** 2)}
        new, state = run_steps(tx, params, [params] * 4, **value_fn)
        assert_same_form(state, tx.init(params))
        assert jnp.all(jnp.abs(new["a"]) < 1)
        assert gradtx.eval_params(state, new)["b"] is None


def test_a_complex_gradient_goes_uphill():
    turn = jnp.exp(0.7j)
    tx = gradtx.sam(gradtx.sgd(0.1), opaque_mode=True)

    def end(start, value_fn):
        step = gradtx.make_step(value_fn, tx)
        z, state = jnp.asarray(start), step.init(jnp.asarray(start))
        for _ in range(3):
            z, state, _ = step(z, state)
        return z

    assert_close(
        end(turn * 2.0, lambda z: jnp.abs(z) ** 4 / 8), turn * end(2.0 + 0j, lambda z: jnp.abs(z) ** 4 / 8), 1e-5
    )


def test_jit_equals_eager_and_it_is_a_value():
    tx = gradtx.sam(gradtx.adam(0.1), gradtx.sgd(0.1), 3)
    assert_close(*(run_steps(tx, PARAMS, GRADIENTS, jit=jit)[0] for jit in (True, False)), rtol=1e-5, atol=1e-6)
    assert eval(repr(tx), vars(gradtx)) == tx == pickle.loads(pickle.dumps(tx))
    assert hash(tx) == hash(gradtx.sam(gradtx.adam(0.1), gradtx.sgd(0.1), 3))


def test_parameters_and_state_can_be_donated():
    step = gradtx.make_step(loss, gradtx.sam(gradtx.adam(0.1)))
    params = jax.tree.map(jnp.copy, PARAMS)
    state = step.init(params)
    for _ in range(4):
        params, state, value = step(params, state)
    assert value < loss(PARAMS)


def test_opaque_gradients_are_averaged_over_an_axis():
    tx = gradtx.sam(gradtx.sgd(1.0), opaque_mode=True, batch_axis_name="batch")

    def one(weight):
        grads = jnp.array([2.0])
        update, _ = tx.update(grads, tx.init(grads), grads, grad_fn=lambda p, i: weight * jnp.ones(1))
        return update

    assert jax.vmap(one, axis_name="batch")(jnp.array([1.0, 3.0])).ravel().tolist() == [-2.0, -2.0]


def test_what_is_missing_is_told():
    tx = gradtx.sam(gradtx.sgd(0.1), opaque_mode=True)
    with pytest.raises(TypeError, match="sam: opaque mode needs grad_fn"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match="sam needs the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_normalize_gives_norm_one_or_zero(size):
    tx = gradtx.normalize()
    updates, _ = tx.update(jax.tree.map(lambda g: size * g, PARAMS), tx.init(PARAMS))
    chex.assert_tree_all_finite(updates)
    np.testing.assert_allclose(gradtx.global_norm(updates), float(size > 0), rtol=1e-5)
    slope = jax.grad(lambda g: jnp.sum(tx.update(g, tx.init(g))[0]))(jnp.zeros(2))
    chex.assert_tree_all_finite(slope)

"""Bad steps are skipped, counted and harmless."""

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


def spoiled(gradient, value):
    return gradient | {"stack": gradient["stack"].at[0, 0, 0].set(value)}


# Not finite


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_skipped_step_leaves_no_trace(case):
    tx = gradtx.apply_if_finite(case.tx, 3)
    bad = [GRADIENTS[0], spoiled(GRADIENTS[1], jnp.nan), GRADIENTS[2], spoiled(GRADIENTS[3], -jnp.inf)]
    ours, state = run_steps(tx, PARAMS, bad)
    theirs, plain = run_steps(case.tx, PARAMS, [GRADIENTS[0], GRADIENTS[2]])
    assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert_close(state.inner_state, plain, rtol=1e-5, atol=1e-7)
    assert_same_form(state, tx.init(PARAMS))
    counts = {"notfinite_count": 1, "total_notfinite": 2, "gave_up": False}
    assert counts.items() <= gradtx.metrics(state).items()


def test_as_in_optax_until_it_gives_up():
    ours, theirs = gradtx.apply_if_finite(gradtx.adam(0.1), 2), optax.apply_if_finite(optax.adam(0.1), 2)
    gradients = [g if i % 3 else spoiled(g, jnp.nan) for i, g in enumerate(GRADIENTS)]
    our_params, our_state = run_steps(ours, PARAMS, gradients)
    their_params, their_state = run_steps(theirs, PARAMS, gradients)
    assert_close(our_params, their_params, rtol=1e-4, atol=1e-5)
    for name in ("notfinite_count", "last_finite", "total_notfinite"):
        assert getattr(our_state, name) == getattr(their_state, name)


def test_after_giving_up_nothing_bad_is_applied_and_good_steps_are():
    tx = gradtx.apply_if_finite(gradtx.sgd(1.0), 2)
    params, state = jnp.zeros(2), tx.init(jnp.zeros(2))
    gave_up = []
    for gradient in (jnp.nan, jnp.nan, jnp.nan, jnp.nan, 1.0):
        updates, state = tx.update(jnp.array([gradient, 1.0]), state)
        params = params + updates
        gave_up.append(bool(gradtx.metrics(state)["gave_up"]))
    assert gave_up == [False, False, True, True, True]
    assert params.tolist() == [-1.0, -1.0]
    assert gradtx.metrics(state)["total_notfinite"] == 4
    assert gradtx.metrics(state)["notfinite_count"] == 0


def test_counts_that_are_full_stay():
    tx = gradtx.apply_if_finite(gradtx.sgd(1.0), 2)
    full = jnp.array(jnp.iinfo(jnp.int32).max)
    state = tx.init(1.0)._replace(notfinite_count=full, total_notfinite=full)
    _, state = tx.update(jnp.nan, state)
    assert state.notfinite_count == state.total_notfinite == full


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.complex64])
def test_other_dtypes_and_absent_leaves(dtype):
    params = {"a": jnp.ones(2, dtype), "b": None, "c": jnp.ones((0, 3), dtype)}
    tx = gradtx.apply_if_finite(gradtx.adam(0.1), 1)
    state = tx.init(params)
    updates, state = tx.update(params | {"a": params["a"] * jnp.inf}, state, params)
    assert not jnp.any(updates["a"])
    assert updates["b"] is None
    _, state = tx.update(params, state, params)
    chex.assert_tree_all_finite(state)
    assert state.total_notfinite == 1


def test_the_gradient_through_a_skipped_step_is_zero():
    tx = gradtx.apply_if_finite(gradtx.adam(0.1), 1)
    slope = jax.grad(lambda g: jnp.sum(tx.update(g, tx.init(g))[0]))(jnp.array([jnp.nan, 1.0]))
    assert slope.tolist() == [0.0, 0.0]


# Spikes


def noisy(seed, level=1.0, steps=60):
    return level + 0.1 * np.random.default_rng(seed).normal(size=steps)


def skipped(sizes, **arguments):
    """Which of the gradients of these sizes are skipped."""
    tx = gradtx.skip_spikes(gradtx.sgd(1.0), **arguments)

    def step(state, size):
        updates, state = tx.update(jnp.array([size, 0.0]), state)
        return state, updates[0] == 0

    state, zero = jax.lax.scan(step, tx.init(jnp.zeros(2)), jnp.asarray(sizes, jnp.float32))
    assert gradtx.metrics(state)["total_skipped"] == zero.sum()
    return np.flatnonzero(zero)


def test_a_spike_is_skipped_and_noise_is_not():
    sizes = noisy(0)
    sizes[40], sizes[50] = 3.0, np.inf
    assert skipped(sizes).tolist() == [40, 50]


def test_nothing_finite_is_skipped_while_warming_up():
    sizes = noisy(1)
    sizes[5], sizes[7] = 100.0, np.nan
    assert skipped(sizes, warmup_steps=20).tolist() == [7]


def test_one_spike_does_not_hide_the_next():
    sizes = noisy(2)
    sizes[[40, 42, 44]] = 1e6
    assert skipped(sizes).tolist() == [40, 42, 44]


@pytest.mark.parametrize("level", [2.0, 10.0, 1000.0])
def test_a_lasting_rise_is_followed(level):
    sizes = np.concatenate([noisy(3), noisy(4, level, 200)])
    late = skipped(sizes)
    assert late[0] == 60
    assert late[-1] < 60 + 100


def test_a_constant_norm_is_never_a_spike():
    assert skipped(np.full(100, 0.3)).size == 0


def test_the_limit_is_mean_and_deviations():
    sizes = noisy(5, steps=30)
    tx = gradtx.skip_spikes(gradtx.sgd(1.0), num_sigmas=4.0, decay=0.999)
    _, state = run_steps(tx, jnp.zeros(1), [jnp.array([x], jnp.float32) for x in sizes])
    np.testing.assert_allclose(gradtx.metrics(state)["spike_limit"], sizes.mean() + 4 * sizes.std(), rtol=1e-4)


def test_the_loss_is_watched():
    tx = gradtx.skip_spikes(gradtx.adam(0.1), of="value", warmup_steps=3)
    update, state = jax.jit(tx.update), tx.init(PARAMS)
    for value in (1.0, 1.1, 0.9, 1.0):
        updates, state = update(GRADIENTS[0], state, PARAMS, value=value)
    before = state.inner_state
    updates, state = update(GRADIENTS[0], state, PARAMS, value=9.0)
    assert not any(jnp.any(u) for u in jax.tree.leaves(updates))
    assert_close(state.inner_state, before)
    with pytest.raises(TypeError, match="skip_spikes needs the extra argument 'value'"):
        tx.update(GRADIENTS[0], state, PARAMS)
    with pytest.raises(ValueError, match="of must be 'gradient_norm' or 'value', got 'loss'"):
        gradtx.skip_spikes(gradtx.adam(0.1), of="loss").init(PARAMS)


def test_extra_arguments_reach_the_transformation_inside():
    tx = gradtx.skip_spikes(gradtx.apply_if_finite(gradtx.reduce_on_plateau(patience=1), 2), of="value")
    _, state = tx.update(GRADIENTS[0], tx.init(PARAMS), PARAMS, value=3.0)
    assert gradtx.metrics(state)["plateau_scale"] == 1
    assert state.inner_state.inner_state.best_value == 3


@pytest.mark.parametrize("wrap", [lambda tx: gradtx.apply_if_finite(tx, 3), gradtx.skip_spikes])
def test_one_trace_and_a_fixed_form(wrap):
    tx = wrap(gradtx.adamw(0.1))
    update, state = jax.jit(chex.assert_max_traces(tx.update, n=1)), tx.init(PARAMS)
    for gradient in GRADIENTS[:3]:
        _, state = update(gradient, state, PARAMS)
    assert_same_form(state, tx.init(PARAMS))


def test_frameworks():
    tx = gradtx.apply_if_finite(gradtx.adam(0.1), 3)
    train_state = pytest.importorskip("flax.training.train_state")
    state = train_state.TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    state = state.apply_gradients(grads=spoiled(GRADIENTS[0], jnp.nan))
    assert gradtx.metrics(state)["total_notfinite"] == 1
    assert_close(state.params, PARAMS)

    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    optimizer.update(model, nnx.grad(lambda m: jnp.sum(m(jnp.full((1, 3), jnp.nan))))(model))
    assert gradtx.metrics(optimizer)["total_notfinite"] == 1
    assert_close(nnx.state(model, nnx.Param), before)

    eqx = pytest.importorskip("equinox")
    module = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    params = eqx.filter(module, eqx.is_inexact_array)
    updates, state = tx.update(jax.tree.map(lambda x: x * jnp.nan, params), tx.init(params), params)
    assert eqx.tree_equal(eqx.apply_updates(module, updates), module)
    assert gradtx.metrics(state)["total_notfinite"] == 1

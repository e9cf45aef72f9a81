"""Averages of the parameters: right in numbers, kept in float32, and read in one way from any nesting."""

import pickle

import chex
import flax.linen
import flax.nnx
import flax.training.train_state
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
WRAPPERS = {
    "ema_params": lambda tx: gradtx.chain(tx, gradtx.ema_params(0.9)),
    "swa_params": lambda tx: gradtx.chain(tx, gradtx.swa_params(2, 2)),
    "lookahead": lambda tx: gradtx.lookahead(tx, 2, 0.5),
    "lookahead-reset": lambda tx: gradtx.lookahead(tx, 2, 0.5, reset_state=True),
    "schedule_free": lambda tx: gradtx.schedule_free(tx, 0.1),
}
EACH_WRAPPER = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def iterates(tx, params, gradients):
    """The parameters and what `eval_params` makes of them, after each step."""
    state, rows = tx.init(params), []
    step = jax.jit(tx.update)
    for gradient in gradients:
        updates, state = step(gradient, state, params)
        params = gradtx.apply_updates(params, updates)
        rows.append((params, gradtx.eval_params(state, params)))
    return rows


# What holds for all of them


@EACH_WRAPPER
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_state_is_float32_and_has_a_fixed_form(wrap, dtype):
    params = {"a": jnp.ones((2, 3), dtype), "b": None, "weak": jnp.asarray(1.0)}
    tx = wrap(gradtx.adam(0.1))
    state = tx.init(params)
    assert {x.dtype for x in jax.tree.leaves(state)} <= {jnp.dtype(d) for d in ("float32", "int32")}
    new, new_state = run_steps(tx, params, [params] * 3)
    assert_same_form(new_state, state)
    assert_same_form(jax.jit(tx.init)(params), state)
    assert_same_form(gradtx.eval_params(new_state, new), new)


@EACH_WRAPPER
def test_zero_gradients_change_nothing(wrap):
    for dtype in (jnp.float32, jnp.float16):
        params = random_tree(dtype=dtype)
        zeros = jax.tree.map(jnp.zeros_like, params)
        new, state = run_steps(wrap(gradtx.adam(0.1)), params, [zeros] * 5)
        assert_close(new, params, rtol=0)
        assert_close(gradtx.eval_params(state, new), params, rtol=0)
        chex.assert_tree_all_finite(state)


@EACH_WRAPPER
def test_jit_equals_eager(wrap):
    tx = wrap(gradtx.adam(0.1))
    assert_close(*(run_steps(tx, PARAMS, GRADIENTS, jit=jit)[0] for jit in (True, False)), rtol=1e-5, atol=1e-6)


@EACH_WRAPPER
def test_complex_parameters(wrap):
    params = jnp.array([1.0 + 1.0j, -2.0j])
    new, state = run_steps(wrap(gradtx.sgd(0.1)), params, [params] * 5)
    real, real_state = run_steps(wrap(gradtx.sgd(0.1)), params.real, [params.real] * 5)
    assert_close(new.real, real)
    assert_close(gradtx.eval_params(state, new).real, gradtx.eval_params(real_state, real))


@EACH_WRAPPER
def test_it_is_a_value(wrap):
    tx = wrap(gradtx.adam(0.1))
    assert tx == pickle.loads(pickle.dumps(tx))
    assert hash(tx) == hash(wrap(gradtx.adam(0.1)))
    assert eval(repr(tx), vars(gradtx)) == tx
    rates = jnp.array([0.1, 0.2])
    many = jax.vmap(lambda rate: run_steps(wrap(gradtx.adam(rate)), PARAMS, GRADIENTS[:3], jit=False)[0])(rates)
    single, _ = run_steps(wrap(gradtx.adam(0.2)), PARAMS, GRADIENTS[:3])
    assert_close(jax.tree.map(lambda x: x[1], many), single, rtol=1e-5, atol=1e-6)


@EACH_WRAPPER
def test_it_needs_the_parameters(wrap):
    tx = wrap(gradtx.sgd(0.1))
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))


@EACH_WRAPPER
def test_extra_arguments_pass_through(wrap):
    tx = wrap(gradtx.reduce_on_plateau())
    with pytest.raises(TypeError, match="needs the extra argument 'value'"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)


@EACH_WRAPPER
def test_parameters_and_state_can_be_donated(wrap):
    step = gradtx.make_step(lambda w: jnp.sum(w**2), wrap(gradtx.adam(0.1)))
    w, state = jnp.ones(3), step.init(jnp.ones(3))
    for _ in range(3):
        w, state, _ = step(w, state)
    assert jnp.all(gradtx.eval_params(state, w) < 1)


@pytest.mark.parametrize("average", [gradtx.ema_params(0.9), gradtx.swa_params(2)], ids=lambda tx: tx.name)
def test_averages_are_kept_in_place(average):
    params = jax.ShapeDtypeStruct((1 << 14,), jnp.float32)
    tx = gradtx.chain(gradtx.adamw(1e-3), average)
    state = jax.eval_shape(tx.init, params)

    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return gradtx.apply_updates(params, updates), state

    memory = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.01 * (4 << 14)
    assert memory.alias_size_in_bytes >= 4 * (4 << 14)


# Averages of the iterates


def test_ema_is_the_debiased_average_of_the_iterates():
    rows = iterates(gradtx.chain(gradtx.sgd(0.1), gradtx.ema_params(0.8)), PARAMS, GRADIENTS)
    weights = 0.2 * 0.8 ** np.arange(len(rows))[::-1]
    expected = jax.tree.map(lambda *xs: sum(w * x for w, x in zip(weights, xs, strict=True)), *(p for p, _ in rows))
    assert_close(rows[-1][1], jax.tree.map(lambda x: x / weights.sum(), expected), rtol=1e-5, atol=1e-6)
    assert_close(rows[0][1], rows[0][0], rtol=1e-5, atol=1e-6)


def test_ema_without_debias_is_torchs():
    torch = pytest.importorskip("torch")
    from torch.optim import swa_utils

    model = torch.nn.Linear(3, 1, bias=False)
    start = jnp.asarray(model.weight.detach().numpy())
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(model)  # the first call copies
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients = [np.random.default_rng(i).normal(size=(1, 3)).astype(np.float32) for i in range(5)]
    for gradient in gradients:
        model.weight.grad = torch.tensor(gradient)
        optimizer.step()
        averaged.update_parameters(model)
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.ema_params(0.9, debias=False))
    _, ours = iterates(tx, start, gradients)[-1]
    np.testing.assert_allclose(ours, averaged.module.weight.detach().numpy(), rtol=1e-5)


def test_a_scheduled_decay_stays_a_weighted_mean():
    tx = gradtx.chain(gradtx.sgd(0.0), gradtx.ema_params(gradtx.linear_schedule(0.0, 0.99, 5)))
    for _, average in iterates(tx, PARAMS, GRADIENTS):
        assert_close(average, PARAMS, rtol=0)


def test_swa_averages_every_second_iterate_from_the_third_on():
    rows = iterates(gradtx.chain(gradtx.sgd(0.1), gradtx.swa_params(2, every=2)), PARAMS, GRADIENTS)
    for i, (params, average) in enumerate(rows):
        taken = [p for j, (p, _) in enumerate(rows[: i + 1]) if j >= 2 and (j - 2) % 2 == 0]
        expected = jax.tree.map(lambda *xs: sum(xs) / len(xs), *taken) if taken else params
        assert_close(average, expected, rtol=1e-5, atol=1e-6)


def test_an_average_in_bfloat16_parameters_reaches_its_limit():
    """In bfloat16 an average with decay 0.999 stops halfway."""
    tx = gradtx.ema_params(0.999, debias=False)
    params = jnp.zeros(2, jnp.bfloat16)

    def step(state, _):
        return tx.update(params, state, jnp.ones(2, jnp.bfloat16))[1], None

    state, _ = jax.lax.scan(step, tx.init(params), None, length=3000)
    np.testing.assert_allclose(state.average, 1 - 0.999**3000, rtol=1e-3)


def test_leaves_that_are_no_floats_are_left_alone():
    params = {"w": jnp.ones(2), "steps": jnp.array(2**24 + 1)}
    tx = gradtx.ema_params(0.9)
    updates = {"w": jnp.ones(2), "steps": None}
    _, state = tx.update(updates, tx.init(params), params)
    read = gradtx.eval_params(state, gradtx.apply_updates(params, updates))
    assert (read["steps"], read["w"].tolist()) == (2**24 + 1, [2.0, 2.0])


# Reading


def test_eval_params_of_a_partition_reads_leaf_by_leaf():
    tx = gradtx.partition(
        {
            "scalar": gradtx.sgd(0.1),
            "stack": gradtx.schedule_free_sgd(0.1),
            "layer/*": gradtx.chain(gradtx.sgd(0.1), gradtx.ema_params(0.5)),
        }
    )
    alone = gradtx.schedule_free_sgd(0.1)
    params, read = iterates(tx, PARAMS, GRADIENTS)[-1]
    _, stack = iterates(alone, PARAMS["stack"], [g["stack"] for g in GRADIENTS])[-1]
    _, layer = iterates(gradtx.chain(gradtx.sgd(0.1), gradtx.ema_params(0.5)), PARAMS, GRADIENTS)[-1]
    assert_close(read, {"scalar": params["scalar"], "stack": stack, "layer": layer["layer"]})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: gradtx.chain(gradtx.clip(100.0), tx),
        lambda tx: gradtx.apply_if_finite(tx, 3),
        lambda tx: gradtx.accumulate(tx, 1),
        gradtx.inject_hyperparams,
        lambda tx: gradtx.switch_at(50, tx, gradtx.sgd(1.0)),
        lambda tx: gradtx.conditionally_mask(tx, lambda step: step >= 0),
        lambda tx: gradtx.masked(tx, lambda path, leaf: True),
        lambda tx: optax.chain(optax.clip(100.0), tx),
    ],
    ids=["chain", "apply_if_finite", "accumulate", "inject", "switch_at", "conditionally", "masked", "optax"],
)
@pytest.mark.parametrize("averaged", ["ema_params", "schedule_free", "lookahead"])
def test_eval_params_reads_through_wrappers(wrap, averaged):
    tx = gradtx.schedule_free_sgd(0.1) if averaged == "schedule_free" else WRAPPERS[averaged](gradtx.sgd(0.1))
    plain, wrapped = iterates(tx, PARAMS, GRADIENTS[:3])[-1], iterates(wrap(tx), PARAMS, GRADIENTS[:3])[-1]
    assert_close(plain, wrapped, rtol=1e-5, atol=1e-6)
    assert not np.allclose(plain[0]["stack"], plain[1]["stack"])


def test_without_an_average_the_parameters_are_read():
    assert_close(gradtx.eval_params(gradtx.adam(0.1).init(PARAMS), PARAMS), PARAMS, rtol=0)


def test_two_averages_of_one_leaf_are_an_error_and_one_of_them_can_be_read():
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.ema_params(0.5), slow=gradtx.ema_params(0.9))
    params, state = run_steps(tx, PARAMS, GRADIENTS)
    with pytest.raises(ValueError, match=r"leaf '.*' has averages in 'ema_params' and 'slow'"):
        gradtx.eval_params(state, params)
    assert_close(gradtx.eval_params(state.slow, params), state.slow.average)


def test_eval_params_of_a_flax_train_state():
    model = flax.linen.Dense(2)
    params = model.init(jax.random.key(0), jnp.ones((1, 3)))
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.ema_params(0.5))
    state = flax.training.train_state.TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    for _ in range(3):
        state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, params))
    assert_close(gradtx.eval_params(state, state.params), state.opt_state.ema_params.average)
    assert_close(gradtx.eval_params(state.opt_state, state.params), state.opt_state.ema_params.average)


@EACH_WRAPPER
def test_eval_params_of_an_nnx_optimizer(wrap):
    model = flax.nnx.Linear(2, 1, rngs=flax.nnx.Rngs(0))
    start = flax.nnx.to_pure_dict(flax.nnx.state(model, flax.nnx.Param))
    tx = wrap(gradtx.sgd(0.1))
    optimizer = flax.nnx.Optimizer(model, tx, wrt=flax.nnx.Param)
    ones = jax.tree.map(jnp.ones_like, flax.nnx.state(model, flax.nnx.Param))
    for _ in range(3):
        optimizer.update(model, ones)
    read = gradtx.eval_params(optimizer.opt_state, flax.nnx.state(model, flax.nnx.Param))
    expected = iterates(tx, start, [jax.tree.map(jnp.ones_like, start)] * 3)[-1][1]
    assert_close(flax.nnx.to_pure_dict(read), expected, rtol=1e-5, atol=1e-6)


def test_eval_params_works_inside_jit():
    tx = gradtx.schedule_free_sgd(0.1)
    params, state = run_steps(tx, PARAMS, GRADIENTS)
    assert_close(jax.jit(gradtx.eval_params)(state, params), gradtx.eval_params(state, params), rtol=1e-5, atol=1e-6)


# Lookahead


@pytest.mark.parametrize("reset_state", [False, True])
@pytest.mark.parametrize("pair", [gradtx.LookaheadParams, optax.LookaheadParams])
def test_lookahead_as_in_optax_with_a_pair(pair, reset_state):
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(22)]
        ours = gradtx.lookahead(gradtx.adam(0.1), 3, 0.4, reset_state)
        theirs = optax.lookahead(optax.adam(0.1), 3, 0.4, reset_state)
        a, state = run_steps(ours, pair.init_synced(params), gradients)
        b, _ = run_steps(theirs, optax.LookaheadParams.init_synced(params), gradients)
        assert type(a) is pair
        assert_close(a.fast, b.fast, rtol=1e-10, atol=1e-12)
        assert_close(a.slow, b.slow, rtol=1e-10, atol=1e-12)
        assert state.slow is None
        assert_close(gradtx.eval_params(state, a), a.slow, rtol=0)
        # The same with the slow parameters in the state.
        c, state = run_steps(ours, params, gradients)
        assert_close(c, b.fast, rtol=1e-10, atol=1e-12)
        assert_close(gradtx.eval_params(state, c), b.slow, rtol=1e-10, atol=1e-12)


def test_lookahead_of_one_full_step_is_the_fast_optimizer():
    ours, _ = run_steps(gradtx.lookahead(gradtx.adam(0.1), 1, 1.0), PARAMS, GRADIENTS)
    theirs, _ = run_steps(gradtx.adam(0.1), PARAMS, GRADIENTS)
    assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_lookahead_checks_what_it_is_given():
    with pytest.raises(ValueError, match=r"^lookahead: sync_period must be an integer, at least 1, got 0"):
        gradtx.lookahead(gradtx.sgd(0.1), 0, 0.5)
    with pytest.raises(ValueError, match="slow_step_size must be in"):
        gradtx.lookahead(gradtx.sgd(0.1), 1, 1.5)
    tx = gradtx.lookahead(gradtx.sgd(0.1), 2, 0.5)
    params = gradtx.LookaheadParams.init_synced({"w": jnp.ones((2, 3))})
    with pytest.raises(gradtx.LeafError, match="leaf 'w': the update has shape"):
        tx.update({"w": jnp.ones(3)}, tx.init(params), params)


# Schedule-free

CONSTANT = {
    "sgd": ("schedule_free_sgd", {"learning_rate": 0.3}),
    "sgd-decay": ("schedule_free_sgd", {"learning_rate": 0.3, "weight_decay": 0.1, "b1": 0.5}),
    "adamw": ("schedule_free_adamw", {"learning_rate": 0.1, "b1": 0.95, "weight_decay": 0.01, "weight_lr_power": 1.0}),
}


@pytest.mark.parametrize(("name", "arguments"), CONSTANT.values(), ids=CONSTANT)
def test_schedule_free_as_in_optax(name, arguments):
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(25)]
        ours, our_state = run_steps(getattr(gradtx, name)(**arguments), params, gradients)
        theirs, their_state = run_steps(getattr(optax.contrib, name)(**arguments), params, gradients)
        assert_close(ours, theirs, rtol=1e-10, atol=1e-11)
        assert_close(our_state.z, their_state.z, rtol=1e-10, atol=1e-11)
        x = optax.contrib.schedule_free_eval_params(their_state, theirs)
        assert_close(gradtx.schedule_free_eval_params(our_state, ours), x, rtol=1e-9, atol=1e-10)
        assert_close(gradtx.eval_params(our_state, ours), x, rtol=1e-9, atol=1e-10)


def test_schedule_free_warms_up_from_zero_and_weighs_each_step_by_its_own_rate():
    """Optax looks the weight up one step ahead of the step; shifted by one, its numbers are ours."""
    with jax.enable_x64(True):
        params = random_tree(dtype=jnp.float64)
        gradients = [random_tree(i, jnp.float64) for i in range(20)]
        rate = gradtx.warmup_constant_schedule(0.0, 0.5, 5)
        ours, state = run_steps(gradtx.schedule_free_sgd(0.5, warmup_steps=5), params, gradients)
        shifted = optax.contrib.schedule_free(optax.sgd(rate), lambda count: rate(count - 1))
        theirs, _ = run_steps(shifted, params, gradients)
        assert_close(ours, theirs, rtol=1e-10, atol=1e-11)
        chex.assert_tree_all_finite(state)


@pytest.mark.parametrize("rate", [0.0, 1e-25])
def test_schedule_free_without_any_weight_is_finite(rate):
    new, state = run_steps(gradtx.schedule_free_adamw(rate), PARAMS, GRADIENTS[:3])
    chex.assert_tree_all_finite((new, state, gradtx.eval_params(state, new)))
    assert_close(new, PARAMS, rtol=1e-6)


def test_schedule_free_is_its_three_sequences_with_a_scheduled_b1_too():
    b1 = gradtx.linear_schedule(0.5, 0.95, 6)
    tx = gradtx.schedule_free(gradtx.sgd(0.1), 0.1, b1)
    x = y = z = np.asarray(PARAMS["stack"], np.float64)
    rows = iterates(tx, PARAMS, GRADIENTS)
    for t, (gradient, (params, average)) in enumerate(zip(GRADIENTS, rows, strict=True)):
        z = z - 0.1 * np.asarray(gradient["stack"], np.float64)
        x = x + (z - x) / (t + 1)
        y = float(b1(t)) * x + (1 - float(b1(t))) * z
        np.testing.assert_allclose(params["stack"], y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(average["stack"], x, rtol=1e-5, atol=1e-6)


def test_schedule_free_tells_one_learning_rate():
    state = gradtx.schedule_free_adamw(0.5, warmup_steps=5).init(PARAMS)
    assert gradtx.hyperparams(state) == {"learning_rate": 0.0}


def test_schedule_free_keeps_z_in_the_dtype_asked_for():
    tx = gradtx.schedule_free_sgd(0.1, state_dtype="bfloat16")
    params = PARAMS | {"complex": jnp.ones(2, jnp.complex64)}
    state = tx.init(params)
    assert {x.dtype for x in jax.tree.leaves(state.z)} == {jnp.dtype("bfloat16"), jnp.dtype("complex64")}
    _, new = run_steps(tx, params, [params] * 2)
    assert_same_form(new, state)


def test_schedule_free_eval_params_wants_a_state_of_schedule_free():
    with pytest.raises(ValueError, match="nothing in this state is of schedule_free"):
        gradtx.schedule_free_eval_params(gradtx.sgd(0.1).init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match=r"b1 must be in \(0, 1\), got 0.0"):
        gradtx.schedule_free_sgd(0.1, b1=0.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_schedule_free_and_lookahead_go_over_any_optimizer(case):
    params, *gradients = (tree["layer"]["kernel"] for tree in (PARAMS, *GRADIENTS[:3]))
    for tx in (gradtx.schedule_free(case.tx, 0.01), gradtx.lookahead(case.tx, 2, 0.5)):
        new, state = run_steps(tx, params, gradients)
        chex.assert_tree_all_finite((new, state))
        assert_same_form(state, tx.init(params))


# Functions


def test_incremental_and_periodic_update_as_in_optax():
    old, new = random_tree(1) | {"none": None}, random_tree(2) | {"none": None}
    assert_close(
        gradtx.incremental_update(new, old, 0.3), optax.incremental_update(new, old, 0.3), rtol=1e-5, atol=1e-6
    )
    for steps in range(4):
        ours, theirs = (f(new, old, jnp.array(steps), 3) for f in (gradtx.periodic_update, optax.periodic_update))
        assert_close(ours, theirs, rtol=0)


def test_updating_keeps_the_form_of_the_old_tensors():
    old = {
        "a": jnp.zeros(2),
        "half": jnp.zeros(2, jnp.bfloat16),
        "count": jnp.arange(1),
        "c": jnp.ones(1, jnp.complex64),
    }
    new = {"a": jnp.ones(2, jnp.bfloat16), "half": jnp.ones(2), "count": jnp.full(1, 7, jnp.int32), "c": jnp.zeros(1)}
    moved = jax.jit(gradtx.incremental_update)(new, old, 0.25)
    assert_same_form(moved, old)
    assert (moved["a"].tolist(), moved["count"].item(), moved["c"].item()) == ([0.25, 0.25], 7, 0.75)
    assert_same_form(jax.jit(gradtx.periodic_update)(new, old, 3, 3), old)

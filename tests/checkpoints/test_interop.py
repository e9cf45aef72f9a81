"""gradtx among the others: Optax, flax, Equinox, Orbax, and JAX's own transformations, export and sharding."""

import copy
import functools
import os
import pickle
import subprocess
import sys
import textwrap

import chex
import jax
import jax.export
import jax.numpy as jnp
import pytest

import gradtx
import helpers
from cases import CASES
from helpers import assert_close, assert_same_form, random_tree, run_steps

GRADIENTS = [random_tree(seed) for seed in (1, 2, 3)]


def start():
    return random_tree(0)


def assert_identical(a, b):
    """Equal bit for bit, with the same structure and dtypes."""
    assert_same_form(a, b)
    assert_close(a, b, rtol=0)


def test_assert_identical_can_fail():
    with pytest.raises(AssertionError):
        assert_identical(jnp.ones(2), jnp.ones(2) * (1 + 1e-6))
    with pytest.raises(AssertionError):
        assert_identical(jnp.ones(2), jnp.ones(2, jnp.float16))


# Optax


@pytest.fixture(scope="module")
def optax():
    return pytest.importorskip("optax")


def test_gradtx_in_an_optax_chain(optax):
    nested = optax.chain(optax.clip_by_global_norm(1.0), gradtx.adam(1e-2))
    ours = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-2))
    assert_close(run_steps(nested, start(), GRADIENTS)[0], run_steps(ours, start(), GRADIENTS)[0], rtol=1e-5)


def test_optax_in_a_gradtx_chain(optax):
    nested = gradtx.chain(optax.clip_by_global_norm(1.0), gradtx.scale_by_adam(), last=optax.scale(-1e-2))
    theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale(-1e-2))
    params, state = run_steps(nested, start(), GRADIENTS)
    assert state._fields == ("clip_by_global_norm", "scale_by_adam", "last")
    assert_close(params, run_steps(theirs, start(), GRADIENTS)[0], rtol=1e-5)


def test_optax_beside_gradtx(optax):
    both = gradtx.add(optax.sgd(0.1), gradtx.sgd(0.1))
    twice = run_steps(gradtx.sgd(0.2), start(), GRADIENTS)[0]
    assert_close(run_steps(both, start(), GRADIENTS)[0], twice, rtol=1e-5)
    partitioned = gradtx.partition({"layer*": optax.sgd(0.2), "*": gradtx.sgd(0.2)})
    assert_close(run_steps(partitioned, start(), GRADIENTS)[0], twice, rtol=1e-5)
    assert_close(run_steps(gradtx.masked(optax.sgd(0.2), True), start(), GRADIENTS)[0], twice, rtol=1e-5)


def test_deep_nesting_passes_extra_arguments_both_ways(optax):
    plateau = gradtx.chain(gradtx.sgd(1.0), gradtx.reduce_on_plateau(factor=0.5, patience=1))
    theirs = optax.chain(optax.sgd(1.0), optax.contrib.reduce_on_plateau(factor=0.5, patience=1))
    declared = optax.GradientTransformationExtraArgs(*plateau)  # Optax passes extra arguments to this type alone
    for tx in (
        optax.chain(declared),
        gradtx.chain(optax.chain(optax.identity(), declared)),
        gradtx.chain(optax.identity(), theirs),
        gradtx.chain(gradtx.identity(), gradtx.chain(theirs)),
    ):
        state = tx.init(jnp.ones(2))
        sizes = []
        for _ in range(3):
            updates, state = tx.update(jnp.ones(2), state, jnp.ones(2), value=jnp.array(1.0))
            sizes.append(float(updates[0]))
        assert sizes == [-1.0, -0.5, -0.25]
    undeclared = optax.chain(plateau)
    with pytest.raises(TypeError, match="reduce_on_plateau needs the extra argument 'value'"):
        undeclared.update(jnp.ones(2), undeclared.init(jnp.ones(2)), jnp.ones(2), value=jnp.array(1.0))


def test_optax_apply_updates(optax):
    params, tx = start(), gradtx.adamw(1e-2)
    updates, _ = tx.update(GRADIENTS[0], tx.init(params), params)
    assert_identical(optax.apply_updates(params, updates), gradtx.apply_updates(params, updates))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    updates, _ = tx.update(GRADIENTS[0], tx.init(half), half)
    assert {str(x.dtype) for x in jax.tree.leaves(optax.apply_updates(half, updates))} == {"bfloat16"}


def test_optax_wrappers_around_gradtx(optax):
    tx = gradtx.adam(1e-2)
    expected = run_steps(tx, start(), GRADIENTS)[0]

    masked = optax.masked(tx, jax.tree.map(lambda _: True, start()))
    assert_close(run_steps(masked, start(), GRADIENTS)[0], expected, rtol=1e-6)

    mask = jax.tree.map(lambda x: x.ndim > 1, start())
    partly, _ = run_steps(optax.masked(tx, mask), start(), GRADIENTS)
    assert_close(partly["layer"]["kernel"], expected["layer"]["kernel"], rtol=1e-6)

    every = optax.MultiSteps(tx, every_k_schedule=2)
    doubled = [g for gradient in GRADIENTS for g in (gradient, gradient)]
    assert_close(run_steps(every, start(), doubled)[0], expected, rtol=1e-4)

    finite = optax.apply_if_finite(tx, max_consecutive_errors=2)
    bad = jax.tree.map(lambda g: g * jnp.nan, GRADIENTS[0])
    assert_close(run_steps(finite, start(), [bad, *GRADIENTS])[0], expected, rtol=1e-6)

    lookahead = optax.lookahead(tx, sync_period=5, slow_step_size=0.5)
    pair = optax.LookaheadParams.init_synced(start())
    updates, _ = lookahead.update(GRADIENTS[0], lookahead.init(pair), pair)
    assert_close(updates.fast, tx.update(GRADIENTS[0], tx.init(start()))[0], rtol=1e-6)

    labels = optax.multi_transform({"a": tx, "b": gradtx.set_to_zero()}, jax.tree.map(lambda _: "a", start()))
    assert_close(run_steps(labels, start(), GRADIENTS)[0], expected, rtol=1e-6)


def test_optax_injects_a_gradtx_hyperparameter(optax):
    tx = optax.inject_hyperparams(gradtx.adam)(learning_rate=optax.linear_schedule(1e-2, 0.0, 3))
    params, state = run_steps(tx, start(), GRADIENTS)
    scheduled = gradtx.adam(gradtx.as_schedule(optax.linear_schedule(1e-2, 0.0, 3)))
    assert_close(params, run_steps(scheduled, start(), GRADIENTS)[0], rtol=1e-5)
    assert state.hyperparams.keys() >= {"learning_rate", "b1", "b2"}

    tx = optax.inject_hyperparams(gradtx.sgd)(learning_rate=0.1)  # set in a running loop
    state = tx.init(params)
    state.hyperparams["learning_rate"] = jnp.asarray(0.5)
    updates, _ = tx.update(GRADIENTS[0], state, params)
    assert_close(updates, jax.tree.map(lambda g: -0.5 * g, GRADIENTS[0]))


def test_an_optax_schedule_is_a_schedule(optax):
    tx = gradtx.sgd(optax.exponential_decay(0.1, transition_steps=1, decay_rate=0.5))
    params, state = run_steps(tx, start(), GRADIENTS)
    assert float(gradtx.hyperparams(state)["learning_rate"]) == pytest.approx(0.025)
    theirs = optax.sgd(optax.exponential_decay(0.1, transition_steps=1, decay_rate=0.5))
    assert_close(params, run_steps(theirs, start(), GRADIENTS)[0], rtol=1e-5)


# flax


@pytest.fixture(scope="module")
def linen():
    pytest.importorskip("flax")
    from flax import linen, serialization
    from flax.training import train_state

    model = linen.Dense(2)
    variables = model.init(jax.random.key(0), jnp.ones((1, 3)))

    def create(tx):
        return train_state.TrainState.create(apply_fn=model.apply, params=variables["params"], tx=tx)

    def step(state, x):
        grads = jax.grad(lambda params: jnp.mean((state.apply_fn({"params": params}, x) - 1.0) ** 2))(state.params)
        return state.apply_gradients(grads=grads)

    return create, step, jax.jit(step), serialization


def tuned(learning_rate=1e-2):
    schedule = gradtx.as_schedule(_constant) * learning_rate
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(schedule, weight_decay=1e-3))


def _constant(count):
    return jnp.ones(())


def test_train_state_trains_and_equal_optimizers_share_a_compile(linen):
    create, step, *_ = linen
    jitted = jax.jit(chex.assert_max_traces(step, n=1))
    x, states = jnp.ones((4, 3)), []
    for _ in range(2):
        state = create(tuned())  # a new optimizer, equal to the other
        for _ in range(3):
            state = jitted(state, x)
        states.append(state)
    assert int(states[0].step) == 3
    assert_identical(states[0].params, states[1].params)

    def loss(s):
        return float(jnp.mean((s.apply_fn({"params": s.params}, x) - 1.0) ** 2))

    assert loss(states[0]) < loss(create(tuned()))
    assert gradtx.hyperparams(states[0]).keys() >= {"learning_rate"}


def test_train_state_through_bytes(linen):
    create, _, jitted, serialization = linen
    x = jnp.ones((4, 3))
    state = jitted(create(tuned()), x)
    restored = serialization.from_bytes(create(tuned()), serialization.to_bytes(state))
    assert_identical(jax.tree.map(jnp.asarray, restored.opt_state), state.opt_state)
    assert type(restored.opt_state) is type(state.opt_state)
    assert_identical(jitted(restored, x).params, jitted(state, x).params)


def test_every_state_survives_flax_serialization():
    serialization = pytest.importorskip("flax.serialization")
    for case in CASES:
        state = case.tx.init(start())
        assert_identical(
            jax.tree.map(jnp.asarray, serialization.from_bytes(state, serialization.to_bytes(state))), state
        )


def test_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    for tx in (gradtx.adam(0.05), gradtx.adam(jnp.asarray(0.05)), tuned(0.05)):
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer, x):
            loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - 1.0) ** 2))(model)
            optimizer.update(model, grads)
            return loss

        losses = [float(step(model, optimizer, jnp.ones((4, 3)))) for _ in range(20)]
        assert losses[-1] < 0.5 * losses[0]
        assert int(optimizer.step[...]) == 20


def test_nnx_optimizer_equals_the_plain_loop():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))

    tx = gradtx.adamw(0.1)
    model = Model()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    gradients = [jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 3.0, 1.0])]
    for gradient in gradients:
        grads = nnx.grad(lambda m, g=gradient: jnp.sum(m.w[...] * g))(model)
        optimizer.update(model, grads)
    assert_close(model.w[...], run_steps(tx, jnp.ones(3), gradients)[0], rtol=1e-6)


# Equinox


def test_equinox_model():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(2, 1, 8, 1, key=jax.random.key(0))
    tx = gradtx.adamw(1e-2)
    x = jax.random.normal(jax.random.key(1), (16, 2))

    @eqx.filter_jit
    def step(model, state, tx):
        loss, grads = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(x)[:, 0] - x[:, 0]) ** 2))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    with pytest.raises(gradtx.LeafError, match=r"adamw: leaf 'activation.*not an array; filter the model first"):
        tx.init(model)
    state, losses = tx.init(eqx.filter(model, eqx.is_inexact_array)), []
    for _ in range(30):
        model, state, loss = step(model, state, tx)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_equinox_partitioned_model_in_make_step():
    eqx = pytest.importorskip("equinox")
    from gradtx.training.step import make_step

    params, static = eqx.partition(eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0)), eqx.is_inexact_array)
    step = make_step(lambda p, x: jnp.mean(jax.vmap(eqx.combine(p, static))(x) ** 2), gradtx.adamw(1e-2))
    state, losses = step.init(params), []
    for _ in range(10):
        params, state, loss = step(params, state, jnp.ones((3, 2)))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert params.activation is None or jax.tree.leaves(params.activation) == []


# Checkpoints and copies


def test_orbax_restores_bit_for_bit_and_training_continues(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    tx = gradtx.chain(tuned(), gradtx.reduce_on_plateau())
    run = functools.partial(run_steps, tx, value=jnp.ones(()))
    params, state = run(start(), GRADIENTS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", (params, state))
        checkpointer.wait_until_finished()
        target = jax.eval_shape(lambda p: (p, tx.init(p)), start())
        restored = checkpointer.restore(tmp_path / "step", target)
    assert_identical(restored, (params, state))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(GRADIENTS[0], state, params, value=jnp.ones(()))
        return gradtx.apply_updates(params, updates), state

    assert_identical(step(*restored), step(params, state))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_optimizers_and_states(duplicate):
    for tx in (
        tuned(),
        gradtx.partition({"layer*": gradtx.lion(1e-3), "*": gradtx.adam(1e-2)}),
        *(c.tx for c in CASES),
    ):
        twin = duplicate(tx)
        assert twin == tx
        assert hash(twin) == hash(tx)
        state = tx.init(start())
        assert_identical(duplicate(state), state)
    gradient = GRADIENTS[0]
    assert_identical(
        jax.jit(twin.update)(gradient, duplicate(state), start()), jax.jit(tx.update)(gradient, state, start())
    )


# JAX


def test_ahead_of_time_compilation():
    tx, params = tuned(), start()
    state = tx.init(params)
    compiled = jax.jit(tx.update).lower(GRADIENTS[0], state, params).compile()
    assert_identical(compiled(GRADIENTS[0], state, params), jax.jit(tx.update)(GRADIENTS[0], state, params))


def test_export_of_an_update():
    tx, params = tuned(), start()
    arguments = (GRADIENTS[0], tx.init(params), params)
    leaves, structure = jax.tree.flatten(arguments)

    def flat(*leaves):  # what is written to a file knows no state types of ours
        return jax.tree.leaves(tx.update(*structure.unflatten(leaves)))

    expected = tx.update(*arguments)
    assert_close(jax.export.export(jax.jit(tx.update))(*arguments).call(*arguments), expected, rtol=1e-5)
    exported = jax.export.export(jax.jit(flat))(*leaves)
    pytest.importorskip("flatbuffers")  # what JAX writes to a file with
    restored = jax.export.deserialize(exported.serialize())
    assert_close(restored.call(*leaves), jax.tree.leaves(expected), rtol=1e-5)


def test_a_batch_of_optimizers_trains_as_each_alone():
    rates, decays = jnp.array([1e-1, 1e-2, 1e-3]), jnp.array([0.5, 0.9, 0.0])

    def train(tx):
        return run_steps(tx, start(), GRADIENTS, jit=False)

    batch = jax.vmap(lambda rate, decay: gradtx.adamw(rate, b1=decay))(rates, decays)
    together = jax.jit(jax.vmap(train))(batch)
    alone = jax.jit(train)
    for i in range(3):
        tx = gradtx.adamw(float(rates[i]), b1=float(decays[i]))
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone(tx), rtol=1e-5, atol=1e-7)


def test_the_gradient_with_respect_to_an_optimizer_equals_finite_differences():
    tx = gradtx.chain(gradtx.clip_by_global_norm(2.0), gradtx.adamw(0.1, b1=0.8, weight_decay=0.1))

    @jax.jit
    def final(tx):
        params, _ = run_steps(tx, start(), GRADIENTS, jit=False)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    leaves, structure = jax.tree.flatten(tx)
    gradient = jax.tree.leaves(jax.grad(final)(tx))
    checked = 0
    for i, (number, slope) in enumerate(zip(leaves, gradient, strict=True)):
        if number in (0.1, 0.8):  # the rate, b1 and the decay; the others are nearly flat here
            h = 1e-2 * number
            up, down = (structure.unflatten([*leaves[:i], number + d, *leaves[i + 1 :]]) for d in (h, -h))
            assert float(slope) == pytest.approx(float(final(up) - final(down)) / (2 * h), rel=2e-2, abs=1e-3)
            checked += 1
    assert checked == 3


SHARDED = """
    import jax, jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    import numpy as np
    import gradtx
    from gradtx.training import EarlyStopping, make_step
    from cases import CASES

    assert len(jax.devices()) == 4
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
    specs = {"kernel": P("x", "y"), "bias": P("y"), "whole": P()}
    shapes = {"kernel": (8, 4), "bias": (4,), "whole": (4, 4)}
    params = {k: jax.device_put(jnp.ones(shapes[k]), NamedSharding(mesh, specs[k])) for k in shapes}
    update = jax.jit(lambda tx, g, s, p: tx.update(g, s, p))

    def check(name, state, when):
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            key = getattr(path[-1], "key", None)
            if key in shapes and leaf.shape == shapes[key]:
                same = leaf.sharding.is_equivalent_to(params[key].sharding, leaf.ndim)
                assert same, (name, when, path, leaf.sharding)
                counted.append(name)

    counted = []
    for case in [c for c in CASES if c.name in ("adam", "amsgrad", "lion", "sgd-momentum", "adagrad", "lamb")]:
        state = case.tx.init(params)
        check(case.name, state, "init")
        updates, state = update(case.tx, params, state, params)
        check(case.name, state, "update")
        check(case.name, updates, "updates")
    assert len(set(counted)) == 6, counted

    step = make_step(lambda p: sum(jnp.sum(x**2) for x in p.values()), gradtx.adamw(1e-2))
    watch = EarlyStopping().init(params)
    check("best_params", watch.best_params, "init")
    single = {k: np.ones(shapes[k], np.float32) for k in shapes}
    single_state = step.init(single)
    state, shardings = step.init(params), {k: p.sharding for k, p in params.items()}
    check("make_step", state, "init")
    for _ in range(2):
        params, state, loss = step(params, state)
        single, single_state, single_loss = step(single, single_state)
    for k in shapes:
        assert params[k].sharding.is_equivalent_to(shardings[k], params[k].ndim)
        np.testing.assert_allclose(np.asarray(params[k]), np.asarray(single[k]), rtol=1e-6)
    check("make_step", state, "steps")
    print("sharded")
"""


def test_accumulators_keep_the_sharding_of_the_parameters():
    folder = os.path.dirname(helpers.__file__)
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(folder), folder]),
    }
    code = textwrap.dedent(SHARDED)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "sharded", done.stderr


def test_patterns_name_the_parameters_of_nnx():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, gradtx.adamw(0.1, mask="kernel"), wrt=nnx.Param)
    gradient = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 2))) ** 2))(model)
    optimizer.update(model, gradient)
    kernel, bias = jnp.asarray(model.kernel[...]), jnp.asarray(model.bias[...])
    frozen = gradtx.chain(gradtx.sgd(0.1), gradtx.freeze("bias"))
    nnx.Optimizer(model, frozen, wrt=nnx.Param).update(model, gradient)
    assert jnp.array_equal(model.bias[...], bias)
    assert not jnp.array_equal(model.kernel[...], kernel)


def test_equinox_keeps_bfloat16_with_cast_to_params():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(2, 3, key=jax.random.key(0), dtype=jnp.bfloat16)
    tx = gradtx.chain(gradtx.adam(1e-2), gradtx.cast_to_params())
    updates, _ = tx.update(model, tx.init(model), model)
    assert {x.dtype for x in jax.tree.leaves(eqx.apply_updates(model, updates))} == {jnp.dtype("bfloat16")}

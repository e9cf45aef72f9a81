"""Training: the compiled step, the compiled loop, and early stopping. Traces and donated bytes are counted."""

import warnings
from unittest.mock import Mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.training.early_stopping import EarlyStopping
from gradtx.training.minimize import minimize
from gradtx.training.step import make_step
from helpers import assert_close

X = jnp.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
Y = X @ jnp.array([1.0, -2.0]) + 0.5


def linear_loss(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def fresh_params():
    return {"w": jnp.array([0.1, -0.2]), "b": jnp.zeros(())}


def assert_all_donated(step, params, state, *batch):
    """Every byte of parameters and state is written in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Some donated buffers were not usable"
        compiled = step.lower(params, state, *batch).compile()
    aliased = compiled.memory_analysis().alias_size_in_bytes
    assert aliased == sum(x.nbytes for x in jax.tree.leaves((params, state)))


def test_the_count_of_donated_bytes_can_fail():
    kept = make_step(linear_loss, gradtx.adam(0.1), donate=False)
    params = fresh_params()
    with pytest.raises(AssertionError):
        assert_all_donated(kept, params, kept.init(params), X, Y)


# make_step


def test_a_step_is_value_and_grad_then_update_then_apply():
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-2))
    step = make_step(linear_loss, tx)
    params, state = fresh_params(), tx.init(fresh_params())
    ours, our_state = fresh_params(), step.init(fresh_params())

    @jax.jit
    def plain(params, state):
        loss, grads = jax.value_and_grad(linear_loss)(params, X, Y)
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state, loss

    for _ in range(3):
        before = float(linear_loss(ours, X, Y))
        ours, our_state, loss = step(ours, our_state, X, Y)
        params, state, _ = plain(params, state)
        assert float(loss) == pytest.approx(before, rel=1e-6)  # the loss at the old parameters
    assert_close(ours, params, rtol=1e-6)
    assert_close(our_state, state, rtol=1e-5)


def test_three_learning_rates_one_trace():
    step = make_step(chex.assert_max_traces(linear_loss, n=1), gradtx.adam(1e-1))
    results = []
    for rate in (1e-1, 1e-2, 1e-3):
        changed = step.replace(learning_rate=rate)
        assert changed.tx == gradtx.adam(rate)
        params, state = fresh_params(), changed.init(fresh_params())
        for _ in range(3):
            params, state, _ = changed(params, state, X, Y)
        results.append(float(jnp.abs(params["w"] - fresh_params()["w"]).max()))
        assert float(gradtx.hyperparams(state)["learning_rate"]) == pytest.approx(rate)
    assert results[0] > 5 * results[1] > 25 * results[2]
    assert repr(step) == "Step(tx=adam(learning_rate=0.1))"


def test_with_tx_shares_what_it_can():
    counted = Mock(wraps=linear_loss)
    step = make_step(counted, gradtx.chain(gradtx.clip(1.0), gradtx.sgd(0.1)), donate=False)
    params = fresh_params()
    step(params, step.init(params), X, Y)
    same = step.with_tx(gradtx.chain(gradtx.clip(0.5), gradtx.sgd(0.2)))
    same(params, same.init(params), X, Y)
    assert counted.call_count == 1
    other = step.with_tx(gradtx.lion(0.1))
    other(params, other.init(params), X, Y)
    step(params, step.init(params), X, Y)
    assert counted.call_count == 2
    with pytest.raises(TypeError, match="has no argument 'momentun'"):
        step.with_tx(gradtx.sgd(0.1)).replace(momentun=0.9)


OPTIMIZERS = [
    gradtx.sgd(0.1),
    gradtx.amsgrad(0.1),
    gradtx.adafactor(0.1),
    gradtx.chain(gradtx.adam(gradtx.as_schedule(lambda t: 0.1 / (t + 1))), gradtx.reduce_on_plateau()),
]


@pytest.mark.parametrize("tx", OPTIMIZERS, ids=lambda tx: tx.name)
def test_donation_aliases_all_of_params_and_state(tx):
    step = make_step(lambda p: sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in jax.tree.leaves(p)), tx)
    params = {"w": jnp.ones((8, 4)), "half": jnp.ones(8, jnp.bfloat16), "b": jnp.ones(())}
    assert_all_donated(step, params, step.init(params))


def test_donated_arrays_are_gone_and_kept_ones_are_not():
    step = make_step(linear_loss, gradtx.sgd(0.1))
    params = fresh_params()
    step(params, step.init(params), X, Y)
    assert params["w"].is_deleted()
    kept = make_step(linear_loss, gradtx.sgd(0.1), donate=False)
    params = fresh_params()
    kept(params, kept.init(params), X, Y)
    assert not params["w"].is_deleted()


def test_init_gives_every_buffer_its_own_memory():
    # The start of an average is the parameters themselves, twice here; and one zero stands for two counts.
    start = gradtx.GradientTransformation(
        lambda params: {"average": params, "slow": params, "counts": (jnp.zeros(()),) * 2},
        lambda updates, state, params=None: (updates, state),
    )
    tx = gradtx.chain(start, gradtx.scale_by_rms(), gradtx.scale_by_learning_rate(0.1))
    step = make_step(linear_loss, tx)
    for init in (step.init, tx.init):
        params = fresh_params()
        state = init(params)
        _, state, _ = step(params, state, X, Y)
        assert_close(state[0]["average"], fresh_params())


def test_an_array_hyperparameter_survives_donation():
    tx = gradtx.chain(gradtx.scale_by_learning_rate(jnp.array([0.1, 0.2])))  # recorded in the state
    step = make_step(lambda w: jnp.sum(w**2), tx)
    for init in (step.init, tx.init, step.init):
        params = jnp.ones(2)
        params, _, _ = step(params, init(params))
    np.testing.assert_allclose(params, [0.8, 0.6], rtol=1e-6)


def test_aux():
    step = make_step(lambda p, x: (jnp.sum(p * x), {"seen": x + 1}), gradtx.sgd(0.5), has_aux=True)
    params = jnp.ones(2)
    params, _, (loss, aux) = step(params, step.init(params), jnp.array([1.0, 2.0]))
    assert float(loss) == 3.0
    assert aux["seen"].tolist() == [2.0, 3.0]
    assert params.tolist() == [0.5, 0.0]


def test_plateau_is_fed_with_the_loss():
    tx = gradtx.chain(gradtx.sgd(0.0), gradtx.reduce_on_plateau(factor=0.5, patience=2))
    step = make_step(linear_loss, tx)
    params, state = fresh_params(), step.init(fresh_params())
    scales = []
    for _ in range(6):
        params, state, _ = step(params, state, X, Y)
        scales.append(float(state.reduce_on_plateau.scale))
    assert scales == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@gradtx.transformation
def recorder():
    """Keeps what `make_step` and `minimize` pass, and the loss after a step of -0.1 of the gradient."""

    def init(params):
        return {"value": jnp.zeros(()), "grad": params, "ahead": jnp.zeros(())}

    def update(updates, state, params, *, value, grad, value_fn):
        ahead = value_fn(jax.tree.map(lambda p, g: p - 0.1 * g, params, grad))
        return updates, {"value": value, "grad": grad, "ahead": ahead}

    return init, update


@pytest.mark.parametrize("has_aux", [False, True])
def test_value_grad_and_value_fn_reach_who_asks(has_aux):
    def loss_fn(p, x, y):
        loss = linear_loss(p, x, y)
        return (loss, x) if has_aux else loss

    step = make_step(loss_fn, gradtx.chain(gradtx.clip(1e-3), recorder(), gradtx.sgd(0.1)), has_aux=has_aux)
    value, grads = jax.value_and_grad(linear_loss)(fresh_params(), X, Y)
    ahead = linear_loss(jax.tree.map(lambda p, g: p - 0.1 * g, fresh_params(), grads), X, Y)
    params = fresh_params()
    _, state, _ = step(params, step.init(params), X, Y)
    assert_close(state.recorder, {"value": value, "grad": grads, "ahead": ahead}, rtol=1e-6)


@gradtx.transformation
def add_noise():
    """Adds normal noise made from the extra argument `key`."""
    return None, lambda updates, state, params=None, *, key: (updates + jax.random.normal(key, updates.shape), state)


def test_other_extra_arguments_go_to_the_transformation():
    step = make_step(lambda w: jnp.sum(w**2), gradtx.chain(add_noise(), gradtx.sgd(1.0)), donate=False)
    params, key = jnp.zeros(2), jax.random.key(0)
    after, _, _ = step(params, step.init(params), key=key)
    np.testing.assert_allclose(after, -jax.random.normal(key, (2,)), rtol=1e-6)
    with pytest.raises(TypeError, match="takes no extra argument 'kye'"):
        step(params, step.init(params), kye=key)
    with pytest.raises(TypeError, match="add_noise needs the extra argument 'key'"):
        step(params, step.init(params))


def test_an_optax_transformation_steps_as_it_does_alone():
    optax = pytest.importorskip("optax")
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2), optax.contrib.reduce_on_plateau(patience=1))
    step = make_step(linear_loss, tx)
    params, state = fresh_params(), step.init(fresh_params())
    theirs, their_state = fresh_params(), tx.init(fresh_params())
    for _ in range(4):
        params, state, _ = step(params, state, X, Y)
        loss, grads = jax.value_and_grad(linear_loss)(theirs, X, Y)
        updates, their_state = tx.update(grads, their_state, theirs, value=loss)
        theirs = optax.apply_updates(theirs, updates)
    assert_close(params, theirs, rtol=1e-5)
    assert_all_donated(step, params, state, X, Y)


def test_an_optax_line_search_is_given_value_fn():
    optax = pytest.importorskip("optax")
    tx = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=10))
    step = make_step(linear_loss, tx)
    params, state = fresh_params(), step.init(fresh_params())
    losses = []
    for _ in range(5):
        params, state, loss = step(params, state, X, Y)
        losses.append(float(loss))
    assert losses == sorted(losses, reverse=True)


def test_complex_parameters_descend():
    target = jnp.array([1.0 + 2.0j, -0.5j])
    step = make_step(lambda z: jnp.sum(jnp.abs(z - target) ** 2), gradtx.sgd(0.25))
    z = jnp.zeros(2, jnp.complex64)
    state = step.init(z)
    for _ in range(20):
        z, state, _ = step(z, state)
    np.testing.assert_allclose(z, target, atol=1e-4)


def test_none_leaves_stay_none():
    step = make_step(lambda p: jnp.sum(p["w"] ** 2), gradtx.adamw(0.1))
    params = {"w": jnp.ones(2), "static": None}
    state = step.init(params)
    assert_all_donated(step, params, state)
    params, _, _ = step(params, state)
    assert params["static"] is None


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_parameters_and_loss_keep_their_dtypes(dtype):
    counted = chex.assert_max_traces(lambda w: jnp.mean(w**2), n=1)
    tx = gradtx.chain(gradtx.adam(0.1), gradtx.reduce_on_plateau())
    step = make_step(counted, tx)
    params = jnp.ones(4, dtype)
    state = step.init(params)
    for _ in range(3):
        params, state, loss = step(params, state)
    assert params.dtype == loss.dtype == dtype
    assert float(loss) < 0.9


@pytest.mark.parametrize("start", [2.0, np.float32(2.0), np.full((), 2.0), jnp.asarray(2.0)], ids=repr)
def test_numbers_as_parameters_become_arrays_and_are_traced_once(start):
    counted = chex.assert_max_traces(lambda p: p["x"] ** 2, n=1)
    step = make_step(counted, gradtx.sgd(0.25))
    params = {"x": start}
    state = step.init(params)
    for _ in range(3):
        params, state, _ = step(params, state)
    assert params["x"].dtype == jnp.float32
    assert float(params["x"]) == 0.25


def test_numpy_parameters_are_not_written_to():
    mine = np.ones(64, np.float32)
    step = make_step(lambda w: jnp.sum(w**2), gradtx.sgd(0.25))
    step(mine, step.init(mine))
    assert (mine == 1).all()


@pytest.mark.parametrize(
    ("loss_fn", "has_aux", "message"),
    [
        (lambda w: w**2, False, r"must return one real number, got float32\[3\]; take its mean or sum"),
        (lambda w: (jnp.sum(w), w), False, r"one real number, got a tuple; for \(loss, aux\) pass has_aux=True"),
        (lambda w: jnp.sum(w), True, r"must return \(loss, aux\), loss one real number, got float32\[\]"),
        (lambda w: (w, w), True, r"loss one real number, got float32\[3\]; take its mean or sum"),
        (lambda w: jnp.sum(w) + 1j, False, r"one real number, got complex64\[\]"),
        (lambda w: jnp.argmax(w), False, r"one real number, got int32\[\]"),
        (lambda w: None, False, "one real number, got a NoneType"),
    ],
)
def test_a_loss_that_is_no_number_is_an_error_in_the_users_words(loss_fn, has_aux, message):
    step = make_step(loss_fn, gradtx.sgd(0.1), has_aux=has_aux)
    w = jnp.ones(3)
    with pytest.raises(TypeError, match="make_step: the function " + ".*" + message):
        step(w, step.init(w))


def test_leaves_without_a_gradient_are_named():
    step = make_step(lambda p: p["layer"]["w"] ** 2.0, gradtx.sgd(0.1))
    for number in (3, jnp.array(3), True):
        params = {"layer": {"w": number}}
        with pytest.raises(gradtx.LeafError, match=r"make_step: leaf 'layer/w' is (int32|bool), which has no gradient"):
            step(params, step.init(params))
    with pytest.raises(gradtx.LeafError, match=r"make_step: leaf 'layer/w' is <.*not an array; filter the model"):
        step.init({"layer": {"w": jnp.tanh}})
    with pytest.raises(gradtx.LeafError, match="minimize: leaf 'x' is int32"):
        minimize(lambda p: p["x"] ** 2.0, {"x": 3}, gradtx.sgd(0.1), 2)


def test_something_that_is_no_transformation():
    for nothing in (1e-3, gradtx.adam, gradtx.GradientTransformation, object()):
        with pytest.raises(TypeError, match="is not a transformation; it has no init and update"):
            make_step(linear_loss, nothing)
        with pytest.raises(TypeError, match=r"minimize: .* is not a transformation"):
            minimize(bowl, 0.0, nothing, 2)


def test_a_step_inside_scan_and_jit():
    step = make_step(linear_loss, gradtx.adam(0.1))

    @jax.jit
    def train(params):
        return jax.lax.scan(
            lambda carry, _: (lambda p, s, loss: ((p, s), loss))(*step(*carry, X, Y)),
            (params, step.init(params)),
            length=5,
        )

    (params, _), losses = train(fresh_params())
    ours, state = fresh_params(), step.init(fresh_params())
    for _ in range(5):
        ours, state, loss = step(ours, state, X, Y)
    assert_close(params, ours, rtol=1e-5)
    assert float(loss) == pytest.approx(float(losses[-1]), rel=1e-5)


# minimize


def bowl(x):
    return (x - 3.0) ** 2


def rosenbrock(p):
    return (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2


VALLEY = {"x": -1.0, "y": 1.5}


def test_rosenbrock():
    found = minimize(rosenbrock, VALLEY, gradtx.adam(2e-2), 5000, tolerance=1e-4)
    assert bool(found.converged)
    assert 0 < int(found.steps) < 5000
    np.testing.assert_allclose([found.params["x"], found.params["y"]], 1.0, atol=1e-3)
    assert float(found.gradient_norm) <= 1e-4


def test_the_history_belongs_to_the_iterates():
    found = minimize(rosenbrock, VALLEY, gradtx.adam(2e-2), 20, record_params=True)
    assert found.history.value.shape == found.history.gradient_norm.shape == (21,)
    values, grads = jax.vmap(jax.value_and_grad(rosenbrock))(found.history.params)
    np.testing.assert_allclose(found.history.value, values, rtol=1e-5)
    np.testing.assert_allclose(found.history.gradient_norm, jnp.hypot(grads["x"], grads["y"]), rtol=1e-5)
    assert_close(jax.tree.map(lambda xs: xs[0], found.history.params), jax.tree.map(jnp.float32, VALLEY))
    assert_close(jax.tree.map(lambda xs: xs[-1], found.history.params), found.params)
    assert float(found.value) == float(found.history.value[-1])
    assert int(found.steps) == 20
    assert not found.converged
    assert minimize(bowl, 0.0, gradtx.sgd(0.1), 1).history.params is None


def test_the_loop_is_the_same_as_steps():
    tx = gradtx.chain(recorder(), gradtx.adam(0.1), gradtx.reduce_on_plateau(factor=0.5, patience=1))
    step = make_step(bowl, tx)
    x = jnp.zeros(())
    state = step.init(x)
    for _ in range(8):
        x, state, _ = step(x, state)
    for tolerance in (None, 0.0):
        found = minimize(bowl, 0.0, tx, 8, tolerance=tolerance)
        assert float(found.params) == pytest.approx(float(x), rel=1e-5)


def test_the_tolerance_stops_at_the_first_iterate_within_it():
    everything = minimize(bowl, 0.0, gradtx.sgd(0.25), 30)
    found = minimize(bowl, 0.0, gradtx.sgd(0.25), 30, tolerance=1e-2, record_params=True)
    first = int(np.argmax(np.asarray(everything.history.gradient_norm) <= 1e-2))
    assert int(found.steps) == first == 10
    assert bool(found.converged)
    np.testing.assert_allclose(found.history.value[: first + 1], everything.history.value[: first + 1], rtol=1e-6)
    for entries in found.history:
        assert np.isnan(entries[first + 1 :]).all()
        assert not np.isnan(entries[: first + 1]).any()
    assert float(found.value) == float(found.history.value[first])


def test_the_ends_of_the_loop():
    at_minimum = minimize(bowl, 3.0, gradtx.sgd(0.25), 5, tolerance=0.0)
    assert (int(at_minimum.steps), bool(at_minimum.converged)) == (0, True)
    none = minimize(bowl, 0.0, gradtx.sgd(0.25), 0)
    assert (float(none.value), none.history.value.tolist(), bool(none.converged)) == (9.0, [9.0], False)
    unreached = minimize(bowl, 0.0, gradtx.sgd(0.25), 2, tolerance=1e-6)
    assert (int(unreached.steps), bool(unreached.converged)) == (2, False)
    just = minimize(bowl, 0.0, gradtx.sgd(0.25), 10, tolerance=1e-2)
    assert (int(just.steps), bool(just.converged)) == (10, True)
    flat = minimize(lambda x: 2.0, 1.0, gradtx.sgd(0.25), 3, tolerance=0.0)  # a plain float, whatever x
    assert (float(flat.value), float(flat.params), bool(flat.converged)) == (2.0, 1.0, True)
    broken = minimize(lambda x: jnp.sqrt(x), -1.0, gradtx.sgd(0.25), 3, tolerance=1e-6)
    assert (int(broken.steps), bool(broken.converged)) == (3, False)
    with pytest.raises(ValueError, match="minimize: steps must be at least 0, got -1"):
        minimize(bowl, 0.0, gradtx.sgd(0.25), -1)
    with pytest.raises(TypeError, match=r"minimize: the function must return one real number, got float32\[2\]"):
        minimize(lambda x: x, jnp.ones(2), gradtx.sgd(0.25), 1)


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_other_numbers_do_not_trace_again(tolerance):
    counted = chex.assert_max_traces(lambda x, target: jnp.sum((x - target) ** 2), n=1)
    for rate, start, target in ((0.1, 0.0, 3.0), (0.2, 1.0, 4.0), (0.3, jnp.ones(()), 5.0)):
        args = (jnp.asarray(target),)
        minimize(counted, start, gradtx.adam(rate), 10, args=args, tolerance=tolerance)
        tolerance = tolerance and tolerance / 2


def test_any_pytree_and_complex_numbers():
    start = (jnp.zeros(2, jnp.complex64), [jnp.ones(2, jnp.bfloat16), None])
    target = jnp.array([1.0 + 2.0j, -0.5j])

    def fn(p):
        return jnp.sum(jnp.abs(p[0] - target) ** 2) + jnp.sum(p[1][0] ** 2)

    found = minimize(fn, start, gradtx.sgd(0.25), 40, tolerance=1e-3, record_params=True)
    assert bool(found.converged)
    np.testing.assert_allclose(found.params[0], target, atol=1e-3)
    assert found.params[1][0].dtype == jnp.bfloat16
    assert found.params[1][1] is None


@pytest.mark.parametrize("tolerance", [None, 1e-2])
def test_vmap_over_starts_and_over_optimizers(tolerance):
    starts, rates = jnp.array([0.0, 1.0, -2.0]), jnp.array([0.1, 0.2, 0.3])
    batch = jax.vmap(lambda x: minimize(bowl, x, gradtx.adam(0.1), 60, tolerance=tolerance))(starts)
    sweep = jax.vmap(lambda tx: minimize(bowl, 0.0, tx, 60, tolerance=tolerance))(jax.vmap(gradtx.adam)(rates))

    def same(ours, theirs):
        assert_close(*jax.tree.map(jnp.nan_to_num, (ours, theirs)), rtol=1e-4, atol=1e-6)  # NaN after the stop

    for i in range(3):
        alone = minimize(bowl, float(starts[i]), gradtx.adam(0.1), 60, tolerance=tolerance)
        same(jax.tree.map(lambda x, i=i: x[i], batch), alone)
        alone = minimize(bowl, 0.0, gradtx.adam(float(rates[i])), 60, tolerance=tolerance)
        same(jax.tree.map(lambda x, i=i: x[i], sweep), alone)


def test_hypergradients_equal_finite_differences():
    def final(tx, x0, target):
        return minimize(lambda x, t: (x - t) ** 2, x0, tx, 5, args=(target,)).value

    tx, x0, target = gradtx.sgd(0.1, momentum=0.5), jnp.float32(0.0), jnp.float32(3.0)
    by_tx, by_x0, by_target = jax.grad(final, argnums=(0, 1, 2))(tx, x0, target)
    h = 3e-3

    def slope(f):
        return (float(f(h)) - float(f(-h))) / (2 * h)

    expected = slope(lambda d: final(tx.replace(learning_rate=0.1 + 0.1 * d), x0, target)) / 0.1
    assert float(by_tx.learning_rate) == pytest.approx(expected, rel=1e-2)
    expected = slope(lambda d: final(tx.replace(momentum=0.5 + d), x0, target))
    assert float(by_tx.momentum) == pytest.approx(expected, rel=1e-2)
    assert float(by_x0) == pytest.approx(slope(lambda d: final(tx, x0 + d, target)), rel=1e-2)
    assert float(by_target) == pytest.approx(slope(lambda d: final(tx, x0, target + d)), rel=1e-2)


def test_batches_are_gone_through_in_turn_and_again():
    xs, ys = jnp.stack([X, 2 * X, X - 1]), jnp.stack([Y, Y + 1, Y])
    tx = gradtx.chain(recorder(), gradtx.adam(0.05))
    step = make_step(linear_loss, tx)
    params, state = fresh_params(), step.init(fresh_params())
    losses = []
    for k in range(7):
        params, state, loss = step(params, state, xs[k % 3], ys[k % 3])
        losses.append(loss)
    found = minimize(linear_loss, fresh_params(), tx, 7, batches=(xs, ys))
    assert_close(found.params, params, rtol=1e-5)
    np.testing.assert_allclose(found.history.value[:7], jnp.stack(losses), rtol=1e-5)
    np.testing.assert_allclose(found.value, linear_loss(params, xs[1], ys[1]), rtol=1e-4)
    chosen = minimize(  # by indices; what is not a tuple is one argument
        lambda p, x, y, batch: linear_loss(p, x[batch["i"]], y[batch["i"]]),
        fresh_params(),
        tx,
        7,
        args=(xs, ys),
        batches={"i": jnp.arange(3)},
    )
    assert_close(chosen.params, params, rtol=1e-5)


@pytest.mark.parametrize("tolerance", [None, 4.0])
def test_batches_under_vmap(tolerance):
    def final(rate):
        found = minimize(linear_loss, fresh_params(), gradtx.sgd(rate), 12, batches=(xs, ys), tolerance=tolerance)
        return found.value, found.steps

    xs, ys, rates = jnp.stack([X, X - 1]), jnp.stack([Y, Y]), jnp.array([1e-3, 5e-2, 8e-2])
    together = jax.vmap(final)(rates)
    for i, rate in enumerate(rates):
        alone = final(rate)
        np.testing.assert_allclose(together[0][i], alone[0], rtol=1e-5)
        assert together[1][i] == alone[1]
    assert len(set(together[1].tolist())) == (1 if tolerance is None else 3), together[1]


def test_batches_that_do_not_fit_are_an_error():
    for batches in ((X, Y[:2]), (X, 1.0), (X[:0], Y[:0])):
        with pytest.raises(ValueError, match=r"minimize: batches are stacked .* not 0; got shapes \(\("):
            minimize(linear_loss, fresh_params(), gradtx.sgd(0.1), 2, batches=batches)


def test_an_optax_optimizer_minimizes():
    optax = pytest.importorskip("optax")
    tx = optax.lbfgs()
    found = minimize(rosenbrock, VALLEY, tx, 100, tolerance=1e-3)
    assert bool(found.converged)
    np.testing.assert_allclose(found.params["x"], 1.0, atol=1e-2)


# EarlyStopping


def stop_after(stopper, values, update=None):
    state = stopper.init({"w": jnp.zeros(2)})
    for step, value in enumerate(values):
        state = (update or stopper.update)(state, value, {"w": jnp.full(2, float(step))})
        if state.should_stop:
            return step, state
    return None, state


@pytest.mark.parametrize(
    ("patience", "min_delta", "values", "stopped", "best"),
    [
        (2, 0.0, [3.0, 2.0, 1.0, 0.5], None, 3),
        (2, 0.0, [3.0, 1.0, 2.0, 1.5, 0.0], 3, 1),
        (2, 0.0, [3.0, 1.0, 2.0, 0.5, 0.5, 0.5], 5, 3),  # an equal value is no improvement
        (2, 0.5, [3.0, 2.875, 2.25, 2.125, 1.875], 4, 2),
        (1, 0.0, [jnp.nan, 1.0], 0, 0),
        (3, 0.0, [1.0, jnp.nan, jnp.nan, jnp.nan], 3, 0),
        (2, 0.0, [jnp.inf, jnp.inf], 1, 0),
        (2, 0.0, [-1.0, -jnp.inf, -jnp.inf, -jnp.inf], 3, 1),
    ],
)
def test_when_it_stops_and_what_it_keeps(patience, min_delta, values, stopped, best):
    step, state = stop_after(EarlyStopping(patience, min_delta), values)
    assert step == stopped
    assert state.best_params["w"].tolist() == [best, best]
    if not jnp.isnan(values[best]):
        assert float(state.best_value) == values[best]


def test_early_stopping_is_the_same_in_jit_and_scan():
    stopper, values = EarlyStopping(patience=2), [3.0, 1.0, 2.0, 1.5, 0.0, 0.1]
    _, state = stop_after(stopper, values)
    _, jitted = stop_after(stopper, values, jax.jit(chex.assert_max_traces(stopper.update, n=1)))
    assert_close(state, jitted)

    def one(state, x):
        return stopper.update(state, x[0], {"w": jnp.full(2, x[1])}), state.should_stop

    scanned, _ = jax.lax.scan(one, stopper.init({"w": jnp.zeros(2)}), (jnp.array(values), jnp.arange(6.0)))
    assert_close(state, scanned)  # what comes after the stop changes nothing
    assert jax.jit(lambda stopper: stopper.patience + jnp.zeros(()))(stopper) == 2  # static in jit


def test_the_best_parameters_survive_donation_of_the_current_ones():
    stopper, step = EarlyStopping(patience=3), make_step(linear_loss, gradtx.sgd(0.01))
    params = fresh_params() | {"none": None}
    state, watch = step.init(params), stopper.init(params)
    for _ in range(3):
        params, state, _ = step(params, state, X, Y)
    assert_close(watch.best_params, fresh_params() | {"none": None})
    for _ in range(3):
        watch = stopper.update(watch, linear_loss(params, X, Y), params)
        params, state, _ = step(params, state, X, Y)
    assert np.isfinite(watch.best_params["w"]).all()
    assert watch.best_params["none"] is None
    assert not watch.should_stop


def test_early_stopping_refuses_nonsense():
    for arguments in ({"patience": 0}, {"min_delta": -1.0}, {"min_delta": jnp.nan}):
        with pytest.raises(ValueError, match="patience must be at least 1 and min_delta at least 0, got EarlyStopping"):
            EarlyStopping(**arguments)
    stopper = EarlyStopping()
    with pytest.raises(ValueError, match=r"value must be one number, got an array of shape \(2,\)"):
        stopper.update(stopper.init(jnp.ones(2)), jnp.ones(2), jnp.ones(2))


def test_low_precision_values_are_compared_in_float32():
    stopper = EarlyStopping(patience=2)
    state = stopper.update(stopper.init(jnp.ones(2, jnp.bfloat16)), jnp.bfloat16(1.5), jnp.zeros(2, jnp.bfloat16))
    assert state.best_value.dtype == jnp.float32
    assert state.best_params.dtype == jnp.bfloat16

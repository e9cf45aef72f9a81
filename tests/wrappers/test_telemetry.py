"""Measurements are right, cost nothing when not asked for, and are read from any state under stable names."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.wrappers.monitor import MEASURES
from helpers import assert_close, assert_same_form, random_tree, run_steps

PARAMS = random_tree()
GRADIENTS = [random_tree(i) for i in range(1, 6)]


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(np.abs(x))) for x in jax.tree.leaves(tree)))


def after(tx, steps=1, **extra):
    return gradtx.metrics(run_steps(tx, PARAMS, GRADIENTS[:steps], **extra)[1])


# What is measured


def test_norms_and_the_ratio():
    tx = gradtx.monitor(["gradient_norm", "update_norm", "param_norm", "update_ratio", "nonfinite"], gradtx.adam(0.1))
    metrics = after(tx)
    updates, _ = gradtx.adam(0.1).update(GRADIENTS[0], gradtx.adam(0.1).init(PARAMS))
    np.testing.assert_allclose(metrics["gradient_norm"], norm(GRADIENTS[0]), rtol=1e-6)
    np.testing.assert_allclose(metrics["update_norm"], norm(updates), rtol=1e-6)
    np.testing.assert_allclose(metrics["param_norm"], norm(PARAMS), rtol=1e-6)
    np.testing.assert_allclose(metrics["update_ratio"], norm(updates) / norm(PARAMS), rtol=1e-6)
    assert metrics["nonfinite"] == 0
    assert all(value.shape == () for value in metrics.values())


def test_the_clip_rate_is_a_share_of_the_steps():
    tx = gradtx.monitor(["clip_rate"], gradtx.clip_by_global_norm(1.0))
    state = tx.init(jnp.zeros(2))
    for size, rate in ((3.0, 1.0), (0.5, 0.5), (0.1, 1 / 3), (2.0, 0.5)):
        _, state = tx.update(jnp.array([size, 0.0]), state)
        assert float(gradtx.metrics(state)["clip_rate"]) == pytest.approx(rate)


def test_rates_of_gradient_descent_are_its_rate_and_those_of_adam_its_rate_factor():
    metrics = after(gradtx.monitor(["rate_quantiles"], gradtx.sgd(0.25)))
    assert {name: float(x) for name, x in metrics.items()} == pytest.approx(
        {f"rate_quantiles/{q}": 0.25 for q in ("min", "q25", "median", "q75", "max")}
    )
    within = gradtx.product(gradtx.identity(), gradtx.monitor(["update_quantiles"], gradtx.inverse_rms(0.9, 1e-8)))
    inverse = np.concatenate([np.ravel(1 / (np.abs(g) + 1e-8)) for g in jax.tree.leaves(GRADIENTS[0])])
    metrics = after(within)
    for q, name in ((0.0, "min"), (0.5, "median"), (1.0, "max")):
        np.testing.assert_allclose(metrics[f"update_quantiles/{name}"], np.quantile(inverse, q), rtol=1e-4)


def test_quantiles_of_a_large_tree_are_those_of_a_sample():
    sizes = jax.random.normal(jax.random.key(0), (1 << 17,))
    tx = gradtx.monitor(["update_quantiles"])
    _, state = tx.update(sizes, tx.init(sizes))
    np.testing.assert_allclose(gradtx.metrics(state)["update_quantiles/median"], 0.6745, rtol=0.05)


def test_zero_gradients_have_no_rate_but_finite_norms():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    tx = gradtx.monitor(["gradient_norm", "update_ratio"], gradtx.adam(0.1))
    _, state = tx.update(zeros, tx.init(zeros), zeros)
    assert gradtx.metrics(state) == {"gradient_norm": 0, "update_ratio": 0}


def test_per_leaf_and_per_group():
    tx = gradtx.monitor(["gradient_norm"], by="leaf")
    metrics = after(tx)
    assert set(metrics) == {f"gradient_norm/{x}" for x in ("layer/bias", "layer/kernel", "scalar", "stack")}
    np.testing.assert_allclose(metrics["gradient_norm/layer/bias"], norm(GRADIENTS[0]["layer"]["bias"]), rtol=1e-6)
    groups = {"layer": "layer", "small": lambda path, leaf: leaf.size < 5}
    metrics = after(gradtx.monitor(["gradient_norm"], by=groups))
    np.testing.assert_allclose(metrics["gradient_norm/layer"], norm(GRADIENTS[0]["layer"]), rtol=1e-6)
    small = [GRADIENTS[0]["scalar"], GRADIENTS[0]["layer"]["bias"]]
    np.testing.assert_allclose(metrics["gradient_norm/small"], norm(small), rtol=1e-6)


@pytest.mark.parametrize("by", [None, "leaf", {"all": "*"}])
def test_leaves_without_an_update_are_left_out(by):
    gradients = {"a": jnp.array([3.0, 4.0]), "b": None}
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = gradtx.monitor(["gradient_norm", "param_norm"], by=by)
    _, state = tx.update(gradients, tx.init({"a": params["a"], "b": None}), params)
    values = {name.split("/")[0]: float(value) for name, value in gradtx.metrics(state).items()}
    assert values == pytest.approx({"gradient_norm": 5.0, "param_norm": 2**0.5})


def test_own_functions_and_trees():
    measures = {
        "largest": lambda updates: jax.tree.map(lambda u: jnp.max(jnp.abs(u)), updates),
        "shrunk": lambda incoming, outgoing, params: gradtx.global_norm(outgoing) / gradtx.global_norm(incoming),
        "size": "gradient_norm",
    }
    metrics = after(gradtx.monitor(measures, gradtx.scale(0.5)))
    assert float(metrics["shrunk"]) == pytest.approx(0.5)
    np.testing.assert_allclose(metrics["largest/stack"], np.max(np.abs(GRADIENTS[0]["stack"])))
    np.testing.assert_allclose(metrics["size"], norm(GRADIENTS[0]), rtol=1e-6)


# As Optax has them


def test_snapshot_monitor_and_average_as_in_optax():
    def make(library):
        return library.chain(
            library.sgd(0.1, momentum=0.9),
            library.snapshot("before", norm_of),
            library.monitor({"norm": norm_of, "often": library.measure_with_ema(lambda u: norm_of(u) > 0.5, 0.9)}),
            library.clip_by_global_norm(0.5),
        )

    def norm_of(updates):
        return optax.tree.norm(updates)

    _, ours = run_steps(make(gradtx), PARAMS, GRADIENTS, jit=False)
    _, theirs = run_steps(make(optax), PARAMS, GRADIENTS, jit=False)
    for name in ("before", "norm", "often"):
        expected = optax.tree.get(theirs, name)
        np.testing.assert_allclose(gradtx.metrics(ours)[name], expected, rtol=1e-6)
        np.testing.assert_allclose(optax.tree.get(ours, name), expected, rtol=1e-6)


# The state


@pytest.mark.parametrize("measure", MEASURES)
def test_the_transformation_inside_is_not_disturbed(measure):
    tx = gradtx.monitor([measure], gradtx.adamw(0.1), every=2)
    ours, state = run_steps(tx, PARAMS, GRADIENTS)
    assert_close(ours, run_steps(gradtx.adamw(0.1), PARAMS, GRADIENTS)[0], rtol=1e-6, atol=1e-7)
    assert_same_form(state, tx.init(PARAMS))
    eager, _ = run_steps(tx, PARAMS, GRADIENTS[:2], jit=False)
    assert_close(eager, run_steps(tx, PARAMS, GRADIENTS[:2])[0], rtol=1e-5, atol=1e-6)


def test_measured_at_every_kth_step_only():
    tx = gradtx.monitor({"norm": "gradient_norm", "mean": gradtx.measure_with_ema(norm_jax, 0.5)}, every=3)
    state, seen = tx.init(PARAMS), []
    for gradient in GRADIENTS:
        _, state = jax.jit(tx.update)(gradient, state)
        seen.append(float(gradtx.metrics(state)["norm"]))
    first, fourth = norm(GRADIENTS[0]), norm(GRADIENTS[3])
    np.testing.assert_allclose(seen, [first] * 3 + [fourth] * 2, rtol=1e-6)
    np.testing.assert_allclose(gradtx.metrics(state)["mean"], (first * 0.25 + fourth * 0.5) / 0.75, rtol=1e-6)


def norm_jax(tree):
    return gradtx.global_norm(tree)


def test_nothing_is_computed_between_samples():
    """The measurement stands in a branch of its own; without monitors there is no branch and no norm at all."""
    state = gradtx.monitor(["gradient_norm"], every=5).init(PARAMS)
    jaxpr = jax.make_jaxpr(gradtx.monitor(["gradient_norm"], every=5).update)(PARAMS, state)
    outside = [eqn.primitive.name for eqn in jaxpr.eqns]
    assert "cond" in outside
    assert "sqrt" not in outside
    assert "sqrt" in str(jaxpr)
    plain = jax.make_jaxpr(gradtx.monitor([]).update)(PARAMS, gradtx.monitor([]).init(PARAMS))
    assert "sqrt" not in str(plain)


def test_one_trace():
    tx = gradtx.monitor(list(MEASURES), gradtx.adam(0.1), by="leaf", every=2)
    update, state = jax.jit(chex.assert_max_traces(tx.update, n=1)), tx.init(PARAMS)
    for gradient in GRADIENTS[:3]:
        _, state = update(gradient, state, PARAMS)


def test_low_precision_is_measured_in_float32():
    params = jax.tree.map(lambda x: jnp.full((1000,), 300.0, jnp.float16), {"a": 0, "b": 0})
    tx = gradtx.monitor(["gradient_norm", "update_ratio"], gradtx.scale(1e-3))
    _, state = tx.update(params, tx.init(params), params)
    metrics = gradtx.metrics(state)
    np.testing.assert_allclose(metrics["gradient_norm"], 300 * 2000**0.5, rtol=1e-3)
    np.testing.assert_allclose(metrics["update_ratio"], 1e-3, rtol=1e-3)


# Names


def test_names_tell_groups_and_stages_apart():
    watched = gradtx.monitor(["update_norm"], gradtx.sgd(0.1))
    tx = gradtx.partition({"layer": watched, "*": watched})
    assert set(after(tx)) == {"layer/update_norm", "*/update_norm"}
    tx = gradtx.chain(
        gradtx.adam(0.1), before=gradtx.monitor(["update_norm"]), after=gradtx.monitor(["update_norm", "param_norm"])
    )
    assert set(after(tx)) == {"before/update_norm", "after/update_norm", "param_norm"}


def test_metrics_of_guards_and_plateaus():
    tx = gradtx.chain(
        gradtx.apply_if_finite(gradtx.skip_spikes(gradtx.adam(0.1)), 3), gradtx.reduce_on_plateau(patience=2)
    )
    metrics = after(tx, value=1.0)
    assert set(metrics) == {
        "notfinite_count",
        "total_notfinite",
        "gave_up",
        "total_skipped",
        "spike_limit",
        "plateau_scale",
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.monitor(["norm"]).init(PARAMS), "'norm' is no measure; there are gradient_norm, update"),
        (lambda: gradtx.monitor({"a": 3}).init(PARAMS), "3 is no measure; there are gradient_norm"),
        (lambda: gradtx.monitor(["param_norm"]).update(PARAMS, gradtx.monitor(["param_norm"]).init(PARAMS)), "needs"),
        (lambda: gradtx.monitor(["param_norm"], by="leaves").init(PARAMS), "by must be None, 'leaf' or a dict"),
        (lambda: gradtx.monitor(["param_norm"], by={"x": "nothing"}).init(PARAMS), "'nothing' matches no leaf"),
        (lambda: gradtx.monitor(["param_norm"], every=0), "every must be an integer, at least 1"),
    ],
)
def test_wrong_calls(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_name_and_functions_only():
    assert set(after(gradtx.monitor("gradient_norm"))) == {"gradient_norm"}
    with pytest.raises(TypeError, match="measure must be a function of the updates, got 'gradient_norm'"):
        gradtx.measure_with_ema("gradient_norm", 0.9).init(PARAMS)


# Frameworks

WATCHED = gradtx.monitor(["gradient_norm", "update_norm"], gradtx.adam(0.1))


def test_flax_train_state():
    train_state = pytest.importorskip("flax.training.train_state")
    state = train_state.TrainState.create(apply_fn=None, params=PARAMS, tx=WATCHED)
    state = jax.jit(lambda s, g: s.apply_gradients(grads=g))(state, GRADIENTS[0])
    np.testing.assert_allclose(gradtx.metrics(state)["gradient_norm"], norm(GRADIENTS[0]), rtol=1e-6)


def test_flax_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, gradtx.monitor(["gradient_norm"], gradtx.adam(0.1), by="leaf"), wrt=nnx.Param)
    gradient = nnx.grad(lambda m: jnp.sum(m(jnp.ones((4, 3)))))(model)
    optimizer.update(model, gradient)
    metrics = gradtx.metrics(optimizer)
    assert set(metrics) == {"gradient_norm/bias", "gradient_norm/kernel"}
    np.testing.assert_allclose(metrics["gradient_norm/bias"], norm(jnp.full(2, 4.0)), rtol=1e-6)


def test_equinox_model():
    eqx = pytest.importorskip("equinox")
    params = eqx.filter(eqx.nn.Linear(3, 2, key=jax.random.key(0)), eqx.is_inexact_array)
    tx = gradtx.monitor(["param_norm"], gradtx.adam(0.1), by="leaf")
    _, state = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(gradtx.metrics(state)["param_norm/weight"], norm(params.weight), rtol=1e-6)

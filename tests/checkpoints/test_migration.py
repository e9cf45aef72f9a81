"""A state outlives a change of its transformation, and a run that was begun elsewhere goes on here."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from helpers import assert_close, assert_same_form, random_tree, run_steps

PARAMS = random_tree()
GRADIENTS = [random_tree(i) for i in range(1, 6)]


def trained(tx):
    """Parameters and state after five steps."""
    return run_steps(tx, PARAMS, GRADIENTS)


# A changed transformation


CHANGES = {
    "a clip in front": lambda adam: gradtx.chain(gradtx.clip_by_global_norm(1e9), adam),
    "two wrappers": lambda adam: gradtx.apply_if_finite(gradtx.inject_hyperparams(adam, "learning_rate"), 3),
    "a monitor inside a chain": lambda adam: gradtx.chain(gradtx.clip(1e9), gradtx.monitor(["update_norm"], adam)),
    "the formula": lambda adam: adam.formula,
    "a schedule for the rate": lambda adam: adam.replace(learning_rate=gradtx.constant_schedule(0.1)),
    "a schedule for b2": lambda adam: adam.replace(b2=gradtx.constant_schedule(0.99)),
    "nothing": lambda adam: adam,
}


@pytest.mark.parametrize("change", CHANGES)
def test_training_goes_on_with_the_same_numbers(change):
    adam = gradtx.adam(0.1, b2=0.99)
    new_tx = CHANGES[change](adam)
    params, old = trained(adam)
    state, report = gradtx.migrate_state(old, new_tx, params)
    assert_same_form(state, new_tx.init(params))
    ours, theirs = params, params
    for gradient in GRADIENTS[:3]:
        updates, state = new_tx.update(gradient, state, ours)
        ours = gradtx.apply_updates(ours, updates)
        updates, old = adam.update(gradient, old, theirs)
        theirs = gradtx.apply_updates(theirs, updates)
    assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not report.dropped
    assert gradtx.step_count(state) == 8


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "nothing"])
def test_and_back_again(change):
    adam = gradtx.adam(0.1, b2=0.99)
    params, state = trained(adam)
    there, _ = gradtx.migrate_state(state, CHANGES[change](adam), params)
    back, report = gradtx.migrate_state(there, adam, params)
    assert_close(back, state)
    assert not report.initialised


def test_an_added_stage_is_initialised_and_named():
    params, old = trained(gradtx.adam(0.1))
    state, report = gradtx.migrate_state(old, gradtx.chain(gradtx.trace(0.9), gradtx.adam(0.1)), params)
    assert set(report.initialised) == {f"trace/trace/{x}" for x in ("layer/bias", "layer/kernel", "scalar", "stack")}
    assert_close(state.adam, old)
    assert not any(jnp.any(x) for x in jax.tree.leaves(state.trace))
    assert "trace/trace/layer/bias" in str(report)
    assert str(report).startswith(f"kept {len(report.kept)} of {len(report.kept) + 4} leaves")


def test_a_removed_stage_is_dropped():
    tx = gradtx.chain(gradtx.trace(0.9), gradtx.scale_by_rms(), gradtx.scale_by_learning_rate(0.1))
    params, old = trained(tx)
    state, report = gradtx.migrate_state(old, gradtx.chain(*tx.transformations[1:]), params)
    assert_close(state.scale_by_rms, old.scale_by_rms)
    assert {path.split("/")[0] for path in report.dropped} == {"trace"}


def test_arguments_in_another_order_are_seen():
    adam = gradtx.adam(0.1)
    params, state = trained(adam)
    with pytest.raises(TypeError, match=r"migrate_state\(old_state, new_tx, params\): new_tx is no transformation"):
        gradtx.migrate_state(adam, state, params)


def test_a_renamed_stage():
    params, old = trained(gradtx.chain(first=gradtx.trace(0.9), second=gradtx.scale_by_rms()))
    new_tx = gradtx.chain(momentum=gradtx.trace(0.9), second=gradtx.scale_by_rms())
    state, report = gradtx.migrate_state(old, new_tx, params, renamed={"first": "momentum"})
    assert_close(state.momentum, old.first)
    assert not report.initialised
    with pytest.raises(LookupError, match="nothing in the old state is named 'third'"):
        gradtx.migrate_state(old, new_tx, params, renamed={"third": "momentum"})


def test_a_resized_and_a_new_parameter():
    params, old = trained(gradtx.adam(0.1))
    grown = params | {"stack": jnp.ones((2, 5, 2)), "more": jnp.ones(3)}
    state, report = gradtx.migrate_state(old, gradtx.adam(0.1), grown)
    assert (
        report.initialised["scale_by_adam/chain/scale_by_momentum/momentum/stack"] == "shape (2, 5, 2), was (2, 3, 2)"
    )
    assert len(report.initialised) == 4
    momentum = state.scale_by_adam.chain.scale_by_momentum.momentum
    assert_close(momentum["layer"], old.scale_by_adam.chain.scale_by_momentum.momentum["layer"])
    assert momentum["stack"].shape == (2, 5, 2)


def test_statistics_are_not_mistaken_for_others():
    params, old = trained(gradtx.scale_by_rms())
    _, report = gradtx.migrate_state(old, gradtx.chain(gradtx.trace(0.9), gradtx.scale_by_momentum(0.9)), params)
    assert not report.kept
    two = gradtx.chain(gradtx.chain(gradtx.trace(0.9)), gradtx.chain(gradtx.clip(1.0), gradtx.trace(0.5)))
    _, report = gradtx.migrate_state(gradtx.trace(0.9).init(params), two, params)
    assert set(report.initialised.values()) == {"ambiguous in the old state"}


def test_groups_keep_their_states():
    groups = {"layer": gradtx.adam(0.1), "*": gradtx.sgd(0.1, momentum=0.9)}
    params, old = trained(gradtx.partition(groups))
    new_tx = gradtx.inject_hyperparams(gradtx.partition(groups | {"*": gradtx.sgd(0.1)}))
    state, report = gradtx.migrate_state(old, new_tx, params)
    assert_close(state.inner_state["layer"], old["layer"])
    assert {path.split("/")[0] for path in report.dropped} == {"*"}


SPLIT = {"layer": gradtx.adam(0.1, b2=0.99), "*": gradtx.adam(0.1, b2=0.99)}


@pytest.mark.parametrize(
    ("before", "after"), [(SPLIT["*"], gradtx.partition(SPLIT)), (gradtx.partition(SPLIT), SPLIT["*"])]
)
def test_one_stage_becomes_two_groups_or_two_become_one(before, after):
    params, old = trained(before)
    state, report = gradtx.migrate_state(old, after, params)
    assert not report.initialised
    expected, _ = before.update(GRADIENTS[0], old, params)
    assert_close(after.update(GRADIENTS[0], state, params)[0], expected)


def test_only_counts_of_schedules_go_on_at_that_of_the_run():
    params, old = trained(gradtx.adam(0.1))
    grown = params | {"count": jnp.ones(2)}
    state, _ = gradtx.migrate_state(old, gradtx.chain(gradtx.adam(0.1), gradtx.reduce_on_plateau()), grown)
    assert state.reduce_on_plateau.count == 0  # of the values in a window
    assert state.adam.scale_by_adam.chain.scale_by_momentum.momentum["count"].tolist() == [0.0, 0.0]


def test_new_averages_have_new_bias_corrections():
    params, old = trained(gradtx.adam(0.1))
    grown = jax.tree.map(lambda p: jnp.stack([p, p]), params)
    state, report = gradtx.migrate_state(old, gradtx.adam(0.1), grown)
    assert report.initialised["scale_by_adam/chain/bias_correction/weight"] == "nothing that it corrects was kept"
    updates, _ = gradtx.adam(0.1).update(jax.tree.map(jnp.ones_like, grown), state, grown)
    assert_close(updates, jax.tree.map(lambda p: jnp.full_like(p, -0.1), grown), rtol=1e-5)


def test_from_nested_dicts_as_a_checkpoint_gives_them():
    def plain(x):
        if hasattr(x, "_asdict"):
            return {name: plain(item) for name, item in x._asdict().items()}
        return {name: plain(item) for name, item in x.items()} if isinstance(x, dict) else x

    tx = gradtx.chain(gradtx.clip(1.0), gradtx.adam(0.1))
    params, old = trained(tx)
    state, report = gradtx.migrate_state(plain(old), tx, params)
    assert_close(state, old)
    assert not report.initialised


def test_the_new_state_can_be_donated():
    params, old = trained(gradtx.adam(0.1))
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.adam(0.1))
    state, _ = gradtx.migrate_state(old, tx, params)
    jax.jit(tx.update, donate_argnums=1)(GRADIENTS[0], state, params)
    assert jnp.isfinite(old.scale_by_adam.chain.bias_correction.weight)  # still there
    assert jnp.all(jnp.isfinite(params["stack"]))


def test_dtypes_are_those_of_the_new_transformation():
    params, old = trained(gradtx.adam(0.1))
    state, _ = gradtx.migrate_state(old, gradtx.adam(0.1, mu_dtype="bfloat16"), params)
    assert state.scale_by_adam.chain.scale_by_momentum.momentum["stack"].dtype == jnp.bfloat16


def test_in_frameworks():
    train_state = pytest.importorskip("flax.training.train_state")
    holder = train_state.TrainState.create(apply_fn=None, params=PARAMS, tx=gradtx.adam(0.1))
    holder = holder.apply_gradients(grads=GRADIENTS[0])
    new_tx = gradtx.chain(gradtx.clip(1.0), gradtx.adam(0.1))
    state, _ = gradtx.migrate_state(holder.opt_state, new_tx, holder.params)
    holder = holder.replace(tx=new_tx, opt_state=state).apply_gradients(grads=GRADIENTS[1])
    assert gradtx.step_count(holder) == 2

    eqx = pytest.importorskip("equinox")
    model = eqx.filter(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.is_inexact_array)
    _, old = gradtx.adam(0.1).update(model, gradtx.adam(0.1).init(model))
    state, _ = gradtx.migrate_state(old, new_tx, model)
    assert_close(state.adam, old)

    nnx = pytest.importorskip("flax.nnx")
    linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    params = nnx.state(linear, nnx.Param)
    _, old = gradtx.adam(0.1).update(params, gradtx.adam(0.1).init(params))
    state, _ = gradtx.migrate_state(old, new_tx, params)
    assert_close(state.adam, old)


# From Optax and torch: 30 steps there, 20 more on both sides, in float64


@pytest.fixture(name="x64")
def _x64():
    with jax.enable_x64(True):
        yield


@functools.cache
def problem():
    rng = np.random.default_rng(0)
    shapes = {"bias": (4,), "kernel": (3, 4)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return params, [{name: rng.normal(size=shape) + 0.3 for name, shape in shapes.items()} for _ in range(50)]


def go_on(tx, state, params, gradients):
    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *gradients)
    (params, _), _ = jax.jit(lambda p, s, g: jax.lax.scan(step, (p, s), g))(params, state, stacked)
    return params


RATE = optax.linear_schedule(0.1, 0.01, 40)
BOTH = {
    "adam": lambda lib: lib.adam(0.1),
    "adamw": lambda lib: lib.adamw(0.1, b1=0.8, weight_decay=0.01),
    "adamw-schedule": lambda lib: lib.chain(lib.clip_by_global_norm(1.0), lib.adamw(RATE)),
    "nadam": lambda lib: lib.nadam(0.1),
    "adamax": lambda lib: lib.adamax(0.1),
    "adabelief": lambda lib: lib.adabelief(0.1),
    "radam": lambda lib: lib.radam(0.1),
    "sgd": lambda lib: lib.sgd(RATE),
    "sgd-momentum": lambda lib: lib.sgd(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda lib: lib.rmsprop(0.1, momentum=0.9),
    "rmsprop-centered": lambda lib: lib.rmsprop(0.1, centered=True),
    "adagrad": lambda lib: lib.adagrad(0.1),
    "adadelta": lambda lib: lib.adadelta(1.0),
    "adafactor": lambda lib: lib.adafactor(0.1, min_dim_size_to_factor=2),
    "adafactor-nothing-factored": lambda lib: lib.adafactor(0.1),
    "injected": lambda lib: lib.inject_hyperparams(lib.adam)(0.1),
    "lion": lambda lib: lib.lion(0.1),
    "yogi": lambda lib: lib.yogi(0.1),
    "groups": lambda lib: lib.multi_transform(
        {"a": lib.adam(0.1), "b": lib.chain(lib.clip(1.0), lib.adam(RATE))}, {"bias": "b", "kernel": "a"}
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", BOTH)
def test_a_run_of_optax_goes_on(name):
    params, gradients = problem()
    theirs, ours = BOTH[name](optax), BOTH[name](gradtx)
    params = jax.tree.map(jnp.asarray, params)
    state = theirs.init(params)
    for gradient in gradients[:30]:
        updates, state = theirs.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    state_here = gradtx.from_optax_state(state, ours, params)
    assert_same_form(state_here, ours.init(params))
    expected = go_on(theirs, state, params, gradients[30:])
    # Under x64, Optax's adafactor computes the decay of step t, 1 − t^−0.8, in float32.
    rtol = 1e-6 if name.startswith("adafactor") else 1e-10
    assert_close(go_on(ours, state_here, params, gradients[30:]), expected, rtol=rtol)


TORCH = {
    "adamw": ("AdamW", {"lr": 0.1, "weight_decay": 0.01}, lambda: gradtx.adamw(0.1, weight_decay=0.01)),
    "adam": ("Adam", {"lr": 0.1, "betas": (0.8, 0.9)}, lambda: gradtx.adam(0.1, b1=0.8, b2=0.9)),
    "amsgrad": ("Adam", {"lr": 0.1, "amsgrad": True}, lambda: gradtx.amsgrad(0.1)),
    "adamax": ("Adamax", {"lr": 0.1}, lambda: gradtx.adamax(0.1)),
    "sgd": ("SGD", {"lr": 0.1, "momentum": 0.9}, lambda: gradtx.sgd(0.1, momentum=0.9)),
    "sgd-nesterov": (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        lambda: gradtx.sgd(0.1, momentum=0.9, nesterov=True),
    ),
    "rmsprop": ("RMSprop", {"lr": 0.1}, lambda: gradtx.rmsprop(0.1, decay=0.99, eps_in_sqrt=False)),
    "rmsprop-momentum": (
        "RMSprop",
        {"lr": 0.1, "momentum": 0.9},
        lambda: gradtx.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, momentum=0.9),
    ),
    "rmsprop-centered": (
        "RMSprop",
        {"lr": 0.1, "centered": True, "eps": 1e-3},
        lambda: gradtx.rmsprop(0.1, decay=0.99, eps=1e-3, eps_in_sqrt=False, centered=True),
    ),
    "nadam": ("NAdam", {"lr": 0.1}, lambda: gradtx.nadam(0.1, momentum_decay=4e-3)),
    "adagrad": ("Adagrad", {"lr": 0.1, "eps": 1e-7}, lambda: gradtx.adagrad(0.1, 0.0, eps_in_sqrt=False)),
    "adadelta": ("Adadelta", {"lr": 1.0}, lambda: gradtx.adadelta(1.0)),
}


def torch_run(kind, settings, order, shapes=lambda x: x):
    """A torch optimizer over the problem's leaves in this order, and a function that takes steps."""
    torch = pytest.importorskip("torch")
    params, gradients = problem()
    tensors = [torch.tensor(shapes(params[name]).copy(), requires_grad=True) for name in order]
    optimizer = getattr(torch.optim, kind)(tensors, **settings)

    def steps(some):
        for gradient in some:
            for name, tensor in zip(order, tensors, strict=True):
                tensor.grad = torch.tensor(shapes(gradient[name]).copy())
            optimizer.step()
        return {name: shapes(t.detach().numpy()).copy() for name, t in zip(order, tensors, strict=True)}

    return optimizer, steps, gradients


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", TORCH)
def test_a_run_of_torch_goes_on(name):
    kind, settings, make = TORCH[name]
    optimizer, steps, gradients = torch_run(kind, settings, ("bias", "kernel"))
    params = steps(gradients[:30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = gradtx.from_torch_state(optimizer.state_dict(), make(), params)
    assert_same_form(state, make().init(jax.tree.map(jnp.asarray, params)))
    expected = steps(gradients[30:])
    assert_close(go_on(make(), state, jax.tree.map(jnp.asarray, params), gradients[30:]), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_torch_parameters_in_another_order_and_transposed():
    optimizer, steps, gradients = torch_run(
        "AdamW", {"lr": 0.1, "weight_decay": 0.01}, ("kernel", "bias"), np.transpose
    )
    params = steps(gradients[:30])

    def convert(arrays):
        kernel, bias = arrays
        return {"kernel": kernel.T, "bias": bias}

    tx = gradtx.adamw(0.1, weight_decay=0.01)
    state = gradtx.from_torch_state(optimizer.state_dict(), tx, params, convert)
    expected = steps(gradients[30:])
    assert_close(go_on(tx, state, jax.tree.map(jnp.asarray, params), gradients[30:]), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["learning_rate", "b1"])
def test_injected_schedules_go_on(name):
    params, gradients = problem()
    params = jax.tree.map(jnp.asarray, params)
    falling = gradtx.linear_schedule(0.9, 0.5, 40)
    theirs, ours = optax.adam(falling), gradtx.inject_hyperparams(gradtx.adam(falling), "learning_rate")
    if name == "b1":  # Optax corrects for a constant b1 only
        theirs = gradtx.adam(0.1, b1=falling)
        ours = gradtx.inject_hyperparams(theirs, "b1")
    state = theirs.init(params)
    for gradient in gradients[:30]:
        _, state = theirs.update(gradient, state, params)
    source = state
    if name == "b1":
        moments = state.scale_by_adam
        momentum = moments.chain.scale_by_momentum.inner_state.momentum
        source = optax.ScaleByAdamState(jnp.asarray(30), momentum, moments.inverse_rms.ema.ema)
    here = gradtx.from_optax_state(source, ours, params)
    assert_close(gradtx.get_hyperparam(here, name), jnp.asarray(falling(29)))
    expected = go_on(theirs, state, params, gradients[30:])
    assert_close(go_on(ours, here, params, gradients[30:]), expected, rtol=1e-10)


def test_values_that_were_injected_there_are_used_here():
    params = {"w": jnp.ones(2)}
    there = optax.inject_hyperparams(optax.adam)(1e-3).init(params)
    there.hyperparams["learning_rate"] = jnp.asarray(0.5)
    state = gradtx.from_optax_state(there, gradtx.inject_hyperparams(gradtx.adam(1e-3), "learning_rate"), params)
    assert gradtx.get_hyperparam(state, "learning_rate") == 0.5


def test_a_schedule_without_a_count_asks_for_it():
    params = {"w": jnp.ones(2)}
    there, tx = optax.sgd(0.1, momentum=0.9).init(params), gradtx.sgd(RATE, momentum=0.9)
    with pytest.raises(
        ValueError, match="'scale_by_learning_rate': nothing in that state counts its steps; pass count"
    ):
        gradtx.from_optax_state(there, tx, params)
    assert gradtx.step_count(gradtx.from_optax_state(there, tx, params, count=7)) == 7


@pytest.mark.parametrize("name", ["adabelief", "novograd"])
def test_equal_fields_of_another_optimizer_are_told_apart(name):
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="no state with mu, nu is left"):
        gradtx.from_optax_state(getattr(optax, name)(0.1).init(params), gradtx.adam(0.1), params)


SETTINGS = {
    "eps_in_sqrt=True, torch's optimizer False": ("RMSprop", {}, gradtx.rmsprop(0.1, decay=0.99)),
    "nesterov=False, torch's optimizer True": (
        "SGD",
        {"momentum": 0.9, "nesterov": True},
        gradtx.sgd(0.1, momentum=0.9),
    ),
    "momentum=0.5, torch's optimizer 0.9": ("SGD", {"momentum": 0.9}, gradtx.sgd(0.1, momentum=0.5)),
    "weight_decay=0.0001, torch's optimizer 0.01": ("AdamW", {}, gradtx.adamw(0.1)),
    "weight_decay=0.0, torch's optimizer 0.1": ("Adam", {"weight_decay": 0.1}, gradtx.adam(0.1)),
    "eps=1e-08, torch's optimizer 0.001": ("Adam", {"eps": 1e-3}, gradtx.adam(0.1)),
}


@pytest.mark.parametrize("told", SETTINGS)
def test_other_settings_of_torch_are_told(told):
    kind, settings, tx = SETTINGS[told]
    optimizer, steps, gradients = torch_run(kind, {"lr": 0.1} | settings, ("bias", "kernel"))
    steps(gradients[:2])
    with pytest.warns(UserWarning, match=told) as warned:
        gradtx.from_torch_state(optimizer.state_dict(), tx, jax.tree.map(jnp.float32, problem()[0]))
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("kind", "tx", "told"),
    [
        ("NAdam", gradtx.adam(0.1), "keeps mu_product, which is for scale_by_nadam"),
        ("Adamax", gradtx.adam(0.1), "keeps exp_inf, which is for scale_by_adamax"),
        ("Adam", gradtx.adamax(0.1), "has no exp_inf, which is for scale_by_adamax"),
    ],
)
def test_another_optimizer_of_torch_is_told(kind, tx, told):
    optimizer, steps, gradients = torch_run(kind, {"lr": 0.1}, ("bias", "kernel"))
    steps(gradients[:2])
    with pytest.raises(ValueError, match=told):
        gradtx.from_torch_state(optimizer.state_dict(), tx, jax.tree.map(jnp.float32, problem()[0]))


def test_torch_before_its_first_step_and_its_schedule_count():
    optimizer, steps, gradients = torch_run("SGD", {"lr": 0.1, "momentum": 0.9}, ("bias", "kernel"))
    params = jax.tree.map(jnp.float32, problem()[0])
    tx = gradtx.sgd(RATE, momentum=0.9)
    assert_close(gradtx.from_torch_state(optimizer.state_dict(), tx, params), tx.init(params))
    steps(gradients[:3])
    state = gradtx.from_torch_state(optimizer.state_dict(), tx, params, count=3)
    assert gradtx.step_count(state) == 3


def test_what_does_not_fit_is_told():
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="'scale_by_adam': no state with mu, nu is left in Optax's; it has TraceState"):
        gradtx.from_optax_state(optax.sgd(0.1, momentum=0.9).init(params), gradtx.adam(0.1), params)
    with pytest.raises(ValueError, match="chain has no stage for Optax's ScaleByAdamState"):
        gradtx.from_optax_state(optax.adam(0.1).init(params), gradtx.chain(gradtx.clip(1.0)), params)
    with pytest.raises(ValueError, match=r"momentum/w' has shape \(3,\), the state that goes on \(2,"):
        gradtx.from_optax_state(optax.adam(0.1).init(params), gradtx.adam(0.1), {"w": jnp.ones(3)})
    with pytest.raises(ValueError, match="/w' has no known counterpart"):
        gradtx.from_optax_state(optax.contrib.prodigy().init(params), gradtx.adam(0.1), params)
    with pytest.raises(ValueError, match="scale_by_amsgrad cannot go on from Optax's state"):
        gradtx.from_optax_state(optax.amsgrad(0.1).init(params), gradtx.amsgrad(0.1), params)

    optimizer, steps, gradients = torch_run("Adam", {"lr": 0.1, "betas": (0.5, 0.9)}, ("bias", "kernel"))
    steps(gradients[:2])
    state_dict, params = optimizer.state_dict(), jax.tree.map(jnp.float32, problem()[0])
    with pytest.warns(UserWarning, match="adam has b1=0.9, torch's optimizer 0.5"):
        gradtx.from_torch_state(state_dict, gradtx.adam(0.1, b2=0.9), params)
    with pytest.raises(ValueError, match="'trace': torch's state has no trace; it has exp_avg, exp_avg_sq, step"):
        gradtx.from_torch_state(state_dict, gradtx.sgd(0.1, momentum=0.9), params)
    with pytest.raises(ValueError, match="sgd has no stage for torch's exp_avg"):
        gradtx.from_torch_state(state_dict, gradtx.sgd(0.1), params)
    with pytest.raises(ValueError, match="torch has 2 parameters, params 1 leaves; pass convert"):
        gradtx.from_torch_state(state_dict, gradtx.adam(0.1), {"w": jnp.ones(3)})

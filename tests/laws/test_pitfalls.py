"""Bugs that bit users of other libraries. Each row of the list is a test, over dtypes, jit and eager, all optimizers.

Numbers in comments are issues of google-deepmind/optax unless another project is named.
"""

import collections
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from cases import BY_NAME, CASES
from helpers import assert_close, assert_same_form, random_tree, run_steps

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)


# Zero, tiny, huge gradients


@EACH_CASE
def test_zero_gradients_move_nothing(case):
    """1553; 1755 and 1784 (float16: eps underflows to 0, then 0/0)."""
    params = {
        jnp.dtype(dtype).name: {"w": jnp.asarray([[1.0, -2.0], [0.5, 0.0]], dtype), "b": jnp.zeros((), dtype)}
        for dtype in DTYPES
    }
    zero, one = (jax.tree.map(full, params) for full in (jnp.zeros_like, jnp.ones_like))
    for jit in (True, False):
        new, state = run_steps(case.tx, params, [zero] * 3, jit=jit)
        chex.assert_tree_all_finite(new)
        chex.assert_tree_all_finite(state)
        if case.zero_stays:
            assert_close(new, params, rtol=0)
        chex.assert_tree_all_finite(
            run_steps(case.tx, params, [zero, one, zero], jit=jit)
        )  # and what comes after is normal


@EACH_CASE
def test_zero_gradients_without_any_epsilon(case):
    names = [name for name in ("eps", "eps_root") if name in case.tx.arguments and case.name != "adadelta"]
    tx = case.tx.replace(**dict.fromkeys(names, 0.0))
    params = jnp.ones(3)
    new, state = run_steps(tx, params, [jnp.zeros(3)] * 2, jit=False)
    chex.assert_tree_all_finite((new, state))


@EACH_CASE
def test_a_spike_is_survived(case):
    """A finite spike leaves parameters and state finite, and its step is no larger than that of any other gradient."""

    def leaves(*entries):
        return {jnp.dtype(dtype).name: jnp.asarray(entries, dtype) for dtype in DTYPES}

    params, normal, spike = leaves(1, 1, 1, 1), leaves(0.1, -0.2, 0.3, 0.4), leaves(1e25, -1e25, 1e25, 0.1)
    spike["float16"] = jnp.asarray([6e4, -6e4, 6e4, 0.1], jnp.float16)
    new, state = run_steps(case.tx, params, [normal, spike, *[normal] * 20])
    chex.assert_tree_all_finite(state)
    if case.bounded_steps:
        chex.assert_tree_all_finite(new)
        assert all(jnp.max(jnp.abs(leaf.astype(jnp.float32))) < 100 for leaf in new.values())
    else:
        assert jnp.max(jnp.abs(new["float32"])) > 1e3


def test_recovery_after_a_spike():
    """With a bounded memory the updates come back; v forgets a spike of 1e25 within 1 / (1 − b2) · ln(1e33) steps."""
    tx = gradtx.adam(0.1, b1=0.5, b2=0.5)
    update = jax.jit(tx.update)
    state = tx.init(jnp.zeros(()))
    for gradient in [1e25] + [1.0] * 150:
        updates, state = update(jnp.asarray(gradient), state)
    np.testing.assert_allclose(updates, -0.1, rtol=1e-3)


def test_infinite_gradients_are_not_hidden():
    for name in ("adam", "sgd-momentum", "adagrad"):
        new, _ = run_steps(BY_NAME[name].tx, jnp.ones(2), [jnp.array([jnp.inf, 1.0])])
        assert not jnp.isfinite(new[0])
        assert jnp.isfinite(new[1])


@EACH_DTYPE
def test_clipping_to_a_norm_of_zero(dtype):
    """1752."""
    tx = gradtx.clip_by_global_norm(0.0)
    for x in (jnp.zeros(3, dtype), jnp.ones(3, dtype)):
        assert_close(tx.update(x, tx.init(x))[0], jnp.zeros(3))


@pytest.mark.parametrize("size", [1e-30, 1e-19, 1.0, 1e19, 1e30, 5e37])
def test_global_norm_neither_overflows_nor_underflows(size):
    tree = {"a": jnp.array([3.0 * size / 4]), "b": jnp.array([size, 0.0])}
    np.testing.assert_allclose(float(gradtx.global_norm(tree)) / size, 1.25, rtol=1e-6)
    if size > 1:
        updates, _ = gradtx.clip_by_global_norm(1.0).update(tree, gradtx.EmptyState())
        np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [0.6, 0.8], rtol=1e-5)


def test_global_norm_of_many_float16_leaves():
    tree = [jnp.full((10,), 300.0, jnp.float16)] * 1000  # the norm is 3e4; the sum of squares 9e8
    np.testing.assert_allclose(gradtx.global_norm(tree), 3e4, rtol=1e-6)


def test_global_norm_of_nothing():
    assert gradtx.global_norm({}) == 0
    assert jax.jit(lambda: gradtx.global_norm([jnp.zeros(2), jnp.zeros(())]))() == 0  # folded by the compiler
    assert gradtx.global_norm({"a": None, "b": jnp.zeros((0, 5))}) == 0
    assert not jnp.isfinite(gradtx.global_norm(jnp.array([jnp.inf, 1.0])))
    assert jnp.isnan(gradtx.global_norm(jnp.array([jnp.nan, 1.0])))


@EACH_CASE
@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd], ids=["reverse", "forward"])
def test_derivative_at_zero_gradient_is_finite(case, mode):
    """882: meta-gradients through an update at g = 0."""
    params = jnp.ones(2)
    state = case.tx.init(params)
    chex.assert_tree_all_finite(mode(lambda g: case.tx.update(g, state, params)[0])(jnp.zeros(2)))


@pytest.mark.parametrize(
    "tx",
    [gradtx.clip_by_global_norm(1.0), gradtx.clip_by_block_rms(1.0), gradtx.scale_by_trust_ratio(), gradtx.clip(1.0)],
    ids=lambda tx: tx.name,
)
def test_derivative_of_norms_at_zero_is_finite(tx):
    for params in (jnp.ones(2), jnp.zeros(2)):
        chex.assert_tree_all_finite(jax.jacrev(lambda g: tx.update(g, gradtx.EmptyState(), params)[0])(jnp.zeros(2)))  # noqa: B023


def test_trust_ratio_of_a_zero_norm_is_one():
    """mlx-optimizers#36."""
    tx = gradtx.scale_by_trust_ratio()
    for update, param in ((jnp.ones(2), jnp.zeros(2)), (jnp.zeros(2), jnp.ones(2)), (jnp.zeros(2), jnp.zeros(2))):
        assert_close(tx.update(update, tx.init(param), param)[0], update)


@EACH_CASE
def test_odd_shapes(case):
    """Zero matrices, 1×N, N×1, empty leaves, scalars."""
    params = {"row": jnp.ones((1, 5)), "column": jnp.ones((5, 1)), "empty": jnp.zeros((0, 5)), "scalar": jnp.ones(())}
    params |= {"zero": jnp.zeros((3, 3)), "nothing": {}}
    gradient = jax.tree.map(lambda p: 0.5 * jnp.ones_like(p), params)
    chex.assert_tree_all_finite(run_steps(case.tx, params, [gradient] * 2))


# Precision


@EACH_DTYPE
def test_second_moment_decays(dtype):
    """1552: in bfloat16, 0.999·v rounds to v."""
    tx = gradtx.scale_by_rms(decay=0.999)
    state = tx.init(jnp.ones(2, dtype))
    _, state = tx.update(jnp.ones(2, dtype), state)
    before = state.chain.ema.ema
    zero = jnp.zeros(2, dtype)
    state = jax.lax.fori_loop(0, 3000, lambda _, s: tx.update(zero, s)[1], state)
    np.testing.assert_allclose(state.chain.ema.ema / before, 0.999**3000, rtol=1e-3)


@EACH_DTYPE
def test_ema_of_ones(dtype):
    tx = gradtx.ema(0.999, debias=False)
    ones = jnp.ones(2, dtype)
    state = jax.lax.fori_loop(0, 2000, lambda _, s: tx.update(ones, s)[1], tx.init(ones))
    np.testing.assert_allclose(state.ema, 1 - 0.999**2000, rtol=1e-3)


def test_scheduled_hyperparameters_keep_float32():
    """1414: b2 = 0.999 in bfloat16 is 1."""
    tx = gradtx.adam(1e-2, b2=gradtx.as_schedule(lambda count: 0.999))
    params = jnp.ones(3, jnp.bfloat16)
    new, state = run_steps(tx, params, [jnp.ones(3, jnp.bfloat16)] * 3)
    chex.assert_tree_all_finite((new, state))
    assert {x.dtype for x in jax.tree.leaves(gradtx.hyperparams(state))} == {jnp.dtype("float32")}
    traced = jax.jit(lambda tx: tx.update(params, tx.init(params))[0])(gradtx.adam(1e-2))
    np.testing.assert_allclose(traced, -1e-2, rtol=1e-5)


def test_updates_are_not_rounded_on_the_way():
    """OneTrainer#996: weight decay below 2⁻⁸ of a bfloat16 parameter reaches the cast, which is made once."""
    params = jnp.asarray([1.0], jnp.bfloat16)
    tx = gradtx.adamw(1e-3, weight_decay=1e-3)
    updates, _ = tx.update(jnp.zeros(1, jnp.bfloat16), tx.init(params), params)
    assert updates.dtype == jnp.float32
    np.testing.assert_allclose(updates, -1e-6, rtol=1e-5)
    total = gradtx.apply_updates(params, jnp.asarray([2.0**-8 + 2.0**-16]))  # rounds up only if not cast before
    assert total == 1 + 2.0**-7


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
def test_accumulator_dtype_is_obeyed(dtype):
    for tx in (gradtx.trace(0.9, accumulator_dtype=dtype), gradtx.sgd(0.1, 0.9, accumulator_dtype=dtype)):
        state = tx.init(jnp.ones(3))
        _, new = tx.update(jnp.ones(3), state)
        assert_same_form(new, state)
        assert jnp.dtype(dtype) in {x.dtype for x in jax.tree.leaves(new)}
    state = gradtx.adam(0.1, mu_dtype=dtype).init(jnp.ones(3))
    dtypes = sorted(str(x.dtype) for x in jax.tree.leaves(state) if x.ndim)
    assert dtypes == sorted([jnp.dtype(dtype).name, "float32"])


def test_bias_correction_has_no_cancellation():
    """1 − 0.999 in float32 keeps four digits; the corrected first average must have all of them."""
    tx = gradtx.ema(0.9999)
    updates, _ = tx.update(jnp.asarray(1.0), tx.init(jnp.asarray(0.0)))
    np.testing.assert_allclose(updates, 1.0, rtol=1e-7)


# Counts and schedules


def test_the_first_step_uses_the_schedule_at_zero():
    """415, 1744."""
    schedule = gradtx.as_schedule(lambda count: 1.0 + count)
    for tx in (
        gradtx.sgd(schedule),
        gradtx.chain(gradtx.scale_by_schedule(schedule), gradtx.scale(-1.0)),
        gradtx.masked(gradtx.sgd(schedule), True),
        gradtx.partition({"*": gradtx.sgd(schedule)}),
    ):
        state = tx.init(jnp.zeros(()))
        for t in range(3):
            updates, state = tx.update(jnp.ones(()), state)
            assert updates == -(1.0 + t)


def test_bias_correction_is_finite_at_the_first_step():
    for decay in (0.0, 0.5, 0.9999999):
        tx = gradtx.bias_correction(decay)
        chex.assert_tree_all_finite(tx.update(jnp.ones(2), tx.init(jnp.ones(2))))


def test_adafactor_with_an_offset_on_a_fresh_state():
    """1791: t = 1 − offset ≤ 0 to a negative power."""
    tx = gradtx.adafactor(1e-2, decay_offset=10)
    new, state = run_steps(tx, jnp.ones((4, 4)), [jnp.ones((4, 4))] * 3)
    chex.assert_tree_all_finite((new, state))


def test_adabound_at_the_first_step():
    """The bounds are f·(1 − 1/(γ+1)) and f·(1 + 1/γ): finite, and around the rate of Adam."""
    tx = gradtx.adabound(1e-3, final_lr=0.1, gamma=1e-3)
    _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    bounds = gradtx.hyperparams(state)
    np.testing.assert_allclose(bounds["lower"], 0.1 * (1 - 1 / 1.001), rtol=1e-4)
    np.testing.assert_allclose(bounds["upper"], 0.1 * (1 + 1000), rtol=1e-6)


# Using it


def test_variance_never_goes_negative():
    """Rounding makes E[g²] − E[g]² of a constant gradient slightly negative: NaN under the root."""
    tx = gradtx.rmsprop(0.1, centered=True, eps=1e-12)
    gradient = jnp.asarray([100.1, 3333.3, 1e6])
    new, _ = run_steps(tx, jnp.ones(3), [gradient] * 200)
    chex.assert_tree_all_finite(new)


def test_gradients_of_the_wrong_dtype_or_type():
    params = {"w": jnp.ones(2)}
    tx = gradtx.adam(0.1)
    for gradient in ({"w": np.ones(2)}, {"w": np.ones(2, np.int32)}, {"w": jnp.ones(2, jnp.float16)}):
        updates, _ = tx.update(gradient, tx.init(params), params)
        np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-5)


def test_params_may_be_numbers():
    tx = gradtx.adam(0.1)
    updates, _ = tx.update({"x": 1.0}, tx.init({"x": 3.0}), {"x": 3.0})
    np.testing.assert_allclose(gradtx.apply_updates({"x": 3.0}, updates)["x"], 2.9, rtol=1e-6)


@EACH_CASE
def test_init_needs_shapes_only(case):
    params = random_tree()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    abstract, concrete = jax.eval_shape(case.tx.init, shapes), case.tx.init(params)
    assert jax.tree.structure(abstract) == jax.tree.structure(concrete)
    for a, b in zip(jax.tree.leaves(abstract), jax.tree.leaves(concrete), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_adabound_of_a_rate_that_starts_from_zero():
    chex.assert_tree_all_finite(run_steps(gradtx.adabound(0.0), jnp.ones(2), [jnp.ones(2)] * 2))
    warm = gradtx.as_schedule(lambda count: 1e-3 * count)
    with pytest.raises(ValueError, match="the schedule starts from 0; give base_lr"):
        gradtx.adabound(warm).init(jnp.ones(2))
    chex.assert_tree_all_finite(run_steps(gradtx.adabound(warm, base_lr=1e-3), jnp.ones(2), [jnp.ones(2)] * 2))


# What hurt before


def test_the_program_of_the_global_norm_grows_with_the_leaves():
    """Not with their square, as it does when the second pass over each leaf depends on the first over all."""

    def size(norm, leaves):
        tree = {str(i): jnp.ones((4, 3)) for i in range(leaves)}
        return jax.jit(norm).lower(tree).compile().as_text().count("\n")

    def one_scale(tree):
        largest = jnp.stack([jnp.max(jnp.abs(x)) for x in tree.values()]).max()
        return sum(jnp.sum((x / largest) ** 2) for x in tree.values())

    assert size(gradtx.global_norm, 24) < 2.5 * size(gradtx.global_norm, 12)
    assert size(one_scale, 24) > 2.5 * size(one_scale, 12)


@pytest.mark.parametrize("what", ["schedule", "transformation"])
def test_nothing_of_a_trace_is_kept(what):
    """A body that computes with jnp, first used inside jit, then outside."""

    @gradtx.schedule
    def table(scale: gradtx.Real = 1.0):
        values = scale * jnp.array([0.1, 0.2, 0.3])
        return lambda count: values[jnp.minimum(count, 2)]

    @gradtx.transformation
    def weighted(scale: gradtx.Real = 1.0):
        weights = scale * jnp.arange(3.0)
        return None, lambda updates, state, params=None: (updates * weights, state)

    tx = gradtx.sgd(table()) if what == "schedule" else weighted()
    params = jnp.ones(3)
    state = jax.jit(tx.init)(params)
    jax.jit(tx.update)(params, state)
    chex.assert_tree_all_finite(tx.update(params, state)[0])
    chex.assert_tree_all_finite(jax.jit(lambda g, s: tx.update(g, s))(params, state)[0])
    array = gradtx.scale_by_lion(b1=jnp.array([0.9, 0.8, 0.7]))
    jax.jit(lambda g: array.update(g, array.init(g))[0])(params)
    chex.assert_tree_all_finite(array.update(params, array.init(params))[0])


def test_no_tracer_outlives_its_trace():
    with jax.checking_leaks():
        jax.jit(lambda tx, g: tx.update(g, tx.init(g), g)[0])(gradtx.adamw(1e-3), jnp.ones(3))


def test_strings_as_annotations():
    namespace = {"gradtx": gradtx}
    code = "from __future__ import annotations\n@gradtx.transformation\ndef mine(decay: gradtx.Decay = 0.9):\n"
    exec(code + "    return gradtx.trace(decay)", namespace)
    with pytest.raises(ValueError, match=r"mine: decay must be in \[0, 1\)"):
        namespace["mine"](7.0)


@EACH_CASE
def test_float32_stays_float32_with_x64(case):
    params = {"w": jnp.ones((3, 4), jnp.float32)}
    jax.config.update("jax_enable_x64", True)
    try:
        scheduled = gradtx.as_schedule(lambda count: 0.01)
        for tx in (case.tx, case.tx.replace(learning_rate=scheduled)):
            state = tx.init(params)
            updates, new_state = tx.update(params, state, params, value=1.0)
            assert updates["w"].dtype == jnp.float32
            assert_same_form(new_state, state)
    finally:
        jax.config.update("jax_enable_x64", False)


def test_an_array_of_decays_keeps_the_shape_of_the_state():
    for tx in (gradtx.adam(1e-3, b1=np.array([0.9, 0.8])), gradtx.adabelief(1e-3, b2=np.array([0.9, 0.8]))):
        state = tx.init(jnp.ones(2))
        assert_same_form(tx.update(jnp.ones(2), state)[1], state)


def test_a_state_may_not_change_its_shape():
    @gradtx.transformation
    def growing():
        return lambda params: jnp.zeros(()), lambda updates, state, params=None: (updates, state + updates)

    with pytest.raises(gradtx.LeafError, match=r"growing: the state changed its shape from \(\) to \(3,\)"):
        growing().update(jnp.ones(3), jnp.zeros(()))


def test_the_users_own_error_is_not_explained_away():
    @gradtx.transformation
    def buggy():
        def update(updates, state, params=None):
            raise TypeError("the user's own bug")

        return lambda params: {"m": jax.tree.map(jnp.zeros_like, params)}, update

    state = buggy().init({"a": jnp.ones(2), "b": jnp.ones(2)})
    for updates in ({"a": jnp.ones(2), "b": None}, {"a": jnp.ones(2), "b": jnp.ones(2)}):
        with pytest.raises(TypeError, match="the user's own bug"):
            buggy().update(updates, state)


def test_global_norm_of_integer_leaves():
    params = {"w": jnp.ones(2), "n": jnp.arange(3)}
    gradient = jax.grad(lambda p: jnp.sum(p["w"] ** 2), allow_int=True)(params)
    tx = gradtx.clip_by_global_norm(0.1)
    updates, _ = tx.update(gradient, tx.init(params), params)
    np.testing.assert_allclose(gradtx.global_norm(updates), 0.1, rtol=1e-6)


def test_adadelta_without_epsilon():
    tx = gradtx.scale_by_adadelta(eps=0.0)
    chex.assert_tree_all_finite(tx.update(jnp.zeros(2), tx.init(jnp.zeros(2))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.lion(1e-3, b2=0.0), r"lion: b2 must be in \(0, 1\)"),
        (lambda: gradtx.reduce_on_plateau(accumulation_size=0), "accumulation_size must be an integer, at least 1"),
        (lambda: gradtx.reduce_on_plateau(patience=2.5), "patience must be an integer, at least 0, got 2.5"),
        (lambda: gradtx.reduce_on_plateau(rtol=1.0), r"rtol must be in \[0, 1\)"),
        (
            lambda: gradtx.partition({"a": gradtx.clip(1.0), 1: gradtx.clip(1.0), "1": gradtx.clip(1.0)}).init({}),
            "same",
        ),
    ],
)
def test_numbers_at_the_border(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dict_subclasses_as_masks_and_patterns_of_both_kinds():
    params = collections.OrderedDict(a=jnp.ones(2), ba=jnp.ones(2))
    tx = gradtx.masked(gradtx.scale(2.0), collections.OrderedDict(a=True, ba=False))
    assert_close(tx.update(params, tx.init(params))[0], collections.OrderedDict(a=2 * jnp.ones(2), ba=jnp.ones(2)))
    tx = gradtx.partition({"a": gradtx.trace(0.5), re.compile("a"): gradtx.trace(0.9)})
    state = tx.init(params)
    assert set(state) == {"a", "re:a"}
    assert_close(tx.update(params, state)[0], params)
    assert gradtx.masked(gradtx.scale(2.0), {"a": True, "b": False}) == gradtx.masked(
        gradtx.scale(2.0), {"b": False, "a": True}
    )

"""The rest of Optax's core: the arguments that no case has, and where Optax's numbers are not followed, why."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from helpers import assert_close, random_tree, run_steps
from oracles import rule_named
from trajectories import check, error, follow, on_paper, problem, real

LR = 1e-2


def start():
    return real(problem()[0]), real(problem()[1])


# The arguments that no case has


@pytest.mark.parametrize("mode", ["hard", "smooth", "refined"])
def test_the_modes_of_lion(float64, mode):
    ours, theirs = (
        lib.chain(lib.scale_by_lion(0.8, 0.9, mode=mode, smooth_beta=0.5), lib.scale(-LR)) for lib in (gradtx, optax)
    )
    check(follow(ours, *start()), follow(theirs, *start()))


def test_an_unknown_mode_of_lion():
    with pytest.raises(ValueError, match="mode is one of 'hard', 'smooth', 'refined', got 'soft'"):
        gradtx.scale_by_lion(mode="soft").init(jnp.ones(2))


@pytest.mark.parametrize("mu", [True, False])
def test_amsgrad_without_corrections_is_that_of_optax(float64, mu):
    # Without a correction of v the order of maximum and correction, where the two differ, does not matter.
    arguments = {"b2": 0.99, "bias_correction_mu": mu, "bias_correction_nu": False}
    ours, theirs = (follow(lib.amsgrad(LR, **arguments), *start()) for lib in (gradtx, optax))
    check(ours, theirs)
    assert error(ours, follow(gradtx.amsgrad(LR, b2=0.99), *start())) > 1e-3


def test_the_decay_of_factored_moments_may_be_a_function(float64):
    def tx(lib, **more):
        return lib.chain(lib.scale_by_factored_rms(min_dim_size_to_factor=4, **more), lib.scale(-LR))

    def decay(i, exponent):
        return 1 - (i + 2.0) ** -exponent

    ours = follow(tx(gradtx, decay_rate_fn=decay), *start())
    check(ours, follow(tx(optax, decay_rate_fn=decay), *start()))
    assert error(ours, follow(tx(gradtx), *start())) > 1e-3


@pytest.mark.parametrize("b2", [1.0, 0.9])
def test_sm3_agrees_with_optax_on_real_vectors_and_matrices(float64, b2):
    params, grads = ({k: v for k, v in tree.items() if k != "scalar"} for tree in start())
    ours, theirs = (lib.chain(lib.scale_by_sm3(0.8, b2), lib.scale(-LR)) for lib in (gradtx, optax))
    check(follow(ours, params, grads), follow(theirs, params, grads))


def test_sm3_keeps_a_number_for_each_row_and_column():
    params = {"w": jax.ShapeDtypeStruct((200, 300), jnp.float32), "b": jax.ShapeDtypeStruct((300,), jnp.float32)}
    state = jax.eval_shape(gradtx.covering_sum().init, params)
    assert sum(x.size for x in jax.tree.leaves(state)) == 200 + 300 + 300


def test_a_covering_sum_is_never_below_the_sum():
    cover, total = gradtx.covering_sum(), gradtx.running_sum()
    params = {"m": jnp.zeros((3, 4)), "v": jnp.zeros(4), "none": None}
    states = [tx.init(params) for tx in (cover, total)]
    for seed in range(5):
        u = {"m": jnp.abs(jax.random.normal(jax.random.key(seed), (3, 4))), "v": jnp.ones(4), "none": None}
        (above, states[0]), (exact, states[1]) = (tx.update(u, s) for tx, s in zip((cover, total), states, strict=True))
        assert jnp.all(above["m"] >= exact["m"] * (1 - 1e-6))
        assert_close(above["v"], exact["v"])  # of a vector it is the sum


# Where Optax is not followed


def test_optax_takes_each_step_of_rprop_one_step_late(float64):
    params, grads = start()
    ours, theirs = (follow(lib.rprop(LR), params, grads) for lib in (gradtx, optax))
    assert all(np.all(leaf[0] == params[name]) for name, leaf in theirs.items())  # the first step does not move
    assert error(ours, theirs) > 1e-2
    check({k: v[0] for k, v in ours.items()}, {k: params[k] - LR * np.sign(grads[k][0]) for k in params})


def test_adan_decays_by_a_proximal_step_and_optax_does_not(float64):
    arguments = {"learning_rate": LR, "weight_decay": 0.5}
    ours, theirs = (follow(lib.adan(**arguments), *start()) for lib in (gradtx, optax))
    check(ours, on_paper(functools.partial(rule_named("adan"), **arguments), *start()))
    check(theirs, on_paper(functools.partial(rule_named("adan"), **arguments, decoupled=True), *start()))
    assert error(ours, theirs) > 1e-4


def polyak(*transformations):
    """50 steps on ½·|Ax|² of each, all at the points that the first one visits: rounding errors triple at each step."""
    a = jnp.diag(jnp.array([1.0, 3.0, 0.5]))
    x, states, steps = jnp.array([1.0, -2.0, 3.0]), [tx.init(jnp.zeros(3)) for tx in transformations], []
    for _ in range(50):
        value, gradient = 0.5 * jnp.sum((a @ x) ** 2), a.T @ (a @ x)
        pairs = [tx.update(gradient, s, x, value=value) for tx, s in zip(transformations, states, strict=True)]
        updates, states = zip(*pairs, strict=True)
        steps.append(updates)
        x = x + updates[0]
    return [np.stack(column) for column in zip(*steps, strict=True)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_learning_rate": 0.05},
        {"eps": 0.1},
        {"f_min": 0.01},
        {"f_min": 0.01, "variant": "sps+"},
    ],
)
def test_polyak_agrees_with_optax(float64, arguments):
    ours, theirs = polyak(gradtx.polyak_sgd(**arguments), optax.polyak_sgd(**arguments))
    assert_close(ours, theirs, rtol=1e-10)


def test_the_scaling_of_polyak_multiplies_the_step(float64):
    """The documented s·min(…)·g. Optax scales the gradient before its norm is taken: s/s²."""
    half, whole, theirs = polyak(gradtx.polyak_sgd(scaling=0.5), gradtx.polyak_sgd(), optax.polyak_sgd(scaling=0.5))
    assert_close(half, 0.5 * whole, rtol=1e-10)
    assert np.max(np.abs(half - theirs)) > 0.1


def test_polyak_moves_where_gradients_are_small_and_survives_where_they_are_not():
    tx = gradtx.polyak_sgd(max_learning_rate=1e6)
    for size in (1e-30, 1e-6, 1.0, 1e25):
        g = jnp.array([size, 0.0])
        updates, _ = tx.update(g, tx.init(g), value=size)
        np.testing.assert_allclose(updates[0] / size, -min(1 / size, 1e6), rtol=1e-5)
    zero, _ = tx.update(jnp.zeros(2), tx.init(jnp.zeros(2)), value=1.0)
    assert zero.tolist() == [0.0, 0.0]
    theirs = optax.polyak_sgd()
    stuck, _ = theirs.update(jnp.array([1e-8, 0.0]), theirs.init(jnp.zeros(2)), value=1e-8)
    assert stuck[0] == 0


def test_a_loss_below_its_minimum_sends_polyak_up_by_a_bounded_step():
    g = jnp.array([1e-20, 0.0])  # Optax's step, (f − f*)/‖g‖², would be −1e34
    for variant, expected in (("sps", 2e-20), ("sps+", 0.0)):
        tx = gradtx.polyak_sgd(max_learning_rate=2.0, f_min=1e-6, variant=variant)
        updates, _ = tx.update(g, tx.init(g), value=0.0)
        np.testing.assert_allclose(updates[0], expected, rtol=1e-6)


def test_polyak_needs_the_loss_and_a_variant():
    tx = gradtx.polyak_sgd()
    with pytest.raises(TypeError, match="scale_by_polyak needs the extra argument 'value'"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="variant is 'sps' or 'sps\\+', got 'sp'"):
        gradtx.polyak_sgd(variant="sp").init(jnp.ones(2))


# Other laws


@pytest.mark.parametrize(
    "tx",
    [gradtx.polyak_sgd(), gradtx.scale_by_distance_over_gradients(), gradtx.normalize_by_update_norm(eps=0.0)],
    ids=lambda tx: tx.name,
)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_derivatives_at_a_zero_gradient_are_finite(tx, mode):
    x = jnp.ones(3)
    chex.assert_tree_all_finite(mode(lambda g: tx.update(g, tx.init(x), x, value=1.0)[0])(jnp.zeros(3)))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e30])
def test_distance_over_gradients_of_one_leaf_is_dog(size):
    x, g = jnp.array([3.0, 4.0]), size * jnp.array([1.0, -2.0])
    pair = gradtx.scale_by_distance_over_gradients(0.1), gradtx.scale_by_dog(("heuristic", 0.1))
    states = [tx.init(x) for tx in pair]
    for t in range(3):
        (ours, one), (theirs, other) = (tx.update(g, s, x + t) for tx, s in zip(pair, states, strict=True))
        assert_close(ours, theirs)
        chex.assert_tree_all_finite(ours)
        states = [one, other]


def test_fromage_of_a_schedule_records_the_rate_itself():
    tx = gradtx.fromage(gradtx.linear_schedule(0.5, 0.25, 2))
    _, state = run_steps(tx, random_tree(), [random_tree(1)] * 3)
    assert gradtx.get_hyperparam(state, "learning_rate") == 0.25


def test_a_small_rate_of_fromage_has_no_cancellation():
    """1 − 1/√(1 + η²) of η = 1e-4 is 5e-9, which float32 would round to 0; constant, scheduled and traced."""
    x, g = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])

    def shortened(rate):
        tx = gradtx.fromage(rate)
        return tx.update(g, tx.init(x), x)[0][0]

    for shorter in (shortened(1e-4), shortened(gradtx.constant_schedule(1e-4)), jax.jit(shortened)(1e-4)):
        np.testing.assert_allclose(shorter, -5e-9, rtol=1e-6)


def test_the_rates_of_optimistic_adam():
    tx = gradtx.optimistic_adam(0.1, optimism=0.1)
    same = gradtx.optimistic_adam_v2(0.1)
    gradients = [random_tree(i) for i in range(1, 5)]
    assert_close(run_steps(tx, random_tree(), gradients)[0], run_steps(same, random_tree(), gradients)[0], 1e-5, 1e-6)
    _, state = run_steps(tx, random_tree(), gradients)
    assert gradtx.get_hyperparam(state, "learning_rate") == pytest.approx(0.1)


def test_optimistic_gradients_begin_without_a_difference():
    tx = gradtx.scale_by_optimistic_gradient(2.0, 0.5)
    state = tx.init(jnp.ones(2))
    first, state = tx.update(jnp.array([3.0, 4.0]), state)
    second, state = tx.update(jnp.array([5.0, 3.0]), state)
    assert (first.tolist(), second.tolist()) == ([6.0, 8.0], [11.0, 5.5])


def test_rprop_of_tiny_gradients_and_of_none():
    """The product of two tiny gradients would be 0; their signs still agree."""
    tx = gradtx.rprop(0.1)
    tiny = jnp.array([1e-30, -1e-30])
    state = tx.init(tiny)
    for expected in (0.1, 0.12, 0.144):
        updates, state = tx.update(tiny, state)
        np.testing.assert_allclose(updates, [-expected, expected], rtol=1e-5)
    chex.assert_tree_all_finite(tx.update(jnp.zeros(2), state))

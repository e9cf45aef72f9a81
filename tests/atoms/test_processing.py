"""What is done to updates on their way: against Optax where it has the same, and what it has not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from helpers import assert_close, assert_same_form, random_tree, run_steps
from trajectories import check, follow, problem, real

PARAMS, GRADIENT = random_tree(), random_tree(1)


def once(tx, updates, params=None, **extra_args):
    """The updates of the first step."""
    return tx.update(updates, tx.init(updates if params is None else params), params, **extra_args)[0]


# As Optax does it

PAIRS = {
    "adaptive_grad_clip": (gradtx.adaptive_grad_clip(0.1), optax.adaptive_grad_clip(0.1)),
    "adaptive_grad_clip-axis": (gradtx.adaptive_grad_clip(0.1, axis=()), optax.adaptive_grad_clip(0.1, axis=())),
    "centralize": (gradtx.centralize(), optax.centralize()),
    "flatten": (gradtx.flatten(gradtx.lamb(0.01)), optax.flatten(optax.lamb(0.01))),
    "keep_params_nonnegative": (gradtx.keep_params_nonnegative(), optax.keep_params_nonnegative()),
    "normalize_by_update_norm": (gradtx.normalize_by_update_norm(-2.0), optax.normalize_by_update_norm(-2.0)),
    "scale_by_param_block_norm": (gradtx.scale_by_param_block_norm(2.0), optax.scale_by_param_block_norm(2.0)),
    "add_noise": (gradtx.add_noise(0.1, 0.55, 3), optax.add_noise(0.1, 0.55, 3)),
    "add_noise-key": (
        gradtx.add_noise(0.1, 0.0, jax.random.key(4)),
        optax.add_noise(0.1, 0.0, jax.random.key(4)),
    ),
    "noisy_sgd": (gradtx.noisy_sgd(0.1, key=5), optax.noisy_sgd(0.1, key=5)),
    "scale_by_distance_over_gradients": (
        gradtx.scale_by_distance_over_gradients(1e-3, param_dtype="float64", global_scale=-1.0),
        optax.scale_by_distance_over_gradients(1e-3, param_dtype=np.float64, global_scale=-1.0),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_optax(float64, name):
    ours, theirs = PAIRS[name]
    params, grads = map(real, problem())
    small = jax.tree.map(lambda g: 0.01 * g, grads)
    if name == "scale_by_distance_over_gradients":  # Optax makes a vector of a scalar
        params, small = ({key: x for key, x in tree.items() if key != "scalar"} for tree in (params, small))
    check(follow(ours, params, small), follow(theirs, params, small))


# No harm done


def test_zero_nans_says_where_it_found_them():
    tx = gradtx.zero_nans()
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2), "none": None}
    state = tx.init(params)
    updates = {"a": jnp.array([jnp.nan, jnp.inf]), "b": jnp.array([1.0, 2.0]), "none": None}
    new, state = tx.update(updates, state)
    assert new["a"].tolist() == [0.0, jnp.inf]
    assert (state.found_nan["a"], state.found_nan["b"]) == (True, False)
    assert gradtx.metrics(state)["leaves_with_nan"] == 1
    _, state = tx.update(params, state)
    assert gradtx.metrics(state)["leaves_with_nan"] == 0


def test_parameters_stay_nonnegative_in_every_dtype():
    tx = gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative())
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        params = jnp.asarray([0.3, 1.7, 0.0], dtype)
        new, _ = run_steps(tx, params, [jnp.asarray([0.7, -0.1, 1.0], dtype)] * 3)
        assert jnp.all(new >= 0)
        assert new[1] > params[1]


# Units


def test_unitwise_norm_is_finite_where_squares_overflow():
    x = jnp.array([[3e30, 0.0], [4e30, 0.0]])
    np.testing.assert_allclose(gradtx.unitwise_norm(x), [[5e30, 0.0]] * 2, rtol=1e-6)
    for shape in ((), (0,), (0, 5), (5, 0), (1, 1, 4), (2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 4, 5)):
        y = jnp.ones(shape)
        assert gradtx.unitwise_norm(y).shape == shape
        if y.size:
            np.testing.assert_allclose(gradtx.unitwise_norm(y), optax.transforms.unitwise_norm(y), rtol=1e-6)
    with pytest.raises(gradtx.LeafError, match="give axis"):
        gradtx.unitwise_norm(jnp.ones((1, 2, 1, 2, 1, 2)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16], ids=["float32", "float16"])
def test_adaptive_clipping_of_zero_and_huge_updates(dtype):
    tx = gradtx.adaptive_grad_clip(0.1)
    params = jnp.ones((3, 2), dtype)
    assert_close(once(tx, jnp.zeros((3, 2), dtype), params), jnp.zeros((3, 2)))
    huge = once(tx, jnp.full((3, 2), 6e4, dtype), params)
    np.testing.assert_allclose(huge, jnp.full((3, 2), 0.1), rtol=1e-3)
    chex.assert_tree_all_finite(jax.jacrev(lambda g: once(tx, g, params))(jnp.zeros((3, 2), dtype)))


def test_an_infinite_limit_clips_nothing():
    for tx in (gradtx.clip_by_global_norm(jnp.inf), gradtx.clip_by_block_rms(jnp.inf)):
        assert_close(once(tx, GRADIENT), GRADIENT)


# By example


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.normal(size=(5, 3, 2))),
        "b": jnp.asarray(rng.normal(size=(5, 2))).at[1].set(0.0),
        "s": jnp.asarray(rng.normal(size=5)),
    }


@pytest.mark.parametrize("limit", [0.0, 1.0, 2.5, np.inf])
def test_per_example_clipping_agrees_with_optax(float64, limit):
    grads = batch()
    ours, theirs = (lib.per_example_global_norm_clip(grads, limit) for lib in (gradtx, optax))
    assert_close(ours[0], theirs[0], rtol=1e-10, atol=1e-12)
    assert ours[1] == theirs[1]
    for uniform in (True, False):
        ours, theirs = (lib.per_example_layer_norm_clip(grads, limit, uniform) for lib in (gradtx, optax))
        assert_close(ours[0], theirs[0], rtol=1e-10, atol=1e-12)
        assert [int(n) for n in jax.tree.leaves(ours[1])] == [int(n) for n in jax.tree.leaves(theirs[1])]


def test_per_example_clipping_of_zero_and_huge_gradients():
    grads = {"w": jnp.array([[0.0, 0.0], [3e30, 4e30]])}
    total, number = gradtx.per_example_global_norm_clip(grads, 1.0)
    np.testing.assert_allclose(total["w"], [0.6, 0.8], rtol=1e-6)
    assert number == 1


@pytest.mark.parametrize("grads", [{"a": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"a": jnp.ones(2), "b": jnp.ones(())}])
def test_gradients_without_an_axis_for_examples(grads):
    with pytest.raises(gradtx.LeafError, match="leaf 'b'"):
        gradtx.per_example_global_norm_clip(grads, 1.0)


# Noise


def test_noise_has_the_variance_that_is_asked_for_and_fades():
    tx = gradtx.add_noise(eta=0.04, gamma=1.0, key=1)
    zeros = jnp.zeros(20_000)
    state, update = tx.init(zeros), jax.jit(tx.update)
    for t in range(1, 5):
        noise, state = update(zeros, state)
        np.testing.assert_allclose(jnp.std(noise), 0.2 / t**0.5, rtol=0.03)
        assert abs(jnp.mean(noise)) < 0.01


def test_noise_differs_between_steps_leaves_and_keys():
    tx = gradtx.add_noise(0.1, 0.0, key=1)
    zeros = {"a": jnp.zeros(4), "b": jnp.zeros(4), "none": None}
    one, state = tx.update(zeros, tx.init(zeros))
    two, _ = tx.update(zeros, state)
    other = once(tx.replace(key=2), zeros)
    for x, y in ((one["a"], one["b"]), (one["a"], two["a"]), (one["a"], other["a"])):
        assert jnp.all(x != y)
    assert_close(once(tx, zeros), one)  # and it can be repeated


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64], ids=lambda d: jnp.dtype(d).name)
def test_noise_of_narrow_and_complex_leaves(dtype):
    noise = once(gradtx.add_noise(1.0, 0.0, key=1), jnp.zeros(10_000, dtype))
    assert noise.dtype == jnp.promote_types(dtype, jnp.float32)
    np.testing.assert_allclose(jnp.mean(jnp.abs(noise) ** 2), 1.0, rtol=0.05)


def test_keys_are_ints_or_keys():
    typed, old = jax.random.key(7), jax.random.PRNGKey(7)
    values = [gradtx.add_noise(0.1, 0.5, key) for key in (7, typed, old)]
    noise = [once(tx, jnp.zeros(3)) for tx in (*values, gradtx.add_noise(0.1, 0.5, seed=7))]
    for other in noise[1:]:
        assert_close(other, noise[0])
    assert values[1] == values[2]
    assert len({hash(tx) for tx in values[1:]}) == 1
    for wrong in ("7", 0.5, jnp.ones(3), [7]):
        with pytest.raises(TypeError, match="add_noise: key must be"):
            gradtx.add_noise(0.1, 0.5, wrong)
    with pytest.raises(TypeError, match="one of them"):
        gradtx.add_noise(0.1, 0.5, 7, seed=7).init(jnp.zeros(2))


def test_one_compile_for_many_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    noise = jax.vmap(lambda key: once(gradtx.add_noise(0.1, 0.5, key), jnp.zeros(4)))(keys)
    assert len({tuple(row) for row in noise.tolist()}) == 3


# Cautious


def test_cautious_steps_never_go_up_the_gradient():
    tx = gradtx.cautious(gradtx.adam(0.1))
    state = tx.init(PARAMS)
    for seed in range(1, 6):
        gradient = random_tree(seed)
        steps, state = tx.update(gradient, state, PARAMS)
        for u, g in zip(jax.tree.leaves(steps), jax.tree.leaves(gradient), strict=True):
            assert jnp.all(u * g <= 0)
    assert any(bool(jnp.any(u == 0)) for u in jax.tree.leaves(steps))


def test_cautious_is_the_rule_of_its_authors():
    """mask = (u·g > 0) / max(mean(u·g > 0), 1e-3), leaf by leaf, of directions u up the gradient."""
    plain, tx = gradtx.sgd(0.1, momentum=0.9), gradtx.cautious(gradtx.sgd(0.1, momentum=0.9))
    state, plain_state = tx.init(PARAMS), plain.init(PARAMS)
    for seed in range(1, 4):
        gradient = random_tree(seed)
        ours, state = tx.update(gradient, state)
        steps, plain_state = plain.update(gradient, plain_state)
        for a, u, g in zip(*map(jax.tree.leaves, (ours, steps, gradient)), strict=True):
            mask = (np.asarray(-u) * np.asarray(g) > 0).astype(np.float32)
            np.testing.assert_allclose(a, u * mask / max(mask.mean(), 1e-3), rtol=1e-6)


def test_cautious_sees_agreement_of_tiny_numbers():
    tx = gradtx.cautious(gradtx.scale(-1e-15))
    assert once(tx, jnp.array([1e-20]))[0] != 0  # their product is 0 in float32
    assert once(gradtx.cautious(gradtx.sgd(0.1)), jnp.zeros(2)).tolist() == [0.0, 0.0]


def test_cautious_leaves_momentum_alone():
    tx, plain = gradtx.cautious(gradtx.adam(0.1)), gradtx.adam(0.1)
    _, state = run_steps(tx, PARAMS, [GRADIENT] * 2)
    _, plain_state = run_steps(plain, PARAMS, [GRADIENT] * 2)
    assert_close(state, plain_state)


# Kinds of weight decay


def test_the_kinds_of_weight_decay():
    x, g = jnp.array([2.0, -2.0]), jnp.array([1.0, 1.0])

    def new(*stages):
        return (x + once(gradtx.chain(*stages), g, x)).tolist()

    rate = gradtx.scale_by_learning_rate(0.5)
    assert new(gradtx.add_decayed_weights(0.1), rate) == pytest.approx([1.4, -2.4])
    # The second element goes down, away from 0: decay would work against it.
    assert new(gradtx.add_cautious_weight_decay(0.1), rate) == pytest.approx([1.4, -2.5])
    assert new(rate, gradtx.proximal_weight_decay(0.5 * 0.1)) == pytest.approx([1.5 / 1.05, -2.5 / 1.05])
    assert new(rate, gradtx.decay_weights(0.1)) == pytest.approx([1.3, -2.3])
    assert new(gradtx.scale_by_learning_rate(0.0), gradtx.decay_weights(0.1)) == pytest.approx([1.8, -1.8])


def test_decay_that_has_the_sign_of_the_update_where_it_is_zero():
    assert once(gradtx.add_cautious_weight_decay(0.5), jnp.zeros(2), jnp.array([2.0, -4.0])).tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    "make",
    [gradtx.add_cautious_weight_decay, gradtx.decay_weights, gradtx.proximal_weight_decay],
    ids=lambda f: f.__name__,
)
def test_masks_and_schedules_of_weight_decay(make):
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    updates = once(make(0.5, mask="kernel"), params, params)
    assert jnp.all(updates["kernel"] != 1)
    assert jnp.all(updates["bias"] == 1)
    tx = make(gradtx.as_schedule(lambda count: 0.5 * count))
    state = tx.init(params)
    first, state = tx.update(params, state, params)
    assert_close(first, params)
    second, new_state = tx.update(params, state, params)
    assert jnp.all(second["bias"] != 1)
    assert_same_form(new_state, state)


# Layout


def test_flattened_adam_is_adam():
    tx = gradtx.flatten(gradtx.adam(0.1))
    flat, _ = run_steps(tx, PARAMS, [random_tree(i) for i in range(1, 4)])
    plain, _ = run_steps(gradtx.adam(0.1), PARAMS, [random_tree(i) for i in range(1, 4)])
    assert_close(flat, plain, rtol=2e-6, atol=1e-7)


def test_flatten_keeps_what_leaves_are():
    params = {"real": jnp.ones(3), "complex": jnp.ones(2, jnp.complex64), "none": None, "empty": jnp.zeros((0, 5))}
    params |= {"half": jnp.ones((), jnp.bfloat16)}
    tx = gradtx.flatten(gradtx.chain(gradtx.trace(0.9), gradtx.add_decayed_weights(0.1)))
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["none"] is None
    assert updates["empty"].shape == (0, 5)
    assert updates["complex"].dtype == jnp.complex64
    assert updates["real"].dtype == updates["half"].dtype == jnp.float32
    np.testing.assert_allclose(updates["half"], 1.1, rtol=1e-6)
    assert_same_form(state, tx.init(params))


def test_flatten_passes_extra_arguments_on():
    tx = gradtx.flatten(gradtx.polyak_sgd())
    assert once(tx, {"a": jnp.ones(2), "b": jnp.ones(2)}, value=2.0)["a"].tolist() == [-0.5, -0.5]


def test_flatten_of_many_leaves_is_grouped():
    many = [jnp.full((2,), float(i)) for i in range(100)]
    assert_close(once(gradtx.flatten(gradtx.identity()), many), many)

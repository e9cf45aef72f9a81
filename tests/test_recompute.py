"""Directions are computed again for their norms where that is cheaper than to keep them, and are the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

import gradtx
from gradtx.core.recompute import SMALL, anew, cheap, remembering

SHAPES = {"big": (150, 130), "vector": (SMALL + 3,), "small": (7, 5)}

MEASURED = {
    "lamb": gradtx.lamb(0.01, weight_decay=0.1),
    "lamb, some decay": gradtx.lamb(0.01, weight_decay=0.1, mask="big"),
    "lars": gradtx.lars(0.01, weight_decay=0.1),
    "adafactor": gradtx.adafactor(0.01),
    "adafactor with momentum": gradtx.adafactor(0.01, momentum=0.9, weight_decay_rate=0.01),
    "of a whole optimizer": gradtx.chain(gradtx.adam(0.1), gradtx.clip_by_global_norm(1e-3)),
    "of each leaf": gradtx.chain(gradtx.scale_by_belief(), gradtx.clip_by_block_norm(1.0), gradtx.scale(-0.1)),
    "twice": gradtx.chain(
        gradtx.scale_by_momentum(), gradtx.clip_by_block_rms(0.5), gradtx.scale(-0.1), gradtx.clip_by_global_norm(0.1)
    ),
    "of the momentum itself": gradtx.chain(gradtx.trace(0.9), gradtx.scale_by_trust_ratio(), gradtx.scale(-0.1)),
    "at a scheduled rate": gradtx.lamb(gradtx.cosine_decay_schedule(0.1, 10), b1=gradtx.linear_schedule(0.8, 0.9, 5)),
}


def tree(seed: int, scale: float = 1.0, dtype: Any = jnp.float32) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    leaves = {name: jax.random.normal(k, shape, dtype) for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)}
    return {name: scale * x for name, x in leaves.items()} | {"fixed": None}


def after(tx: Any, update: Any, params: Any, gradients: list[Any]) -> Any:
    state = tx.init(params)
    for g in gradients:
        updates, state = update(g, state, params)
        params = gradtx.apply_updates(params, updates)
    return params


def barriers(tx: Any, params: Any) -> int:
    return str(jax.make_jaxpr(tx.update)(params, tx.init(params), params)).count("optimization_barrier")


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-25])
@pytest.mark.parametrize("name", MEASURED)
def test_compiled_and_eager_steps_agree(name, scale):
    tx, gradients = MEASURED[name], [tree(1, scale), tree(2, -scale), tree(3, scale)]
    compiled, eager = (after(tx, update, tree(0), gradients) for update in (jax.jit(tx.update), tx.update))
    assert barriers(tx, tree(0)) > 0  # it was computed again
    assert_close(compiled, eager, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "adafactor", "of a whole optimizer"])
def test_parameters_that_are_one_array(name):
    tx, g = MEASURED[name], [tree(1)["big"], tree(2)["big"]]
    assert barriers(tx, g[0]) == barriers(tx, {"big": g[0]}) > 0
    assert_close(after(tx, jax.jit(tx.update), g[0], g), after(tx, tx.update, g[0], g), rtol=3e-5, atol=1e-6)


def test_small_leaves_are_kept():
    small = {"a": jnp.ones((8, 8)), "b": jnp.ones(8)}
    assert barriers(MEASURED["lamb"], small) == 0


def test_what_was_not_computed_is_taken_as_it_is():
    tx = gradtx.chain(gradtx.identity(), gradtx.trace(0.9), gradtx.identity(), gradtx.clip_by_global_norm(1.0))
    updates, _ = jax.jit(tx.update)(tree(1), tx.init(tree(0)))
    np.testing.assert_allclose(gradtx.global_norm(updates), 1, rtol=1e-6)


def test_what_takes_no_norms_is_traced_as_ever():
    assert barriers(gradtx.adamw(0.1), tree(0)) == 0


def test_half_precision_and_complex_leaves():
    tx = MEASURED["lamb"]
    for params in (tree(0, dtype=jnp.bfloat16), {"z": tree(0)["big"] * (1 + 2j)}):
        g = jax.tree.map(lambda x: x * 0.5, params)
        ours, theirs = (after(tx, update, params, [g, g]) for update in (jax.jit(tx.update), tx.update))
        assert_close(ours, theirs, rtol=1e-2 if "big" in params else 3e-5, atol=1e-6)


def test_infinite_gradients_are_seen():
    for name, tx in MEASURED.items():
        g = tree(1)
        g["big"] = g["big"].at[3, 4].set(jnp.inf)
        new = after(tx, jax.jit(tx.update), tree(0), [g])
        assert not np.isfinite(new["big"]).all(), name
    updates, _ = jax.jit(tx.update)(g, tx.init(g), tree(0))
    assert np.isfinite(updates["vector"]).all()


def test_many_rates_at_once_and_derivatives_by_the_rate():
    params, g = tree(0), tree(1)

    def step(rate: Any) -> Any:
        tx = gradtx.lamb(rate, weight_decay=0.1)
        updates, _ = tx.update(g, tx.init(params), params)
        return updates

    rates = jnp.array([0.1, 0.2])
    both = jax.jit(jax.vmap(step))(rates)
    assert_close(jax.tree.map(lambda x: x[1], both), step(0.2), rtol=1e-5)
    slope = jax.jit(jax.jacfwd(lambda rate: step(rate)["small"]))(0.2)
    np.testing.assert_allclose(slope, step(1.0)["small"], rtol=1e-5)

    def along_params(g: Any) -> Any:
        updates, _ = MEASURED["lars"].update(g, MEASURED["lars"].init(params), params)
        return sum(jnp.vdot(u, p) for u, p in zip(*map(jax.tree.leaves, (updates, params)), strict=True))

    assert_close(jax.jit(jax.grad(along_params))(g), jax.grad(along_params)(g), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    "inner",
    [
        gradtx.partition({"big": gradtx.adam(0.1), "*": gradtx.sgd(0.1)}),
        gradtx.accumulate(gradtx.adam(0.1), 2),
        gradtx.conditionally_transform(gradtx.adam(0.1), lambda step, *_: step > 1),
    ],
    ids=lambda tx: tx.name,
)
def test_no_tracer_is_kept(inner):
    tx = gradtx.chain(inner, gradtx.clip_by_global_norm(1))
    with jax.checking_leaks():
        jax.jit(tx.update)(tree(1), tx.init(tree(0)), tree(0))


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.adafactor(0.1, momentum=0.9, dtype_momentum="bfloat16"),
        gradtx.chain(gradtx.trace(0.9, accumulator_dtype="bfloat16"), gradtx.clip_by_global_norm(1.0)),
    ],
    ids=lambda tx: tx.name,
)
def test_the_state_keeps_its_dtypes(tx):
    state = tx.init(tree(0))
    _, new = jax.eval_shape(tx.update, tree(1), state, tree(0))
    assert jax.tree.map(jnp.result_type, new) == jax.tree.map(jnp.result_type, state)


def test_nothing_is_computed_from_itself():
    tx, params = gradtx.chain(gradtx.identity(), gradtx.clip_by_global_norm(0.1)), {"big": tree(0)["big"]}
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    with jax.disable_jit():
        updates = jax.vmap(lambda g: tx.update(g, tx.init(params), params)[0])(batch)
    np.testing.assert_allclose(jax.vmap(gradtx.global_norm)(updates), 0.1, rtol=1e-5)


def test_an_array_can_be_computed_anew():
    def f(x: Any) -> Any:
        y = cheap(lambda x: 2 * x + 1, x)
        return y, anew(y), anew(x)

    x = jnp.arange(SMALL + 1.0)
    with remembering():
        first, second, same = jax.jit(f)(x)
        assert str(jax.make_jaxpr(f)(x)).count(" mul ") == 2
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(same, x)
    assert str(jax.make_jaxpr(lambda x: f(x))(x)).count(" mul ") == 1

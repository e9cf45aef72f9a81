"""Norms, products and averages neither overflow nor divide by zero, and are exact where nothing is in danger."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.core import numerics
from gradtx.core.numerics import global_dot, increment, joined, norm, norms, ratio, rms

SCALES = [1.0, 1e30, 1e-30, 3e-23, 1e18, 0.0]


def exact(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x, complex if jnp.iscomplexobj(x) else float)))


def elsewhere(x: jax.Array) -> jax.Array:
    """The norm as a TPU computes it, on this machine."""
    return numerics._by_hypot(jnp.abs(x))[0]


def leaves(scale: float, count: int = 40) -> dict[str, Any]:
    """More than XLA puts together at once, of two shapes; one is large, one empty, one missing."""
    keys = jax.random.split(jax.random.key(0), count)
    shapes = [(3, 2) if i % 2 else (5,) for i in range(count)] + [(2**14 + 1,), (0,)]
    tree = {f"{i:02}": jax.random.normal(keys[i % count], s) for i, s in enumerate(shapes)}
    tree["07"] = tree["07"] * scale
    return tree | {"none": None, "half": jnp.full(4, 6e4, jnp.float16), "complex": jnp.array([3 + 4j, 12j])}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("f", [norm, jax.jit(norm), elsewhere], ids=["eager", "jit", "elsewhere"])
def test_the_norm_of_an_array(f, scale):
    for x in (scale * jax.random.normal(jax.random.key(1), (7, 3)), jnp.array([3.0]), jnp.zeros((0, 2))):
        np.testing.assert_allclose(float(f(x)), exact(x), rtol=1e-6)
    z = jnp.array([3 + 4j, 12j])
    np.testing.assert_allclose(float(f(z * min(scale, 1e18))), 13 * min(scale, 1e18), rtol=1e-6)


def test_norms_of_half_precision_are_in_float32():
    found = norm(jnp.full(4, 6e4, jnp.float16))
    assert (float(found), found.dtype) == (1.2e5, jnp.float32)


def test_many_elements_lose_no_digits():
    x = jnp.full(2**20, 0.1)
    for f in (jax.jit(norm), jax.jit(elsewhere)):
        np.testing.assert_allclose(float(f(x)), exact(x), rtol=2e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("jit", [True, False])
def test_global_norm(jit, scale):
    tree = jax.tree.map(lambda x: scale * x, {k: v for k, v in leaves(1.0).items() if k != "half"})
    sizes = [exact(x) for x in jax.tree.leaves(tree)]
    found = (jax.jit(gradtx.global_norm) if jit else gradtx.global_norm)(tree)
    np.testing.assert_allclose(float(found), np.sqrt(np.sum(np.square(sizes))), rtol=1e-6)


def test_nothing_has_norm_zero():
    assert float(gradtx.global_norm({})) == float(gradtx.global_norm({"a": None})) == float(rms(jnp.zeros(0))) == 0
    assert joined([]).shape == (0,)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_nan_and_infinity_are_seen(bad):
    for f in (norm, jax.jit(norm), elsewhere):
        assert not np.isfinite(f(jnp.array([bad, 1.0])))
        assert not np.isfinite(f(jnp.array([1.0, bad])))
    assert not np.isfinite(jax.jit(gradtx.global_norm)(leaves(1.0) | {"bad": jnp.array([bad, 1.0])}))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_the_derivative_is_finite_at_zero_and_right_elsewhere(wrap):
    for f, of_b in ((gradtx.global_norm, 5.0), (lambda tree: sum(map(norm, jax.tree.leaves(tree))), 5.0)):
        one = {"a": jnp.zeros(3), "b": jnp.array([3.0, 4.0])}
        batch = jax.tree.map(lambda x: jnp.stack([x, x]), one)
        slopes = wrap(jax.grad(f))(batch if wrap is jax.vmap else one)
        np.testing.assert_array_equal(slopes["a"], jnp.zeros_like(slopes["a"]))
        np.testing.assert_allclose(np.atleast_2d(slopes["b"])[0], np.array([3, 4]) / of_b, rtol=1e-6)
    second = jax.hessian(norm)(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(second, [[16 / 125, -12 / 125], [-12 / 125, 9 / 125]], rtol=1e-5)


def test_float64_leaves_keep_their_precision():
    with jax.enable_x64(True):
        for f in (norm, jax.jit(norm), elsewhere):
            np.testing.assert_allclose(float(f(jnp.array([3e-200, 4e-200]))), 5e-200, rtol=1e-14)
            np.testing.assert_allclose(float(f(jnp.array([3e-30, 4e-30], jnp.float32))), 5e-30, rtol=1e-6)
        tree = {"a": jnp.array([3e200, 4e200]), "b": jnp.ones(2, jnp.float32)}
        np.testing.assert_allclose(float(jax.jit(gradtx.global_norm)(tree)), 5e200, rtol=1e-14)


def test_a_norm_of_float32_stays_float32_without_x64():
    assert norm(jnp.ones(3)).dtype == jax.jit(norm)(jnp.ones(3)).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_a_norm_is_one_reduction_in_float64_where_that_is_there(platform):
    text = jax.jit(norm).trace(jnp.ones(3)).lower(lowering_platforms=(platform,)).as_text()
    assert ("f64" in text) == (platform != "tpu")
    assert text.count("stablehlo.reduce") == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_what_gpus_reduce_several_gpus_can_reduce(platform, dtype):
    # Over devices they add, or take the largest; a reduction of one array by anything else stops the compiler.
    with jax.enable_x64(dtype == "float64"):
        x = jnp.ones(3, dtype)
        text = jax.jit(norm).trace(x).lower(lowering_platforms=(platform,)).as_text()
    found = re.findall(r"stablehlo\.reduce\(.*applies stablehlo\.(add|maximum)", text)
    assert len(found) == text.count("stablehlo.reduce") > 0


@pytest.mark.parametrize("size", [3, numerics.SMALL + 1])
def test_norms_of_two_arrays_together(size):
    a, b = jax.random.normal(jax.random.key(0), (2, size))
    for f in (norms, jax.jit(norms), numerics._at_once, numerics._one_by_one):
        found = f(jnp.abs(a), 1e30 * jnp.abs(b))
        np.testing.assert_allclose(found, [exact(a), 1e30 * exact(b)], rtol=2e-6)
    slopes = jax.jit(jax.grad(lambda a, b: jnp.sum(jnp.stack(norms(a, b)) * jnp.array([1, 2])), (0, 1)))(a, b)
    for slope, expected in zip(slopes, (a / exact(a), 2 * b / exact(b)), strict=True):
        np.testing.assert_allclose(slope, expected, rtol=1e-4)
    text = jax.jit(norms).trace(a, b).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.reduce") == (1 if size > numerics.SMALL else 2)


def test_inner_products_over_trees():
    a = {"x": jnp.array([1.0, 2.0]), "z": jnp.array([1 + 2j]), "none": None, "h": jnp.ones(2, jnp.bfloat16)}
    b = {"x": jnp.array([3.0, -1.0]), "z": jnp.array([3 - 1j]), "none": None, "h": jnp.full(2, 2.0)}
    assert float(global_dot(a, b)) == 1 + 1 + 4
    assert np.isfinite(global_dot({"x": jnp.full(4, 1e30)}, {"x": jnp.full(4, 1e10)}))


def test_quotients_and_counts():
    assert (float(ratio(1.0, jnp.zeros(()))), float(ratio(1.0, jnp.array(4.0)))) == (0, 0.25)
    assert float(jax.grad(lambda x: ratio(x, x))(0.0)) == 0
    last = jnp.iinfo(jnp.int32).max
    assert (int(increment(jnp.array(3))), int(increment(jnp.array(last)))) == (4, last)


@pytest.mark.parametrize(
    "tx",
    [gradtx.clip_by_block_norm, gradtx.clip_by_block_rms, gradtx.scale_by_param_block_norm],
    ids=lambda constructor: constructor.__name__,
)
def test_an_array_for_the_elements_is_not_one_for_the_leaves(tx):
    limits = jnp.array([1.0, 2.0, 3.0])
    tree = {name: scale * jnp.array([3.0, 4.0, 12.0]) for name, scale in (("x", 1.0), ("y", 10.0), ("z", 100.0))}
    updates, _ = tx(limits).update(tree, tx(limits).init(tree), tree)
    for i, limit in enumerate(limits):
        expected, _ = tx(limit).update(tree, tx(limit).init(tree), tree)
        for name in tree:
            np.testing.assert_allclose(updates[name][i], expected[name][i], rtol=1e-6)

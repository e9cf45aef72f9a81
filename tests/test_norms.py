"""Norms in one pass are exact where squares fit, and as safe as the norm of one array where they do not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.core.norms import norm, of_norms

SCALES = [1.0, 1e30, 1e-30, 3e-23, 1e18, 0.0]


def norms(tree: Any) -> Any:
    return of_norms(lambda length, size: length, tree)


def exact(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x, complex if jnp.iscomplexobj(x) else float)))


def leaves(scale: float, count: int = 40) -> dict[str, Any]:
    """More than XLA puts together at once, of two shapes; one is large, one empty, one missing."""
    keys = jax.random.split(jax.random.key(0), count)
    shapes = [(3, 2) if i % 2 else (5,) for i in range(count)] + [(2**14 + 1,), (0,)]
    tree = {f"{i:02}": jax.random.normal(keys[i % count], s) for i, s in enumerate(shapes)}
    tree["07"] = tree["07"] * scale
    return tree | {"none": None, "half": jnp.full(4, 6e4, jnp.float16), "complex": jnp.array([3 + 4j, 12j])}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_norms_of_leaves(wrap, scale):
    tree = leaves(scale)
    found = wrap(norms)(tree)
    assert found["none"] is None
    for name, leaf in tree.items():
        if leaf is not None:
            np.testing.assert_allclose(float(found[name]), exact(leaf), rtol=1e-6, err_msg=name)
    roots = wrap(lambda tree: of_norms(lambda length, size: length / max(size, 1) ** 0.5, tree))(tree)
    np.testing.assert_allclose(float(roots["00"]), exact(tree["00"]) / 5**0.5, rtol=1e-6)
    assert float(roots["41"]) == 0


def test_norms_in_two_trees():
    one, other = leaves(1.0), leaves(1e30)
    found = jax.jit(lambda *trees: of_norms(lambda a, b, size: a / b + size, *trees))(one, other)
    assert found["none"] is None
    for name in ("07", "08", "40", "half"):
        expected = exact(one[name]) / exact(other[name]) + one[name].size
        np.testing.assert_allclose(float(found[name]), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_global_norm(scale):
    tree = jax.tree.map(lambda x: scale * x, {k: v for k, v in leaves(1.0).items() if k != "half"})
    sizes = [exact(x) for x in jax.tree.leaves(tree)]
    for f in (jax.jit(gradtx.global_norm), gradtx.global_norm):
        np.testing.assert_allclose(float(f(tree)), np.sqrt(np.sum(np.square(sizes))), rtol=1e-6)


def test_nothing_has_norm_zero():
    assert float(gradtx.global_norm({})) == 0
    assert norms({"a": None}) == {"a": None}


def test_nan_and_infinity_are_seen():
    for bad in (jnp.nan, jnp.inf):
        tree = leaves(1.0) | {"bad": jnp.array([bad, 1.0])}
        found = jax.jit(norms)(tree)
        assert not np.isfinite(found["bad"])
        np.testing.assert_allclose(float(found["00"]), exact(tree["00"]), rtol=1e-6)
        assert not np.isfinite(jax.jit(gradtx.global_norm)(tree))


@pytest.mark.parametrize("f", [gradtx.global_norm, lambda tree: sum(jax.tree.leaves(norms(tree)))])
def test_the_derivative_is_finite_at_zero_and_right_elsewhere(f):
    for wrap in (lambda g: g, jax.jit, jax.vmap):
        one = {"a": jnp.zeros(3), "b": jnp.array([3.0, 4.0])}
        batch = jax.tree.map(lambda x: jnp.stack([x, x]), one)
        slopes = wrap(jax.grad(f))(batch if wrap is jax.vmap else one)
        np.testing.assert_allclose(slopes["a"], jnp.zeros_like(slopes["a"]))
        np.testing.assert_allclose(np.atleast_2d(slopes["b"])[0], [0.6, 0.8], rtol=1e-6)


def test_the_norm_of_one_array_agrees():
    for scale in SCALES:
        x = scale * jax.random.normal(jax.random.key(1), (7, 3))
        np.testing.assert_allclose(float(norm(x)), exact(x), rtol=1e-6)


def test_float64_leaves_keep_their_precision():
    with jax.enable_x64(True):
        tree = {"wide": jnp.array([3e-200, 4e-200]), "narrow": jnp.array([3e-30, 4e-30], jnp.float32)}
        found = jax.jit(norms)(tree)
        np.testing.assert_allclose(float(found["wide"]), 5e-200, rtol=1e-14)
        np.testing.assert_allclose(float(found["narrow"]), 5e-30, rtol=1e-6)
        np.testing.assert_allclose(float(jax.jit(gradtx.global_norm)({"a": jnp.array([3e200, 4e200])})), 5e200)


def test_the_usual_case_reads_each_leaf_once_and_small_ones_together():
    def sums(f: Any, tree: Any) -> list[int]:
        outside_of_branches = jax.make_jaxpr(f)(tree).jaxpr.eqns
        return [e.invars[0].aval.size for e in outside_of_branches if str(e.primitive) == "reduce_sum"]

    tree = {f"{i:02}": jnp.ones((4, 4)) for i in range(20)} | {"large": jnp.ones(2**14 + 1), "other": jnp.ones(3)}
    expected = sorted([8 * 16, 8 * 16, 4 * 16, 2**14 + 1, 3])
    assert sorted(sums(norms, tree)) == expected
    assert sorted(sums(gradtx.global_norm, tree)) == sorted([*expected, 22])  # and the sum of these


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

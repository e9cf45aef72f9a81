"""Values and derivatives are Optax's where those are numbers; where they are not, ours are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import losses

RNG = np.random.default_rng(0)
Z = 3 * RNG.normal(size=(5, 4))
P = RNG.dirichlet(np.ones(4), size=5)
SOME = RNG.random((5, 4)) < 0.7
ROWS = {
    "squared_error": [((Z, P), {}), ((Z,), {})],
    "l2_loss": [((Z, P), {}), ((Z,), {})],
    "huber_loss": [((Z, P), {}), ((Z,), {"delta": 0.3})],
    "log_cosh": [((Z, P), {})],
    "cosine_similarity": [((Z, P), {}), ((Z, P), {"axis": (0, 1), "where": SOME}), ((Z, P), {"epsilon": 100.0})],
    "cosine_distance": [((Z, P), {"axis": 0})],
    "softmax_cross_entropy": [((Z, P), {}), ((Z, P), {"axis": 0, "where": SOME}), ((Z, P), {"axis": (0, 1)})],
    "safe_softmax_cross_entropy": [((Z, P), {})],
    "softmax_cross_entropy_with_integer_labels": [
        ((Z, np.array([0, 3, 1, 2, 3])), {}),
        ((Z, np.array([0, 4, 1, 2])), {"axis": 0}),
        ((Z.reshape(1, 5, 2, 2), np.array([[0, 3, 1, 2, 3]])), {"axis": (3, 2)}),
        ((Z, np.array([0, 3, 1, 2, 3])), {"where": np.array([True, False, True, True, False])}),
        ((Z, np.array([0, 3, 1, 2, 3])), {"where": SOME}),
    ],
    "sigmoid_binary_cross_entropy": [((Z, P), {}), ((Z, SOME), {})],
    "sigmoid_focal_loss": [((Z, P), {}), ((Z, SOME), {"alpha": 0.3, "gamma": 1.5})],
    "smooth_labels": [((P, 0.2), {}), ((P, 0.2), {"axis": 0}), ((P, 0.2), {"where": SOME})],
    "hinge_loss": [((Z, np.sign(P - 0.3)), {})],
    "kl_divergence": [((np.log(P[::-1]), P), {}), ((Z, P * SOME), {"axis": (0, 1), "where": SOME})],
}


@pytest.mark.parametrize("name", losses.__all__)
def test_values_and_derivatives_are_those_of_optax(name):
    ours, theirs = getattr(gradtx, name), getattr(optax, name)
    with jax.enable_x64(True):
        for (x, *rest), options in ROWS[name]:
            x, rest = jnp.asarray(x), [jnp.asarray(r) for r in rest]
            options = {k: jnp.asarray(v) if k == "where" else v for k, v in options.items()}
            values = [loss(x, *rest, **options) for loss in (ours, theirs)]
            slopes = [jax.grad(lambda x, loss=loss: loss(x, *rest, **options).sum())(x) for loss in (ours, theirs)]  # noqa: B023
            for mine, other in (values, slopes):
                assert mine.shape == other.shape
                assert mine.dtype == jnp.float64
                np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)


def test_a_masked_class_costs_nothing_and_has_no_derivative():
    logits, labels = jnp.array([2.0, 1.0, -jnp.inf]), jnp.array([1.0, 0.0, 0.0])
    assert np.isnan(optax.softmax_cross_entropy(logits, labels))  # else this test has no point any more
    expected = np.log1p(np.exp(-1.0))
    for loss in (
        lambda z: gradtx.softmax_cross_entropy(z, labels),
        lambda z: gradtx.softmax_cross_entropy_with_integer_labels(z, jnp.array(0)),
        lambda z: gradtx.kl_divergence(jax.nn.log_softmax(z), labels),
    ):
        value, slope = jax.value_and_grad(loss)(logits)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(slope, [-0.26894143, 0.26894143, 0.0], rtol=1e-5)


def test_large_values_stay_finite():
    far = jnp.array([-1e4, 1e4])
    for loss in (
        gradtx.log_cosh(far),
        gradtx.sigmoid_binary_cross_entropy(far, jnp.array([1, 0])),
        gradtx.sigmoid_focal_loss(far, jnp.array([1, 0])),
        jax.grad(lambda z: gradtx.sigmoid_focal_loss(z, jnp.array([1, 0])).sum())(far),
        jax.grad(lambda z: gradtx.log_cosh(z).sum())(far),
    ):
        assert np.isfinite(loss).all()
        assert (loss != 0).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_computed_in_float32(dtype):
    logits, labels = jnp.asarray(Z, dtype), jnp.array([0, 3, 1, 2, 3])
    expected = gradtx.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    ours = gradtx.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert ours.dtype == jnp.float32
    assert (ours == expected).all()
    assert jax.grad(lambda z: gradtx.softmax_cross_entropy_with_integer_labels(z, labels).sum())(logits).dtype == dtype


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="labels: integers are needed, not float32"):
        gradtx.softmax_cross_entropy_with_integer_labels(jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(TypeError, match="logits: floats are needed, not int32"):
        gradtx.softmax_cross_entropy(jnp.ones((2, 3), int), jnp.ones((2, 3)))
    assert np.isnan(gradtx.softmax_cross_entropy_with_integer_labels(jnp.ones(3), jnp.array(3)))


@pytest.mark.parametrize("name", ["squared_error", "l2_loss", "huber_loss", "log_cosh", "hinge_loss"])
def test_targets_of_another_shape_are_an_error(name):
    """(n,) beside (n, 1) would be n² losses."""
    loss = getattr(gradtx, name)
    for targets in (jnp.ones(8), jnp.ones((8, 2)), jnp.ones((1, 8, 1))):
        with pytest.raises(ValueError, match=r"targets of shape .* do not fit predictions of shape \(8, 1\)"):
            loss(jnp.ones((8, 1)), targets)
    assert loss(jnp.ones((8, 3)), jnp.ones(3)).shape == loss(jnp.ones((8, 3)), 1.0).shape == (8, 3)


def test_classes_where_distributions_are_expected_are_an_error():
    with pytest.raises(ValueError, match=r"labels of shape \(8,\) .* see softmax_cross_entropy_with_integer_labels"):
        gradtx.softmax_cross_entropy(jnp.ones((8, 5)), jnp.zeros(8, int))
    with pytest.raises(ValueError, match=r"labels of shape \(8,\) do not fit"):
        gradtx.sigmoid_binary_cross_entropy(jnp.ones((8, 1)), jnp.zeros(8, int))

"""The test functions are what the literature says: minima, values, start points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradtx.test_functions import TEST_FUNCTIONS, TestFunction, rosenbrock

FUNCTIONS = [pytest.param(f, id=name) for name, f in TEST_FUNCTIONS.items()]
WITH_MINIMA = [pytest.param(f, id=name) for name, f in TEST_FUNCTIONS.items() if f.minima]


@pytest.mark.parametrize("f", WITH_MINIMA)
def test_at_its_minima_the_gradient_is_zero_and_the_value_as_published(f: TestFunction):
    for minimum in f.minima:
        x = jnp.asarray(minimum, float)
        curvature = np.abs(jax.hessian(f)(x)).max()
        assert np.abs(jax.grad(f)(x)).max() <= 1e-6 * max(curvature, 1)
        np.testing.assert_allclose(f(x), f.minimum, rtol=1e-6, atol=1e-6)
        assert f.contains(minimum)


@pytest.mark.parametrize("f", WITH_MINIMA)
def test_nothing_in_the_domain_is_lower_than_the_minimum(f: TestFunction):
    assert float(f(_grid(f)).min()) >= f.minimum - 1e-6


@pytest.mark.parametrize("f", FUNCTIONS)
def test_the_start_is_in_the_domain_and_a_gradient_leads_away_from_it(f: TestFunction):
    gradient = jax.grad(f)(jnp.asarray(f.start, float))
    assert f.contains(f.start)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("f", FUNCTIONS)
def test_many_points_are_evaluated_at_once(f: TestFunction):
    grid = _grid(f)
    values = f(grid)
    assert values.shape == grid.shape[-f.dimension :]
    last = grid.reshape(f.dimension, -1)[:, -1] if f.dimension == 2 else grid[-1]
    np.testing.assert_allclose(values.ravel()[-1], f(last), rtol=1e-6)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_a_function_has_minima_or_else_a_goal_below_its_start(f: TestFunction):
    assert bool(f.minima) == (f.goal is None)
    if f.goal is not None:
        assert f.minimum < f.goal < float(f(f.start))


def test_values_from_the_literature():
    assert float(rosenbrock((-1.2, 1.0))) == pytest.approx(24.2, rel=1e-6)
    assert float(TEST_FUNCTIONS["beale"]((0.0, 0.0))) == pytest.approx(14.203125)
    assert float(TEST_FUNCTIONS["himmelblau"]((0.0, 0.0))) == pytest.approx(170)
    assert float(TEST_FUNCTIONS["rastrigin"]((0.5, 0.5))) == pytest.approx(40.5, rel=1e-6)
    assert float(TEST_FUNCTIONS["ravine"]((-5.0, -2.0))) == pytest.approx(10.5)


def test_the_other_minimum_of_x_cos_pi_x_is_a_local_one():
    f = TEST_FUNCTIONS["x_cos_pi_x"]
    assert abs(float(jax.grad(f)(-0.2738527))) < 1e-5
    assert f.minimum < float(f(-0.2738527)) < 0


def _grid(f: TestFunction) -> np.ndarray:
    axes = [np.linspace(low, high, 101) for low, high in f.domain]
    return axes[0] if f.dimension == 1 else np.stack(np.meshgrid(*axes))

"""L-BFGS: its directions against Optax and a two-loop recursion in NumPy, its minima against SciPy's, the pairs that it
must not keep, and parameters of all kinds."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.optimizers.lbfgs import _update
from helpers import assert_close, assert_same_form, random_tree

RNG = np.random.default_rng(0)
ROOT, MATRIX, TARGET = RNG.normal(size=(6, 6)), RNG.normal(size=(20, 8)), RNG.normal(size=20)
HESSIAN = ROOT @ ROOT.T + np.eye(6)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def quadratic(x):
    return 0.5 * x @ HESSIAN @ x - jnp.sum(x)


def least_squares(x):
    return 0.5 * jnp.sum((MATRIX @ x - TARGET) ** 2)


PROBLEMS = [
    (rosenbrock, np.tile([-1.2, 1.0], 3)),
    (quadratic, np.ones(6)),
    (least_squares, np.zeros(8)),
]
EACH_PROBLEM = pytest.mark.parametrize(("fn", "start"), PROBLEMS, ids=lambda x: getattr(x, "__name__", ""))


def two_loops(points, gradients, memory_size, scaled):
    """H·g at the last of the points, from all points and gradients so far: Nocedal & Wright, algorithm 7.4."""
    S, Y = np.diff(points, axis=0), np.diff(gradients, axis=0)
    pairs = [(s, y) for s, y in zip(S, Y, strict=True) if s @ y > 0][-memory_size:]
    q, α = gradients[-1], {}
    for i in reversed(range(len(pairs))):
        s, y = pairs[i]
        α[i] = s @ q / (y @ s)
        q = q - α[i] * y
    γ = 1.0
    if scaled:
        γ = pairs[-1][0] @ pairs[-1][1] / (pairs[-1][1] @ pairs[-1][1]) if pairs else min(1, 1 / np.linalg.norm(q))
    r = γ * q
    for i, (s, y) in enumerate(pairs):
        r = r + s * (α[i] - y @ r / (y @ s))
    return r


def directions(tx, points, gradients):
    """What a transformation makes of the gradients at these points."""

    def step(state, x):
        u, state = tx.update(x[1], state, x[0])
        return state, u

    points, gradients = jnp.asarray(points), jnp.asarray(gradients)
    return np.asarray(jax.jit(lambda p, g: jax.lax.scan(step, tx.init(p[0]), (p, g))[1])(points, gradients))


@functools.cache
def compiled_loop(lib, fn, steps=200, tolerance=1e-8):
    """The loop of an Optax user with `lbfgs()`: where it ends, how many steps and evaluations it takes."""
    value_and_grad, tx = lib.value_and_grad_from_state(fn), lib.lbfgs()

    def step(carry):
        params, state, count, evaluations = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=fn)
        evaluations += jnp.int32(state[-1].info.num_linesearch_steps)
        return lib.apply_updates(params, updates), state, count + 1, evaluations

    def unfinished(carry):
        _, state, count, _ = carry
        return (count == 0) | ((count < steps) & (jnp.linalg.norm(state[-1].grad) > tolerance))

    def run(x):
        x, _, count, evaluations = jax.lax.while_loop(unfinished, step, (x, tx.init(x), jnp.int32(0), jnp.int32(0)))
        return x, count, evaluations

    return jax.jit(run)


def minimized(lib, fn, start):
    """The point, the steps, the evaluations."""
    return jax.tree.map(np.asarray, compiled_loop(lib, fn)(jnp.asarray(start)))


# Directions


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "unscaled"])
@pytest.mark.parametrize("memory_size", [1, 3, 10])
@EACH_PROBLEM
def test_directions_agree_with_optax_and_with_the_two_loops(fn, start, memory_size, scaled):
    """At the same points: those that plain gradient descent visits, 15 of them; of positive curvature for Optax."""
    with jax.enable_x64(True):
        rate = 1e-3 if fn is rosenbrock else 2e-2
        points = [np.asarray(start)]
        for _ in range(15):
            points.append(points[-1] - rate * np.asarray(jax.grad(fn)(points[-1])))
        points = np.stack(points)
        gradients = np.asarray(jax.vmap(jax.grad(fn))(points))
        ours = directions(gradtx.scale_by_lbfgs(memory_size, scaled), points, gradients)
        expected = [two_loops(points[: k + 1], gradients[: k + 1], memory_size, scaled) for k in range(16)]
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())
        if np.all(np.sum(np.diff(points, axis=0) * np.diff(gradients, axis=0), axis=1) > 0):
            theirs = directions(optax.scale_by_lbfgs(memory_size, scaled), points, gradients)
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * np.abs(expected).max())
        else:
            assert fn is rosenbrock


# Pairs that are not kept


def test_a_pair_of_negative_curvature_is_not_kept():
    """Optax keeps it, and its next direction points uphill."""
    points, gradients = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0], [-1.0, 1.0]])
    tx = gradtx.scale_by_lbfgs()
    ours = directions(tx, points, gradients)[-1]
    assert ours @ gradients[-1] > 0
    np.testing.assert_allclose(ours, gradients[-1] / np.sqrt(2), rtol=1e-6)
    assert directions(optax.scale_by_lbfgs(), points, gradients)[-1] @ gradients[-1] < 0

    state = tx.init(jnp.zeros(2))
    for x, g in zip(points, gradients, strict=True):
        _, state = tx.update(jnp.asarray(g), state, jnp.asarray(x))
    assert int(state.pair_count) == 0
    assert int(state.count) == 2
    assert_close(state.weights_memory, jnp.zeros(10))


@pytest.mark.parametrize("memory_size", [1, 2, 5])
def test_skipped_pairs_between_kept_ones(memory_size):
    """Every direction of a walk with curvature of both signs points downhill, and is that of the two loops as long as
    the memory is not full."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        points, gradients = rng.normal(size=(12, 4)), rng.normal(size=(12, 4))
        kept = np.sum(np.diff(points, axis=0) * np.diff(gradients, axis=0), axis=1) > 0
        assert 2 < kept.sum() < 9
        ours = directions(gradtx.scale_by_lbfgs(memory_size), points, gradients)
        assert np.all(np.sum(ours * gradients, axis=1) > 0)
        for k in range(1, 1 + memory_size):
            np.testing.assert_allclose(ours[k], two_loops(points[: k + 1], gradients[: k + 1], memory_size, True))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 1e30, 1e-30])
def test_one_bad_gradient_does_not_stay(bad):
    tx, x = gradtx.scale_by_lbfgs(3), jnp.ones(2)
    state = tx.init(x)
    for k in range(8):
        g = jnp.full(2, bad) if k == 3 else 2 * x
        u, state = tx.update(g, state, x)
        x = x - 0.1 * jnp.where(jnp.isfinite(u) & (k != 3), u, 0.01)
    chex.assert_tree_all_finite((u, state))
    assert float(u @ x) > 0


def test_a_step_of_no_length_empties_the_memory():
    tx, x = gradtx.scale_by_lbfgs(), jnp.array([1.0, 2.0])
    g = jnp.array([1.0, 100.0]) * x
    state = tx.init(x)
    for _ in range(2):
        _, state = tx.update(g, state, x)
    _, state = tx.update(jnp.array([1.0, 100.0]) * (x + 1), state, x + 1)
    assert float(jnp.max(state.weights_memory)) > 0
    u, state = tx.update(g, state, x + 1)
    assert float(jnp.max(state.weights_memory)) == 0
    assert_close(u, g / jnp.linalg.norm(g))


# The whole path


@pytest.mark.parametrize(("fn", "start"), PROBLEMS[1:], ids=["quadratic", "least_squares"])
def test_the_path_is_that_of_optax(fn, start):
    """Where the rate 1 is good enough, as on convex problems it mostly is, every step is the same."""
    with jax.enable_x64(True):
        paths = []
        for lib in (gradtx, optax):
            tx, x, path = lib.lbfgs(), jnp.asarray(start), []
            step = gradtx.make_step(fn, tx, donate=False)
            state = step.init(x)
            for _ in range(10):
                x, state, _ = step(x, state)
                path.append(x)
            paths.append(np.stack(path))
        np.testing.assert_allclose(*paths, rtol=1e-8, atol=1e-10)


def test_no_more_steps_and_evaluations_than_optax():
    """Over ten starts of Rosenbrock's function, where the interpolation in zoom leads elsewhere, and the rest."""
    with jax.enable_x64(True):
        rng, totals = np.random.default_rng(1), np.zeros((2, 2))
        starts = [start for _, start in PROBLEMS]
        for fn, start in [*zip((rosenbrock, quadratic, least_squares), starts, strict=True)] + [
            (rosenbrock, 2 * rng.normal(size=6)) for _ in range(7)
        ]:
            for i, lib in enumerate((gradtx, optax)):
                x, steps, evaluations = minimized(lib, fn, start)
                assert np.linalg.norm(jax.grad(fn)(x)) < 1e-6
                totals[i] += steps, evaluations
        assert np.all(totals[0] <= totals[1])


@EACH_PROBLEM
def test_the_minimum_is_that_of_scipy(fn, start):
    minimize = pytest.importorskip("scipy.optimize").minimize
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(fn))
        theirs = minimize(
            lambda x: tuple(map(np.asarray, value_and_grad(x))), start, jac=True, method="L-BFGS-B", tol=1e-12
        )
        x, _, evaluations = minimized(gradtx, fn, start)
        assert float(fn(x)) <= theirs.fun + 1e-9
        np.testing.assert_allclose(x, theirs.x, atol=1e-4)
        assert evaluations <= 1.5 * theirs.nfev + 5


def test_the_loop_of_an_optax_user_runs_with_either_name():
    def train(optax):
        def fn(x):
            return jnp.sum((x - 1) ** 2 * jnp.array([1.0, 10.0]))

        solver = optax.lbfgs()
        params = jnp.array([3.0, -1.0])
        opt_state = solver.init(params)
        value_and_grad = optax.value_and_grad_from_state(fn)
        for _ in range(3):
            value, grad = value_and_grad(params, state=opt_state)
            updates, opt_state = solver.update(grad, opt_state, params, value=value, grad=grad, value_fn=fn)
            params = optax.apply_updates(params, updates)
        return params

    assert_close(train(gradtx), train(optax), rtol=1e-4)


def test_minimize_and_a_sweep():
    found = gradtx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gradtx.lbfgs(), 100, tolerance=1e-4)
    assert bool(found.converged)
    assert int(found.steps) < 45
    values = np.asarray(found.history.value[: int(found.steps) + 1])
    assert np.all(np.diff(values) <= 1e-6 * np.abs(values[:-1]))  # it never rises, but by rounding
    starts = jnp.array([[-1.2, 1.0], [0.0, 0.0], [2.0, 2.0]])
    many = jax.vmap(lambda x: gradtx.minimize(rosenbrock, x, gradtx.lbfgs(), 60).params)(starts)
    np.testing.assert_allclose(many, np.ones((3, 2)), atol=2e-3)


# States and parameters


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_any_float_dtype(dtype):
    def fn(p):
        return sum(
            jnp.sum(jnp.abs(leaf - 0.5) ** 2 * (1 + jnp.arange(leaf.size).reshape(leaf.shape)))
            for leaf in jax.tree.leaves(p)
        )

    with jax.enable_x64(dtype == "float64"):
        params = {
            "a": jnp.ones(3, dtype),
            "none": None,
            "empty": jnp.zeros((0, 2), dtype),
            "b": jnp.asarray(2.0, dtype),
        }
        params["b"] = params["b"] * (1 - 1j) if "complex" in dtype else params["b"]
        step = gradtx.make_step(fn, gradtx.lbfgs())
        state, first = step.init(params), float(fn(params))
        form = jax.eval_shape(step.init, params)
        for _ in range(8):
            params, state, _ = step(params, state)
        assert_same_form(jax.eval_shape(lambda s: s, state), form)
        assert float(fn(params)) < 1e-3 * first
        memories = state.scale_by_lbfgs.diff_params_memory
        assert memories["none"] is None
        assert memories["empty"].shape == (10, 0, 2)
        assert memories["a"].dtype == (dtype if dtype in ("float64", "complex64") else "float32")


def test_complex_parameters_are_pairs_of_real_ones():
    target = np.array([1.0 + 2.0j, -0.5j])

    def fn(z):
        return jnp.sum(jnp.array([1.0, 9.0]) * jnp.abs(z - target) ** 2 + jnp.real(z) ** 4)

    with jax.enable_x64(True):
        both = jnp.zeros((2, 2))
        step = gradtx.make_step(fn, gradtx.lbfgs())
        of_pairs = gradtx.make_step(lambda p: fn(p[0] + 1j * p[1]), gradtx.lbfgs())
        z, state, pair_state = jnp.zeros(2, complex), step.init(jnp.zeros(2, complex)), of_pairs.init(both)
        for _ in range(8):
            z, state, _ = step(z, state)
            both, pair_state, _ = of_pairs(both, pair_state)
        np.testing.assert_allclose(z, both[0] + 1j * both[1], rtol=1e-7, atol=1e-9)


def test_the_tree_does_not_matter():
    """Leaves of any shape stand for one vector."""
    tree = random_tree()
    vector, unravel = jax.flatten_util.ravel_pytree(tree)
    tx = gradtx.scale_by_lbfgs()
    state, flat_state = tx.init(tree), tx.init(vector)
    for k in range(5):
        g = random_tree(k + 1)
        u, state = tx.update(g, state, tree)
        flat_u, flat_state = tx.update(jax.flatten_util.ravel_pytree(g)[0], flat_state, vector)
        assert_close(u, unravel(flat_u), rtol=1e-4, atol=1e-5)
        tree, vector = jax.tree.map(lambda p, d: p - d, tree, unravel(flat_u)), vector - flat_u


def test_leaves_without_an_update_are_left_alone():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = gradtx.scale_by_lbfgs()
    state = tx.init(params)
    for k in range(3):
        u, new = tx.update({"a": params["a"] * (k + 1), "b": None}, state, params)
        assert u["b"] is None
        assert_same_form(new, state)
        params, state = {"a": params["a"] - 0.1, "b": params["b"]}, new
    alone = gradtx.masked(gradtx.chain(tx, gradtx.scale(-1.0)), "a")
    u, _ = alone.update(params, alone.init(params), params)
    assert_close(u["b"], params["b"])
    assert float(u["a"] @ params["a"]) < 0


def test_eager_steps_compile_once():
    tx, x = gradtx.scale_by_lbfgs(7), jnp.ones(5)
    state = tx.init(x)
    _, state = tx.update(x, state, x)
    size = _update._cache_size()
    for k in range(1, 4):
        x = x - 0.1 * k
        _, state = tx.update(x, state, x)
    assert _update._cache_size() == size
    counted = chex.assert_max_traces(rosenbrock, n=2)  # the loss with its gradient, and the search
    step = gradtx.make_step(counted, gradtx.lbfgs())
    x = jnp.array([-1.2, 1.0])
    state = step.init(x)
    for _ in range(5):
        x, state, _ = step(x, state)


def test_the_learning_rate_multiplies_the_direction():
    x, g = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
    for rate in (0.5, gradtx.linear_schedule(0.5, 0.0, 10)):
        tx = gradtx.lbfgs(rate, linesearch=None)
        u, _ = tx.update(g, tx.init(x), x)
        assert_close(u, -0.5 * g / 5)
    with pytest.raises(ValueError, match="memory_size must be an integer, at least 1, got 0"):
        gradtx.lbfgs(memory_size=0)
    assert "pair_count" not in gradtx.metrics(tx.init(x))

"""Line searches: the conditions that a rate must fulfil, measured at every step; Optax's path where there is one path;
one trace; what happens where the loss is not finite, not all parameters are seen, or an argument is missing."""

import functools
import gc
import weakref
from unittest.mock import Mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from helpers import assert_close, assert_same_form

BACKTRACKING = gradtx.chain(
    gradtx.sgd(1.0), gradtx.scale_by_backtracking_linesearch(30, decrease_factor=0.5, store_grad=True)
)
ZOOM = gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_zoom_linesearch(30))
EACH_SEARCH = pytest.mark.parametrize("tx", [BACKTRACKING, ZOOM], ids=["backtracking", "zoom"])

RNG = np.random.default_rng(0)
MATRIX, TARGET = RNG.normal(size=(12, 5)), RNG.normal(size=12)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def least_squares(x):
    return 0.5 * jnp.sum((MATRIX @ x - TARGET) ** 2)


def quadratic(x):
    return 0.5 * jnp.sum(jnp.logspace(0, 2, x.size) * x**2)


def logistic(x):
    return jnp.sum(jnp.logaddexp(0, -(MATRIX @ x) * np.sign(TARGET))) + 0.05 * jnp.sum(x**2)


def flat(x):
    return jnp.sum(x**4)


PROBLEMS = [
    (rosenbrock, np.array([-1.2, 1.0])),
    (least_squares, np.zeros(5)),
    (quadratic, np.ones(4)),
    (logistic, np.zeros(5)),
    (flat, np.full(3, 2.0)),
]
EACH_PROBLEM = pytest.mark.parametrize(("fn", "start"), PROBLEMS, ids=lambda x: getattr(x, "__name__", ""))


def search_in(state):
    """The state of the search, of ours or of Optax's."""
    return state[-1]


def take_step(lib, tx, fn):
    """One compiled step with what the state knows, as a user of Optax writes it."""
    value_and_grad = lib.value_and_grad_from_state(fn)

    @jax.jit
    def step(params, state):
        value, grad = value_and_grad(params, state=state)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=fn)
        return lib.apply_updates(params, updates), state, value, grad

    return step


def follow(lib, tx, fn, start, steps=25):
    """Parameters and states before each step, and the state after the last."""
    params, state = jnp.asarray(start), tx.init(jnp.asarray(start))
    step, path = take_step(lib, tx, fn), []
    for _ in range(steps):
        new, state, _, grad = step(params, state)
        path.append((params, new, search_in(state)))
        params = new
        if float(jnp.linalg.norm(grad)) < 1e-7:
            break
    return path


def step_once(tx, fn, params, **extra_args):
    """The updates and the state of a first step."""
    value, grad = jax.value_and_grad(fn)(params, **extra_args)
    grad = jax.tree.map(jnp.conj, grad)
    return tx.update(grad, tx.init(params), params, value=value, grad=grad, value_fn=fn, **extra_args)


# Against Optax


@pytest.mark.parametrize("arguments", [{}, {"decrease_factor": 0.5, "slope_rtol": 0.3}, {"increase_factor": np.inf}])
@EACH_PROBLEM
def test_backtracking_follows_optax(fn, start, arguments):
    with jax.enable_x64(True):
        arguments = {"max_backtracking_steps": 60, "store_grad": True} | arguments
        ours, theirs = (
            follow(lib, lib.chain(lib.sgd(1.0), lib.scale_by_backtracking_linesearch(**arguments)), fn, start, 15)
            for lib in (gradtx, optax)
        )
        assert len(ours) == len(theirs)
        for (x, _, state), (their_x, _, their_state) in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, their_x, rtol=1e-10, atol=1e-12)
            assert int(state.info.num_linesearch_steps) == int(their_state.info.num_linesearch_steps)
            for field in ("learning_rate", "value", "grad"):
                np.testing.assert_allclose(
                    getattr(state, field), getattr(their_state, field), rtol=1e-9, atol=1e-12, err_msg=field
                )


@pytest.mark.parametrize(("fn", "start"), PROBLEMS[1:], ids=lambda x: getattr(x, "__name__", ""))
def test_zoom_needs_no_more_evaluations_than_optax(fn, start):
    """Interpolation differs, so the paths part where the first rate is not good enough."""
    with jax.enable_x64(True):
        ours, theirs = (
            follow(lib, lib.chain(lib.sgd(1.0), lib.scale_by_zoom_linesearch(30)), fn, start, 40)
            for lib in (gradtx, optax)
        )
        evaluations = [sum(int(s.info.num_linesearch_steps) for _, _, s in path) for path in (ours, theirs)]
        values = [float(path[-1][2].value) for path in (ours, theirs)]
        assert evaluations[0] <= evaluations[1]
        assert values[0] <= values[1] * (1 + 1e-6) + 1e-12


@EACH_PROBLEM
@pytest.mark.parametrize("make", [lambda: ZOOM, gradtx.lbfgs], ids=["sgd", "lbfgs"])
def test_every_rate_of_zoom_fulfils_the_strong_wolfe_conditions(make, fn, start):
    """Computed again in float64 from the points alone, but for steps too small to be seen in the values."""
    with jax.enable_x64(True):
        gradient, checked = jax.grad(fn), 0
        for old, new, state in follow(gradtx, make(), fn, start, 30):
            before, after = float(fn(old)), float(fn(new))
            step = np.asarray(new - old)
            slope, new_slope = float(gradient(old) @ step), float(gradient(new) @ step)
            assert slope < 0
            assert not bool(state.info.failed)
            assert abs(new_slope) <= 0.9 * abs(slope) * (1 + 1e-9)
            if abs(before - after) > 1e-9 * abs(before):
                assert after <= before + 1e-4 * slope + 1e-12 * abs(before)
                checked += 1
            np.testing.assert_allclose(state.value, after, rtol=1e-9)
            np.testing.assert_allclose(state.grad, gradient(new), rtol=1e-6, atol=1e-9)
        assert checked >= 3


@EACH_PROBLEM
def test_every_rate_of_backtracking_fulfils_armijos_condition(fn, start):
    with jax.enable_x64(True):
        for old, new, state in follow(gradtx, BACKTRACKING, fn, start):
            slope = float(jax.grad(fn)(old) @ (new - old))
            assert float(fn(new)) <= float(fn(old)) + 1e-4 * slope + 1e-12
            assert 0 < float(state.learning_rate) <= 1


# What the state is for


@pytest.mark.parametrize("lib", [gradtx, optax], ids=["gradtx", "optax"])
@EACH_SEARCH
def test_the_value_and_the_gradient_of_the_search_are_used_again(tx, lib):
    if lib is optax:
        tx = optax.lbfgs()
    params = jnp.array([1.0, 2.0])
    state = tx.init(params)
    value, grad = jax.value_and_grad(quadratic)(params)
    assert_close(gradtx.value_and_grad_from_state(quadratic)(params, state=state), (value, grad))  # none yet
    updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=quadratic)
    params = gradtx.apply_updates(params, updates)
    expected = jax.value_and_grad(quadratic)(params)
    assert_close(gradtx.value_and_grad_from_state(lambda x: 0 * x[0])(params, state=state), expected, 1e-5, 1e-4)


@EACH_SEARCH
def test_what_is_not_finite_is_computed_again(tx):
    params = jnp.array([1.0, 2.0])
    _, state = step_once(tx, quadratic, params)
    name = tx.transformations[1].name
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        bad = state._replace(**{name: search_in(state)._replace(value=jnp.float32(value))})
        ours = gradtx.value_and_grad_from_state(quadratic)(params, state=bad)
        assert_close(ours, jax.value_and_grad(quadratic)(params))


def test_a_state_without_one_search_is_refused():
    value_and_grad, x = gradtx.value_and_grad_from_state(quadratic), jnp.ones(2)
    with pytest.raises(ValueError, match="should have one line search in it, there are none"):
        value_and_grad(x, state=gradtx.adam(0.1).init(x))
    two = gradtx.chain(gradtx.scale_by_zoom_linesearch(3), gradtx.scale_by_backtracking_linesearch(3))
    expected = "there are several: scale_by_zoom_linesearch, scale_by_backtracking_linesearch"
    with pytest.raises(ValueError, match=expected):
        value_and_grad(x, state=two.init(x))
    with pytest.raises(ValueError, match=r"scale_by_backtracking_linesearch keeps no gradient.* store_grad=True"):
        value_and_grad(x, state=gradtx.chain(gradtx.scale_by_backtracking_linesearch(3)).init(x))


def test_the_loss_may_take_further_arguments():
    def fn(x, scale, target=0.0):
        return scale * jnp.sum((x - target) ** 2)

    for tx in (BACKTRACKING, ZOOM):
        step = functools.partial(step_once, tx, fn, jnp.ones(2))
        u, state = step(scale=2.0, target=3.0)
        assert float(search_in(state).value) == pytest.approx(float(fn(1 + u, 2.0, 3.0)), rel=1e-5, abs=1e-6)
        ours = gradtx.value_and_grad_from_state(fn)(1 + u, 2.0, target=3.0, state=state)
        assert_close(ours, (search_in(state).value, search_in(state).grad))
        with pytest.raises(TypeError, match="linesearch: value_fn takes no argument 'sale'; it takes x, scale, target"):
            tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2), value=0.0, grad=jnp.ones(2), value_fn=fn, sale=1)


def test_a_state_can_be_asked_as_optax_users_do():
    x = jnp.array([1.0, 2.0])
    _, state = step_once(gradtx.lbfgs(), quadratic, x)
    assert int(optax.tree.get(state, "count")) == 1
    for field in ("value", "grad", "learning_rate"):
        assert_close(optax.tree.get(state, field), getattr(search_in(state), field))


# Traced once


@EACH_SEARCH
def test_an_eager_loop_traces_the_loss_once(tx):
    fn = Mock(wraps=quadratic)
    value_and_grad, x = gradtx.value_and_grad_from_state(fn), jnp.ones(3)
    state = tx.init(x)
    for k in range(4):
        value, grad = value_and_grad(x, state=state)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=fn)
        x = gradtx.apply_updates(x, updates)
        if k == 0:
            first = fn.call_count
    assert fn.call_count == first == 2  # for the first gradient, for the search
    assert float(quadratic(x)) < float(quadratic(jnp.ones(3)))


@EACH_SEARCH
def test_a_compiled_loop_traces_the_loss_once_for_the_search(tx):
    fn = Mock(wraps=quadratic)
    step = take_step(gradtx, tx, fn)
    x, state = jnp.ones(3), tx.init(jnp.ones(3))
    for _ in range(3):
        x, state, _, _ = step(x, state)
    assert fn.call_count == 2
    jaxpr = str(jax.make_jaxpr(lambda g, s, x: tx.update(g, s, x, value=1.0, grad=g, value_fn=quadratic))(x, state, x))
    assert jaxpr.count("while[") == 1


def test_a_variable_of_the_loss_may_be_bound_anew():
    """What is compiled belongs to what the names in the function stood for."""
    target, traces = jnp.zeros(2), []

    def fn(x):
        traces.append(x)
        return jnp.sum((x - target) ** 2)

    tx, x = ZOOM, jnp.full(2, 5.0)
    for target in (jnp.zeros(2), jnp.ones(2), jnp.full(2, 2.0)):
        u, state = step_once(tx, fn, x)
        assert_close(x + u, target, rtol=0, atol=1e-5)
        value, count = fn(x), len(traces)
        tx.update(u, tx.init(x), x, value=value, grad=-u, value_fn=fn)
        assert len(traces) == count
        assert float(search_in(state).value) < 1e-8


def test_what_is_compiled_is_forgotten_with_the_loss():
    def make():
        def fn(x):
            return jnp.sum(x**2)

        step_once(ZOOM, fn, jnp.ones(2))
        return weakref.ref(fn)

    gone = make()
    gc.collect()
    assert gone() is None


class Model:
    """Callables of all kinds: a method, an object that cannot be hashed."""

    __hash__ = None

    def __call__(self, x):
        return quadratic(x)

    def loss(self, x):
        return quadratic(x)


@EACH_SEARCH
def test_any_callable_is_a_loss(tx):
    x = jnp.ones(3)
    expected, _ = step_once(tx, quadratic, x)
    for fn in (Model(), Model().loss, jax.jit(quadratic), functools.partial(quadratic)):
        assert_close(step_once(tx, fn, x)[0], expected)


# Where a rate is too large, and where there is none


def barrier(x):
    """NaN beyond 1 and infinite at 1."""
    return -jnp.sum(jnp.log(1 - x)) - 3 * jnp.sum(x)


def wall(x):
    return jnp.where(jnp.max(x) > 0.5, jnp.inf, jnp.sum((x - 3) ** 2))


@pytest.mark.parametrize("fn", [barrier, wall])
@EACH_SEARCH
def test_where_the_loss_is_not_finite_the_rate_is_too_large(tx, fn):
    x = jnp.zeros(2)
    scaled = gradtx.chain(gradtx.scale(8.0), *tx.transformations)
    updates, state = step_once(scaled, fn, x)
    search = search_in(state)
    chex.assert_tree_all_finite((updates, search.value, search.grad, search.learning_rate))
    assert float(fn(x + updates)) < float(fn(x))
    assert int(search.info.num_linesearch_steps) > 1
    assert not bool(search.info.failed)


@EACH_SEARCH
def test_a_search_that_finds_nothing_stays_where_it_is(tx):
    """Its value and gradient are those of the point where it is; and the state says so."""
    uphill = gradtx.chain(gradtx.scale(-1.0), *tx.transformations)
    updates, state = step_once(uphill, quadratic, jnp.ones(3))
    search = search_in(state)
    assert_close(updates, jnp.zeros(3))
    assert_close(search.value, quadratic(jnp.ones(3)))
    assert bool(gradtx.metrics(state)["linesearch_failed"])
    assert float(search.info.decrease_error) > 0
    nowhere, state = step_once(tx, lambda x: jnp.nan * jnp.sum(x), jnp.ones(3))
    assert_close(nowhere, jnp.zeros(3))
    assert bool(search_in(state).info.failed)


@EACH_SEARCH
def test_at_a_minimum_nothing_fails(tx):
    updates, state = step_once(tx, quadratic, jnp.zeros(3))
    assert_close(updates, jnp.zeros(3))
    assert not bool(search_in(state).info.failed)
    chex.assert_tree_all_finite(search_in(state).learning_rate)


def test_backtracking_goes_on_where_it_gave_up():
    tx = gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_backtracking_linesearch(2, decrease_factor=0.1))
    step = gradtx.make_step(lambda x: 1e4 * jnp.sum(x**2), tx, donate=False)
    x = jnp.ones(1)
    state = step.init(x)
    failed = []
    for _ in range(6):
        x, state, _ = step(x, state)
        failed.append(bool(gradtx.metrics(state)["linesearch_failed"]))
    assert failed[0]
    assert not failed[-1]
    assert float(x[0]) < 1


def test_metrics_tell_of_the_search():
    for tx in (BACKTRACKING, ZOOM):
        _, state = step_once(tx, quadratic, jnp.ones(3))
        info = search_in(state).info
        assert gradtx.metrics(state) == {
            "linesearch_rate": search_in(state).learning_rate,
            "linesearch_steps": info.num_linesearch_steps,
            "linesearch_failed": info.failed,
        }
        assert not gradtx.metrics(tx.init(jnp.ones(3)))["linesearch_failed"]


@EACH_SEARCH
def test_a_verbose_search_says_when_it_fails(tx, capfd):
    loud = gradtx.chain(gradtx.scale(-1.0), tx.replace(verbose=True))
    step_once(loud, quadratic, jnp.ones(3))
    jax.effects_barrier()
    assert f"{tx.transformations[1].name}: after" in capfd.readouterr().out
    step_once(tx.replace(verbose=True), quadratic, jnp.ones(3))
    jax.effects_barrier()
    assert capfd.readouterr().out == ""


# Parameters of all kinds


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
@EACH_SEARCH
def test_any_float_dtype(tx, dtype):
    def fn(p):
        return sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(p))

    with jax.enable_x64(dtype == "float64"):
        params = {
            "a": jnp.ones(3, dtype),
            "none": None,
            "empty": jnp.zeros((0, 2), dtype),
            "b": jnp.asarray(2.0, dtype),
        }
        params["b"] = params["b"] * (1 - 1j) if "complex" in dtype else params["b"]
        state = tx.init(params)
        updates, new_state = step_once(tx, fn, params)
        assert_same_form(new_state, state)
        new = gradtx.apply_updates(params, updates)
        assert_same_form(new, params)
        assert float(fn(new)) < 0.5 * float(fn(params))
        assert search_in(state).value.dtype == ("float64" if dtype == "float64" else "float32")
        assert {x.dtype.name for x in jax.tree.leaves(search_in(state).grad)} == {
            dtype if dtype in ("float64", "complex64") else "float32"
        }
        computed = gradtx.value_and_grad_from_state(fn)(new, state=new_state)
        expected = jax.value_and_grad(fn)(new)
        assert_close(computed, expected, rtol=1e-2 if "16" in dtype else 1e-5, atol=1e-2 if "16" in dtype else 1e-6)


@EACH_SEARCH
def test_in_scan_and_while_loop_and_vmap_and_donated(tx):
    starts = jnp.array([[1.0, 1.0], [2.0, -1.0], [0.0, 0.0]])
    step = take_step(gradtx, tx, quadratic)

    def run(x):
        return jax.lax.scan(lambda c, _: (step(*c)[:2], None), (x, tx.init(x)), length=5)[0]

    each = [run(x)[0] for x in starts]
    x, state = jax.vmap(run)(starts)
    assert_close(x, jnp.stack(each), rtol=1e-4, atol=1e-6)
    assert search_in(state).learning_rate.shape == (3,)

    def unfinished(carry):
        return jnp.linalg.norm(jax.grad(quadratic)(carry[0])) > 1e-3

    found, _ = jax.jit(lambda x: jax.lax.while_loop(unfinished, lambda c: step(*c)[:2], (x, tx.init(x))))(starts[0])
    assert_close(found, jnp.zeros(2), rtol=0, atol=1e-3)

    donating = gradtx.make_step(quadratic, tx)
    x = jnp.copy(starts[0])
    state = donating.init(x)
    for _ in range(5):
        old = x, state
        x, state, _ = donating(x, state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert_close(x, each[0], rtol=1e-4, atol=1e-6)


@EACH_SEARCH
def test_rates_go_through_jit_and_vmap(tx):
    """One compile for any numbers of the search, schedules included."""
    traces = []
    step = jax.jit(lambda tx, x: traces.append(1) or step_once(tx, quadratic, x)[0])
    for c in (1e-4, 1e-2):
        assert_close(step(tx.replace(slope_rtol=c), jnp.ones(3)), step_once(tx, quadratic, jnp.ones(3))[0], 1e-5)
    assert len(traces) == 1
    scheduled = tx.replace(slope_rtol=gradtx.linear_schedule(1e-4, 1e-2, 5))
    assert_close(step_once(scheduled, quadratic, jnp.ones(3))[0], step_once(tx, quadratic, jnp.ones(3))[0], 1e-5)


# Parts of the parameters


def of_two(p):
    return jnp.sum((p["a"] - 1) ** 2) + jnp.sum((p["b"] + 2) ** 2)


@EACH_SEARCH
def test_a_search_that_does_not_see_all_parameters_says_so(tx):
    params = {"a": jnp.zeros(2), "b": jnp.zeros(3)}
    expected = r"linesearch: leaf 'b' is hidden from the line search.*chain\(masked\(…\), scale_by_"
    for hiding in (gradtx.masked(tx, "a"), gradtx.partition({"a": tx, "b": gradtx.sgd(0.1)})):
        with pytest.raises(gradtx.LeafError, match=expected):
            step_once(hiding, of_two, params)


@EACH_SEARCH
def test_a_search_after_what_hides_leaves(tx):
    params, search = {"a": jnp.zeros(2), "b": jnp.zeros(3)}, tx.transformations[1]
    parts = gradtx.partition({"a": gradtx.sgd(1.0), "b": gradtx.set_to_zero()})
    updates, state = step_once(gradtx.chain(parts, search), of_two, params)
    assert_close(updates["b"], jnp.zeros(3))
    assert_close(updates["a"], jnp.ones(2), 1e-5)
    assert float(state[-1].value) == pytest.approx(12.0)


# Errors


@pytest.mark.parametrize("missing", ["value", "grad", "value_fn"])
@pytest.mark.parametrize("tx", [BACKTRACKING, ZOOM, gradtx.lbfgs()], ids=["backtracking", "zoom", "lbfgs"])
def test_a_missing_argument_is_named_with_how_to_pass_it(tx, missing):
    x = jnp.ones(2)
    given = {"value": 1.0, "grad": x, "value_fn": quadratic}
    del given[missing]
    name = tx.formula.transformations[-1].name
    expected = rf"{name} needs the extra argument '{missing}': update\(updates, state, params, {missing}=…\)"
    with pytest.raises(TypeError, match=expected):
        tx.update(x, tx.init(x), x, **given)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(x, tx.init(x), value=1.0, grad=x, value_fn=quadratic)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"initial_guess_strategy is 'one' or 'keep', got 'two'"):
        gradtx.scale_by_zoom_linesearch(3, initial_guess_strategy="two").init(jnp.ones(2))
    with pytest.raises(ValueError, match=r"increase_factor must be greater than 1, got 1\.0"):
        gradtx.scale_by_zoom_linesearch(3, increase_factor=1.0)
    with pytest.raises(ValueError, match="max_linesearch_steps must be an integer, at least 1, got 0"):
        gradtx.scale_by_zoom_linesearch(0)
    for tx in (BACKTRACKING, ZOOM):
        with pytest.raises(TypeError, match=r"value_fn must return one real number, got float32\[3\]"):
            tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3), value=1.0, grad=jnp.ones(3), value_fn=lambda x: x)
        x = {"a": jnp.ones(3)}
        with pytest.raises(gradtx.LeafError, match="linesearch"):
            tx.update(x, tx.init(x), x, value=1.0, grad={"b": jnp.ones(3)}, value_fn=quadratic)


def test_a_search_of_optax_stands_in_a_chain():
    tx = gradtx.lbfgs(linesearch=optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one"))
    found = gradtx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), tx, 60, tolerance=1e-3)
    assert bool(found.converged)


def test_describe_shows_the_search():
    shown = str(gradtx.describe(gradtx.lbfgs(), {"w": jnp.ones((4, 3))}))
    assert "scale_by_zoom_linesearch" in shown
    assert "scale_by_lbfgs" in shown

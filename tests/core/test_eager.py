"""A step that is called without `jit` runs as one compiled program, and own Python runs line by line."""

from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.core import transformation as module
from helpers import assert_close, random_tree, run_steps

PARAMS, GRADIENT = random_tree(), random_tree(1)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """How often a step is traced."""
    counter = Mock(wraps=module.run)
    monkeypatch.setattr(module, "run", counter)
    jax.clear_caches()
    return counter


def step(tx: Any, state: Any = None, params: Any = PARAMS, **extra_args: Any) -> Any:
    return tx.update(GRADIENT, tx.init(params) if state is None else state, params, **extra_args)


def test_one_program_for_all_numbers(traces):
    made = [gradtx.adam(0.1), gradtx.adam(0.3), gradtx.adam(0.1, b2=0.9), gradtx.adam(0.2).replace(eps=1e-3)]
    for tx in made:
        _, state = step(tx)
        step(tx, state)
    assert traces.call_count == 1
    updates = [step(tx)[0]["layer"]["bias"][0] for tx in made[:2]]
    np.testing.assert_allclose(updates[1], 3 * updates[0], rtol=1e-6)
    gradtx.adam(0.1).update({"a": jnp.ones(2)}, gradtx.adam(0.1).init({"a": jnp.ones(2)}))
    assert traces.call_count == 2  # another tree
    step(gradtx.nadam(0.1))
    assert traces.call_count == 3  # another structure
    step(gradtx.adam(gradtx.linear_schedule(0.1, 0.2, 5)))
    step(gradtx.adam(gradtx.linear_schedule(0.3, 0.4, 5)))
    assert traces.call_count == 4


def test_a_schedule_is_not_frozen(traces):
    tx = gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 2))
    state, seen = tx.init(jnp.ones(())), []
    for _ in range(3):
        updates, state = tx.update(jnp.ones(()), state)
        seen.append(float(updates))
    assert seen == [-1.0, -0.5, 0.0]
    assert traces.call_count == 1


def test_own_python_sees_numbers():
    seen: list[float] = []

    @gradtx.transformation
    def halve_if_large(limit: gradtx.Positive):
        def update(updates: Any, state: Any, params: Any = None) -> Any:
            largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(updates))
            seen.append(largest)
            return jax.tree.map(lambda x: x / 2 if largest > limit else x, updates), state

        return None, update

    tx = gradtx.chain(gradtx.scale(2.0), halve_if_large(1.0), gradtx.scale(3.0))
    updates, _ = tx.update({"a": jnp.array([5.0])}, tx.init({"a": jnp.zeros(1)}))
    assert (seen, updates["a"].tolist()) == ([10.0], [15.0])

    @gradtx.transformation
    def careful(learning_rate: gradtx.Positive):
        return gradtx.sgd(learning_rate) if learning_rate < 1 else gradtx.sign_sgd(learning_rate)

    assert careful(0.5).update(jnp.array(4.0), careful(0.5).init(jnp.zeros(())))[0] == -2
    assert careful(2.0).update(jnp.array(4.0), careful(2.0).init(jnp.zeros(())))[0] == -2

    @gradtx.transformation
    def printed():
        return gradtx.leafwise(emit=lambda u: u * float(jnp.sum(u)))

    assert printed().update(jnp.array(4.0), printed().init(jnp.zeros(())))[0] == 16


def test_functions_that_change_are_asked_each_time():
    frozen = {"kernel"}
    tx = gradtx.freeze(lambda path, leaf: path.split("/")[-1] in frozen)
    params = {"kernel": jnp.ones(()), "bias": jnp.ones(())}
    assert jax.tree.map(float, tx.update(params, tx.init(params), params)[0]) == {"kernel": 0, "bias": 1}
    frozen.add("bias")
    assert jax.tree.map(float, tx.update(params, tx.init(params), params)[0]) == {"kernel": 0, "bias": 0}

    rates = [1.0]
    tx = gradtx.sgd(lambda count: rates[0])
    state = tx.init(jnp.ones(()))
    first, state = tx.update(jnp.ones(()), state)
    rates[0] = 3.0
    assert (float(first), float(tx.update(jnp.ones(()), state)[0])) == (-1, -3)


def test_another_librarys_part_runs_as_it_is(traces):
    optax = pytest.importorskip("optax")
    tx = gradtx.chain(optax.scale(2.0), gradtx.scale(3.0))
    for _ in range(2):
        assert float(tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0]) == 6
    assert traces.call_count == 2  # called twice, not traced


@pytest.mark.parametrize("number", [2.0, np.float32(2.0), np.asarray(2.0), jnp.asarray(2.0)])
def test_numbers_and_arrays_of_any_kind(number):
    tx = gradtx.adam(0.1)
    ours, _ = tx.update(number, tx.init(number), number)
    theirs, _ = jax.jit(tx.update)(jnp.asarray(2.0), tx.init(jnp.asarray(2.0)), jnp.asarray(2.0))
    assert_close(jnp.asarray(ours), theirs)


def test_precision_may_be_switched_between_two_calls():
    tx, x = gradtx.adam(0.1), np.array([1.0, 2.0])
    narrow, _ = tx.update(jnp.asarray(x), tx.init(jnp.asarray(x)))
    with jax.enable_x64(True):
        wide, state = tx.update(jnp.asarray(x), tx.init(jnp.asarray(x)))
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype("float64"), jnp.dtype("int32")}
    assert (narrow.dtype, wide.dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_allclose(wide, [-0.1, -0.1], rtol=1e-7)
    np.testing.assert_allclose(wide[0], -0.1 / (1 + 1e-8), rtol=1e-15)


def test_extra_arguments_arrive():
    tx = gradtx.polyak_sgd()
    updates, _ = tx.update(jnp.array(2.0), tx.init(jnp.array(1.0)), jnp.array(1.0), value=1.0, key=None, grad=3.0)
    theirs, _ = jax.jit(tx.update)(jnp.array(2.0), tx.init(jnp.array(1.0)), jnp.array(1.0), value=1.0)
    assert_close(updates, theirs)


def test_errors_are_those_of_a_step_under_jit():
    tx = gradtx.adamw(0.1)
    with pytest.raises(ValueError, match="add_decayed_weights needs the parameters") as eager:
        tx.update(GRADIENT, tx.init(PARAMS))
    with pytest.raises(ValueError, match="add_decayed_weights needs the parameters") as compiled:
        jax.jit(tx.update)(GRADIENT, tx.init(PARAMS))
    assert str(eager.value).splitlines()[0] == str(compiled.value).splitlines()[0]


def test_it_works_where_transformations_of_jax_are_at_work():
    tx = gradtx.adam(0.1)

    def size(g: Any) -> Any:
        return jnp.sum(tx.update(g, tx.init(g), g)[0] ** 2)

    g = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(jax.grad(size)(g), jax.jit(jax.grad(size))(g), atol=1e-9)
    assert jax.vmap(size)(jnp.stack([g, g])).shape == (2,)
    jax.eval_shape(size, g)
    with jax.disable_jit():
        assert_close(run_steps(tx, g, [g], jit=False), run_steps(tx, g, [g]))


def test_results_may_be_donated_to_a_compiled_step():
    tx = gradtx.adam(0.1)
    updates, state = tx.update(jnp.ones(3), tx.init(jnp.ones(3)))
    donating = jax.jit(tx.update, donate_argnums=(0, 1))
    for _ in range(2):
        updates, state = donating(updates, state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((updates, state)))


def test_a_schedule_of_ones_own_runs_line_by_line():
    rates = [1.0]

    @gradtx.schedule
    def now():
        return lambda count: rates[-1] if int(count) >= 0 else 0.0

    tx = gradtx.sgd(now())
    _, state = step(tx)
    rates.append(3.0)
    updates, _ = step(tx, state)
    assert_close(updates, jax.tree.map(lambda g: -3 * g, GRADIENT))


def test_a_measurement_with_a_state_is_compiled_too(traces):
    tx = gradtx.monitor({"mean": gradtx.ema(0.9), "clipped": "clip_rate"}, gradtx.clip(0.1))
    _, state = step(tx)
    assert set(gradtx.metrics(state)) >= {"clipped"}
    assert traces.call_count > 0


@pytest.mark.parametrize("around", [lambda tx: tx, gradtx.chain, lambda tx: gradtx.masked(tx, "*")])
def test_what_a_combinator_reads_of_the_extra_arguments_reaches_it(around, traces):
    tx = around(gradtx.skip_spikes(gradtx.sgd(0.1), of="value"))
    updates, _ = step(tx, value=1.0)
    assert_close(updates, jax.tree.map(lambda g: -0.1 * g, GRADIENT))
    assert traces.call_count > 0


def test_an_atom_from_a_namespace_without_a_name():
    namespace = {"gradtx": gradtx}
    exec("@gradtx.transformation\ndef negated():\n    return gradtx.leafwise(emit=lambda u: -u)\n", namespace)
    assert_close(step(namespace["negated"]())[0], jax.tree.map(jnp.negative, GRADIENT))


# Through jit, as arguments


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.adam(1e-3),
        gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(gradtx.linear_schedule(0.0, 1e-2, 9))),
        gradtx.MultiSteps(gradtx.lookahead(gradtx.muon(1e-3), 3, 0.5), 2),
    ],
    ids=lambda tx: tx.name,
)
def test_a_transformation_with_traced_numbers_is_built_once_for_a_step(tx, monkeypatch):
    built = []
    build = gradtx.GradientTransformation._build
    monkeypatch.setattr(gradtx.GradientTransformation, "_build", lambda self: built.append(self.name) or build(self))
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    state = tx.init(params)
    parts = len(built)
    built.clear()
    with jax.checking_leaks():
        jax.jit(lambda tx, g, s, p: tx.update(g, s, p))(tx, params, state, params)
    assert 0 < len(built) <= parts, built


def test_within_another_trace_it_is_built_for_that():
    tx, params = gradtx.adam(1e-2), {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}

    def step(tx, carry):
        state, params = carry
        updates, state = tx.update(params, state, params)
        return state, gradtx.apply_updates(params, updates)

    def steps(tx, carry):
        carry = step(tx, carry)
        carry, _ = jax.lax.scan(lambda carry, _: (step(tx, carry), None), carry, None, length=2)
        return step(tx, jax.lax.cond(carry[1]["b"][0] > 0, lambda: step(tx, carry), lambda: carry))

    start = expected = tx.init(params), params
    for _ in range(5):
        expected = step(tx, expected)
    with jax.checking_leaks():
        found = jax.jit(steps)(tx, start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)

"""What the case table claims of each optimizer, measured. No lists of exceptions by name."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

import gradtx
from cases import CASES
from helpers import assert_close, assert_same_form, random_tree, run_steps

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
GRADIENTS = [random_tree(i) for i in range(1, 6)]


@EACH_CASE
def test_slots(case):
    if case.slots is None:
        pytest.skip("the slots of this case depend on the shapes")
    params = {"w": jax.ShapeDtypeStruct((50, 40), jnp.float32)}
    numbers = sum(x.size for x in jax.tree.leaves(jax.eval_shape(case.tx.init, params)))
    assert numbers // 2000 == case.slots
    assert numbers % 2000 < 30  # counts and rates


def test_adafactor_keeps_a_row_and_a_column():
    params = {"w": jax.ShapeDtypeStruct((200, 300), jnp.float32), "b": jax.ShapeDtypeStruct((300,), jnp.float32)}
    state = jax.eval_shape(gradtx.adafactor(1e-2).init, params)
    assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == 200 + 300 + 300


@EACH_CASE
def test_needs_params(case):
    params = random_tree()
    state = case.tx.init(params)
    if case.needs_params:
        with pytest.raises(ValueError, match="needs the parameters"):
            case.tx.update(GRADIENTS[0], state)
    else:
        updates, _ = case.tx.update(GRADIENTS[0], state)
        chex.assert_tree_all_finite(updates)


@EACH_CASE
def test_scale_invariance(case):
    """Multiplying all gradients by 1000 changes the updates if and only if the table says so."""
    params = random_tree()
    once, _ = run_steps(case.tx, params, GRADIENTS)
    many, _ = run_steps(case.tx, params, [jax.tree.map(lambda g: 1000 * g, gradient) for gradient in GRADIENTS])
    same = all(
        np.allclose(a, b, rtol=1e-3, atol=1e-5)
        for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(many), strict=True)
    )
    assert same == case.scale_invariant


@EACH_CASE
def test_sign_only(case):
    params = random_tree()
    _, state = case.tx.update(GRADIENTS[0], case.tx.init(params), params)  # the first step of many is a sign
    updates, _ = case.tx.update(GRADIENTS[1], state, params)
    sizes = np.concatenate([np.abs(np.ravel(u)) for u in jax.tree.leaves(updates)])
    assert (np.ptp(sizes) < 1e-9) == case.sign_only


@EACH_CASE
def test_complex_parameters_keep_real_second_moments(case):
    if not case.complex_safe:
        pytest.skip("this case makes no claim for complex parameters")
    params, gradient = jnp.array([1.0 + 1.0j, -2.0j]), jnp.array([0.3 - 0.1j, 2.0 + 1.0j])
    state = case.tx.init(params)
    new, new_state = run_steps(case.tx, params, [gradient] * 3)
    assert new.dtype == jnp.complex64
    chex.assert_tree_all_finite(new)
    assert_same_form(new_state, state)
    slots = [x for x in jax.tree.leaves(state) if x.ndim]
    complex_slots = sum(jnp.iscomplexobj(x) for x in slots)
    assert complex_slots <= 4  # directions, and points passed; squares and maxima are real
    # The update does not single out the real axis: rotating all gradients rotates a step from rest.
    if not case.needs_params:
        turn = jnp.exp(1j * jnp.pi / 2)
        ours, theirs = (case.tx.update(g, state)[0] for g in (gradient, turn * gradient))
        assert_close(theirs, turn * ours, rtol=1e-4, atol=1e-8)


@EACH_CASE
def test_one_trace_and_fixed_state(case):
    """Three steps, one trace, for gradients in bfloat16 and parameters in float32 and bfloat16."""
    params = {"a": jnp.ones((3, 2)), "b": jnp.ones(3, jnp.bfloat16), "weak": jnp.asarray(1.0)}
    gradient = jax.tree.map(lambda p: jnp.full(p.shape, 0.5, jnp.bfloat16), params)
    tx = case.tx

    def step(params, state):
        updates, new_state = tx.update(gradient, state, params)
        assert_same_form(new_state, state)
        return gradtx.apply_updates(params, updates), new_state

    jitted = jax.jit(chex.assert_max_traces(step, n=1))
    state = tx.init(params)
    for _ in range(3):
        new, state = jitted(params, state)
    assert [x.dtype for x in jax.tree.leaves(new)] == [x.dtype for x in jax.tree.leaves(params)]
    assert_same_form(jax.jit(tx.init)(params), tx.init(params))
    assert all(x.dtype != jnp.bfloat16 for x in jax.tree.leaves(state))


@EACH_CASE
def test_jit_equals_eager(case):
    """Compiled, where leaves of a shape share a trace, and line by line."""
    params, *gradients = ({"one": random_tree(i), "twin": random_tree(i + 9), "fixed": None} for i in range(3))
    compiled = run_steps(case.tx, params, gradients)
    with jax.disable_jit():
        eager = run_steps(case.tx, params, gradients)
    assert_close(compiled, eager, rtol=3e-5, atol=1e-6)


ONE_OF_A_KIND = {(case.slots, case.needs_params): case for case in CASES}.values()


class TestPlacement(chex.TestCase):
    """Compiled or not, from arrays of a device or of NumPy: the same numbers."""

    @chex.all_variants(with_pmap=False)
    @parameterized.named_parameters((case.name, case) for case in ONE_OF_A_KIND)
    def test_a_step(self, case):
        def step(params, state, gradient):
            updates, state = case.tx.update(gradient, state, params)
            return gradtx.apply_updates(params, updates), state

        params = random_tree()
        ours = self.variant(step)(params, case.tx.init(params), GRADIENTS[0])
        assert_close(ours, run_steps(case.tx, params, GRADIENTS[:1]), rtol=3e-5, atol=1e-6)


IN_PLACE = [case for case in CASES if case.in_place]


@pytest.mark.parametrize("case", IN_PLACE, ids=lambda case: case.name)
def test_a_donated_step_needs_no_temporaries(case):
    """The state is overwritten in place: temporaries below 1 % of the parameters, everything aliased."""
    params = jax.ShapeDtypeStruct((1 << 16,), jnp.float32)
    state = jax.eval_shape(case.tx.init, params)

    def step(params, state, gradient):
        updates, state = case.tx.update(gradient, state, params)
        return gradtx.apply_updates(params, updates), state

    memory = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile().memory_analysis()
    size = 4 << 16
    assert memory.temp_size_in_bytes < 0.01 * size
    assert memory.alias_size_in_bytes >= (1 + case.slots) * size


def test_the_temporaries_test_can_fail():
    """An update from the old state makes XLA copy it; the measure above sees that."""

    def step(params, trace, gradient):
        new = 0.9 * trace + gradient
        return params - (jnp.sin(trace) + new), new

    params = jax.ShapeDtypeStruct((1 << 16,), jnp.float32)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, params, params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes >= 4 << 16


@EACH_CASE
def test_constant_scheduled_and_traced_rates_agree(case):
    """The same numbers however a hyperparameter arrives (≤ 2e-7 relative to the parameters in float32)."""
    params = random_tree()
    constant, _ = run_steps(case.tx, params, GRADIENTS)
    traced, _ = jax.jit(lambda tx: run_steps(tx, params, GRADIENTS, jit=False))(case.tx)
    for a, b, p in zip(*map(jax.tree.leaves, (constant, traced, params)), strict=True):
        assert np.max(np.abs(a - b)) <= 2e-7 * max(1.0, np.max(np.abs(p)))

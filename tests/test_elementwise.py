"""What treats each element by itself is traced once for all leaves of a shape, and computes the same."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from helpers import assert_close

import gradtx
from gradtx.core.transformation import has

ELEMENTWISE = [case for case in CASES if has(case.tx, "elementwise")]
SHAPES = [(3,), (2, 2), ()] * 7


def tree(seed: int) -> dict[str, Any]:
    """21 leaves of three shapes, and one that is not trained."""
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    leaves = {f"leaf_{i:02}": jax.random.normal(k, s) for i, (k, s) in enumerate(zip(keys, SHAPES, strict=True))}
    return leaves | {"fixed": None}


def leaf_by_leaf(tx: Any) -> Callable[..., Any]:
    return jax.jit(lambda g, s, p: tx.update(g, s, p))


def all_at_once(tx: Any) -> Callable[..., Any]:
    return tx.update  # nothing is traced


def after(steps: int, tx: Any, how: Callable[..., Any]) -> tuple[Any, Any]:
    params, update = tree(0), how(tx)
    state = tx.init(params)
    for i in range(steps):
        updates, state = update(tree(i + 1), state, params)
        params = gradtx.apply_updates(params, updates)
    return params, state


def test_most_optimizers_are_elementwise():
    assert len(ELEMENTWISE) > 20
    assert not has(gradtx.clip_by_global_norm(1.0), "elementwise")
    assert not has(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.1)), "elementwise")
    assert not has(gradtx.lamb(0.1), "elementwise")
    assert not has(gradtx.masked(gradtx.sgd(0.1), "leaf*"), "elementwise")  # it looks at paths


@pytest.mark.parametrize("case", ELEMENTWISE, ids=lambda case: case.name)
def test_leaf_by_leaf_is_all_at_once(case):
    assert_close(after(3, case.tx, leaf_by_leaf), after(3, case.tx, all_at_once), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("case", ELEMENTWISE, ids=lambda case: case.name)
def test_elements_do_not_meet(case):
    params, gradients = jnp.arange(1.0, 7), jnp.array([3.0, -1, 0.5, -2, 8, -0.25])

    def two_steps(order: Any) -> Any:
        p, state = params[order], case.tx.init(params[order])
        for factor in (1.0, -0.5):
            updates, state = case.tx.update(factor * gradients[order], state, p)
        return updates

    order = np.array([4, 2, 5, 0, 1, 3])
    np.testing.assert_allclose(two_steps(order), two_steps(np.arange(6))[order], rtol=1e-6)


@pytest.mark.parametrize("case", ELEMENTWISE, ids=lambda case: case.name)
def test_no_optimizer_falls_back_to_all_at_once(case):
    jaxpr = jax.make_jaxpr(case.tx.update)(tree(1), case.tx.init(tree(0)), tree(0))
    assert f"name={case.tx.name}" in str(jaxpr)


def test_the_comparison_can_fail():
    @gradtx.transformation(elementwise=True)
    def centered():  # a lie: the mean is of all leaves
        def update(updates: Any, state: Any, params: Any = None) -> Any:
            leaves = jax.tree.leaves(updates)
            mean = sum(map(jnp.mean, leaves)) / max(len(leaves), 1)
            return jax.tree.map(lambda u: u - mean, updates), state

        return None, update

    with pytest.raises(AssertionError):
        assert_close(after(1, centered(), leaf_by_leaf), after(1, centered(), all_at_once), rtol=1e-3)


def test_a_leaf_is_traced_once_for_each_shape():
    traced = []

    @gradtx.transformation(elementwise=True)
    def noted():
        def update(updates: Any, state: Any, params: Any = None) -> Any:
            traced.append(updates)
            return updates, state

        return None, update

    tx = gradtx.chain(noted(), gradtx.scale(2.0))
    jax.make_jaxpr(tx.update)(tree(0), tx.init(tree(0)))
    assert 3 <= len(traced) <= 3 + 2  # three shapes, None, and once more for what is shared


def test_few_leaves_are_traced_as_they_are():
    tx, x = gradtx.adam(0.1), {"a": jnp.ones(2), "b": jnp.ones(2)}
    assert "name=adam" not in str(jax.make_jaxpr(tx.update)(x, tx.init(x)))
    assert "name=adam" in str(jax.make_jaxpr(tx.update)(tree(0), tx.init(tree(0))))


def test_counts_and_rates_are_shared():
    tx = gradtx.adamw(gradtx.linear_schedule(0.0, 1.0, 10), b1=gradtx.linear_schedule(0.9, 0.5, 10))
    _, state = after(3, tx, leaf_by_leaf)
    assert gradtx.step_count(state) == 3
    assert gradtx.get_hyperparam(state, "learning_rate") == pytest.approx(0.2)


def test_errors_name_the_leaf_within_jit_too():
    tx, params = gradtx.adam(0.1), tree(0)
    with pytest.raises(ValueError, match="leaf_04"):
        leaf_by_leaf(tx)(tree(1) | {"leaf_04": jnp.ones(5)}, tx.init(params), params)


def test_numbers_of_the_optimizer_may_be_traced_too():
    params, gradients = tree(0), tree(1)

    @jax.jit
    def size(tx: Any) -> Any:
        return gradtx.global_norm(tx.update(gradients, tx.init(params), params)[0])

    rates = jnp.array([0.1, 0.2])
    both = jax.vmap(size)(jax.vmap(gradtx.adam)(rates))
    np.testing.assert_allclose(both, [size(gradtx.adam(float(rate))) for rate in rates], rtol=1e-6)
    slope = jax.grad(size)(gradtx.adam(0.1)).learning_rate
    np.testing.assert_allclose(slope, both[0] / 0.1, rtol=1e-5)

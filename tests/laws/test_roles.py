"""Every leaf of a state says what it is, and says it truly; what reads states needs no more."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from cases import CASES
from examples import examples
from gradtx.core.constructor import constructor_in
from gradtx.core.roles import Role, is_state, map_fields, of_class
from gradtx.state.entries import entries
from gradtx.state.paths import by_path
from helpers import PUBLIC, assert_close

PARAMS = {"layer": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, "scalar": jnp.ones(())}


def transformations() -> dict[str, Any]:
    """One of every public constructor."""
    names = [name for name in PUBLIC if constructor_in(getattr(gradtx, name))]
    values = {name: examples(name) for name in names}
    return {
        f"{name}-{i}": tx
        for name, row in values.items()
        for i, tx in enumerate(row)
        if isinstance(tx, gradtx.GradientTransformation)
    }


TRANSFORMATIONS = transformations()


def misplaced(tx: Any, params: Any) -> list[Any]:
    """The leaves of its state that say nothing, or something else than what they are."""
    if getattr(tx, "name", "") == "flatten":  # what is inside sees one vector
        params, tx = jnp.concatenate(list(map(jnp.ravel, jax.tree.leaves(params)))), tx.inner
    of_params = by_path(params)

    def is_right(entry: Any) -> bool:
        shape, dtype = np.shape(entry.value), jnp.result_type(entry.value)
        owner = next((p for p in of_params if entry.below[: len(p)] == p), None)
        return {
            Role.SLOT: owner is not None and shape == of_params[owner].shape,
            Role.FACTORED: owner is not None,
            Role.WEIGHT: shape == () and not entry.below,
            Role.COUNT: shape == () and jnp.issubdtype(dtype, jnp.integer),
            Role.HYPERPARAMETER: jnp.issubdtype(dtype, jnp.floating),
            Role.KEY: jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32,
            Role.NUMBER: owner is None,
        }.get(entry.role, False)

    state = jax.eval_shape(tx.init, params)
    return [entry for entry in entries(state) if not is_right(entry)]


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_every_leaf_of_every_state_has_its_role(name):
    tx = TRANSFORMATIONS[name]
    try:
        found = misplaced(tx, PARAMS)
    except (ValueError, TypeError) as error:  # an example for another tree
        pytest.skip(str(error).splitlines()[0])
    assert not found


def test_that_test_can_fail():
    class Wrong(NamedTuple):
        total: gradtx.Slot
        undeclared: Any

    @gradtx.transformation
    def wrong():
        return lambda params: Wrong(jnp.zeros(3), jnp.zeros(())), lambda updates, state: (updates, state)

    assert [entry.path for entry in misplaced(wrong(), PARAMS)] == [("total",), ("undeclared",)]
    assert misplaced(optax.adam(0.1), PARAMS)


def test_most_examples_fit():
    def fits(tx: Any) -> bool:
        try:
            return not misplaced(tx, PARAMS)
        except (ValueError, TypeError):
            return False

    assert sum(map(fits, TRANSFORMATIONS.values())) > 0.9 * len(TRANSFORMATIONS)


def test_what_a_class_declares():
    class Some(NamedTuple):
        """Annotated as text, or not."""

        momentum: gradtx.Slot
        other: "Any"

    assert of_class(Some) == {"momentum": Role.SLOT}
    assert not is_state(Some(1, 2))
    assert is_state(gradtx.EmptyState())
    assert not any(map(is_state, (None, (1, 2), {"a": 1})))
    state = gradtx.adamw(0.1).init(PARAMS)
    by_role = {entry.path[-1]: entry.role for entry in entries(state)}
    assert by_role["count"] is Role.COUNT
    assert by_role["learning_rate"] is Role.HYPERPARAMETER
    assert by_role["weight"] is Role.WEIGHT
    assert by_role["kernel"] is Role.SLOT
    counted = map_fields(lambda role, x: 7 if role is Role.COUNT else x, state.scale_by_learning_rate)
    assert counted.count == 7


# Read by what changes states


def first_step(tx: Any, state: Any, params: Any, gradient: Any) -> Any:
    updates, _ = jax.jit(tx.update)(gradient, state, params)
    return updates


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_resized_leaf_takes_the_first_step_of_a_fresh_state(case):
    """At the counts of the run. Beside it nothing else changes, unless the method measures all leaves together."""
    old_params = {"kept": jnp.linspace(-1, 1, 6), "resized": jnp.linspace(0.5, 2, 4)}
    new_params = {"kept": old_params["kept"], "resized": jnp.linspace(0.5, 2, 6).reshape(2, 3)}
    of_the_run = any(entry.role is Role.NUMBER for entry in entries(case.tx.init(old_params)))
    if of_the_run:
        old_params, new_params = ({"resized": params["resized"]} for params in (old_params, new_params))
    params, state = old_params, case.tx.init(old_params)
    update = jax.jit(case.tx.update)
    for i in range(5):
        updates, state = update(jax.tree.map(lambda p, i=i: p * (1 + i / 3) + 0.3, old_params), state, params)
        params = gradtx.apply_updates(params, updates)
    new_params["kept" if "kept" in params else "resized"] = params.get("kept", new_params["resized"])
    migrated, report = gradtx.migrate_state(state, case.tx, new_params)

    fresh = case.tx.init(new_params)
    count = max((int(e.value) for e in entries(state) if e.role is Role.COUNT), default=0)
    at_run = [jnp.asarray(count, e.value.dtype) if e.role is Role.COUNT else e.value for e in entries(fresh)]
    fresh = jax.tree.unflatten(jax.tree.structure(fresh), at_run)
    gradient = jax.tree.map(lambda p: p * 0.7 - 0.1, new_params)
    ours, theirs = (first_step(case.tx, s, new_params, gradient) for s in (migrated, fresh))
    np.testing.assert_allclose(ours["resized"], theirs["resized"], rtol=1e-6, atol=1e-9)
    if not of_the_run:
        kept = first_step(case.tx, state, params, jax.tree.map(lambda p: p * 0.7 - 0.1, params))
        np.testing.assert_allclose(ours["kept"], kept["kept"], rtol=1e-6, atol=1e-9)
        assert "resized" in str(report) or not any(e.role in (Role.SLOT, Role.FACTORED) for e in entries(state))


def test_a_state_in_which_leaves_have_weights_of_their_own_goes_on():
    """Each leaf as if it were trained by itself, also through `jit`, and once more migrated."""
    tx, x = gradtx.adan(0.1), {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0])}
    _, state = tx.update(x, tx.init(x), x)
    later = {"a": x["a"], "b": jnp.array([3.0, -1.0])}
    split, report = gradtx.migrate_state(state, tx, later)
    assert report.split
    of_a, of_b = (tx.init({name: later[name]}) for name in "ab")
    _, of_a = tx.update({"a": x["a"]}, of_a, {"a": x["a"]})
    for gradient in (later, jax.tree.map(lambda x: -0.3 * x, later)):
        updates, split = jax.jit(tx.update)(gradient, split, later)
        a, of_a = tx.update({"a": gradient["a"]}, of_a, {"a": later["a"]})
        b, of_b = tx.update({"b": gradient["b"]}, of_b, {"b": later["b"]})
        assert_close(updates, a | b, rtol=1e-6)
    again, report = gradtx.migrate_state(split, tx, later)
    assert_close(again, split)
    assert not report.split


@pytest.mark.parametrize("tx", [gradtx.adafactor(1e-3), gradtx.sm3(1e-3)], ids=lambda tx: tx.name)
def test_a_compiled_init_reduces_nothing_that_is_constant(tx):
    params = {"w": jnp.ones((256, 512))}
    text = jax.jit(tx.init).lower(params).as_text()
    reduced = [line for line in text.splitlines() if "stablehlo.reduce" in line]
    assert "256x512" not in "".join(reduced)

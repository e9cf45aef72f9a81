"""What is said of one leaf holds for a tree: leaves of a shape are traced once, and computed as they are one by one."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.core.numerics import SMALL, aside, norm
from gradtx.core.tree import LeafError
from helpers import assert_close, random_tree

SHAPES = [(3,), (2, 2), ()] * 3
LARGE = {"big": (150, 130), "vector": (SMALL + 3,), "small": (7, 5)}


def tree(seed: int) -> dict[str, Any]:
    """Nine leaves of three shapes, and one that is not trained."""
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    leaves = {f"leaf_{i}": jax.random.normal(k, s) for i, (k, s) in enumerate(zip(keys, SHAPES, strict=True))}
    return leaves | {"fixed": None}


def large(seed: int, scale: float = 1.0, dtype: Any = jnp.float32) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(seed), len(LARGE))
    leaves = {name: jax.random.normal(k, shape, dtype) for k, (name, shape) in zip(keys, LARGE.items(), strict=True)}
    return {name: scale * x for name, x in leaves.items()} | {"fixed": None}


def after(tx: Any, update: Any, params: Any, gradients: list[Any]) -> Any:
    state = tx.init(params)
    for g in gradients:
        updates, state = update(g, state, params)
        params = gradtx.apply_updates(params, updates)
    return params, state


# A tree


def counting(factor: float = 2.0) -> tuple[Any, list[Any]]:
    """A transformation, and the leaves for which its Python ran."""
    traced: list[Any] = []

    @gradtx.transformation
    def noted(factor: gradtx.Real = 2.0):
        return gradtx.leafwise(emit=lambda u: traced.append(u) or factor * u)

    return noted(factor), traced


def test_a_leaf_is_traced_once_for_each_shape():
    tx, traced = counting()
    x = tree(0)
    doubled = gradtx.chain(tx, gradtx.scale(2.0))
    jax.make_jaxpr(doubled.update)(x, doubled.init(x))
    assert sorted(np.shape(u) for u in traced) == [(), (2, 2), (3,)]
    mixed = {**x, "leaf_0": x["leaf_0"].astype(jnp.bfloat16), "other": jnp.ones(7)}
    traced.clear()
    jaxpr = jax.make_jaxpr(tx.update)(mixed, gradtx.EmptyState())
    assert len(traced) == 4  # in float32 they are all alike; a shape of its own is traced in place
    assert str(jaxpr).count("name=noted") == 9


def test_paths_and_masks_are_not_what_a_leaf_looks_like():
    x = {"a": {"kernel": jnp.ones(3), "bias": jnp.ones(3)}, "b": {"kernel": jnp.ones(3), "bias": jnp.ones(3)}}
    tx = gradtx.chain(gradtx.masked(gradtx.scale(10.0), "kernel"), gradtx.scale(2.0))
    updates, _ = jax.jit(tx.update)(x, tx.init(x))
    assert [float(u[0]) for u in jax.tree.leaves(updates)] == [2, 20, 2, 20]


def test_numbers_are_advanced_once_for_all_leaves():
    def advanced(leaves: int) -> int:
        x = {str(i): jnp.ones((i + 1,)) for i in range(leaves)}
        tx = gradtx.adamw(gradtx.exponential_decay(0.1, 10, 0.5))
        return str(jax.make_jaxpr(tx.update)(x, tx.init(x), x)).count(" pow ")

    assert advanced(1) == advanced(4) > 0


def test_none_and_integer_leaves_pass():
    x = {"a": jnp.ones(2), "none": None, "int": np.zeros((), jax.dtypes.float0)}
    params = {"a": jnp.ones(2), "none": None, "int": 3}
    tx = gradtx.adam(0.1)
    updates, state = tx.update(x, tx.init(params), params)
    assert updates["none"] is None
    assert gradtx.apply_updates(params, updates)["int"] == 3
    updates, later = jax.jit(tx.update)({**x, "a": None}, state, params)
    assert updates["a"] is None
    assert_close(gradtx.tree.get(later, "momentum"), gradtx.tree.get(state, "momentum"))


def test_a_tree_without_leaves():
    for tx in (gradtx.adam(0.1), gradtx.lamb(0.1), gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.prodigy())):
        updates, _ = tx.update({}, tx.init({}), {})
        assert updates == {}


@pytest.mark.parametrize("jit", [True, False])
def test_errors_name_the_transformation_and_the_leaf(jit):
    tx, params = gradtx.chain(gradtx.trace(0.9), gradtx.scale(np.ones(3))), tree(0)
    update = jax.jit(tx.update) if jit else tx.update
    with pytest.raises(ValueError, match="Incompatible shapes") as raised:
        update(tree(1), tx.init(params), params)
    assert raised.value.__notes__[0] == "chain: leaf 'leaf_1'"
    scalars = {"a": jnp.ones(3), "b": jnp.ones(())}
    with pytest.raises(LeafError, match=r"^scale: leaf 'b': \(\) became \(3,\): a hyperparameter is an array"):
        update(scalars, tx.init(scalars))
    with pytest.raises(LeafError, match=r"^chain: leaf 'leaf_4': shapes do not match: \(5,\) and \(2, 2\)"):
        update(tree(1) | {"leaf_4": jnp.ones(5)}, tx.init(params))
    with pytest.raises(LeafError, match=r"^chain: the update has shape \(5,\), the parameter \(2, 2\)|leaf_4"):
        update(tree(1) | {"leaf_4": jnp.ones(5)}, tx.init(params), params)


def test_rates_may_be_mapped_over_and_differentiated():
    params, gradients = tree(0), tree(1)

    @jax.jit
    def size(tx: Any) -> Any:
        return gradtx.global_norm(tx.update(gradients, tx.init(params), params)[0])

    rates = jnp.array([0.1, 0.2])
    both = jax.vmap(size)(jax.vmap(gradtx.adam)(rates))
    np.testing.assert_allclose(both, [size(gradtx.adam(float(rate))) for rate in rates], rtol=1e-6)
    slope = jax.grad(size)(gradtx.adam(0.1)).learning_rate
    np.testing.assert_allclose(slope, both[0] / 0.1, rtol=1e-5)


# Atoms of one's own


class LargestState(NamedTuple):
    largest: gradtx.Slot
    seen: gradtx.Count


def largest(**functions: Any) -> Any:
    @gradtx.transformation
    def divide_by_largest():
        return gradtx.leafwise(
            **{
                "init": lambda p: LargestState(jnp.zeros_like(p), 0),
                "count": lambda s: s._replace(seen=s.seen + 1),
                "advance": lambda s, g: s._replace(largest=jnp.maximum(s.largest, jnp.abs(g))),
                "emit": lambda s, u: u / s.largest,
            }
            | functions
        )

    return divide_by_largest()


def test_an_atom_reads_what_its_parameters_name():
    tx = largest(
        together=(lambda u, p: jnp.sum(u * p), jnp.sum),
        numbers=lambda s, t, *, value, key=None: t + value + s.seen,
        before=lambda u: norm(u),
        emit=lambda s, u, n, x: u / s.largest + n / x,
    )
    assert tx.extra_args == {"value", "key"}
    x, p = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([1.0])}, {"a": jnp.ones(2), "b": jnp.ones(1)}
    updates, state = tx.update(x, tx.init(p), p, value=2.0)
    np.testing.assert_allclose(updates["a"], [3 / 3 + 10 / 5, 4 / 4 + 10 / 5])
    updates, state = tx.update(x, state, p, value=2.0)
    np.testing.assert_allclose(updates["b"], [1 + 11 / 1])
    assert int(state.seen) == gradtx.step_count(state) == 2
    with pytest.raises(TypeError, match="divide_by_largest needs the extra argument 'value'"):
        tx.update(x, state, p)
    with pytest.raises(ValueError, match="divide_by_largest needs the parameters"):
        tx.update(x, state, value=2.0)


def test_what_a_function_may_not_read_is_named():
    for functions, message in (
        ({"emit": lambda s, w: w}, r"emit reads 'w'; it may read s, u \(or g\), p, n, x"),
        ({"numbers": lambda u: u}, "numbers reads 'u'; it may read s, t"),
        ({"together": (lambda x: x, jnp.sum)}, r"together reads 'x'; it may read s, u \(or g\), p"),
    ):
        with pytest.raises(TypeError, match=message):
            largest(**functions).init(jnp.ones(2))


def test_a_state_says_its_roles_and_stays_what_it_is():
    class Undeclared(NamedTuple):
        largest: Any
        seen: gradtx.Count

    with pytest.raises(TypeError, match=r"fields say their roles .* it returned Undeclared"):
        largest(init=lambda p: Undeclared(p, 0)).init(jnp.ones(2))
    with pytest.raises(TypeError, match=r"init must return a named tuple .* it returned ArrayImpl"):
        largest(init=lambda p: jnp.zeros(2)).init(jnp.ones(2))
    tx = largest(advance=lambda s, g: jnp.maximum(s.largest, g))
    with pytest.raises(TypeError, match="the new state must be a LargestState"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    tx = largest(advance=lambda s, g: s._replace(largest=jnp.max(g)))
    with pytest.raises(LeafError, match=r"changed its shape from \(2,\) to \(\)"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize(
    ("emit", "shape", "message"),
    [(lambda u: None, (2,), "None"), (lambda u: None, (), "None"), (lambda u: u.sum(), (2,), r"\(\)")],
)
def test_an_update_keeps_the_shape_of_its_leaf(emit, shape, message):
    tx, x = largest(emit=emit), jnp.ones(shape)
    with pytest.raises(LeafError, match=rf"became {message}: an update keeps the shape of its leaf"):
        tx.update(x, tx.init(x))


def test_an_update_of_integers_becomes_one_of_floats():
    tx = largest(emit=lambda u: (u > 0).astype(int))
    updates, _ = tx.update(jnp.array([2.0, -3.0]), tx.init(jnp.ones(2)))
    assert (updates.tolist(), updates.dtype) == ([1.0, 0.0], jnp.float32)


def test_what_is_stored_keeps_its_dtype_and_is_computed_with_in_float32():
    dtypes = []

    def advance(s: Any, g: Any) -> Any:
        dtypes.extend([s.largest.dtype, g.dtype])
        return s._replace(largest=jnp.maximum(s.largest, jnp.abs(g)))

    tx, p = largest(advance=advance), jnp.ones(2, jnp.bfloat16)
    state = tx.init(p)
    updates, state = tx.update(p, state)
    assert dtypes == [jnp.float32, jnp.float32]
    assert (state.largest.dtype, updates.dtype) == (jnp.bfloat16, jnp.float32)


# Norms of a direction


MEASURED = {
    "lamb": gradtx.lamb(0.01, weight_decay=0.1),
    "lamb, some decay": gradtx.lamb(0.01, weight_decay=0.1, mask="big"),
    "lars": gradtx.lars(0.01, weight_decay=0.1),
    "adafactor": gradtx.adafactor(0.01),
    "adafactor with momentum": gradtx.adafactor(0.01, momentum=0.9, weight_decay_rate=0.01),
    "of a whole optimizer": gradtx.chain(gradtx.adam(0.1), gradtx.clip_by_global_norm(1e-3)),
    "of each leaf": gradtx.chain(gradtx.scale_by_belief(), gradtx.clip_by_block_norm(1.0), gradtx.scale(-0.1)),
    "twice": gradtx.chain(
        gradtx.scale_by_momentum(), gradtx.clip_by_block_rms(0.5), gradtx.scale(-0.1), gradtx.clip_by_global_norm(0.1)
    ),
    "of the momentum itself": gradtx.chain(gradtx.trace(0.9), gradtx.scale_by_trust_ratio(), gradtx.scale(-0.1)),
    "at a scheduled rate": gradtx.lamb(gradtx.cosine_decay_schedule(0.1, 10), b1=gradtx.linear_schedule(0.8, 0.9, 5)),
}


def computed_aside(tx: Any, params: Any, platform: str = "cpu") -> int:
    step = jax.jit(tx.update).trace(params, tx.init(params), params)
    text = step.lower(lowering_platforms=(platform,)).as_text()
    return len(re.findall(r"optimization_barrier .* : tensor<i1>$", text, re.MULTILINE))


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-25])
@pytest.mark.parametrize("name", MEASURED)
def test_a_direction_computed_twice_is_the_same(name, scale):
    tx, gradients = MEASURED[name], [large(1, scale), large(2, -scale), large(3, scale)]
    compiled, _ = after(tx, jax.jit(tx.update), large(0), gradients)
    with jax.disable_jit():
        once, _ = after(tx, tx.update, large(0), gradients)
    assert_close(compiled, once, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("name", MEASURED)
def test_only_a_cpu_is_told_to_compute_it_twice(name):
    tx, x = MEASURED[name], large(0)
    assert computed_aside(tx, x) > 0
    assert name == "lamb, some decay" or computed_aside(tx, x["big"]) > 0  # parameters that are one array
    for platform in ("cuda", "tpu"):
        text = jax.jit(tx.update).trace(x, tx.init(x), x).lower(lowering_platforms=(platform,)).as_text()
        assert "optimization_barrier" not in text


def test_small_leaves_and_what_takes_no_norms_are_computed_once():
    assert computed_aside(MEASURED["lamb"], {"a": jnp.ones((8, 8)), "b": jnp.ones(8)}) == 0
    assert computed_aside(gradtx.adamw(0.1), large(0)) == 0


def test_nothing_that_a_number_alone_decides_is_divided_for_every_entry():
    tx, x = gradtx.adam(0.1), {"w": jnp.ones((64, 32))}
    text = jax.jit(tx.update).lower(x, tx.init(x)).compile().as_text()
    assert len(re.findall(r"f32\[64,32\]\S* divide\(", text)) == 1  # by √v̂ + ε, but not by the weights of m and v


def test_infinite_gradients_are_seen():
    g = large(1)
    g["big"] = g["big"].at[3, 4].set(jnp.inf)
    for name, tx in MEASURED.items():
        new, _ = after(tx, jax.jit(tx.update), large(0), [g])
        assert not np.isfinite(new["big"]).all(), name
    tx = MEASURED["lamb"]
    updates, _ = jax.jit(tx.update)(g, tx.init(g), large(0))
    assert np.isfinite(updates["vector"]).all()


@pytest.mark.parametrize(
    "params", [large(0, dtype=jnp.bfloat16), {"z": large(0)["big"] * (1 + 2j)}], ids=["half", "complex"]
)
def test_half_precision_and_complex_leaves(params):
    tx, g = MEASURED["lamb"], jax.tree.map(lambda x: x * 0.5, params)
    compiled, _ = after(tx, jax.jit(tx.update), params, [g, g])
    with jax.disable_jit():
        once, _ = after(tx, tx.update, params, [g, g])
    assert_close(compiled, once, rtol=1e-2 if "big" in params else 3e-5, atol=1e-6)


def test_a_direction_computed_twice_is_mapped_over_and_differentiated():
    params, g = large(0), large(1)

    def step(rate: Any) -> Any:
        tx = gradtx.lamb(rate, weight_decay=0.1)
        return tx.update(g, tx.init(params), params)[0]

    both = jax.jit(jax.vmap(step))(jnp.array([0.1, 0.2]))
    assert_close(jax.tree.map(lambda x: x[1], both), step(0.2), rtol=1e-5)
    slope = jax.jit(jax.jacfwd(lambda rate: step(rate)["small"]))(0.2)
    np.testing.assert_allclose(slope, step(1.0)["small"], rtol=1e-5)

    def along_params(g: Any) -> Any:
        updates, _ = MEASURED["lars"].update(g, MEASURED["lars"].init(params), params)
        return sum(jnp.vdot(u, p) for u, p in zip(*map(jax.tree.leaves, (updates, params)), strict=True))

    with jax.disable_jit():
        once = jax.grad(along_params)(g)
    assert_close(jax.jit(jax.grad(along_params))(g), once, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    "inner",
    [
        gradtx.partition({"big": gradtx.adam(0.1), "*": gradtx.sgd(0.1)}),
        gradtx.accumulate(gradtx.adam(0.1), 2),
        gradtx.conditionally_transform(gradtx.adam(0.1), lambda step, *_: step > 1),
    ],
    ids=lambda tx: tx.name,
)
def test_no_tracer_is_kept(inner):
    tx = gradtx.chain(inner, gradtx.clip_by_global_norm(1))
    with jax.checking_leaks():
        jax.jit(tx.update)(large(1), tx.init(large(0)), large(0))


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.adafactor(0.1, momentum=0.9, dtype_momentum="bfloat16"),
        gradtx.chain(gradtx.trace(0.9, accumulator_dtype="bfloat16"), gradtx.clip_by_global_norm(1.0)),
    ],
    ids=lambda tx: tx.name,
)
def test_the_state_keeps_its_dtypes(tx):
    state = tx.init(large(0))
    _, new = jax.eval_shape(tx.update, large(1), state, large(0))
    assert jax.tree.map(jnp.result_type, new) == jax.tree.map(jnp.result_type, state)


def test_what_is_computed_aside_is_the_same():
    x, f = jnp.arange(5.0), lambda x: (jnp.sum(x), {"largest": jnp.max(x)})
    for compute in (lambda x: aside(f, x), jax.jit(lambda x: aside(f, x))):
        total, found = compute(x)
        assert (float(total), float(found["largest"])) == (10, 4)
    np.testing.assert_array_equal(jax.grad(lambda x: aside(f, x)[0])(x), jnp.ones(5))
    assert jax.vmap(lambda x: aside(f, x)[0])(jnp.stack([x, 2 * x])).tolist() == [10, 20]


def test_parts_of_a_chain_are_parts_by_themselves():
    x, params = random_tree(1), random_tree(2)
    parts = [
        gradtx.scale_by_adam(),
        gradtx.add_decayed_weights(0.1),
        gradtx.clip_by_global_norm(0.5),
        gradtx.scale(-0.1),
    ]
    updates = x
    for part in parts:
        updates, _ = part.update(updates, part.init(params), params)
    whole = gradtx.chain(*parts)
    assert_close(whole.update(x, whole.init(params), params)[0], updates, rtol=1e-6)


@pytest.mark.parametrize("f", [jnp.abs, functools.partial(jnp.add, 1)], ids=["jitted", "partial"])
def test_a_function_that_does_not_say_what_it_reads_is_refused(f):
    with pytest.raises(TypeError, match="leafwise: emit must be a def or lambda, whose parameters name"):
        gradtx.leafwise(emit=f)


@pytest.mark.parametrize("jit", [True, False])
def test_what_only_passes_keeps_its_dtype(jit):
    updates = {"kernel": jnp.ones((2, 2), jnp.bfloat16), "bias": jnp.ones(2, jnp.bfloat16)}
    for tx, passing, written in (
        (gradtx.identity(), ("kernel", "bias"), ()),
        (gradtx.masked(gradtx.scale(2.0), "kernel"), ("bias",), ("kernel",)),
        (gradtx.chain(gradtx.identity(), gradtx.freeze("bias")), ("kernel",), ("bias",)),
        (gradtx.product(gradtx.identity(), gradtx.identity()), (), ("kernel", "bias")),
        (gradtx.chain(gradtx.identity(), gradtx.scale(2.0)), (), ("kernel", "bias")),
    ):
        update = jax.jit(tx.update) if jit else tx.update
        found, _ = update(updates, tx.init(updates), updates)
        assert all(found[name].dtype == jnp.bfloat16 for name in passing)
        assert all(found[name].dtype == jnp.float32 for name in written)

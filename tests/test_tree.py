"""Trees: Optax's numbers, dtypes and signatures; None leaves; norms that do not overflow; states by name."""

import re

import jax
import jax.numpy as jnp
import optax
import optax.tree
import pytest

import gradtx
from cases import CASES
from gradtx import tree as T  # noqa: N812
from helpers import assert_close, random_tree


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


OPTAX = sorted(name for name in vars(optax.tree) if not name.startswith("_"))
# What Optax has at its top level.
OWN = {"NamedTupleKey", "safe_increment", "safe_int32_increment", "safe_norm", "safe_root_mean_squares"}


def test_the_names_are_those_of_optax():
    assert set(T.__all__) == OWN | set(OPTAX)
    assert set(gradtx.tree_utils.__all__) == {"NamedTupleKey"} | {f"tree_{name}" for name in OPTAX}


@pytest.mark.parametrize("name", ["tree_l1_norm", "tree_l2_norm", "tree_linf_norm"])
def test_former_names_of_norms(name):
    with pytest.warns(DeprecationWarning, match=name):
        theirs = getattr(optax.tree_utils, name)
    assert_close(getattr(gradtx.tree_utils, name)(X()), theirs(X()))


def test_a_misspelt_name_of_tree_utils():
    with pytest.raises(AttributeError, match="has no 'tree_ad'; it has NamedTupleKey, tree_add"):
        _ = gradtx.tree_utils.tree_ad


def test_the_top_level_bias_correction_is_a_transformation():
    """Optax's function of that name is `gradtx.tree.bias_correction`."""
    assert gradtx.bias_correction is not T.bias_correction
    assert isinstance(gradtx.bias_correction(0.9), gradtx.GradientTransformation)


# Optax's numbers

X, Y = (lambda: random_tree(0)), (lambda: random_tree(1))
COMPLEX = lambda: jax.tree.map(lambda x, y: x + 1j * y, X(), Y())
CALLS = [
    ("add", lambda: (X(), Y())),
    ("add", lambda: (X(), Y(), X(), Y())),
    ("sub", lambda: (X(), Y())),
    ("mul", lambda: (X(), Y())),
    ("div", lambda: (X(), Y())),
    ("scale", lambda: (0.5, X())),
    ("add_scale", lambda: (X(), -0.5, Y())),
    ("clip", lambda: (X(), -0.5, 0.7)),
    ("clip", lambda: (X(), None, 0.7)),
    ("conj", lambda: (COMPLEX(),)),
    ("real", lambda: (COMPLEX(),)),
    ("where", lambda: (True, X(), Y())),
    ("where", lambda: (jnp.array(False), X(), Y())),
    ("full_like", lambda: (X(), 3)),
    ("full_like", lambda: (X(), 3, jnp.int8)),
    ("zeros_like", lambda: (X(),)),
    ("ones_like", lambda: (X(), "bfloat16")),
    ("batch_shape", lambda: (X(), (2, 3))),
    ("batch_shape", lambda: (X(),)),
    ("cast", lambda: (X(), jnp.bfloat16)),
    ("cast", lambda: (X(), None)),
    ("cast_like", lambda: (X(), T.cast(Y(), "float16"))),
    ("sum", lambda: (X(),)),
    ("sum", lambda: (X(), True)),
    ("sum", lambda: (T.full_like(X(), 3, jnp.int32),)),
    ("max", lambda: (X(),)),
    ("min", lambda: (X(),)),
    ("size", lambda: (X(),)),
    ("vdot", lambda: (X(), Y())),
    ("vdot", lambda: (COMPLEX(), X())),
    ("norm", lambda: (X(),)),
    ("norm", lambda: (COMPLEX(), 2, True)),
    ("norm", lambda: (X(), 1)),
    ("norm", lambda: (X(), jnp.inf, True)),
    ("norm", lambda: (X(), "inf")),
    ("allclose", lambda: (X(), X())),
    ("allclose", lambda: (X(), Y())),
    ("update_moment", lambda: (X(), Y(), 0.9, 2)),
    ("update_moment", lambda: (X(), Y(), 0.9, 1)),
    ("update_moment_per_elem_norm", lambda: (X(), Y(), 0.9, 3)),
    ("update_moment_per_elem_norm", lambda: (COMPLEX(), Y(), 0.9, 2)),
    ("update_moment_per_elem_norm", lambda: (COMPLEX(), Y(), 0.9, 3)),
    ("update_infinity_moment", lambda: (X(), Y(), 0.9, 1e-8)),
    ("bias_correction", lambda: (X(), 0.9, jnp.array(7))),
    ("split_key_like", lambda: (jax.random.key(0), X())),
    ("random_like", lambda: (jax.random.key(0), X())),
    ("random_like", lambda: (jax.random.key(0), X(), jax.random.uniform, jnp.float16)),
    ("random_like", lambda: (jax.random.key(0), X(), lambda key, shape, dtype: jax.random.normal(key, shape, dtype))),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
def test_optax_numbers_and_dtypes(name, arguments):
    ours, theirs = getattr(T, name)(*arguments()), getattr(optax.tree, name)(*arguments())
    if name == "split_key_like":
        ours, theirs = T.unwrap_random_key_data(ours), optax.tree.unwrap_random_key_data(theirs)
    assert_close(ours, theirs, rtol=2e-6)
    assert jax.tree.map(jnp.result_type, ours) == jax.tree.map(jnp.result_type, theirs)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["norm", "vdot", "sum", "bias_correction", "update_moment"])
def test_optax_numbers_in_float64(name):
    x, y = random_tree(0, jnp.float64), random_tree(1, jnp.float64)
    arguments = {"vdot": (x, y), "bias_correction": (x, 0.999, jnp.array(3)), "update_moment": (x, y, 0.99, 2)}
    given = arguments.get(name, (x,))
    assert_close(getattr(T, name)(*given), getattr(optax.tree, name)(*given), rtol=1e-12)


def test_every_function_is_compared():
    elsewhere = {"get", "get_all_with_path", "set", "map_params", "dtype", "unwrap_random_key_data"}
    assert {name for name, _ in CALLS} | elsewhere == set(OPTAX)


def test_trees_without_entries():
    for empty in ({}, {"a": jnp.zeros((0, 3))}, None):
        assert T.size(empty) == 0
        assert T.sum(empty) == T.norm(empty) == T.norm(empty, 1) == T.norm(empty, jnp.inf) == 0
        assert T.max(empty) == -jnp.inf
        assert T.min(empty) == jnp.inf
        assert T.vdot(empty, empty) == 0
        assert bool(T.allclose(empty, empty))
    assert T.dtype({}) == jnp.float32


# None leaves


def test_a_none_leaf_in_any_tree_gives_none():
    x, y = {"a": jnp.ones(2), "b": None, "c": None}, {"a": jnp.ones(2), "b": jnp.ones(3), "c": None}
    both = [(T.add, ()), (T.sub, ()), (T.mul, ()), (T.div, ()), (T.update_infinity_moment, (0.9, 1e-8))]
    both += [(T.update_moment, (0.9, 2)), (T.update_moment_per_elem_norm, (0.9, 2)), (T.cast_like, ())]
    for f, further in both:
        for result in (f(x, y, *further), f(y, x, *further)):
            assert result["b"] is None
            assert result["c"] is None
            assert result["a"].shape == (2,)
    assert T.add_scale(x, 2.0, y)["b"] is T.where(True, y, x)["b"] is None
    assert T.vdot(x, y) == 2
    assert T.norm(x, 1) == T.size(x) == 2


# Precision


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_sums_of_low_precision_are_float32(dtype):
    x = {"a": jnp.full(1000, 300.0, dtype)}
    assert_close(T.sum(x), jnp.float32(3e5), rtol=1e-2)
    assert_close(T.vdot(x, x), jnp.float32(9e7), rtol=1e-2)
    assert_close(T.norm(x), jnp.float32(300 * 1000**0.5), rtol=1e-2)
    assert_close(T.norm(x, 1), jnp.float32(3e5), rtol=1e-2)
    if dtype == jnp.float16:
        assert not jnp.isfinite(optax.tree.vdot(x, x))
    assert T.add(x, x)["a"].dtype == T.scale(0.5, x)["a"].dtype == dtype
    assert T.update_moment(x, x, 0.9, 2)["a"].dtype == dtype
    assert T.bias_correction(x, 0.9, 1)["a"].dtype == dtype


def test_norms_neither_overflow_nor_have_undefined_derivatives():
    assert_close(T.norm({"a": jnp.array([3e30, 0.0]), "b": jnp.array(4e30)}), jnp.float32(5e30))
    for ord in (None, 1, 2, jnp.inf):
        for squared in (False, True):
            slope = jax.grad(lambda x, ord=ord, squared=squared: T.norm(x, ord, squared))({"a": jnp.zeros(3)})
            assert slope["a"].tolist() == [0.0, 0.0, 0.0], (ord, squared)
    with pytest.raises(ValueError, match="ord must be None, 1, 2 or inf, got 3"):
        T.norm(jnp.ones(2), 3)


def test_bias_correction_has_no_cancellation():
    decay, count = 1 - 2**-20, 1
    exact = 1.0 - decay
    assert_close(T.bias_correction(jnp.float32(exact), decay, count), jnp.float32(1.0), rtol=1e-6)
    assert T.bias_correction(jnp.zeros(2), 0.9, 0).tolist() == [0.0, 0.0]
    assert T.bias_correction(jnp.ones(2), 0.0, 3).tolist() == [1.0, 1.0]


def test_shapes_that_do_not_match_are_told():
    with pytest.raises(ValueError, match=re.escape("vdot: leaf 'a': shapes do not match: (2,) and (3,)")):
        T.vdot({"a": jnp.ones(2)}, {"a": jnp.ones(3)})


# Dtypes


def test_dtype_of_a_tree():
    same, mixed = {"a": jnp.ones(2), "b": jnp.ones(())}, {"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}
    for handler in (None, "promote", "highest", "lowest"):
        assert T.dtype(same, handler) == optax.tree.dtype(same, handler)
    for handler in ("promote", "highest", "lowest"):
        assert T.dtype(mixed, handler) == optax.tree.dtype(mixed, handler)
    with pytest.raises(ValueError, match="'a' is float32, 'b' is bfloat16; choose with mixed_dtype_handler"):
        T.dtype(mixed)
    apart = {"a": jnp.ones(2, jnp.float16), "b": jnp.ones(2, jnp.bfloat16)}
    assert T.dtype(apart, "promote") == jnp.float32
    for library in (T, optax.tree):
        with pytest.raises(ValueError, match="float16"):
            library.dtype(apart, "highest")
        with pytest.raises(ValueError, match="mixed_dtype_handler"):
            library.dtype(mixed, "other")


# Safe numbers


@pytest.mark.parametrize(
    ("ord", "axis", "keepdims"),
    [(None, None, False), (None, None, True), (1, 0, False), (jnp.inf, 1, True), ("fro", (0, 1), False), (3, 1, False)],
)
def test_safe_norm_optax_numbers(ord, axis, keepdims):
    x = random_tree(0)["layer"]["kernel"].at[:, 0].set(0.0)
    for low in (0.0, 0.5, 2.0):
        given = (low, ord, axis, keepdims)
        assert_close(gradtx.safe_norm(x, *given), optax.safe_norm(x, *given), rtol=2e-6)
        ours = jax.grad(lambda x, given=given: gradtx.safe_norm(x, *given).sum())(x)
        theirs = jax.grad(lambda x, given=given: optax.safe_norm(x, *given).sum())(x)
        assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_safe_norms_at_zero_and_far_out():
    for f in (gradtx.safe_norm, gradtx.safe_root_mean_squares):
        assert jax.grad(f)(jnp.zeros(3), 0.0).tolist() == [0.0, 0.0, 0.0]
        assert f(jnp.zeros(3), 0.5) == 0.5
        assert_close(f(jnp.array([3e30]), 0.0), jnp.float32(3e30))
    x = random_tree(0)["stack"]
    for low in (0.1, 10.0):
        assert_close(gradtx.safe_root_mean_squares(x, low), optax.safe_root_mean_squares(x, low), rtol=2e-6)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "float16", "float32"])
def test_counts_stay_at_their_largest(dtype):
    largest = (jnp.iinfo if "int" in dtype else jnp.finfo)(dtype).max
    count = jnp.array([0, 7, largest], dtype)
    ours = gradtx.safe_increment(count)
    assert ours.dtype == dtype
    assert_close(ours, optax.safe_increment(count))
    assert ours[-1] == largest
    assert gradtx.safe_int32_increment is gradtx.safe_increment
    with pytest.raises(ValueError, match="of dtype bool"):
        gradtx.safe_increment(jnp.array(True))


# States by name


def states():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    injected = optax.inject_hyperparams(optax.adamw)(learning_rate=lambda count: 1 / (count + 1))
    theirs = optax.chain(optax.clip(1.0), optax.adam(optax.linear_schedule(1.0, 0.0, 10)), optax.trace(0.9))
    yield theirs.init(params)
    yield injected.init(params)
    yield gradtx.chain(gradtx.clip(1.0), gradtx.adam(0.1), late=gradtx.trace(0.9)).init(params)
    yield {"list": [optax.trace(0.9).init(params), {"count": 3}], "count": 4, "none": None}


@pytest.mark.parametrize(
    "key",
    ["count", "mu", "trace", "learning_rate", "w", "EmptyState", "TraceState", "ScaleByAdamState", "none", "gone"],
)
def test_what_is_found_is_what_optax_finds(key):
    keep = lambda path, value: "w" not in str(path[-1:]) or hasattr(value, "shape")

    def told(found):
        return sorted((jax.tree_util.keystr(path), str(value)) for path, value in found)

    for state in states():
        for filtering in (None, keep, lambda path, value: isinstance(value, jax.Array)):
            ours = T.get_all_with_path(state, key, filtering)
            theirs = optax.tree.get_all_with_path(state, key, filtering)
            assert told(ours) == told(theirs)
            if len(theirs) > 1:
                with pytest.raises(KeyError, match=f"several values are called '{key}': "):
                    T.get(state, key, filtering=filtering)
            else:
                assert str(T.get(state, key, "nothing", filtering)) == str(
                    optax.tree.get(state, key, "nothing", filtering)
                )


def test_what_is_set_is_what_optax_sets():
    arrays, five, compared = (lambda path, value: isinstance(value, jax.Array)), jnp.array(5), 0
    for state in states():
        for filtering in (None, arrays):
            if not T.get_all_with_path(state, "count", filtering):
                with pytest.raises(KeyError, match=r"nothing.* is called 'count'; there are "):
                    T.set(state, filtering, count=five)
                continue
            ours, theirs = (library.set(state, filtering, count=five) for library in (T, optax.tree))
            assert jax.tree.structure(ours) == jax.tree.structure(state)
            assert all(value is five for _, value in T.get_all_with_path(ours, "count", filtering))
            # Optax passes over what is in a list or a tuple below a node that has the name itself.
            if all(value is five for _, value in T.get_all_with_path(theirs, "count", filtering)):
                assert_close(ours, theirs)
                compared += 1
    assert compared == 4
    state = optax.trace(0.9).init(jnp.ones(2))
    assert T.set((state, 1), TraceState="new") == ("new", 1)
    with pytest.raises(KeyError, match="nothing is called 'cout'; there are trace"):
        T.set(state, cout=1)


def test_a_state_of_ours_is_read_and_set_by_name():
    params = {"w": jnp.ones(2)}
    tx = gradtx.inject_hyperparams(gradtx.chain(gradtx.clip(1.0), gradtx.adam(0.1)), "learning_rate")
    state = tx.init(params)
    assert T.get(state, "learning_rate") == jnp.float32(0.1)  # and not a second time where adam records it
    changed = T.set(state, learning_rate=jnp.float32(0.5))
    assert T.get(changed, "learning_rate") == 0.5
    assert gradtx.get_hyperparam(changed, "learning_rate") == 0.5
    updates, _ = jax.jit(tx.update)(params, changed, params)
    assert_close(updates, {"w": jnp.full(2, -0.5)}, rtol=1e-5)
    assert jax.jit(lambda s: T.get(s, "momentum")["w"] + 1)(state).tolist() == [1.0, 1.0]
    beside = gradtx.chain(tx, gradtx.sgd(0.2)).init(params)  # this record is of no injected rate
    assert [float(rate) for _, rate in T.get_all_with_path(beside, "learning_rate")] == pytest.approx([0.1, 0.2])


# Parts of a state that belong to parameters


def test_parameters_in_a_state_are_mapped():
    params, names = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"w": "W", "b": "B"}
    state = gradtx.lamb(0.1).init(params)
    assert_close(T.map_params(gradtx.lamb(0.1).init, lambda x: x, state), state)
    theirs = optax.adam(0.1)
    state = theirs.init(params)
    ours = T.map_params(theirs, lambda x, n: n, state, names, transform_non_params=lambda x: None)
    assert ours == optax.tree.map_params(theirs, lambda x, n: n, state, names, transform_non_params=lambda x: None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parameters_in_the_state_of_every_optimizer_are_mapped(case):
    params, names = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"w": "W", "b": "B"}
    state = jax.eval_shape(case.tx.init, params)
    mapped = T.map_params(case.tx, lambda x, name: name, state, names, transform_non_params=lambda x: "-")
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    for path, shown in jax.tree_util.tree_flatten_with_path(mapped)[0]:
        own = [name for key, name in names.items() if jax.tree_util.DictKey(key) in path]
        assert shown == (own[0] if own else "-")


def test_masked_parts_of_a_state_are_mapped():
    params = {"w": jnp.ones(2), "b": jnp.ones(3)}
    for where in ("w", lambda path, leaf: path == "w"):
        tx = gradtx.masked(gradtx.trace(0.9), where)
        mapped = T.map_params(tx, lambda leaf, name: name, tx.init(params), {"w": "W", "b": "B"})
        assert T.get(mapped, "trace") == {"w": "W", "b": None}
    tx = gradtx.partition({"w": gradtx.trace(0.9), "*": gradtx.ema(0.9)})
    mapped = T.map_params(tx, lambda leaf: leaf.shape, tx.init(params))
    assert T.get(mapped, "trace") == {"w": (2,), "b": None}
    by_tree = gradtx.masked(gradtx.trace(0.9), {"w": True, "b": False})
    mapped = T.map_params(by_tree, lambda leaf: leaf.shape, by_tree.init(params))
    assert T.get(mapped, "trace") == {"w": (2,), "b": None}
    theirs = gradtx.masked(optax.trace(0.9), {"w": True, "b": False})  # a state that declares no roles
    with pytest.raises(ValueError, match=r"cannot be laid out without the parameters; .* predicate"):
        T.map_params(theirs, lambda x: x, theirs.init(params))


def test_all_that_is_no_parameters_is_mapped_too():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    tx = gradtx.adafactor(gradtx.linear_schedule(0.1, 0.0, 10), min_dim_size_to_factor=2)
    mapped = T.map_params(
        tx, lambda leaf, name: name, tx.init(params), {"w": "W", "b": "B"}, transform_non_params=lambda x: "number"
    )
    factored = mapped.scale_by_factored_rms
    assert (factored.count, factored.row, factored.second_moment) == (
        "number",
        {"w": "W", "b": None},
        {"w": None, "b": "B"},
    )
    assert T.get(mapped, "learning_rate") == "number"


def test_a_statistic_is_found_inside_a_stage_of_its_name():
    params = {"w": jnp.ones(2)}
    assert T.get(gradtx.sgd(0.1, momentum=0.9).init(params), "trace").keys() == {"w"}
    assert T.get(gradtx.ema(0.9).init(params), "ema").keys() == {"w"}
    with pytest.raises(KeyError, match="several values are called 'trace'"):
        T.get(gradtx.chain(gradtx.trace(0.9), gradtx.trace(0.5)).init(params), "trace")

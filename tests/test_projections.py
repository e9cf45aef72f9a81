"""Projections: Optax's numbers, nearest points, edges, derivatives; and parameters kept in a set."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import projections
from helpers import assert_close, random_tree, run_steps


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def tree_of(seed, dtype=float):
    layer = random_tree(seed, dtype)["layer"]
    return {"w": 3 * layer["kernel"], "b": 3 * layer["bias"][0]}


def flat(tree):
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def stacked(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def bounds(value):
    return jax.tree.map(lambda x: jnp.full_like(x, value), tree_of(0))


# name, further arguments (made when used: their precision is that of the test)
NORMAL = lambda: (tree_of(7), 0.3)
TABLE = [
    ("projection_non_negative", lambda: ()),
    ("projection_box", lambda: (bounds(-0.5), bounds(1.5))),
    ("projection_hypercube", lambda: (bounds(0.7),)),
    ("projection_linf_ball", lambda: (0.8,)),
    ("projection_simplex", lambda: ()),
    ("projection_simplex", lambda: (40.0,)),
    ("projection_simplex", lambda: (1e-3,)),
    ("projection_l1_sphere", lambda: (5.0,)),
    ("projection_l1_sphere", lambda: (500.0,)),
    ("projection_l1_ball", lambda: (5.0,)),
    ("projection_l1_ball", lambda: (500.0,)),
    ("projection_l2_sphere", lambda: ()),
    ("projection_l2_sphere", lambda: (500.0,)),
    ("projection_l2_ball", lambda: (2.5,)),
    ("projection_l2_ball", lambda: (500.0,)),
    ("projection_vector", lambda: (tree_of(7),)),
    ("projection_hyperplane", NORMAL),
    ("projection_halfspace", NORMAL),
    ("projection_halfspace", lambda: (tree_of(7), 1e3)),
]
every = pytest.mark.parametrize(("name", "further"), TABLE, ids=[name for name, _ in TABLE])
ONCE = pytest.mark.parametrize(("name", "further"), dict(TABLE).items(), ids=dict(TABLE))
COMPILED = {name: jax.jit(getattr(projections, name)) for name, _ in TABLE}


def test_the_table_has_all_projections():
    assert {name for name, _ in TABLE} == set(projections.__all__) - {"project_params"}


@functools.cache
def value_and_pullback(module, name):
    """(tree, weights, arguments) -> the projection, and the derivative of its product with weights; compiled once."""
    project = getattr(module, name)
    if module is optax.projections and name == "projection_hypercube":  # takes no tree, only an array
        project = functools.partial(jax.tree.map, project)

    def both(tree, weights, arguments):
        value, pull = jax.vjp(lambda tree: project(tree, *arguments), tree)
        return value, *pull(weights)

    return jax.jit(both)


@every
@pytest.mark.usefixtures("x64")
def test_optax_numbers_and_derivatives(name, further):
    for seed in range(3):
        given = tree_of(seed), tree_of(3), further()
        ours, theirs = (value_and_pullback(module, name)(*given) for module in (projections, optax.projections))
        assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@ONCE
def test_jit_vmap_and_idempotence(name, further):
    arguments = further()
    trees = [tree_of(seed, jnp.float32) for seed in range(3)]
    once = [COMPILED[name](tree, *arguments) for tree in trees]
    assert_close(getattr(projections, name)(trees[0], *arguments), once[0], rtol=1e-5, atol=1e-6)
    batch = jax.jit(jax.vmap(lambda tree: COMPILED[name](tree, *arguments)))(stacked(trees))
    assert_close(batch, stacked(once), rtol=1e-5, atol=1e-6)
    assert_close(COMPILED[name](once[0], *arguments), once[0], rtol=1e-5, atol=2e-5)


@ONCE
def test_no_point_of_the_set_is_nearer(name, further):
    """⟨x − Px, y − Px⟩ ≤ 0 for y of a convex set; ‖x − Px‖ ≤ ‖x − y‖ for any."""
    project, arguments = COMPILED[name], further()
    x = tree_of(0)
    nearest = np.linalg.norm(flat(x) - flat(project(x, *arguments)))
    for seed in range(10, 20):
        y = project(tree_of(seed), *arguments)
        assert nearest <= np.linalg.norm(flat(x) - flat(y)) + 1e-4


@ONCE
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_leaves_keep_their_dtype_and_are_computed_in_float32(name, further, dtype):
    tree, arguments = tree_of(0, dtype), jax.tree.map(lambda x: jnp.asarray(x, dtype), further())
    got = COMPILED[name](tree, *arguments)
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    wide = lambda t: jax.tree.map(lambda x: x.astype(jnp.float32), t)
    expected = COMPILED[name](wide(tree), *wide(arguments))
    assert_close(wide(got), expected, rtol=float(jnp.finfo(dtype).eps), atol=1e-6)


@ONCE
def test_none_leaves_stay_none(name, further):
    arguments = [dict(a, extra=None) if isinstance(a, dict) else a for a in further()]
    got = COMPILED[name]({**tree_of(0), "extra": None}, *arguments)
    assert got.pop("extra") is None
    assert_close(got, COMPILED[name](tree_of(0), *further()))


# Edges


def zeros():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


@ONCE
@pytest.mark.parametrize("x", [zeros(), jnp.array(-2.0), {"w": jnp.zeros((0, 5))}, {}], ids=str)
def test_values_and_derivatives_are_finite_at_the_edges(name, further, x):
    project = getattr(projections, name)
    kinds = {"projection_box": (-1.0, 1.0), "projection_hypercube": (1.0,), "projection_vector": (x,)}
    arguments = kinds.get(name, (x, 0.5) if "plane" in name or "space" in name else further())

    def value_and_derivatives(x, arguments):
        both = lambda x, arguments: project(x, *arguments)
        return both(x, arguments), jax.jacrev(both, (0, 1))(x, arguments), jax.jacfwd(both)(x, arguments)

    assert jax.tree.structure(project(x, *arguments)) == jax.tree.structure(x)
    chex.assert_tree_all_finite(jax.jit(value_and_derivatives)(x, arguments) if jax.tree.leaves(x) else x)


@pytest.mark.parametrize("scale", [0.0, 0, 2.0])
@pytest.mark.parametrize("x", [zeros(), tree_of(1), {"w": jnp.array([0.0, -1.0])}], ids=["zero", "point", "few"])
def test_points_are_in_the_set_whatever_the_radius(x, scale):
    scale_of = {"simplex": np.sum, "l1_sphere": lambda y: np.abs(y).sum(), "l2_sphere": np.linalg.norm}
    for name, size in scale_of.items():
        y = flat(getattr(projections, f"projection_{name}")(x, scale))
        np.testing.assert_allclose(size(y), scale, atol=1e-5)
    assert (flat(projections.projection_simplex(x, scale)) >= 0).all()
    for name, order in (("l1_ball", 1), ("l2_ball", 2), ("linf_ball", np.inf)):
        y = flat(getattr(projections, f"projection_{name}")(x, scale))
        assert np.linalg.norm(y, order) <= scale * (1 + 1e-5)


def test_optax_leaves_the_sphere_where_entries_are_zero():
    x = jnp.array([1.0, 0.0])
    assert_close(projections.projection_l1_sphere(x, 3.0), jnp.array([2.0, 1.0]))
    assert optax.projections.projection_l1_sphere(x, 3.0).tolist() == [2.0, 0.0]
    for name in ("l2_sphere", "l2_ball", "simplex"):
        assert np.isnan(getattr(optax.projections, f"projection_{name}")(jnp.zeros(2), 0.0)).all()


@pytest.mark.parametrize("name", ["l1_ball", "l2_ball", "linf_ball", "halfspace", "box", "hypercube", "non_negative"])
def test_a_point_inside_is_left_exactly_alone_and_so_is_its_derivative(name):
    x = {"w": jnp.array([0.1, 0.3, 0.0]), "b": jnp.array(0.2)}
    arguments = {"halfspace": (x, 9.0), "box": (-1.0, 1.0)}.get(name, ())
    project = lambda x: COMPILED[f"projection_{name}"](x, *arguments)
    assert all(map(np.array_equal, jax.tree.leaves(project(x)), jax.tree.leaves(x)))
    slopes = jax.grad(lambda x: optax.tree.sum(project(x)))(x)
    inside = 0.0 if name == "non_negative" else 0.5 if name == "hypercube" else 1.0  # of the entry on the bound
    assert_close(slopes["b"], jnp.ones(()))
    assert slopes["w"].tolist() == [1.0, 1.0, inside]


def test_huge_and_tiny_vectors():
    huge, tiny = jnp.array([3e30, -4e30]), jnp.array([3e-30, -4e-30])
    for x in (huge, tiny):
        assert_close(projections.projection_l2_sphere(x, 5.0), jnp.array([3.0, -4.0]))
        assert_close(projections.projection_vector(x, huge), x, rtol=1e-5)
        assert_close(projections.projection_vector(x, tiny), x, rtol=1e-5)
    assert_close(projections.projection_l2_ball(huge), jnp.array([0.6, -0.8]))
    assert_close(projections.projection_l2_ball(tiny), tiny, rtol=0)
    assert_close(projections.projection_simplex(jnp.array([1e30, 1e30, -1e30])), jnp.array([0.5, 0.5, 0.0]))
    assert_close(projections.projection_simplex(jnp.array([1.0, 1.5, -jnp.inf])), jnp.array([0.25, 0.75, 0.0]))


@pytest.mark.usefixtures("x64")
def test_the_threshold_of_hard_cases():
    rng = np.random.default_rng(0)
    hard = [
        np.ones(300),
        1.0 / np.arange(1, 301),
        -np.arange(300.0),
        0.5 ** np.arange(300.0),
        np.sort(rng.exponential(size=300)) * 1e-3,
        1e6 + rng.normal(size=300),
        np.repeat([3.0, 3.0 - 1e-9, -1.0], 100),
    ]
    theirs = jax.jit(optax.projections.projection_simplex)
    for x in hard:
        for scale in (1e-6, 1.0, 1e3):
            ours = COMPILED["projection_simplex"](x, scale)
            np.testing.assert_allclose(ours.sum(), scale, rtol=1e-9)
            # Optax sums the entries as they are: it is as exact as the largest allows.
            assert_close(ours, theirs(x, scale), rtol=1e-6, atol=1e-9 * scale + 1e-13 * abs(x).max())


def test_complex_leaves_have_lengths():
    x = jnp.array([3 + 4j, 0.1j])
    assert_close(projections.projection_l1_ball(x, 2.0), jnp.array([1.2 + 1.6j, 0.0]), rtol=1e-5)
    assert_close(projections.projection_l2_sphere(x[:1], 10.0), jnp.array([6 + 8j]))
    assert_close(projections.projection_vector(x, 1j * x), x)


def test_bounds_are_numbers_trees_prefixes_or_none():
    tree = {"a": {"w": jnp.array([[-3.0, 0.5], [3.0, 9.0]])}, "b": jnp.array(-3.0)}
    box = lambda *bounds: flat(projections.projection_box(tree, *bounds)).tolist()
    assert box(-1.0, 1) == [-1.0, 0.5, 1.0, 1.0, -1.0]
    assert box(None, 1.0) == [-3.0, 0.5, 1.0, 1.0, -3.0]
    assert box({"a": 0.0, "b": None}, jnp.array(4.0)) == [0.0, 0.5, 3.0, 4.0, -3.0]
    assert box({"a": {"w": jnp.array([0.0, 1.0])}, "b": -2.0}, None) == [0.0, 1.0, 3.0, 9.0, -2.0]
    assert projections.projection_hypercube(tree, {"a": 1.0, "b": 2.0})["a"]["w"].tolist() == [[0.0, 0.5], [1.0, 1.0]]
    with pytest.raises(ValueError, match="the tree of bounds 'upper' does not fit"):
        projections.projection_box(tree, 0.0, {"a": 1.0})


def test_bad_arguments_are_told():
    for name in ("simplex", "l1_ball", "l1_sphere", "l2_ball", "l2_sphere", "linf_ball"):
        with pytest.raises(ValueError, match=f"projection_{name}: scale must be at least 0, got -1.0"):
            getattr(projections, f"projection_{name}")(jnp.ones(2), -1.0)
    with pytest.raises(ValueError, match="leaf 'a': shapes do not match"):
        projections.projection_vector({"a": jnp.ones(2)}, {"a": jnp.ones(3)})
    with pytest.raises(ValueError, match="no projection is named 'ball'; there are box, "):
        gradtx.project_params("ball").update(jnp.ones(2), gradtx.project_params("ball").init(0.0), jnp.ones(2))


# In an optimizer


KEPT = [
    ("non_negative", {}),
    ("box", {"lower": -0.25, "upper": 0.5}),
    ("simplex", {"scale": 3.0}),
    ("l1_ball", {"scale": 2.0}),
    ("l2_sphere", {"scale": 2.0}),
    ("l2_ball", {"scale": 2.0}),
]


@pytest.mark.parametrize(("name", "arguments"), KEPT)
def test_parameters_stay_in_the_set(name, arguments):
    gradients = [tree_of(seed, jnp.float32) for seed in range(8)]
    project = lambda tree: getattr(projections, f"projection_{name}")(tree, **arguments)
    tx = gradtx.chain(gradtx.sgd(0.3), gradtx.project_params(name, **arguments))
    by_hand = tree_of(9, jnp.float32)
    params, _ = run_steps(tx, by_hand, gradients)
    for gradient in gradients:
        by_hand = project(jax.tree.map(lambda p, g: p - 0.3 * g, by_hand, gradient))
    assert_close(params, by_hand, rtol=1e-4, atol=1e-5)
    assert_close(project(params), params, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_non_negative_parameters_are_never_below_zero(dtype):
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.exponential(size=20000) * 10.0 ** rng.integers(-6, 4, 20000), dtype)
    tx = gradtx.chain(gradtx.scale(-0.3), gradtx.project_params("non_negative"))

    @jax.jit
    def step(params, gradient):
        updates, _ = tx.update(gradient, tx.init(params), params)
        return gradtx.apply_updates(params, updates)

    touched = 0
    for gradient in (params / 0.3, params * 3.3334, params * 3.3332, params, params * 100, -params):
        new = step(params, gradient.astype(dtype))
        assert new.dtype == dtype
        assert bool((new >= 0).all())
        touched += int((new == 0).sum())
    assert touched > 20000


def test_a_bound_is_passed_by_one_rounding_at_most():
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.uniform(0, 0.7, 10000), jnp.float32)
    tx = gradtx.project_params("box", lower=0.1, upper=0.7)
    updates, _ = tx.update(jnp.asarray(rng.normal(size=10000), jnp.float32), tx.init(params), params)
    new = np.asarray(gradtx.apply_updates(params, updates))
    assert new.max() <= np.nextafter(np.float32(0.7), np.float32(1))
    assert new.min() >= np.nextafter(np.float32(0.1), np.float32(0))
    low = jnp.asarray(params, jnp.bfloat16)
    tx = gradtx.project_params("box", lower=0.125, upper=0.5)  # bounds that bfloat16 has
    updates, _ = tx.update(jnp.asarray(rng.normal(size=10000), jnp.float32), tx.init(low), low)
    new = gradtx.apply_updates(low, updates)
    assert float(new.max()) == 0.5
    assert float(new.min()) == 0.125


def test_non_negative_parameters_optax_numbers():
    params = jax.tree.map(jnp.abs, random_tree(0))
    tx, theirs = gradtx.project_params("non_negative"), optax.keep_params_nonnegative()
    for seed in range(3):
        ours, _ = tx.update(random_tree(seed), tx.init(params), params)
        expected, _ = theirs.update(random_tree(seed), theirs.init(params), params)
        assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(random_tree(0), tx.init(params))


def test_only_leaves_with_updates_take_part():
    params = {"w": jnp.array([3.0, 4.0]), "b": jnp.array(-7.0)}
    tx = gradtx.masked(gradtx.project_params("l2_ball"), "w")
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    new = gradtx.apply_updates(params, updates)
    assert_close(new, {"w": jnp.array([0.6, 0.8]), "b": jnp.array(-7.0)})
    updates, _ = gradtx.project_params("l2_ball").update({"w": jnp.zeros(2), "b": None}, tx.init(params), params)
    assert updates["b"] is None
    assert_close(gradtx.apply_updates(params, updates), new)


def test_project_params_is_a_value():
    tx = gradtx.project_params("l2_ball", scale=2.0)
    assert jax.tree.leaves(tx) == [2.0]
    assert repr(tx) == "project_params(projection='l2_ball', scale=2.0)"
    assert tx.replace(scale=3.0) == gradtx.project_params("l2_ball", scale=3.0)
    assert gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx)))) == tx
    point = jnp.array([3.0, 4.0])
    swept = jax.vmap(lambda tx: tx.update(point, tx.init(point), point)[0] + point)(
        jax.vmap(lambda r: tx.replace(scale=r))(jnp.array([1.0, 5.0]))
    )
    assert_close(swept, jnp.array([[0.6, 0.8], [3.0, 4.0]]), rtol=1e-5)
    own = gradtx.project_params(lambda tree: jax.tree.map(jnp.round, tree))
    assert own.update(jnp.array(0.4), own.init(0.0), jnp.array(0.3))[0] == jnp.float32(1.0) - jnp.float32(0.3)
    ready = gradtx.inject_hyperparams(tx, "scale")
    state = gradtx.set_hyperparams(ready.init(point), scale=10.0)
    assert_close(ready.update(jnp.zeros(2), state, point)[0], jnp.zeros(2))

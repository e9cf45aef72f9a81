"""One way to choose leaves: patterns, predicates, trees; partition, masked and freeze."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import gradtx
from gradtx.core.select import select
from gradtx.core.tree import path_string
from helpers import assert_close, random_tree, run_steps

PARAMS = random_tree()
KERNEL = {"layer": {"kernel": True, "bias": False}, "scalar": False, "stack": False}


@pytest.mark.parametrize(
    "where",
    [
        "*kernel",
        "kernel",
        "layer/k*",
        re.compile("kern"),
        re.compile(r"^layer/kernel$"),
        KERNEL,
        lambda path, leaf: path.endswith("kernel"),
        lambda path, leaf: leaf.ndim == 2,
        lambda params: jax.tree.map(lambda x: x.ndim == 2, params),
    ],
    ids=["glob", "name", "glob-path", "regex", "regex-anchored", "tree", "by-path", "by-leaf", "function"],
)
def test_every_way_to_choose(where):
    assert select(where, PARAMS) == KERNEL
    tx = gradtx.masked(gradtx.scale(10.0), where)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    expected = PARAMS | {"layer": {"kernel": 10 * PARAMS["layer"]["kernel"], "bias": PARAMS["layer"]["bias"]}}
    assert_close(updates, expected)


def test_a_prefix_tree_covers_what_is_below():
    assert select({"layer": True, "scalar": False, "stack": False}, PARAMS)["layer"] == {"kernel": True, "bias": True}
    assert select(True, PARAMS)["stack"] is True


def test_masked_leaves_have_no_state():
    state = gradtx.masked(gradtx.trace(0.9), "*kernel").init(PARAMS)
    assert [x.shape for x in jax.tree.leaves(state)] == [(3, 4)]


def test_a_tree_without_leaves_has_nothing_to_choose():
    assert select("kernel", {"layer": {}}) == {"layer": {}}
    for tx in (gradtx.masked(gradtx.trace(0.9), "kernel"), gradtx.partition({"kernel": gradtx.trace(0.9)})):
        assert tx.update({}, tx.init({}))[0] == {}


def test_freeze_holds_leaves_exactly():
    tx = gradtx.chain(gradtx.adamw(0.1), gradtx.freeze("layer/*"))
    gradient = random_tree(1) | {"layer": {"kernel": jnp.full((3, 4), jnp.nan), "bias": jnp.ones(4)}}
    new, _ = run_steps(tx, PARAMS, [gradient] * 3)
    assert_close(new["layer"], PARAMS["layer"])
    assert new["scalar"] != PARAMS["scalar"]


def test_partition_by_patterns_first_match_wins():
    tx = gradtx.partition({"layer/bias": gradtx.scale(2.0), "layer/*": gradtx.scale(3.0), "*": gradtx.set_to_zero()})
    updates, _ = tx.update(PARAMS, tx.init(PARAMS))
    assert_close(updates["layer"], {"kernel": 3 * PARAMS["layer"]["kernel"], "bias": 2 * PARAMS["layer"]["bias"]})
    assert_close(updates["stack"], jnp.zeros((2, 3, 2)))


@pytest.mark.parametrize(
    "labels",
    [
        {"layer": "a", "scalar": "b", "stack": "b"},
        lambda path, leaf: "a" if path.startswith("layer") else "b",
        lambda params: {"layer": "a", "scalar": "b", "stack": "b"},
    ],
    ids=["tree", "by-path", "function"],
)
def test_partition_by_labels(labels):
    tx = gradtx.partition({"a": gradtx.adam(0.1), "b": gradtx.sgd(0.1)}, labels)
    new, state = run_steps(tx, PARAMS, [random_tree(1), random_tree(2)])
    adam, _ = run_steps(gradtx.adam(0.1), PARAMS, [random_tree(1), random_tree(2)])
    sgd, _ = run_steps(gradtx.sgd(0.1), PARAMS, [random_tree(1), random_tree(2)])
    assert_close(new, {"layer": adam["layer"], "scalar": sgd["scalar"], "stack": sgd["stack"]})
    assert set(state) == {"a", "b"}
    assert gradtx.multi_transform is gradtx.partition


def test_groups_hold_only_their_own_state():
    state = gradtx.partition({"*kernel": gradtx.adam(0.1), "*": gradtx.sgd(0.1)}).init(PARAMS)
    assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == 2 * 12


def test_norms_are_those_of_the_group():
    tx = gradtx.masked(gradtx.clip_by_global_norm(1.0), "*kernel")
    updates, _ = tx.update(PARAMS, tx.init(PARAMS))
    assert gradtx.global_norm(updates["layer"]["kernel"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (gradtx.masked(gradtx.scale(2.0), "*kernal"), "pattern '.kernal' matches no leaf; the leaves are 'layer/bias'"),
        (gradtx.freeze(re.compile("head")), "pattern 'head' matches no leaf"),
        (gradtx.partition({"*bias": gradtx.scale(2.0)}), "no pattern matches leaf 'layer/kernel'; end with"),
        (gradtx.partition({"*": gradtx.scale(2.0), "*bias": gradtx.scale(1.0)}), "'.bias' gets no leaf"),
        (gradtx.partition({"a": gradtx.scale(2.0)}, "a*"), "has the label 'a.', which has no transformation"),
        (
            gradtx.partition({"a": gradtx.scale(2.0)}, {"layer": "a", "scalar": "a", "stack": "z"}),
            "leaf 'stack' has the label 'z', which has no transformation; there are 'a'",
        ),
        (
            gradtx.partition({"a": gradtx.scale(2.0), "b": gradtx.scale(1.0)}, lambda path, leaf: "a"),
            "partition: 'b' gets no leaf",
        ),
        (gradtx.masked(gradtx.scale(2.0), {"layer": True}), "masks or labels does not fit"),
        (
            gradtx.partition({"a": gradtx.scale(2.0)}, {"a": "layer/*"}),
            r"does not fit the parameters\npatterns stand where the labels do: partition\({pattern: transformation}\)",
        ),
        (gradtx.masked(gradtx.scale(2.0), KERNEL | {"stack": "yes"}), "leaf 'stack': a mask holds booleans, got 'yes'"),
    ],
    ids=range(10),
)
def test_mistakes_are_named(tx, message):
    with pytest.raises(ValueError, match=message):
        tx.init(PARAMS)


class Dense(eqx.Module):
    """A callable pytree."""

    kernel: object
    bias: object

    def __call__(self, x):
        return self.kernel * x + self.bias


def test_callable_pytrees_are_trees_not_functions():
    params = Dense(jnp.ones(2), jnp.ones(2))
    masked = gradtx.masked(gradtx.scale(2.0), Dense(True, False))
    updates, _ = masked.update(params, masked.init(params))
    assert_close(updates, Dense(2 * jnp.ones(2), jnp.ones(2)))
    split = gradtx.partition({"a": gradtx.scale(2.0), "b": gradtx.scale(3.0)}, Dense("a", "b"))
    updates, _ = split.update(params, split.init(params), params)
    assert_close(updates, Dense(2 * jnp.ones(2), 3 * jnp.ones(2)))
    by_path = gradtx.masked(gradtx.scale(2.0), "kernel")
    assert_close(by_path.update(params, by_path.init(params))[0], Dense(2 * jnp.ones(2), jnp.ones(2)))


def test_selection_inside_selection():
    """The inner mask sees the paths of the whole tree, and only its own group's leaves change."""
    tx = gradtx.partition({"layer/*": gradtx.masked(gradtx.scale(2.0), "*bias"), "*": gradtx.identity()})
    updates, _ = tx.update(PARAMS, tx.init(PARAMS))
    assert_close(updates["layer"], {"kernel": PARAMS["layer"]["kernel"], "bias": 2 * PARAMS["layer"]["bias"]})
    tx = gradtx.partition({"stack": gradtx.adamw(0.1, mask="*kernel"), "*": gradtx.identity()})
    tx.update(PARAMS, tx.init(PARAMS), PARAMS)


def test_predicates_are_not_asked_about_none():
    params = {"w": jnp.ones(2), "activation": None, "b": jnp.ones(2)}
    tx = gradtx.chain(
        gradtx.masked(gradtx.scale(2.0), lambda path, leaf: leaf.ndim == 1 and path == "w"),
        gradtx.partition(
            {"a": gradtx.scale(3.0), "b": gradtx.scale(5.0)},
            lambda path, leaf: "a" if leaf.size and path == "w" else "b",
        ),
    )
    updates, _ = tx.update(params, tx.init(params), params)
    assert_close(updates, {"w": 6 * jnp.ones(2), "activation": None, "b": 5 * jnp.ones(2)})


DEEP = {"encoder": [{"w": jnp.ones(1), "b": jnp.ones(1)}, {"w": jnp.ones(1)}], "w": jnp.ones(1), "wide": jnp.ones(1)}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("w", {"encoder/0/w", "encoder/1/w", "w"}),  # a name, at any depth
        ("w*", {"encoder/0/w", "encoder/1/w", "w", "wide"}),
        ("encoder", {"encoder/0/b", "encoder/0/w", "encoder/1/w"}),  # all below it
        ("encoder/*/w", {"encoder/0/w", "encoder/1/w"}),  # with a slash: the whole path
        ("*/w", {"encoder/0/w", "encoder/1/w"}),
        ("1", {"encoder/1/w"}),
        (re.compile("w$"), {"encoder/0/w", "encoder/1/w", "w"}),
    ],
)
def test_patterns(pattern, paths):
    chosen = jax.tree_util.tree_flatten_with_path(select(pattern, DEEP))[0]
    assert {path_string(path) for path, answer in chosen if answer} == paths

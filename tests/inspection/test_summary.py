"""The table of an optimizer agrees with its real state, reads well, and is made from shapes alone."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx
from cases import CASES
from helpers import random_tree

PARAMS = {
    "hidden": {"kernel": jnp.ones((64, 32)), "bias": jnp.ones(32)},
    "output": {"kernel": jnp.ones((32, 10)), "bias": jnp.ones(10)},
}


def nbytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def row_of(description, name):
    (row,) = (row for row in description.rows if row.name == name)
    return row


# The numbers


@pytest.mark.parametrize("depth", [0, 1, 9])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bytes_are_those_of_the_state(case, depth):
    params = random_tree(dtype=jnp.bfloat16)
    description = gradtx.describe(case.tx, params, depth=depth)
    assert description.state_bytes == nbytes(case.tx.init(params))
    assert (description.num_leaves, description.param_bytes) == (4, nbytes(params))
    leaves = [row for row in description.rows if not any(r.path[:-1] == row.path for r in description.rows)]
    assert len(description.rows) == 1 or leaves


def test_the_parts_of_adamw_add_up():
    description = gradtx.describe(gradtx.adamw(1e-3), PARAMS)
    assert [row.name for row in description.rows] == [
        "adamw",
        "scale_by_adam",
        "add_decayed_weights",
        "scale_by_learning_rate",
    ]
    assert description.rows[0].state_bytes == sum(row.state_bytes for row in description.rows[1:])
    assert row_of(description, "scale_by_adam").state_bytes == 2 * nbytes(PARAMS) + 8
    assert row_of(description, "scale_by_adam").keeps == ("momentum", "ema")
    assert row_of(description, "scale_by_adam").dtypes == ("float32",)


def test_paths_lead_to_the_state():
    tx = gradtx.inject_hyperparams(gradtx.partition({"bias": gradtx.sgd(0.1, 0.9), "*": gradtx.lion(1e-3)}))
    state = tx.init(PARAMS)
    for row in gradtx.describe(tx, PARAMS, depth=9).rows:
        node = state
        for step in row.path:
            node = node[step] if isinstance(node, dict) else getattr(node, step)
        assert nbytes(node) == row.state_bytes


def test_groups_tell_their_leaves():
    tx = gradtx.partition({"bias": gradtx.sgd(0.1, momentum=0.9), "*": gradtx.masked(gradtx.adam(1e-3), "hidden")})
    description = gradtx.describe(tx, PARAMS)
    assert row_of(description, "bias: sgd").leaves == ("hidden/bias", "output/bias")
    assert row_of(description, "bias: sgd").num_params == 42
    assert row_of(description, "adam").leaves == ("hidden/kernel",)
    assert "2 of 4: hidden/bias, output/bias" in str(description)


def test_hyperparameters_are_those_in_use():
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, 1e-2, warmup_steps=20, decay_steps=200)
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(schedule, b1=0.8, mask="kernel"))
    description = gradtx.describe(tx, PARAMS)
    assert row_of(description, "scale_by_adam").hyperparameters == {"b1": "0.8", "b2": "0.999", "eps": "1e-08"}
    assert row_of(description, "add_decayed_weights").hyperparameters["mask"] == "'kernel'"
    assert row_of(description, "scale_by_learning_rate").hyperparameters == {
        "learning_rate": "warmup_cosine_decay_schedule(…)"
    }
    assert gradtx.describe(gradtx.adam(0.5), PARAMS, depth=0).rows[0].hyperparameters["learning_rate"] == "0.5"


def test_wrappers_names_and_other_libraries():
    tx = gradtx.apply_if_finite(gradtx.chain(first=optax.clip(1.0), second=gradtx.adam(1e-3)), 3)
    names = [row.name for row in gradtx.describe(tx, PARAMS, depth=0).rows]
    assert names == ["apply_if_finite", "chain", "first: clip", "second: adam"]
    description = gradtx.describe(gradtx.accumulate(gradtx.adam(1e-3), 4), PARAMS)
    assert row_of(description, "accumulate").hyperparameters == {"every": "4"}
    assert row_of(description, "accumulate").keeps == ("acc_grads",)
    assert row_of(description, "scale_by_adam").keeps == ("momentum", "ema")
    assert gradtx.describe(optax.adam(1e-3), PARAMS).state_bytes == nbytes(optax.adam(1e-3).init(PARAMS))
    inside = optax.chain(optax.clip(1.0), gradtx.adam(1e-3))
    assert gradtx.describe(inside, PARAMS, depth=0).rows[1].name == "1: adam"


def test_unusual_trees():
    assert gradtx.describe(gradtx.identity(), {}).state_bytes == 0
    tree = {"int": jnp.arange(3), "none": None, "complex": jnp.ones(2, jnp.complex64), "empty": jnp.ones((0, 5))}
    description = gradtx.describe(gradtx.adam(0.1), tree)
    assert description.num_params == 5
    assert description.state_bytes == nbytes(gradtx.adam(0.1).init(tree))
    assert "complex64, float32" in str(description)
    with pytest.raises(gradtx.LeafError, match=r"leaf 'f' is .*, not an array"):
        gradtx.describe(gradtx.adam(0.1), {"f": abs})
    eqx = pytest.importorskip("equinox")
    model = eqx.filter(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.is_inexact_array)
    assert "layers/0/weight" in gradtx.describe(gradtx.masked(gradtx.adam(0.1), "weight"), model).rows[1].leaves
    nnx = pytest.importorskip("flax.nnx")
    params = nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Param)
    assert gradtx.describe(gradtx.adam(0.1), params).num_params == 8


def test_nothing_of_the_description_stays_behind():
    tx = gradtx.inject_hyperparams(gradtx.adam(gradtx.linear_schedule(0.0, 1.0, 10)))
    gradtx.describe(tx, PARAMS)
    with jax.checking_leaks():
        gradtx.describe(tx, PARAMS)
    assert jax.tree.structure(tx.init(PARAMS)) == jax.tree.structure(jax.jit(tx.init)(PARAMS))


# Large models

SEVEN_BILLION = """
import resource, time, jax, jax.numpy as jnp, gradtx
matrices = {n: (4096, 4096) for n in "qkvo"} | {n: (4096, 11008) for n in ("gate", "up")} | {"down": (11008, 4096)}
tree = {str(i): matrices | {"norm_1": (4096,), "norm_2": (4096,)} for i in range(32)} | {"in": (32000, 4096), "out": (4096, 32000)}
tree = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.bfloat16), tree, is_leaf=lambda x: isinstance(x, tuple))
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
d = gradtx.describe(gradtx.adamw(1e-4), tree)
text = str(d)
print(d.num_params, d.state_bytes, time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""  # noqa: E501


def test_seven_billion_parameters_are_described_at_once():
    shown = subprocess.run([sys.executable, "-c", SEVEN_BILLION], capture_output=True, text=True, check=True).stdout
    params, state_bytes, seconds, mebibytes = map(float, shown.split())
    assert params > 6.7e9
    assert state_bytes == pytest.approx(8 * params, rel=1e-6)
    assert seconds < 2
    assert mebibytes < 200


# How it is shown


def test_text_is_aligned():
    lines = str(gradtx.describe(gradtx.adamw(1e-3), PARAMS)).splitlines()
    assert lines[0].split() == ["stage", "hyperparameters", "keeps", "dtype", "state", "bytes/param"]
    column = lines[0].index("keeps")
    assert all(line[column - 1] == " " for line in lines[2:-2] if len(line) > column)
    assert lines[-1].startswith("4 leaves, 2,410 parameters, 9.4 KiB; state 18.8 KiB, 8.01 bytes per parameter")
    assert repr(gradtx.describe(gradtx.identity(), PARAMS)) == str(gradtx.describe(gradtx.identity(), PARAMS))


def test_html_is_well_formed_and_escaped():
    pattern = re.compile("<b>|hidden")
    page = gradtx.describe(gradtx.masked(gradtx.adam(0.1), pattern), PARAMS)._repr_html_()
    root = ElementTree.fromstring(f"<div>{page}</div>")
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    assert "mask=re.compile('<b>|hidden')" in cells
    assert "└─ adam" in cells


def test_rich_shows_the_same_in_80_columns():
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    description = gradtx.describe(gradtx.adamw(1e-3), PARAMS)
    console.print(description)
    text = console.export_text()
    assert all(row.branch + row.name in text for row in description.rows)
    for row in description.rows:
        assert all(f"{name}={value}" in text for name, value in row.hyperparameters.items())
    assert "8.01 bytes per parameter" in text
    assert max(map(len, text.splitlines())) <= 80

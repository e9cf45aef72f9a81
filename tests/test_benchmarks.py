"""The benchmark runs, and says what it measured."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import report  # noqa: E402
from benchmarks.cases import CASES, TREES  # noqa: E402
from benchmarks.measure import Compiled, random_like  # noqa: E402


def benchmark(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_writes_table_picture_and_numbers(tmp_path):
    ran = benchmark("--trees", "272", "--cases", "adam", "clip + adamw", "--rounds", 2, "--output", tmp_path)
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    row = results["trees"]["272 parameters"]["clip + adamw"]
    assert row["param_bytes"] == 4 * 272
    assert row["gradtx"]["moved_bytes"] == 3 * 4 * 272 + 2 * row["gradtx"]["state_bytes"]
    assert row["gradtx"]["step_s"] > 0
    text = (tmp_path / "report.md").read_text()
    assert "| clip + adamw |" in text
    assert "benchmarks --trees 272 --cases adam 'clip + adamw'" in text
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_an_unknown_name_is_named():
    ran = benchmark("--cases", "adam", "adma")
    assert ran.returncode == 2
    assert "unknown: adma; there are sgd; momentum" in ran.stderr


def test_the_trees_are_what_they_are_called():
    sizes = {name: [x.size for x in jax.tree.leaves(tree())] for name, tree in TREES.items()}
    assert {name: len(x) for name, x in sizes.items()} == dict(zip(TREES, (1, 148, 2000, 4), strict=True))
    assert sum(sizes["272 parameters"]) == 272
    assert sum(sizes["one leaf of 64 M"]) == 2**26
    assert sum(sizes["GPT-2 small"]) == pytest.approx(124e6, rel=0.01)


@pytest.mark.parametrize("name", ["adam", "lion", "adabelief", "rmsprop"])
def test_what_is_counted_needs_no_clock(name):
    shapes = {"w": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
    ours, theirs = (Compiled(library, tx, shapes) for library, tx in zip((gradtx, optax), CASES[name][:2], strict=True))
    assert ours.record["temporary_bytes"] < 0.01 * 4 * 512**2
    assert ours.record["aliased_bytes"] >= 4 * 512**2 + ours.record["state_bytes"] - 64
    assert 0 < ours.record["equations"] < 2 * theirs.record["equations"] + 10
    ours.start(random_like(shapes))
    assert ours.run(random_like(shapes, 1), 2) > 0


@pytest.mark.parametrize("name", report.ELEMENTWISE)
def test_a_donated_step_writes_nothing_but_its_results(name):
    shapes = {f"w{i}": jax.ShapeDtypeStruct((256, 256), jnp.float32) for i in range(3)}
    ours = Compiled(gradtx, CASES[name].ours, shapes).record
    assert ours["temporary_bytes"] < 0.01 * 3 * 4 * 256**2
    assert ours["aliased_bytes"] >= 3 * 4 * 256**2 + ours["state_bytes"] - 64


@pytest.mark.parametrize("name", ["lamb", "lars", "adafactor"])
def test_what_needs_norms_of_its_direction_does_not_write_it(name):
    shapes = {f"w{i}": jax.ShapeDtypeStruct((1024, 1024), jnp.float32) for i in range(3)}
    for tx in (CASES[name].ours, gradtx.chain(gradtx.trace(0.9), gradtx.scale(-0.1), gradtx.clip_by_global_norm(1.0))):
        assert Compiled(gradtx, tx, shapes).record["temporary_bytes"] < 0.01 * 3 * 4 * 1024**2


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "amsgrad", "adamax", "lion", "rmsprop", "adabelief"])
def test_a_trace_grows_by_a_call_and_an_addition_for_each_leaf(name):
    tx = CASES[name].ours

    def equations(leaves):
        params = {f"{i:03}": jax.ShapeDtypeStruct((2, 2), jnp.float32) for i in range(leaves)}

        def step(gradients, state, params):
            updates, state = tx.update(gradients, state, params)
            return gradtx.apply_updates(params, updates), state

        return len(jax.make_jaxpr(step)(params, jax.eval_shape(tx.init, params), params).eqns)

    assert equations(60) - equations(40) == 2 * 20


def test_a_missed_target_is_called_missed():
    side = {"trace_s": 1.0, "lower_s": 1.0, "compile_s": 1.0, "temporary_bytes": 0, "moved_bytes": 1, "state_bytes": 1}
    row = {
        "gradtx": side | {"step_s": 2.0, "equations": 1},
        "optax": side | {"step_s": 1.0, "equations": 1},
        "param_bytes": 1,
    }
    results = {
        "date": "", "machine": {}, "bandwidth": 1.0, "rounds": 1, "trees": {"GPT-2 small": {"lion": row}},
    }  # fmt: skip
    text = report.markdown(results, "", None)
    assert "| GPT-2 small | lion | step | 0.5 | 2 | missed |" in text
    assert "| GPT-2 small | lion | temporaries | 0.01 | 0 | met |" in text
    assert "- **lion, step, GPT-2 small**: the step runs in place" in text

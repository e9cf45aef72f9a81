"""What the version before the modules moved has written, pickles, states and configs, gives the same numbers."""

import json
import pickle
import zlib

import jax
import numpy as np
import pytest

import gradtx
from cases import CASES
from helpers import ROOT, assert_close

WRITTEN = pickle.loads(zlib.decompress((ROOT / "tests/golden/written_by_0_1.pickle.z").read_bytes()))
ROWS = WRITTEN["rows"]


def test_most_cases_were_written():
    assert len({case.name for case in CASES} & ROWS.keys()) >= 58
    assert sum(row["config"] is not None for row in ROWS.values()) >= 75


@pytest.mark.parametrize("name", ROWS)
def test_a_run_goes_on(name):
    row = ROWS[name]
    tx, state = pickle.loads(row["tx"]), pickle.loads(row["state"])
    assert jax.tree.structure(state) == jax.tree.structure(jax.eval_shape(tx.init, WRITTEN["params"]))
    updates, after = jax.jit(tx.update)(WRITTEN["gradient"], state, WRITTEN["params"], **row["extra"])
    assert_close(updates, row["updates"], rtol=2e-5, atol=1e-8)
    for ours, theirs in zip(jax.tree.leaves(after), row["after"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row["config"]])
def test_a_config_is_read(name):
    row = ROWS[name]
    assert gradtx.from_config(json.loads(json.dumps(row["config"]))) == pickle.loads(row["tx"])


def test_former_names_are_read():
    clip = gradtx.clip_preconditioner(gradtx.inverse_rms(), 0.5)
    assert gradtx.clip_rate(rate=gradtx.inverse_rms(), threshold=0.5) == clip
    assert gradtx.get("clip_rate", rate=gradtx.inverse_rms(), threshold=0.5) == clip
    assert '"clip_rate"' in json.dumps(ROWS["clip_rate"]["config"])
    with pytest.raises(TypeError, match="no argument 'inner'"):
        gradtx.adam(0.1, inner=3)


@pytest.mark.parametrize(
    ("tx", "former"),
    [
        (gradtx.stable_adamw(1e-2), {"clip_preconditioner": "clip_rate"}),
        (gradtx.momo_adam(), {"preconditioner": "rate", "gradient_dot_params": "inner"}),
    ],
)
def test_a_checkpoint_without_a_target_is_read_by_its_former_names(tx, former):
    def dicts(state):
        if hasattr(state, "_fields"):
            return {former.get(name, name): dicts(x) for name, x in zip(state._fields, state, strict=True)}
        return state

    params = WRITTEN["params"]
    extra = {"value": 1.0} if tx.name == "momo_adam" else {}
    _, state = tx.update(WRITTEN["gradient"], tx.init(params), params, **extra)
    assert any(name in str(dicts(state)) for name in former.values())
    found = gradtx.migrate_state(dicts(state), tx, params)
    assert not found.report.initialised
    assert not found.report.dropped
    assert_close(found.state, state)

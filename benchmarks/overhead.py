"""What a library costs beside its steps: tracing, eager calls, its import."""

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import optax
import optax.contrib

import gradtx
from benchmarks.cases import CASES, RATE, TREES
from benchmarks.measure import forget, random_like, trace

__all__ = ["eager", "imports", "traces"]

TRACED = {
    "adam": CASES["adam"][:2],
    "clip + adamw": CASES["clip + adamw"][:2],
    "muon": (gradtx.muon(RATE), optax.contrib.muon(RATE)),
}


def traces(tree: str, rounds: int) -> dict[str, Any]:
    """For some optimizers the seconds of tracing a step: closed over, through `make_step`, and Optax's."""
    shapes, found = TREES[tree](), {}
    for name, (ours, theirs) in TRACED.items():
        forms: dict[str, Any] = {
            "closed": (gradtx, ours, False),
            "make_step": (gradtx, ours, True),
            "optax": (optax, theirs, False),
        }
        times: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(rounds):
            for form, (library, tx, through) in forms.items():
                forget(library, tx, through)
                times[form].append(trace(library, tx, shapes, through=through)[-1])
        found[name] = {form: statistics.median(seconds) for form, seconds in times.items()}
    return found


def eager(tree: str, rounds: int) -> dict[str, Any]:
    """The seconds of an `update` of Adam that is not in `jit`, after the first."""
    found = {}
    params, gradients = random_like(TREES[tree](), 0), random_like(TREES[tree](), 1)
    for label, tx in zip(("gradtx", "optax"), CASES["adam"][:2], strict=True):
        state, times = tx.init(params), []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            _, state = jax.block_until_ready(tx.update(gradients, state, params))
            times.append(time.perf_counter() - begin)
        found[label] = statistics.median(times[1:])
    return {"adam": found}


def imports(rounds: int) -> dict[str, Any]:
    """The seconds that an import takes in a new process, once its bytecode is there."""
    code = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {"gradtx": [], "optax": []}
    for _ in range(rounds + 1):
        for library, seconds in times.items():
            command = [sys.executable, "-c", code.format(library)]
            ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            seconds.append(float(ran.stdout))
    return {"import": {library: statistics.median(seconds[1:]) for library, seconds in times.items()}}

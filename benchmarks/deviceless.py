"""Steps compiled for a GPU or a TPU that is not here, and counted: `python -m benchmarks --target h200 v5e`.

XLA compiles for a device that it is told about. For a TPU that takes `libtpu`; for an NVIDIA GPU JAX's CUDA plugin,
`ptxas`, and a description of the device, which lies in `targets/`. The environment has to be set before JAX starts, so
that each target is a process of its own.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

__all__ = ["MISSING", "TARGETS", "compiled_for", "missing", "topology"]

DESCRIPTIONS = pathlib.Path(__file__).parent / "targets"
TARGETS = {"h200": "cuda", "v5e": "tpu"}
ENVIRONMENT = {
    # Without a device there is nothing to time kernels on: those are taken that XLA takes first.
    "cuda": {"XLA_FLAGS": "--xla_gpu_autotune_level=0"},
    "tpu": {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"},
}
MISSING = {
    "cuda": ("jax_cuda12_plugin", "pip install --no-deps jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12"),
    "tpu": ("libtpu", "pip install libtpu"),
}


def missing(target: str) -> str:
    """How to install what compiles for a target; empty if it is here."""
    package, remedy = MISSING[TARGETS[target]]
    return "" if importlib.util.find_spec(package) else remedy


def topology(target: str) -> Any:
    """The devices of a target, described; in a process with its environment."""
    from jax.experimental import topologies

    if TARGETS[target] == "tpu":
        return topologies.get_topology_desc("v5e:2x2", platform="tpu", chips_per_host_bounds=[2, 2, 1])
    described = (DESCRIPTIONS / f"{target}.txtpb").read_text()
    return topologies.get_topology_desc("", platform="cuda", target_config=described, topology="1x1x1")


def compiled_for(target: str, requests: dict[str, list[str]]) -> dict[str, Any]:
    """For each tree and case what both libraries' steps compile to.

    Args:
      target: of `TARGETS`.
      requests: tree -> cases, by their names.

    Raises:
      ModuleNotFoundError: what compiles for the target is not installed; says how to.
    """
    if remedy := missing(target):
        raise ModuleNotFoundError(f"nothing here compiles for {target}: {remedy}")
    environment = os.environ | ENVIRONMENT[TARGETS[target]] | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.deviceless", target, json.dumps(requests)]
    root = pathlib.Path(__file__).parent.parent
    ran = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    if ran.returncode:
        raise RuntimeError(f"compiling for {target} failed:\n{ran.stderr}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _main() -> None:
    """Print, as the last line, what `compiled_for` returns."""
    parser = argparse.ArgumentParser(description=_main.__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("requests", type=json.loads)
    options = parser.parse_args()

    import jax
    import optax
    from jax.sharding import SingleDeviceSharding

    import gradtx
    from benchmarks.cases import CASES, TREES
    from benchmarks.measure import compile_step, placed

    platform = TARGETS[options.target]
    sharding = SingleDeviceSharding(topology(options.target).devices[0])
    found: dict[str, Any] = {}
    for tree, names in options.requests.items():
        shapes = placed(TREES[tree](), sharding)
        for name in names:
            ours, theirs = CASES[name].ours, CASES[name].theirs
            steps = {
                "gradtx": compile_step(gradtx, ours, shapes, platform),
                "optax": compile_step(optax, theirs, shapes, platform),
                "make_step": compile_step(gradtx, ours, shapes, platform, through=True),
            }
            found.setdefault(tree, {})[name] = {label: compiled.record for label, compiled in steps.items()}
            found[tree][name]["param_bytes"] = 4 * sum(x.size for x in jax.tree.leaves(shapes))
    print(json.dumps(found))


if __name__ == "__main__":
    _main()

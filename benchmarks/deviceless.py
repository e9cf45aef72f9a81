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
from collections.abc import Callable
from typing import Any

__all__ = ["TARGETS", "compiled_for", "missing"]

DESCRIPTIONS = pathlib.Path(__file__).parent / "targets"
TARGETS = {"h200": "cuda", "v5e": "tpu"}
ENVIRONMENT = {
    # Without a device there is nothing to time kernels on: those are taken that XLA takes first.
    "cuda": {"XLA_FLAGS": "--xla_gpu_autotune_level=0"},
    # No process takes the chip from another: there is none.
    "tpu": {
        "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    },
}  # fmt: skip
PACKAGES = {"cuda": "jax_cuda12_plugin", "tpu": "libtpu"}


def missing(target: str) -> str:
    """How to install what compiles for a target; empty if it is here."""
    return "" if importlib.util.find_spec(PACKAGES[TARGETS[target]]) else 'pip install "gradtx[targets]"'


def compiled_for(target: str, requests: dict[str, list[str]], devices: int = 1) -> dict[str, Any]:
    """For each tree and case what both libraries' steps compile to.

    Args:
      target: of `TARGETS`.
      requests: tree -> cases, by their names.
      devices: over how many devices the leaves are sharded, along their first axis: 1 or 4.

    Raises:
      ModuleNotFoundError: what compiles for the target is not installed; says how to.
      RuntimeError: a compilation failed.
    """
    if remedy := missing(target):
        raise ModuleNotFoundError(f"nothing here compiles for {target}: {remedy}")
    environment = os.environ | ENVIRONMENT[TARGETS[target]] | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.deviceless", target, str(devices), json.dumps(requests)]
    root = pathlib.Path(__file__).parent.parent
    ran = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    if ran.returncode:
        raise RuntimeError(f"compiling for {target} failed:\n{ran.stderr}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


# In the process of a target


def _sharding(target: str, devices: int) -> Callable[[Any], Any]:
    """The sharding of an array by its shape: on one device, or along the first axis of several."""
    from jax.experimental import topologies
    from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

    if TARGETS[target] == "tpu":
        topology = topologies.get_topology_desc("v5e:2x2", platform="tpu", chips_per_host_bounds=[2, 2, 1])
    else:
        described = (DESCRIPTIONS / f"{target}.txtpb").read_text()
        shape = f"1x1x{devices}"
        topology = topologies.get_topology_desc("", platform="cuda", target_config=described, topology=shape)
    if devices == 1:
        return lambda x: SingleDeviceSharding(topology.devices[0])
    mesh = topologies.make_mesh(topology, (devices,), ("data",))
    return lambda x: NamedSharding(mesh, PartitionSpec("data") if x.ndim else PartitionSpec())


def _main() -> None:
    """Print, as the last line, what `compiled_for` returns."""
    parser = argparse.ArgumentParser(description=_main.__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("devices", type=int)
    parser.add_argument("requests", type=json.loads)
    options = parser.parse_args()

    import jax
    import optax

    import gradtx
    from benchmarks.cases import CASES, TREES
    from benchmarks.measure import Device, compile_step

    of = _sharding(options.target, options.devices)

    def place(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=of(x)), tree)

    device = Device(TARGETS[options.target], place)
    compile_step(optax, CASES["adam"].theirs, TREES["272 parameters"](), device)  # the first one takes longer
    found: dict[str, Any] = {}
    for tree, names in options.requests.items():
        shapes = TREES[tree]()
        for name in names:
            ours, theirs = CASES[name].ours, CASES[name].theirs
            steps = {
                "gradtx": compile_step(gradtx, ours, shapes, device),
                "optax": compile_step(optax, theirs, shapes, device),
            }
            if len(jax.tree.leaves(shapes)) == 1:
                steps["make_step"] = compile_step(gradtx, ours, shapes, device, through=True)
            found.setdefault(tree, {})[name] = {label: compiled.record for label, compiled in steps.items()}
            for record in found[tree][name].values():
                record["moved_bytes"] //= options.devices
            found[tree][name]["param_bytes"] = 4 * sum(x.size for x in jax.tree.leaves(shapes)) // options.devices
            print(f"{options.target}, {options.devices}: {tree}, {name}", file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    _main()

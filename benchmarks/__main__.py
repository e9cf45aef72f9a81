"""`python -m benchmarks`: gradtx and Optax in one process, in turn, torch beside them if it is installed.

Prints a table while it runs, and writes results.json, report.md and report.png into `benchmarks/results`. With
`--target` steps are compiled for devices that are not here, and counted; what was measured on this one stays in the
report, and the reverse.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import optax

import gradtx
from benchmarks import deviceless, overhead, report
from benchmarks.cases import CASES, TREES
from benchmarks.deviceless import TARGETS
from benchmarks.limits import ELEMENTWISE, NORMS
from benchmarks.measure import bandwidth, compile_step, random_like, time_in_turn

RESULTS = pathlib.Path(__file__).parent / "results"
# The cases of the trees on which one takes long: Optax compiles lamb on 2,000 leaves for two minutes.
FEW = ("adam", "adamw", "clip + adamw", "lion", "lamb", "adafactor", "three additions (Optax: adam)")
ON_TARGETS = {
    "GPT-2 small": ("adam", "clip + adamw", "lamb", "adafactor"),
    "200 small leaves": (*ELEMENTWISE[:11], *NORMS),
    "2,000 small leaves": (),
    "272 parameters": (),
}
SHARDED = ("one leaf of 64 M", "200 small leaves")
QUICK = ("adam", "clip + adamw", "lion", "adabelief", "lamb", "adafactor")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="six optimizers, a quarter of the size: minutes")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="optimizers; by default all")
    parser.add_argument("--trees", nargs="+", metavar="NAME", help="trees, by the beginning of their names")
    parser.add_argument("--target", nargs="+", choices=TARGETS, help="compile for these devices, and run nothing")
    parser.add_argument("--rounds", type=int, help="how often each step is timed")
    parser.add_argument("--torch-python", metavar="PATH", help="a Python that has torch, if this one has not")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    rounds = options.rounds or (7 if options.quick else 15)
    trees = [t for t in TREES if t.startswith(tuple(options.trees or ("",)))]
    if not options.trees and not options.target:
        trees.remove("200 small leaves")  # a smaller copy of the 2,000, for what takes long to compile for
    chosen = options.cases or list(QUICK if options.quick else CASES)
    unknown = [name for name in chosen if name not in CASES]
    if unknown or not trees:
        parser.error(f"unknown: {', '.join(unknown or options.trees)}; there are {'; '.join([*CASES, *TREES])}")

    begin = time.perf_counter()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if options.target:
        requests = {tree: [name for name in chosen if name in ON_TARGETS.get(tree, chosen)] for tree in trees}
        results["targets"] = results.get("targets", {}) | _targets(options.target, requests, command)
    else:
        results = _here(options, trees, chosen, rounds, command, begin) | {"targets": results.get("targets", {})}
    kept.write_text(json.dumps(results, indent=1) + "\n")
    if results.get("trees"):
        report.picture(results, str(options.output / "report.png"))
    (options.output / "report.md").write_text(report.markdown(results, "report.png"))
    print(f"\n{time.perf_counter() - begin:.0f} s; see {options.output / 'report.md'}")


def _here(options: Any, trees: list[str], chosen: list[str], rounds: int, command: str, begin: float) -> dict[str, Any]:
    """What was measured on this machine."""
    results: dict[str, Any] = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": _machine(),
        "bandwidth": bandwidth(),
        "rounds": rounds,
        "trees": {},
    }
    print(f"{' · '.join(results['machine'].values())} · {results['bandwidth'] / 1e9:.1f} GB/s", flush=True)
    for tree in trees:
        few = tree.startswith("2,000") and not options.cases
        cases = [name for name in chosen if not few or name in FEW]
        print(f"\n{tree}", flush=True)
        results["trees"][tree] = _tree(tree, cases, rounds, results["bandwidth"], options.quick, begin)
    _torch(results, trees, chosen, rounds, options.quick, options.torch_python)
    if not options.cases:
        traced = "272 parameters" if options.quick else "GPT-2 small"
        results["overhead"] = {
            f"trace, {traced}": overhead.traces(traced, rounds),
            "eager update, 272 parameters": overhead.eager("272 parameters", 10 * rounds),
            "import": overhead.imports(rounds),
        }
    return results


def _targets(targets: list[str], requests: dict[str, list[str]], command: str) -> dict[str, Any]:
    """What was compiled for devices that are not here."""
    found: dict[str, Any] = {}
    sharded = {tree: [name for name in requests[tree] if name in NORMS] for tree in SHARDED if tree in requests}
    for target in targets:
        print(f"compiling for {target}", flush=True)
        trees = deviceless.compiled_for(target, requests)
        over = deviceless.compiled_for(target, sharded, devices=4)
        trees |= {f"{tree}, on 4 devices": rows for tree, rows in over.items()}
        found[target] = {"command": command, "date": datetime.date.today().isoformat(), "trees": trees}
    return found


def _shapes(tree: str, quick: bool) -> Any:
    """The tree; half as wide if it shall be quick."""
    shapes = TREES[tree]()
    if not quick:
        return shapes
    if tree.startswith("2,000"):
        return dict(list(shapes.items())[::8])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(tuple(-(-n // 2) for n in x.shape), x.dtype), shapes)


def _tree(tree: str, cases: list[str], rounds: int, stream: float, quick: bool, begin: float) -> dict[str, Any]:
    shapes = _shapes(tree, quick)
    params, gradients = random_like(shapes, 0), random_like(shapes, 1, 1e-2)
    rows = {}
    for i, name in enumerate(cases):
        case = CASES[name]
        steps = {}
        for label, library, tx in (("gradtx", gradtx, case.ours), ("optax", optax, case.theirs)):
            steps[label] = compile_step(library, tx, shapes)
            steps[label].start(params)
        times = time_in_turn(steps, gradients, rounds, seconds=0.05)
        row = {
            label: compiled.record | {"step_s": statistics.median(times[label])} for label, compiled in steps.items()
        }
        row["param_bytes"] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
        rows[name] = row
        cells = report.columns(row, stream)
        if i == 0:
            print(f"{'':24}" + "".join(f"{header:>14}" for header in cells))
        line = f"{name:24}" + "".join(f"{cell:>14}" for cell in cells.values())
        print(f"{line}   {time.perf_counter() - begin:5.0f} s", flush=True)
    return rows


def _torch(
    results: dict[str, Any], trees: list[str], chosen: list[str], rounds: int, quick: bool, python: str | None
) -> None:
    request = {
        "trees": {tree: [x.shape for x in jax.tree.leaves(_shapes(tree, quick))] for tree in trees},
        "optimizers": {name: CASES[name].torch for name in chosen if CASES[name].torch},
        "rounds": rounds,
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }
    if not request["optimizers"] or (python is None and importlib.util.find_spec("torch") is None):
        return
    code = [python or sys.executable, "-m", "benchmarks.torch_side", json.dumps(request)]
    told = json.loads(subprocess.run(code, capture_output=True, text=True, check=True).stdout)
    results["machine"]["torch"] = f"{told['version']} on {told['device']}"
    for tree, optimizers in told["seconds"].items():
        for name, forms in optimizers.items():
            if name in results["trees"][tree]:
                results["trees"][tree][name]["torch"] = forms


def _machine() -> dict[str, str]:
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    device = jax.devices()[0]
    versions = [f"{package} {importlib.metadata.version(package)}" for package in ("jax", "optax")]
    return {
        "processor": f"{name}, {os.cpu_count()} cores",
        "device": device.device_kind if device.platform != "cpu" else "CPU",
        "versions": ", ".join([f"gradtx {gradtx.__version__}", *versions, f"python {platform.python_version()}"]),
    }


if __name__ == "__main__":
    main()

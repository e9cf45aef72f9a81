"""torch's optimizers on the same trees, in a process of their own: `python -m benchmarks.torch_side` prints JSON."""

import json
import statistics
import sys
import time
from typing import Any

__all__ = ["main"]


def main(request: str) -> None:
    """Time what is asked for.

    Args:
      request: JSON: the shapes of each tree, the optimizers as (class, arguments, fused), rounds, threads.
    """
    import torch

    asked = json.loads(request)
    torch.manual_seed(0)
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {"version": torch.__version__, "device": device, "seconds": {}}
    for tree, shapes in asked["trees"].items():
        for name, (kind, arguments, fused) in asked["optimizers"].items():
            for form in ("fused", "foreach") if fused else ("foreach",):
                params = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
                for p in params:
                    p.grad = torch.randn_like(p)
                optimizer = getattr(torch.optim, kind)(params, lr=1e-3, **arguments, **{form: True})
                seconds = _median(optimizer, asked["rounds"], device)
                results["seconds"].setdefault(tree, {}).setdefault(name, {})[form] = seconds
    print(json.dumps(results))


def _median(optimizer: Any, rounds: int, device: str) -> float:
    import torch

    times = []
    for i in range(rounds + 2):
        begin = time.perf_counter()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main(sys.argv[1])

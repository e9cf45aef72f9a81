"""Settings for the whole suite."""

import gc
import importlib.metadata
import os
from typing import Any

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling what is run once. Set XLA_FLAGS (to nothing) to test optimized code.
FAST = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones do not know the flag
    FAST.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FAST))


def pytest_sessionstart() -> None:
    """Look for garbage less often: traces are many objects, and hardly any is garbage."""
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def float64():
    """A test in 64 bits."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def _count_traces_anew():
    """`chex.assert_max_traces` counts what is written at one place, over all tests of a process."""
    import chex

    chex.clear_trace_counter()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Let neighbouring tests run in one process, where they share what is compiled."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)

"""What is measured: trees of parameters, and the same optimizer from each library."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gradtx

__all__ = ["CASES", "TREES", "Case", "Tree"]

Tree = dict[str, Any]

RATE = 1e-3
WIDTH, LAYERS, VOCABULARY, POSITIONS = 768, 12, 50257, 1024


def _shapes(**shapes: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def _gpt2() -> Tree:
    block = _shapes(
        ln_1_scale=(WIDTH,),
        ln_1_bias=(WIDTH,),
        attention_kernel=(WIDTH, 3 * WIDTH),
        attention_bias=(3 * WIDTH,),
        projection_kernel=(WIDTH, WIDTH),
        projection_bias=(WIDTH,),
        ln_2_scale=(WIDTH,),
        ln_2_bias=(WIDTH,),
        up_kernel=(WIDTH, 4 * WIDTH),
        up_bias=(4 * WIDTH,),
        down_kernel=(4 * WIDTH, WIDTH),
        down_bias=(WIDTH,),
    )
    ends = _shapes(tokens=(VOCABULARY, WIDTH), positions=(POSITIONS, WIDTH), ln_scale=(WIDTH,), ln_bias=(WIDTH,))
    return {f"block_{i:02}": dict(block) for i in range(LAYERS)} | ends


TREES: dict[str, Callable[[], Tree]] = {
    "one leaf of 64 M": lambda: _shapes(kernel=(8192, 8192)),
    "GPT-2 small": _gpt2,  # 148 leaves, 124 M
    "2,000 small leaves": lambda: (
        _shapes(**{f"kernel_{i:04}": (64, 64) for i in range(1000)})
        | _shapes(**{f"bias_{i:04}": (64,) for i in range(1000)})
    ),
    "200 small leaves": lambda: (
        _shapes(**{f"kernel_{i:03}": (64, 64) for i in range(100)})
        | _shapes(**{f"bias_{i:03}": (64,) for i in range(100)})
    ),
    "272 parameters": lambda: _shapes(kernel_1=(16, 8), bias_1=(8,), kernel_2=(8, 16), bias_2=(8,)),
}


class Case(NamedTuple):
    """One optimizer in each library; torch's is its class, and whether it has a fused form for the CPU."""

    ours: Any
    theirs: Any
    torch: tuple[str, Mapping[str, Any], bool] | None = None


def _schedules(library: Any) -> dict[str, Any]:
    return {
        "adamw, cosine": library.adamw(library.warmup_cosine_decay_schedule(0.0, RATE, 100, 1000)),
        "adamw, piecewise": library.adamw(library.piecewise_constant_schedule(RATE, {300: 0.1, 600: 0.1})),
        "adamw, exponential": library.adamw(library.exponential_decay(RATE, 100, 0.9)),
    }


def _optimizers(library: Any) -> dict[str, Any]:
    return {
        "sgd": library.sgd(RATE),
        "momentum": library.sgd(RATE, momentum=0.9),
        "adam": library.adam(RATE),
        "adamw": library.adamw(RATE),
        "clip + adamw": library.chain(library.clip_by_global_norm(1.0), library.adamw(RATE)),
        "nadam": library.nadam(RATE),
        "amsgrad": library.amsgrad(RATE),
        "adamax": library.adamax(RATE),
        "adabelief": library.adabelief(RATE),
        "lion": library.lion(RATE),
        "lamb": library.lamb(RATE),
        "lars": library.lars(RATE),
        "adafactor": library.adafactor(RATE),
        "rmsprop": library.rmsprop(RATE),
        "radam": library.radam(RATE),
        "accumulate 4, adamw": library.MultiSteps(library.adamw(RATE), 4),
        **_schedules(library),
    }


_TORCH = {
    "sgd": ("SGD", {}, True),
    "momentum": ("SGD", {"momentum": 0.9}, True),
    "adam": ("Adam", {}, True),
    "adamw": ("AdamW", {}, True),
    "nadam": ("NAdam", {}, False),
    "amsgrad": ("Adam", {"amsgrad": True}, True),
    "adamax": ("Adamax", {}, False),
    "rmsprop": ("RMSprop", {}, False),
    "radam": ("RAdam", {}, False),
}


def _additions() -> gradtx.GradientTransformation:
    """Adam's reads and writes with additions for formulas: the least that three results for each leaf cost."""

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        state = [jax.tree.map(jnp.add, slot, gradients) for slot in state]
        return gradients, state

    return gradtx.GradientTransformation(lambda params: [jax.tree.map(jnp.zeros_like, params)] * 2, update)


def _cases() -> dict[str, Case]:
    ours, theirs = _optimizers(gradtx), _optimizers(optax)
    theirs["accumulate 4, adamw"] = theirs["accumulate 4, adamw"].gradient_transformation()
    cases = {name: Case(ours[name], theirs[name], _TORCH.get(name)) for name in ours}
    # Optax has no AdaBound: beside it stands what costs Optax as much memory traffic, Adam.
    cases["adabound (Optax: adam)"] = Case(gradtx.adabound(RATE), theirs["adam"])
    return cases | {"three additions (Optax: adam)": Case(_additions(), theirs["adam"])}


CASES = _cases()

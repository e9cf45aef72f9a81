"""One table of values: at least one for every public constructor; tests that walk the public surface share it.

A new constructor needs a row here. `variants` makes more of each row: every number as a schedule and as an array, every
dtype, every mask, every switch.
"""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from gradtx.core.arguments import Range
from gradtx.inspection import registry

Value = gradtx.GradientTransformation | gradtx.Schedule

RATE = {"learning_rate": 1e-2}
LINE = gradtx.linear_schedule(0.5, 0.25, 10)
COSINE = gradtx.warmup_cosine_decay_schedule(0.0, 0.5, warmup_steps=2, decay_steps=10)

MASKS = (
    "*kernel",
    re.compile("norm|bias$"),
    re.compile("^ENCODER", re.IGNORECASE | re.MULTILINE),
    re.compile("a" * 300),
    {"layer": {"kernel": True, "bias": False}, "stack": [True, (False, None)]},
    {"name": True, "arguments": False},  # looks like a value in a config
    {"$tuple": True},  # looks like a form
    {1: True, 2: False},
    (True,),
    [],
    {},
)


def negate(*updates: Any) -> Any:
    """A function that examples hold."""
    return -updates[0]


# Arguments by the public name of a constructor: positional ones as a tuple, those by keyword as a dict.
ROWS: dict[str, list[tuple[Any, ...] | dict[str, Any]]] = {
    # whole optimizers
    **{name: [RATE] for name in registry.optimizers()},
    "adam": [RATE, (COSINE,), (0.5 * COSINE, LINE, 1 - LINE / 2)],
    "adafactor": [{}, RATE | {"decay_offset": 3, "min_dim_size_to_factor": 2}],
    "adabound": [{}, {"base_lr": 0.5}],
    "sgd": [RATE, RATE | {"momentum": 0.9, "accumulator_dtype": "float64"}, (np.float32(0.1),), (-LINE * -1,)],
    # combinators
    "add": [(gradtx.identity(), gradtx.scale(2.0))],
    "apply_if_finite": [(gradtx.adam(0.1), 3)],
    "chain": [
        (),
        (gradtx.clip(1.0), gradtx.chain(gradtx.adam(COSINE), gradtx.scale(-1.0))),
        {"zeta": gradtx.clip(1.0), "alpha": gradtx.sgd(0.1)},
        {"transformations": gradtx.sgd(0.1)},
    ],
    "freeze": [("*bias",)],
    "inject_hyperparams": [(gradtx.adam(0.1),), (gradtx.adam(COSINE), "b1", "learning_rate/peak_value")],
    "masked": [(gradtx.scale(2.0), "kernel")],
    "partition": [
        ({"b*": gradtx.sgd(0.1), "a*": gradtx.adam(LINE), re.compile("z|y", re.VERBOSE): gradtx.scale(1.0)},),
        ({1: gradtx.sgd(0.1), (True, "x"): gradtx.identity(), None: gradtx.clip(1.0)}, {"kernel": 1, "bias": 2}),
    ],
    "product": [(gradtx.identity(), gradtx.inverse_rms())],
    "project_params": [("non_negative",), {"projection": "box", "lower": -1.0, "upper": 1.0}],
    "skip_spikes": [(gradtx.adam(0.1),), {"inner": gradtx.adam(0.1), "of": "value"}],
    # wrappers
    "MultiSteps": [(gradtx.adam(0.1), 4), {"opt": gradtx.sgd(LINE), "every_k_schedule": LINE, "use_grad_mean": False}],
    "accumulate": [(gradtx.adam(0.1), 4), (gradtx.adam(0.1), LINE)],
    "apply_every": [(), (3,)],
    "conditionally_mask": [(gradtx.sgd(0.1), negate), (gradtx.sgd(0.1), negate, True)],
    "conditionally_transform": [(gradtx.sgd(0.1), negate)],
    "ema_params": [(), (LINE, False)],
    "lookahead": [(gradtx.adam(0.1), 5, 0.5), (gradtx.sgd(0.1), 5, LINE, True)],
    "normalize": [()],
    "sam": [
        (gradtx.adam(0.1),),
        (gradtx.adam(0.1), gradtx.sgd(0.1), 3),
        {"optimizer": gradtx.sgd(0.1), "opaque_mode": True},
    ],
    "schedule_free": [(gradtx.sgd(0.1), 0.1), (gradtx.sgd(LINE), LINE)],
    "schedule_free_adamw": [(), (LINE, 5)],
    "schedule_free_sgd": [(), {"warmup_steps": 5, "weight_decay": 0.1, "state_dtype": "float32"}],
    "selective_transform": [{"optimizer": gradtx.adam(0.1), "freeze_mask": "*bias"}],
    "swa_params": [(), (10, 2)],
    "switch_at": [
        (5, gradtx.adam(0.1), gradtx.sgd(0.1)),
        ([5, 10], gradtx.adam(0.1), gradtx.sgd(0.1), gradtx.sgd(LINE)),
    ],
    # measurements
    "measure_with_ema": [(negate, 0.9)],
    "monitor": [
        (["gradient_norm", "update_norm"], gradtx.sgd(0.5)),
        {"measures": {"b": "nonfinite", "name": "param_norm"}, "by": {"kernels": re.compile("kernel")}, "every": 10},
        ({"mean": gradtx.ema(0.9)},),
    ],
    "snapshot": [("norm", "gradient_norm"), ("largest", negate)],
    # atoms
    "absolute": [()],
    "add_decayed_weights": [()],
    "add_l1_regularization": [(0.1,)],
    "add_l2_regularization": [(0.1,)],
    "additive_average": [()],
    "bias_correction": [(0.9,)],
    "cast_to_params": [()],
    "clip": [(1.0,)],
    "clip_by_block_rms": [(1.0,)],
    "clip_by_bounds": [(-np.inf, None), (None, LINE)],
    "clip_by_global_norm": [(1,)],
    "decaying_max": [(0.9,)],
    "ema": [(0.9,)],
    "identity": [()],
    "inverse_rms": [()],
    "inverse_root": [()],
    "reciprocal": [()],
    "rectify": [()],
    "reduce_on_plateau": [(), {"patience": 3, "cooldown": 2.0}],
    "running_max": [()],
    "running_sum": [()],
    "saturate": [()],
    "scale": [
        (-0.0,),
        (np.inf,),
        (1e-320,),
        (np.array([[1.0, -np.inf], [2.0, 1e300]]),),
        (jnp.array([1.5, 2.0], jnp.bfloat16),),
        (np.array([1, 2], np.int8),),
    ],
    "scale_by_adadelta": [()],
    "scale_by_adam": [()],
    "scale_by_adamax": [()],
    "scale_by_amsgrad": [()],
    "scale_by_belief": [()],
    "scale_by_factored_rms": [(), (False, 0.7, 5)],
    "scale_by_learning_rate": [(0.1,)],
    "scale_by_lion": [()],
    "scale_by_momentum": [()],
    "scale_by_nadam": [()],
    "scale_by_param_block_rms": [()],
    "scale_by_radam": [()],
    "scale_by_rms": [()],
    "scale_by_rss": [()],
    "scale_by_schedule": [(COSINE,)],
    "scale_by_sign": [()],
    "scale_by_stddev": [()],
    "scale_by_trust_ratio": [()],
    "scale_by_yogi": [()],
    "set_to_zero": [()],
    "square": [()],
    "stateless": [(negate,)],
    "stateless_with_tree_map": [(negate,)],
    "trace": [(0.9,)],
    # the rest of Optax's core
    "adaptive_grad_clip": [(0.01,), (0.01, 1e-3, (0, 1)), (0.01, LINE, 0)],
    "add_cautious_weight_decay": [(0.1,)],
    "add_noise": [(0.01, 0.55), (0.01, LINE, 7), {"eta": LINE, "gamma": 0.0, "seed": 3}, (0.1, 0.5, jax.random.key(1))],
    "cautious": [(gradtx.adam(0.1),)],
    "centralize": [()],
    "covering_sum": [(), (0.9,)],
    "decay_weights": [(0.1,)],
    "difference": [()],
    "divide_by_average_norm": [()],
    "flatten": [(gradtx.adam(COSINE),)],
    "keep_params_nonnegative": [()],
    "noisy_sgd": [RATE, {"learning_rate": LINE, "key": 5}],
    "normalize_by_update_norm": [(), (-2.0, 0.0)],
    "polyak_sgd": [(), {"scaling": COSINE, "variant": "sps+"}],
    "proximal_weight_decay": [(0.1,)],
    "scale_by_adan": [()],
    "scale_by_distance_over_gradients": [()],
    "scale_by_novograd": [()],
    "scale_by_optimistic_gradient": [()],
    "scale_by_param_block_norm": [()],
    "scale_by_polyak": [()],
    "scale_by_rprop": [(0.1,)],
    "scale_by_sm3": [()],
    "scale_by_smooth_sign": [()],
    "zero_nans": [()],
    # contributed
    "after_first_step": [(0.9,)],
    "arctan": [()],
    "clip_by_block_norm": [(1.0,)],
    "clip_by_ema": [(0.9,)],
    "clip_preconditioner": [(gradtx.inverse_rms(),)],
    "clip_rate": [(gradtx.inverse_rms(),)],
    "delayed_ema": [(0.9,)],
    "extrapolate": [(0.5,)],
    "grokfast": [()],
    "hutchinson_estimator_diag_hessian": [(), (3,)],
    "inverse_curvature": [(gradtx.square(),)],
    "matrices_and_others": [(gradtx.sgd(0.1), gradtx.adam(0.1))],
    "mechanize": [(gradtx.adam(1.0),), (gradtx.sgd(LINE), 0.0)],
    "momentum_model": [(0.1, 0.9), (0.1, 0.9, gradtx.inverse_rms())],
    "momo": [(), (LINE,)],
    "momo_adam": [(), (LINE,)],
    "orthogonalize": [(), ("dion",), (((1.5, -0.5, 0.0), (3.0, -3.0, 1.0)),)],
    "power": [(0.5,)],
    "power_schedule": [(0.25,)],
    "scale_by_acprop": [()],
    "scale_by_ademamix": [()],
    "scale_by_adopt": [()],
    "scale_by_cocob": [()],
    "scale_by_dog": [(("distance", 0.1),)],
    "scale_by_dowg": [()],
    "scale_by_madgrad": [(0.1,)],
    "scale_by_muon": [()],
    "scale_by_qhadam": [()],
    "scale_by_shape": [()],
    "scale_by_simplified_ademamix": [()],
    "scale_by_sophia": [()],
    # quasi-Newton and line searches
    "lbfgs": [(), RATE | {"linesearch": None}, (LINE, 5, False, gradtx.scale_by_backtracking_linesearch(15))],
    "scale_by_backtracking_linesearch": [(15,), (15, 0.5, 0.5, np.inf, 8.0, 0.1, 0.1, True)],
    "scale_by_lbfgs": [(), (3, False)],
    "scale_by_zoom_linesearch": [(20,), (20, 8.0, 0.1, 3.0, 0.01, np.inf, None, 0.0, "one")],
    # schedules
    "constant_schedule": [(1.0,)],
    "cosine_decay_schedule": [(1.0, 10)],
    "cosine_onecycle_schedule": [(10, 1.0)],
    "cosine_restarts_schedule": [(1.0, 10), (1.0, 10, 2, 0.5, 0.1)],
    "cyclic_schedule": [(0.0, 1.0), (0.0, 1.0, 5, 3, 0.5, 0.9)],
    "exponential_decay": [(1.0, 10, 0.5)],
    "factor_schedule": [(1.0, 0.5)],
    "inverse_power_decay": [(1.0, 0.5)],
    "join_schedules": [([LINE, 0.5, COSINE], [10, 20]), ((LINE, 0.5), (10,))],
    "linear_onecycle_schedule": [(10, 1.0)],
    "linear_schedule": [(1.0, 0.0, 10)],
    "lower_bound_schedule": [(0.1,)],
    "multi_step_schedule": [(1.0, [10, 20]), (1.0, (10, 20))],
    "natural_exponential_decay": [(1.0, 0.5)],
    "onecycle_schedule": [(10, 1.0), (10, 1.0, 0.25, "linear", 5.0, 10.0, True)],
    "piecewise_constant_schedule": [(1.0,), (1.0, {10: 0.5, 2: 0.1}), (1.0, {np.int64(3): 0.5})],
    "piecewise_interpolate_schedule": [("linear", 1.0, {10: 0.5})],
    "polynomial_schedule": [(1.0, 0.0, 2, 10)],
    "sgdr_schedule": [([{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": 10}],)],
    "upper_bound_schedule": [(0.1,)],
    "warming_momentum_schedule": [(0.9,)],
    "warmup": [(LINE, 5), (1.0, 5, 0.0, 2.0)],
    "warmup_constant_schedule": [(0.0, 1.0, 5)],
    "warmup_cosine_decay_schedule": [(0.0, 1.0, 5, 10)],
    "warmup_exponential_decay_schedule": [(0.0, 1.0, 5, 10, 0.5)],
    "warmup_stable_decay_schedule": [(0.0, 1.0, 5, 5, 5)],
}


def examples(name: str) -> list[Value]:
    """The values of one row; an alias has the row of what it stands for."""
    constructor = getattr(gradtx, name)
    rows = ROWS.get(name, ROWS.get(constructor.__name__))
    assert rows, f"gradtx.{name} is public and has no example: add ROWS[{name!r}] = [(its arguments,)] to {__file__}"
    return [constructor(**row) if isinstance(row, dict) else constructor(*row) for row in rows]


def variants(value: Value) -> Iterator[Value]:
    """The value with one argument changed, for every argument whose kind says to what."""
    for name, parameter in value.constructor.signature.parameters.items():
        kind = value.constructor.kinds.get(name)
        others: tuple[Any, ...] = ()
        if isinstance(kind, Range):
            two = np.array([0.5, 0.25]) if kind.contains(0.5) else np.array([2.0, 4.0])
            others = (7, 8.0) if kind.steps else (LINE, 0.5 * LINE, two, jnp.asarray(two))
        elif repr(kind) == "Dtype":
            others = ("float32", jnp.bfloat16, "float64")
        elif name.endswith("mask"):
            others = MASKS
        elif isinstance(parameter.default, bool):
            others = (not parameter.default,)
        for other in others:
            yield value.replace(**{name: other})


def holds_function(value: Value) -> bool:
    """Whether it holds `negate`, which has no written form."""
    return "negate" in repr(value)

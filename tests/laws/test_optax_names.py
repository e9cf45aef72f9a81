"""Every public name of Optax: here with the same arguments, or a reason."""

import inspect
import re
import types

import optax
import optax.contrib
import pytest

import gradtx

# Optax's modules, and where their names are here.
PLACES = {
    optax: gradtx,
    optax.contrib: gradtx.contrib,
    optax.losses: gradtx.losses,
    optax.projections: gradtx.projections,
    optax.schedules: gradtx,
    optax.transforms: gradtx,
    optax.tree: gradtx.tree,
    optax.tree_utils: gradtx.tree_utils,
}

ELSEWHERE = {"bias_correction": gradtx.tree}  # at the top level it is a transformation

# What is not here, by pattern, and why.
ABSENT = {
    r"(?!Opt)\w+State|ZoomLinesearchInfo": "states are named after what they hold, and reached by name",
    "MaskOrFn|ConditionFn|ShouldSkipUpdateFunction|Transform\\w+Fn|StatefulSchedule|WrappedSchedule|NamedTupleKey": (
        "types of Optax's own pieces"
    ),
    r"MaskedNode": "what is masked is None here",
    "inject_stateful_hyperparams": "`inject_hyperparams` takes schedules; a state steers by `set_hyperparams`",
    "init_empty_state|with_extra_args_support": "a transformation may have no init, and declares its extra arguments",
    ".*(ctc|dice|fenchel|hinge|perceptron|sparsemax|ranking|triplet|ntxent|poly_loss|generalized_kl|convex_kl).*": (
        "a loss for few tasks; Optax's works beside gradtx"
    ),
    "kl_divergence_with_log_targets": "`kl_divergence(log_p, exp(log_q))`",
    "matrix_inverse_pth_root|power_iteration|nnls|multi_normal|microbatch|scale_gradient": "no part of an optimizer",
    "unitwise_clip": "a part of `adaptive_grad_clip`; the norm is `unitwise_norm`",
    "differentially_private_aggregate|dpsgd": "privacy; `per_example_global_norm_clip` and `add_noise` are here",
    "galore|scale_by_galore|GaLoreDimensionNumbers": "not here yet",
    "split_real_and_imaginary": "every transformation takes complex parameters",
    "MuonDimensionNumbers": "reshape the leaf",
}

_COMPATIBLE = {"mask_compatible_extra_args": "extra arguments are passed on as they are"}
_ADOPT = {"clip_value_fn": "a value that prints and compares, not a lambda"}

# The arguments of which a caller of Optax's function finds something else here, and why.
DIFFERENT = {
    "adadelta": {
        "learning_rate": "with Optax's None it climbs",
        "weight_decay": "None for none; 0 reads the parameters for nothing",
    },
    "adopt": _ADOPT,
    "inject_hyperparams": {
        "inner": "is the name of `inner_factory`, as it may be a finished optimizer",
        "inner_factory": "`inner`",
        "static_args": "stands in `names` when given by position",
        "hyperparam_dtype": "as `static_args`",
    },
    "lbfgs": {"linesearch": "the same, of this library"},
    "masked": _COMPATIBLE,
    "multi_transform": _COMPATIBLE,
    "muon": {"muon_weight_dimension_numbers": "matrices are the last two axes"},
    "partition": _COMPATIBLE,
    "scale_by_adopt": _ADOPT,
    "scale_by_factored_rms": {"decay_rate_fn": "None stands for Optax's own function"},
    "scale_by_learning_rate": {"learning_rate": "without one Optax's passes the gradient on with its sign, and climbs"},
    "scale_by_muon": {"weight_dimension_numbers": "matrices are the last two axes"},
    "sophia": {
        "hessian_diagonal_fn": "the same, of this library",
        "print_win_rate_every_n_steps": "nothing prints inside a step; `monitor` measures what is asked for",
        "verbose": "nothing prints inside a step",
    },
}


def public(module):
    things = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: x for name, x in things.items() if not isinstance(x, types.ModuleType)}


NAMES = [(module, name) for module in PLACES for name in sorted(public(module))]


def reason(name):
    return next((why for pattern, why in ABSENT.items() if re.fullmatch(pattern, name)), None)


EMPTY = inspect.Parameter.empty


def arguments(function):
    """The position (None if by keyword), the number that are taken, and the default of each parameter, by name."""
    described = {}
    for i, p in enumerate(inspect.signature(function).parameters.values()):
        number = type(p.default) in (int, float)
        name = p.kind.name if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else p.name
        described[name] = None if p.kind is p.KEYWORD_ONLY else i, (float(p.default) if number else p.default)
    return described


def differences(ours, theirs):
    """The parameters of which a caller of theirs finds something else in ours."""
    ours, theirs = arguments(ours), arguments(theirs)
    new = {name for name, (_, default) in ours.items() if name not in theirs and default is EMPTY}
    changed = set()
    for name, (position, default) in theirs.items():
        here = ours.get(name, (None, EMPTY))
        same = default is EMPTY or (type(here[1]), here[1]) == (type(default), default)
        if name not in ours or here[0] != position or not same:
            changed.add(name)
    return changed | new - {"VAR_POSITIONAL", "VAR_KEYWORD"}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m.__name__}.{n}" for m, n in NAMES])
def test_is_here_with_the_same_arguments_or_there_is_a_reason(module, name):
    ours, theirs = getattr(ELSEWHERE.get(name, PLACES[module]), name, None), getattr(module, name)
    if ours is None:
        assert reason(name), f"{name} is not here"
    elif inspect.isfunction(inspect.unwrap(getattr(theirs, "func", theirs))):  # neither a type nor an alias of types
        assert differences(ours, theirs) == set(DIFFERENT.get(name, ())), "what differs has a reason, which holds"


def test_reasons_are_not_out_of_date():
    names = {name for _, name in NAMES}
    assert names >= DIFFERENT.keys()
    for pattern in ABSENT:
        matching = [(module, name) for module, name in NAMES if re.fullmatch(pattern, name)]
        assert any(not hasattr(PLACES[module], name) for module, name in matching), f"{pattern} is all here"
    assert len(names) > 350


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (lambda a, b=1: 0, lambda a, b=2: 0, {"b"}),
        (lambda a, b=1: 0, lambda a, b: 0, set()),  # to have a default is no difference to who gives a value
        (lambda a, b: 0, lambda a, b=1: 0, {"b"}),
        (lambda a, c=2: 0, lambda a, b=2: 0, {"b"}),
        (lambda a, c=2, b=2: 0, lambda a, b=2: 0, {"b"}),
        (lambda a, *, b=2: 0, lambda a, b=2: 0, {"b"}),
        (lambda a, b: 0, lambda a: 0, {"b"}),
        (lambda a, *, b=1: 0, lambda a: 0, set()),
        (lambda *args: 0, lambda *parts: 0, set()),
        (lambda a: 0, lambda *a: 0, {"VAR_POSITIONAL"}),
        (lambda a, b=True: 0, lambda a, b=1: 0, {"b"}),
    ],
)
def test_the_comparison_of_arguments_can_fail(ours, theirs, expected):
    assert differences(ours, theirs) - {"a"} == expected


def test_tree_utils_has_the_tree_module_under_its_names():
    for name in gradtx.tree_utils.__all__:
        if name.startswith("tree_"):
            assert getattr(gradtx.tree_utils, name) is getattr(gradtx.tree, name.removeprefix("tree_"))

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

# What is called with other arguments, and why.
DIFFERENT = {
    "adadelta": "None for a learning rate climbs in Optax; weight_decay 0 reads the parameters for nothing",
    "adopt": "the bound is a value that prints and compares, not a lambda",
    "bias_correction": "a transformation here; of one tree it is gradtx.tree.bias_correction",
    "chain": "parts may have names",
    "inject_hyperparams": "takes a finished optimizer, too",
    "lbfgs": "the default line search is this library's",
    "masked": "extra arguments are passed on as they are",
    "monitor": "takes names of measures, groups, periods",
    "multi_transform": "labels may be patterns; extra arguments are passed on as they are",
    "muon": "no axes to choose: matrices are the last two",
    "named_chain": "it is called `pairs`",
    "partition": "labels may be patterns; extra arguments are passed on as they are",
    "sam": "the inner optimizer has a default",
    "scale_by_adopt": "as adopt",
    "scale_by_factored_rms": "None stands for Optax's own function",
    "scale_by_learning_rate": "without a learning rate Optax's passes the gradient on with its sign, and climbs",
    "scale_by_muon": "as muon",
    "sophia": "no printing inside a step",
}


def public(module):
    things = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: x for name, x in things.items() if not isinstance(x, types.ModuleType)}


NAMES = [(module, name) for module in PLACES for name in sorted(public(module))]


def reason(name):
    return next((why for pattern, why in ABSENT.items() if re.fullmatch(pattern, name)), None)


def described(function):
    """(name, keyword-only, default) of each parameter; numbers as numbers."""

    def default(p):
        return float(p.default) if isinstance(p.default, (int, float)) and p.default is not True else p.default

    return [(p.name, p.kind is p.KEYWORD_ONLY, default(p)) for p in inspect.signature(function).parameters.values()]


def fits(ours, theirs):
    """Ours can be called as theirs: the same parameters, in order; more of them by keyword alone."""
    return ours[: len(theirs)] == theirs and all(keyword for _, keyword, _ in ours[len(theirs) :])


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m.__name__}.{n}" for m, n in NAMES])
def test_is_here_with_the_same_arguments_or_there_is_a_reason(module, name):
    ours, theirs = getattr(PLACES[module], name, None), getattr(module, name)
    if not inspect.isfunction(getattr(theirs, "func", theirs)):  # a type, or an alias of types
        assert ours is not None or reason(name), f"{name} is not here"
    elif ours is None:
        assert reason(name), f"{name} is not here"
    elif name in DIFFERENT:
        assert not fits(described(ours), described(theirs)), "the reason is out of date"
    else:
        assert fits(described(ours), described(theirs))


def test_reasons_are_not_out_of_date():
    names = {name for _, name in NAMES}
    assert set(DIFFERENT) <= names
    for pattern in ABSENT:
        matching = [(module, name) for module, name in NAMES if re.fullmatch(pattern, name)]
        assert any(not hasattr(PLACES[module], name) for module, name in matching), f"{pattern} is all here"
    assert len(names) > 350


def test_the_comparison_of_arguments_can_fail():
    assert not fits(described(lambda a, b=1: 0), described(lambda a, b=2: 0))
    assert not fits(described(lambda a, c=2: 0), described(lambda a, b=2: 0))
    assert not fits(described(lambda a, b: 0), described(lambda a: 0))
    assert fits(described(lambda a, *, b=1: 0), described(lambda a: 0))

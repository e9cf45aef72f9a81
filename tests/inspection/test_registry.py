"""What the library has, by name."""

import re

import pytest

import gradtx
from gradtx.inspection import registry


def test_whole_optimizers_are_found_and_nothing_else():
    names = registry.optimizers()
    assert list(names) == sorted(names)
    assert {"sgd", "adam", "adamw", "adafactor", "adabound", "lamb", "lion", "yogi"} <= set(names)
    assert not {"scale_by_adam", "chain", "identity", "warming_momentum_schedule", "reduce_on_plateau"} & set(names)
    assert {"momo", "polyak_sgd", "schedule_free_adamw"} <= set(names)
    for name in names:
        first = next(iter(registry.constructors()[name].signature.parameters))
        assert registry.get(name, **{first: 0.1}) == getattr(gradtx, name)(0.1)


def test_any_public_constructor_makes_a_value_by_name():
    assert registry.get("identity") == gradtx.identity()
    assert registry.get("linear_schedule", init_value=1.0, end_value=0.0, transition_steps=5)(5) == 0.0
    assert registry.get("chain", clip=gradtx.clip(1.0)) == gradtx.chain(clip=gradtx.clip(1.0))
    inner = gradtx.sgd(0.1)
    assert registry.get("inject_hyperparams", inner=inner) == gradtx.inject_hyperparams(inner)
    assert registry.constructors()["multi_transform"] is gradtx.partition


def test_what_only_helps_to_make_values_is_no_constructor():
    public = registry.constructors()
    assert not {"transformation", "schedule", "make_step", "hyperparams", "Schedule", "named_chain"} & public.keys()
    assert public.keys() <= vars(gradtx).keys()


def test_an_unknown_name_is_told_with_what_looks_like_it():
    with pytest.raises(
        LookupError, match=r"no constructor is named 'AdamW'; did you mean 'adamw' or 'nadamw' or 'adam'\?"
    ):
        registry.get("AdamW", learning_rate=0.1)
    with pytest.raises(LookupError, match=re.escape("'?'; there are absolute, accumulate, ")):
        registry.get("?")


def test_arguments_are_those_of_the_constructor():
    with pytest.raises(TypeError, match="adam: no argument 'lr'"):
        registry.get("adam", lr=0.1)

"""Values written down and read back: as a config, as their repr, pickled."""

import copy
import json
import pickle
import random
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st

import gradtx
from examples import COSINE, LINE, ROWS, examples, holds_function, negate, variants
from gradtx.checkpoints.config import ConfigError, from_config, to_config
from gradtx.inspection.registry import constructors

NAMES = {**vars(gradtx), "array": np.array, "inf": np.inf, "nan": np.nan, "re": re, "negate": negate}


def through_json(config: Any) -> Any:
    return json.loads(json.dumps(config, sort_keys=True, allow_nan=False))


def through_yaml(config: Any) -> Any:
    return yaml.safe_load(yaml.safe_dump(config, sort_keys=True, default_flow_style=None))


def nested(count: int) -> Any:
    tx = gradtx.identity()
    for _ in range(count):
        tx = gradtx.chain(tx)
    return tx


# Every constructor, there and back


@pytest.mark.parametrize("name", constructors())
def test_every_public_constructor_goes_there_and_back(name):
    for example in examples(name):
        for tx in (example, *variants(example)):
            for again in (eval(repr(tx), NAMES), pickle.loads(pickle.dumps(tx)), copy.deepcopy(tx)):
                assert again == tx
                assert hash(again) == hash(tx)
            if holds_function(tx):
                with pytest.raises(ConfigError, match="a function, negate, cannot be written"):
                    to_config(tx)
                continue
            again = from_config(through_yaml(through_json(to_config(tx))))
            assert again == tx
            assert hash(again) == hash(tx)
            assert repr(again) == repr(tx)
        if not holds_function(example):
            assert from_config(to_config(example)) == example


def test_the_examples_cover_what_a_config_can_hold():
    """The walk above is worth something: in all it writes every form, and every argument of every kind varies."""
    text = json.dumps(
        [to_config(tx) for name in constructors() for tx in examples(name) if not holds_function(tx)], allow_nan=False
    )
    for form in ("$array", "$dict", "$float", "$re", "arithmetic", "bfloat16", "null", "true"):
        assert form in text, form
    assert sum(1 for name in constructors() for example in examples(name) for _ in variants(example)) > 1000


def test_a_constructor_without_an_example_is_told_what_to_add(monkeypatch):
    monkeypatch.delitem(ROWS, "scale")
    with pytest.raises(AssertionError, match=r"gradtx.scale is public and has no example: add ROWS\['scale'\] = "):
        examples("scale")


def test_a_config_is_readable():
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.sgd(0.5 * LINE, accumulator_dtype="bfloat16"))
    assert to_config(tx) == {
        "gradtx": 1,
        "name": "chain",
        "arguments": {
            "transformations": [
                {"name": "clip_by_global_norm", "arguments": {"max_norm": 1.0}},
                {
                    "name": "sgd",
                    "arguments": {
                        "learning_rate": {
                            "name": "arithmetic",
                            "arguments": {
                                "left": 0.5,
                                "sign": "*",
                                "right": {
                                    "name": "linear_schedule",
                                    "arguments": {
                                        "init_value": 0.5,
                                        "end_value": 0.25,
                                        "transition_steps": 10,
                                        "transition_begin": 0,
                                    },
                                },
                            },
                        },
                        "momentum": None,
                        "nesterov": False,
                        "accumulator_dtype": "bfloat16",
                    },
                },
            ],
            "named": {"$dict": []},
        },
    }


def test_the_order_of_patterns_survives_sorted_keys():
    tx = gradtx.partition({"b*": gradtx.scale(1.0), "a*": gradtx.scale(2.0), "*": gradtx.scale(3.0)})
    for text in (through_json, through_yaml):
        assert list(from_config(text(to_config(tx))).transforms) == ["b*", "a*", "*"]


def test_special_objects_are_written_in_forms():
    def argument(item: Any) -> Any:
        return to_config(gradtx.freeze(item))["arguments"]["mask"]

    assert argument(re.compile("a", re.IGNORECASE)) == {"$re": "a", "flags": ["IGNORECASE"]}
    assert argument((True, [None])) == {"$tuple": [True, [None]]}
    assert argument({"a": True}) == {"a": True}
    assert argument({1: True}) == {"$dict": [[1, True]]}
    assert argument({"name": True}) == {"$dict": [["name", True]]}
    assert argument(jnp.array([1.0, jnp.nan], jnp.float32)) == {"$array": [1.0, {"$float": "nan"}], "dtype": "float32"}
    assert argument(np.dtype("float32")) == {"$dtype": "float32"}
    assert argument(jnp.array(True)) is True


# Written by hand


def test_a_config_may_be_written_by_hand():
    text = """
    gradtx: 1
    name: partition
    arguments:
      transforms:
        "*bias": {name: sgd, arguments: {learning_rate: 1e-3}}  # YAML reads a string
        "*":
          name: chain
          arguments:
            transformations:
              - {name: identity}
              - name: adafactor
                arguments:
                  learning_rate: {name: cosine_decay_schedule, arguments: {init_value: 1e-2, decay_steps: 1e4}}
                  min_dim_size_to_factor: 1e2
            named:
              last: {name: scale, arguments: {step_size: "-inf"}}
    """
    tx = from_config(yaml.safe_load(text))
    schedule = gradtx.cosine_decay_schedule(1e-2, 10_000)
    assert tx == gradtx.partition(
        {
            "*bias": gradtx.sgd(1e-3),
            "*": gradtx.chain(
                gradtx.identity(),
                gradtx.adafactor(schedule, min_dim_size_to_factor=100),
                last=gradtx.scale(-np.inf),
            ),
        }
    )
    assert list(tx.transforms) == ["*bias", "*"]


def test_a_dict_from_yaml_may_have_numbers_as_keys():
    text = (
        "{gradtx: 1, name: piecewise_constant_schedule, arguments: {init_value: 1, boundaries_and_scales: {10: 0.5}}}"
    )
    assert from_config(yaml.safe_load(text)) == gradtx.piecewise_constant_schedule(1.0, {10: 0.5})


def test_what_is_read_trains():
    tx = from_config(through_json(to_config(gradtx.chain(gradtx.clip(1.0), gradtx.adamw(COSINE, mask="w")))))
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


# What cannot be written


class Frozen(dict):
    """A container of another library."""


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (
            gradtx.chain(gradtx.identity(), gradtx.adamw(0.1, mask=lambda path, leaf: True)),
            r"chain.transformations\[1\].mask: a function, <lambda>, cannot be written; choose leaves with a pattern",
        ),
        (gradtx.sgd(lambda t: 0.1 / (t + 1)), r"sgd.learning_rate.function: a function, <lambda>, .* write a schedule"),
        (gradtx.stateless(negate), "stateless.f: a function, negate"),
        (
            gradtx.chain(clip=gradtx.clip(1.0), other=optax.scale(2.0)),
            r"chain.named\['other'\]: a transformation of another library",
        ),
        (gradtx.partition({"a": optax.scale(2.0)}), r"partition.transforms\['a'\]: a transformation of another"),
        (gradtx.GradientTransformation(negate, negate), r"GradientTransformation.functions\[0\]: a function, negate"),
        (gradtx.inject_hyperparams(optax.sgd)(learning_rate=0.1), "inner.factory: a function, sgd"),
        (gradtx.masked(gradtx.identity(), [Frozen()]), r"masked.mask\[0\]: a Frozen cannot be written; use numbers"),
        (gradtx.freeze({"a": {b"x": True}}), r"freeze.mask\['a'\]: a bytes cannot be written"),
        (gradtx.freeze(re.compile(b"x")), "freeze.mask: a Pattern cannot be written"),
        (gradtx.freeze(np.zeros((0, 5))), r"freeze.mask: an array of shape \(0, 5\) and dtype float64 cannot"),
        (gradtx.freeze(1j), "freeze.mask: a complex cannot be written"),
        (gradtx.freeze(jnp.float32), "freeze.mask: "),
        (nested(2000), "chain: nested too deeply to be written"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_cannot_be_written_says_where_and_what_to_use(tx, message):
    with pytest.raises(ConfigError, match=message):
        to_config(tx)


def test_only_values_are_written():
    for other in (optax.adam(0.1), None, {"name": "adam"}, 1.0, gradtx.adam):
        with pytest.raises(ConfigError, match="to_config writes transformations and schedules, not "):
            to_config(other)


def test_a_traced_number_cannot_be_written():
    with pytest.raises(ConfigError, match=r"adam.learning_rate: a traced number .* outside of jit"):
        jax.jit(lambda rate: to_config(gradtx.adam(rate)))(0.1)


# What cannot be read


def config_of(name: Any, **arguments: Any) -> dict[str, Any]:
    return {"gradtx": 1, "name": name, "arguments": arguments}


SGD = {"name": "sgd", "arguments": {"learning_rate": 0.1}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config: expected a dict such as to_config makes, got None"),
        ([SGD], "config: expected a dict such as to_config makes, got a list"),
        (SGD, "config: expected the version, 'gradtx': 1, there is none"),
        (SGD | {"gradtx": 2}, "config: expected the version, 'gradtx': 1, got 2"),
        (SGD | {"gradtx": True}, "config: expected the version, 'gradtx': 1, got True"),
        ({"gradtx": 1}, "config: expected 'name'"),
        (SGD | {"gradtx": 1, "argument": {}}, "sgd: no key is named 'argument'; did you mean 'arguments'"),
        (config_of("adm"), "config: no constructor is named 'adm'; did you mean .*'adam'"),
        (config_of(["adam"]), "config: no constructor is named a list; there are absolute, accumulate"),
        (config_of("make_step"), "no constructor is named 'make_step'"),
        (config_of("__import__"), "no constructor is named '__import__'"),
        (config_of("_function", function="print"), "no constructor is named '_function'"),
        (config_of("GradientTransformation"), "no constructor is named 'GradientTransformation'"),
        ({"gradtx": 1, "name": "adam", "arguments": [0.1]}, "adam: 'arguments' must be a dict, .* got a list"),
        (config_of("adam"), "adam: adam needs the argument 'learning_rate'"),
        (config_of("sgd", learning_rate=True), "sgd.learning_rate: expected a number, got True"),
        (config_of("sgd", learning_rate="1_0"), "sgd.learning_rate: expected a number, got '1_0'"),
        (config_of("adam", lr=0.1), "adam: no argument is named 'lr'; there are learning_rate, b1"),
        (
            config_of("adam", learning_rat=0.1),
            "adam: no argument is named 'learning_rat'; did you mean 'learning_rate'",
        ),
        (config_of("adam", learning_rate="fast"), "adam.learning_rate: could not convert string to float: 'fast'"),
        (config_of("adam", learning_rate=-1), "adam: learning_rate must be at least 0, got -1.0"),
        (config_of("adam", learning_rate="nan"), "adam: learning_rate must be at least 0, got nan"),
        (config_of("adam", learning_rate=[1]), "adam: learning_rate must be a number"),
        (config_of("adam", learning_rate=0.1, nesterov="false"), "adam.nesterov: expected true or false, got 'false'"),
        (config_of("adam", learning_rate=0.1, mu_dtype="float31"), "adam: mu_dtype must be a dtype of floats"),
        (
            config_of("chain", transformations=[SGD, {"name": "adamw", "arguments": {"learning_rate": 1, "b1": 1}}]),
            r"chain.transformations\[1\]: adamw: b1 must be in \[0, 1\), got 1.0",
        ),
        (config_of("chain", transformations=SGD), "chain.transformations: expected a list"),
        (config_of("chain", transformations=["sgd"]), "chain: 'sgd' is not a transformation"),
        (config_of("chain", named=[SGD]), "chain.named: expected a dict"),
        (config_of("chain", named={"a b": SGD}), "chain: 'a b' cannot name a field of the state"),
        (config_of("chain", named={"$dict": [[1, SGD]]}), "chain: .*keyword"),
        (config_of("partition", transforms={"*": {"name": "sgdd"}}), r"partition.transforms\['\*'\]: no constructor"),
        (config_of("inject_hyperparams", inner=SGD, names=["rate"]), "inject_hyperparams: no hyperparameter matches"),
        (
            config_of("inject_hyperparams", names=["rate"]),
            "inject_hyperparams: inject_hyperparams needs the argument 'inner'",
        ),
        (
            config_of("warmup_cosine_decay_schedule", init_value=0, peak_value=1, warmup_steps=5, decay_steps=2),
            "decay_steps is below warmup_steps by 3",
        ),
        (config_of("linear_schedule", init_value=0, end_value=1, transition_steps=10**5000), "linear_schedule: "),
        (config_of("arithmetic", left=1, sign="//", right=2), "arithmetic: "),
        (config_of("freeze", mask={"$map": []}), r"freeze.mask: no form is named '\$map'; there are \$array, \$dict"),
        (config_of("freeze", mask={"$re": "("}), "freeze.mask: missing ., unterminated subpattern"),
        (config_of("freeze", mask={"$re": "a{99999999999}"}), "freeze.mask: the repetition number is too large"),
        (config_of("freeze", mask={"$re": "a", "flags": ["ignorecase"]}), "no flag of .* did you mean 'IGNORECASE'"),
        (
            config_of("freeze", mask={"$re": "a", "flag": []}),
            "freeze.mask: no key is named 'flag'; did you mean 'flags'",
        ),
        (config_of("freeze", mask={"$re": 1}), "freeze.mask: .re is a string, got 1"),
        (config_of("freeze", mask={"$float": "1.0"}), "freeze.mask: .float is 'inf', '-inf' or 'nan', got '1.0'"),
        (config_of("freeze", mask={"$tuple": 1}), "freeze.mask: .tuple is a list, got 1"),
        (config_of("freeze", mask={"$dict": [1]}), r"freeze.mask: .dict is a list of pairs \[key, item\], got 1 in it"),
        (config_of("freeze", mask={"$dict": [[[], 1]]}), "freeze.mask: unhashable type: 'list'"),
        (config_of("freeze", mask={"$dict": [[1, 2], [1, 3]]}), "freeze.mask: .dict has the key 1 twice"),
        (config_of("freeze", mask={"$dict": [[1, 2], ["1", 3]]}), "freeze: .*sort"),
        (config_of("freeze", mask={"$array": [1, [2]]}), "freeze.mask: .*sequence"),
        (config_of("freeze", mask={"$array": []}), "freeze.mask: an array without entries"),
        (config_of("freeze", mask={"$array": [1e308]}), "freeze.mask: overflow"),
        (config_of("freeze", mask={"$array": ["x"]}), "freeze.mask: could not convert string to float"),
        (
            config_of("freeze", mask={"$array": [1], "dtype": "object"}),
            "freeze.mask: an array holds real numbers or booleans, not 'object'",
        ),
        (config_of("freeze", mask={"$array": [1], "dtype": {}}), "freeze.mask: the dtype of an array is a string"),
        (config_of("freeze", mask={"$dtype": "int31"}), "freeze.mask: .*int31"),
        (config_of("freeze", mask=[{"a": {1, 2}}]), r"freeze.mask\[0\]\['a'\]: a set has no place in a config"),
        (config_of("freeze", mask=b"x"), "freeze.mask: a bytes has no place in a config"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_cannot_be_read_says_where_and_what_is_known(config, message):
    with pytest.raises(ConfigError, match=message):
        from_config(config)


def test_a_config_without_end_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = True
    for _ in range(100_000):
        deep = [deep]
    for mask in (endless, deep):
        with pytest.raises(ConfigError, match="nested too deeply"):
            from_config(config_of("freeze", mask=mask))
    try:
        del endless[:]
    finally:
        while isinstance(deep, list):  # taken apart from the outside: deleting it at once would recurse
            deep = deep.pop()


def test_reading_calls_constructors_only():
    """A name is looked up among constructors; no attribute, import or expression is evaluated."""
    for name in ("os.system", "gradtx.adam", "adam()", "stateless.__globals__", "Value", "transformation", "schedule"):
        with pytest.raises(ConfigError, match="no constructor is named"):
            from_config(config_of(name))
    with pytest.raises(ConfigError, match="neither a transformation"):
        from_config(config_of("inject_hyperparams", inner="print"))


# Your own constructors


@gradtx.transformation
def halved(inner: gradtx.Transformation, by: gradtx.Positive = 2.0):
    """A constructor of a user."""
    return gradtx.chain(inner, gradtx.scale(1 / by))


@gradtx.schedule
def stairs(heights: list, every: int = 10):
    """A schedule of a user."""
    return lambda count: jnp.asarray(heights)[jnp.minimum(count // every, len(heights) - 1)]


def test_own_constructors_are_given_to_from_config():
    tx = gradtx.chain(halved(gradtx.adam(stairs([0.1, 0.2])), by=3.0))
    config = through_json(to_config(tx))
    assert from_config(config, halved, stairs) == tx
    with pytest.raises(ConfigError, match=r"chain.transformations\[0\]: no constructor is named 'halved'"):
        from_config(config)
    with pytest.raises(
        ConfigError, match=r"transformations\[0\].inner.learning_rate: no constructor is named 'stairs'"
    ):
        from_config(config, halved)


def test_own_constructors_have_names_of_their_own():
    def adam(rate: gradtx.Real):
        return gradtx.scale(rate)

    own = gradtx.transformation(adam)
    with pytest.raises(ConfigError, match=r"chain.transformations\[0\]: 'adam' is also a name of gradtx's; rename"):
        to_config(gradtx.chain(own(0.1)))
    with pytest.raises(ConfigError, match="two constructors are named 'adam'"):
        from_config(config_of("adam", rate=0.1), own)
    with pytest.raises(ConfigError, match="a function is not a constructor; decorate it"):
        from_config(config_of("adam", rate=0.1), adam)
    assert from_config(config_of("sgd", learning_rate=0.1), gradtx.sgd) == gradtx.sgd(0.1)


# Anything else


SEEDS = [
    through_json(to_config(tx))
    for name in constructors()
    for example in examples(name)
    for tx in (example, *list(variants(example))[:40:9])
    if not holds_function(tx)
]
LEAVES = [None, True, False, 0, 1, -1, 10**30, 10**400, 0.5, -1e308, 1e400, "", "*", "1e-3", "nan", "adam", "(", "$re"]
KEYS = ["name", "arguments", "gradtx", "$tuple", "$dict", "$array", "$re", "$float", "$dtype", "dtype", "flags", "mask"]

leaves = st.sampled_from(LEAVES) | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
        | st.fixed_dictionaries({"name": st.sampled_from(sorted(constructors())), "arguments": inner})
    ),
    max_leaves=12,
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a config."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [place for key, item in items for place in [(node, key), *places(item)]]


def mutated(config: Any, chance: random.Random) -> Any:
    """A valid config with a few things in it replaced, dropped, renamed or doubled."""
    config = {"config": copy.deepcopy(config)}
    for _ in range(chance.randint(1, 3)):
        container, key = chance.choice(places(config))
        item = container[key]
        match chance.randrange(7):
            case 0 | 1:
                container[key] = chance.choice(LEAVES)
            case 2:
                part, other = chance.choice(places(chance.choice(SEEDS)))
                container[key] = copy.deepcopy(part[other])
            case 3:
                container[key] = chance.choice([[item], [item, item], {"$tuple": [item]}, {"a": item}, {"$re": item}])
            case 4 if isinstance(container, dict) and container is not config:
                container[chance.choice(KEYS)] = container.pop(key)
            case 5 if container is not config:
                del container[key]
            case _ if isinstance(item, list):
                chance.shuffle(item)
    return config["config"]


def read_or_refused(config: Any) -> bool:
    """Reading gives a value that can be used and written, or a ConfigError; True for a value."""
    try:
        value = from_config(config)
    except ConfigError:
        return False
    hash(value)
    assert repr(from_config(through_json(to_config(value)))) == repr(value)
    return True


@settings(max_examples=1000, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(constructors())), config=anything, whole=st.booleans())
def test_anything_is_read_or_refused(name, config, whole):
    read_or_refused(config if whole else {"gradtx": 1, "name": name, "arguments": config})


@pytest.mark.parametrize("part", range(4))
def test_configs_with_mistakes_are_read_or_refused(part):
    chance = random.Random(part)
    results = [read_or_refused(mutated(chance.choice(SEEDS), chance)) for _ in range(500)]
    assert 50 < sum(results) < 450  # both happen

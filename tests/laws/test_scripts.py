"""`import gradtx as optax`: training scripts of scripts.py, run with either library, give the same numbers.

Every number that a script returns (parameters and losses of each step) is compared, in float64. Where gradtx differs on
purpose, the last tests say how.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx
from helpers import PUBLIC, assert_close
from scripts import SCRIPTS

# Optax computes its linear and exponential schedules, and all that it injects, in float32 under x64, too.
ROUNDED_BY_OPTAX = {
    "schedule_clip_adamw_accumulate",
    "injected_hyperparams",
    "frozen_layers",
    "flax_linen",
}


@pytest.fixture(autouse=True)
def _quick_to_compile():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_gives_the_same_numbers(script):
    with jax.enable_x64(True):
        ours, theirs = script(gradtx), script(optax)
    assert len(jax.tree.leaves(ours)) >= 5
    if script.__name__ in ROUNDED_BY_OPTAX:
        assert_close(ours, theirs, rtol=5e-6, atol=5e-9)
    else:
        assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


# In float32 the rounding of a tiny gradient is not small beside it, and Adam divides by its size: the parameters agree
# to less than 1/500 of what a step of 0.01 moves them.
@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.__name__ in ("getting_started", "lookahead", "flax_nnx")])
def test_in_float32_as_well(script):
    ours, theirs = script(gradtx), script(optax)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype("float32")}
    assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_contributed_names_are_those_of_gradtx():
    theirs = {name for name in dir(optax.contrib) if not name.startswith("_")}
    assert set(gradtx.contrib.__all__) == theirs & set(PUBLIC)
    assert all(getattr(gradtx.contrib, name) is getattr(gradtx, name) for name in gradtx.contrib.__all__)


# Where the numbers differ on purpose


def train(optax, tx, params, gradients, **extra_args):
    """The parameters after each step."""
    state, history = tx.init(params), []
    step = jax.jit(lambda *arguments: tx.update(*arguments, **extra_args))
    for gradient in gradients:
        updates, state = step(gradient, state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history, state


def test_bfloat16_parameters_are_trained_as_float32_ones_are():
    """Optax keeps Adam's averages in bfloat16, where one with b2 = 0.999 cannot fall; here they are float32."""

    def last_update(library, dtype):
        tx, gradients = library.adam(1.0), jnp.asarray([1.0] + 600 * [1e-2], dtype)
        step = jax.jit(lambda state, gradient: tx.update(gradient, state)[::-1])
        return float(jax.lax.scan(step, tx.init(gradients[0]), gradients)[1][-1])

    exact = last_update(gradtx, "float32")
    np.testing.assert_allclose(last_update(optax, "float32"), exact, rtol=1e-3)
    np.testing.assert_allclose(last_update(gradtx, "bfloat16"), exact, rtol=1e-2)
    assert abs(last_update(optax, "bfloat16") / exact - 1) > 0.1


PARAMS = {"body": jnp.ones((2, 3)), "head": jnp.ones(3)}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lambda optax: optax.multi_transform({"a": optax.sgd(0.1), "b": optax.adam(0.1)}, "a"), "'b' gets no leaf"),
        (lambda optax: optax.sgd(-0.1), "learning_rate must be at least 0"),
        (lambda optax: optax.sgd(0.1, momentum=1.0), r"momentum must be in \[0, 1\)"),
        (lambda optax: optax.masked(optax.sgd(0.1), {"body": 1, "head": 0}), "a mask holds booleans"),
        (lambda optax: optax.named_chain(("sgd-1", optax.sgd(0.1))), "'sgd-1' cannot name a field"),
    ],
)
def test_what_optax_lets_pass_and_gradtx_does_not(script, message):
    train(optax, script(optax), PARAMS, [PARAMS])
    with pytest.raises(ValueError, match=message):
        train(gradtx, script(gradtx), PARAMS, [PARAMS])


def test_gradients_that_fit_only_by_broadcasting_and_arguments_that_nobody_takes_are_errors():
    broadcast = {"body": jnp.ones(3), "head": jnp.ones(3)}
    train(optax, optax.sgd(0.1), PARAMS, [broadcast])
    with pytest.raises(ValueError, match=r"body.*shape"):
        train(gradtx, gradtx.sgd(0.1), PARAMS, [broadcast])
    train(optax, optax.sgd(0.1), PARAMS, [PARAMS], vlaue=1.0)
    with pytest.raises(TypeError, match="no extra argument 'vlaue'"):
        train(gradtx, gradtx.sgd(0.1), PARAMS, [PARAMS], vlaue=1.0)


def test_not_finite_gradients_are_never_applied():
    """Optax applies them once it has seen more than `max_consecutive_errors` of them in a row; here the state tells."""
    gradients = [jnp.array(jnp.nan)] * 3
    theirs, _ = train(optax, optax.apply_if_finite(optax.sgd(0.1), 2), jnp.zeros(()), gradients)
    ours, state = train(gradtx, gradtx.apply_if_finite(gradtx.sgd(0.1), 2), jnp.zeros(()), gradients)
    assert np.isnan(theirs[-1])
    assert ours[-1] == 0.0
    assert state.gave_up


def test_a_negative_loss_improves_when_it_falls():
    """Optax asks for a value below (1 − rtol)·best, which for a negative best lets it rise."""
    scales = {}
    for library in (gradtx, optax):
        tx = library.contrib.reduce_on_plateau(factor=0.5, patience=2, rtol=1e-2)
        _, state = train(library, tx, jnp.zeros(()), [jnp.ones(())] * 6, value=-1.0)
        scales[library.__name__] = float(state.scale)
    assert scales["gradtx"] < 1.0
    assert scales["optax"] == 1.0

"""Trajectories of parameters: of a transformation, of an oracle, and how far they are apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 50
RTOL = 1e-10


# The problem: 50 random gradients for leaves of 0 to 3 axes and a complex one


@functools.cache
def problem():
    """Parameters, and gradients stacked over the steps, as NumPy arrays."""
    rng = np.random.default_rng(0)
    shapes = {"scalar": (), "vector": (5,), "matrix": (4, 6), "tensor": (5, 3, 4), "complex": (4, 5)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    grads = {name: rng.normal(size=(STEPS, *shape)) + 0.3 for name, shape in shapes.items()}
    params["complex"] = params["complex"] + 1j * rng.normal(size=shapes["complex"])
    grads["complex"] = grads["complex"] + 1j * rng.normal(size=grads["complex"].shape)
    grads["vector"] *= np.array([0.0, 1e-3, 1.0, 30.0, 1.0])  # one element never has a gradient
    grads["matrix"][10:20] *= 20.0  # a storm that passes
    grads["tensor"][5] = 0.0
    return params, grads


def real(tree):
    """Without the complex leaf."""
    return {name: leaf for name, leaf in tree.items() if not np.iscomplexobj(leaf)}


def follow(tx, params, grads):
    """The parameters after each step of a transformation of gradtx or Optax."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        return (params, state), params

    def run(params, grads):
        return jax.lax.scan(step, (params, tx.init(params)), grads)[1]

    params, grads = jax.tree.map(jnp.asarray, (params, grads))
    quick_to_compile = {"xla_backend_optimization_level": 0}
    return jax.tree.map(np.asarray, jax.jit(run, compiler_options=quick_to_compile)(params, grads))


def is_whole(rule):
    """Whether an oracle, or a case by its oracle, looks at all leaves together."""
    return getattr(getattr(rule, "func", rule), "whole", False)


def on_paper(rule, params, grads):
    """The trajectory of an oracle, leaf by leaf, or of one that looks at all leaves together."""
    if is_whole(rule):
        vector = np.concatenate([np.ravel(leaf) for leaf in params.values()])
        gradients = np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in grads.values()], axis=1)
        ends = np.cumsum([np.size(leaf) for leaf in params.values()])[:-1]
        parts = np.split(np.stack(list(rule(vector, gradients))), ends, axis=1)
        visited = {name: part.reshape(-1, *np.shape(params[name])) for name, part in zip(params, parts, strict=True)}
        return {name: leaf if np.iscomplexobj(params[name]) else leaf.real for name, leaf in visited.items()}
    return {name: np.stack([np.asarray(θ) for θ in rule(params[name], grads[name])]) for name in params}


def error(actual, expected):
    """The largest relative difference of any element of any leaf at any step; elements below 0.01 count as 0.01."""
    assert actual.keys() == expected.keys()
    assert all(actual[name].shape == expected[name].shape for name in actual)
    return max(np.max(np.abs(actual[k] - expected[k]) / np.maximum(np.abs(expected[k]), 0.01)) for k in actual)


def check(actual, expected, rtol=RTOL):
    """Every element agrees at every step; NaN agrees with nothing."""
    found = error(actual, expected)
    assert found <= rtol, f"relative difference of {found:.1e}"


def moved(trajectory):
    """The trajectory does go somewhere."""
    return all(np.max(np.abs(leaf[-1] - leaf[0])) > 0 for leaf in trajectory.values())

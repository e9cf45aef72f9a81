"""What type checkers must accept: mypy --strict and pyright read this file, nothing runs it."""

from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from gradtx.optimizers import adam
from gradtx.wrappers import lookahead

# A number, an array, a schedule, or any function of the count
gradtx.adam(1e-3)
gradtx.adam(1, b1=jnp.asarray(0.9), b2=np.float32(0.99), eps=np.asarray(1e-8), mu_dtype="bfloat16")
gradtx.adam(gradtx.cosine_decay_schedule(1e-3, 100), b1=0.5 * gradtx.linear_schedule(0.5, 0.9, 100))
gradtx.adam(lambda count: 0.1 / (count + 1), mu_dtype=jnp.float32)
gradtx.adam(optax.cosine_decay_schedule(1e-3, 100))

# Transformations of either library
tx = gradtx.chain(optax.clip_by_global_norm(1.0), adam(1e-3), ema=gradtx.ema_params(0.99))
assert_type(tx, gradtx.GradientTransformation)
assert_type(gradtx.adam(1e-3), gradtx.GradientTransformation)
assert_type(gradtx.adamw(1e-3).replace(weight_decay=0.1), gradtx.GradientTransformation)
assert_type(gradtx.cosine_decay_schedule(1.0, 10), gradtx.Schedule)
assert_type(0.5 * gradtx.cosine_decay_schedule(1.0, 10) + 1, gradtx.Schedule)
assert_type(gradtx.partition({"bias": gradtx.sgd(0.1), "*": optax.adam(1e-3)}), gradtx.GradientTransformation)
assert_type(gradtx.inject_hyperparams(gradtx.adam(1e-3), "learning_rate"), gradtx.GradientTransformation)
gradtx.lookahead(optax.sgd(0.1), sync_period=5, slow_step_size=0.5).init(jnp.zeros(2))
lookahead(gradtx.sgd(0.1), 5, 0.5).update(jnp.zeros(2), None)
gradtx.MultiSteps(gradtx.sgd(0.1), 4).has_updated(None)
init, update = gradtx.adam(1e-3)


def loss(params: gradtx.Params, x: jax.Array) -> jax.Array:
    return jnp.sum(params * x)


step = gradtx.make_step(loss, tx)
assert_type(step, gradtx.Step)
assert_type(step.replace(learning_rate=1e-4), gradtx.Step)
assert_type(gradtx.minimize(loss, jnp.zeros(2), tx, steps=3), gradtx.Minimum)
gradtx.make_step(loss, optax.adam(1e-3))
gradtx.EarlyStopping(patience=3)


# One's own
@gradtx.transformation
def descend(learning_rate: gradtx.NonNegative, decay: gradtx.Decay = 0.9) -> gradtx.GradientTransformation:
    return gradtx.chain(gradtx.ema(decay), gradtx.scale_by_learning_rate(learning_rate))


@gradtx.schedule
def halving(init_value: gradtx.Real, every: int) -> gradtx.ScalarOrSchedule:
    return lambda count: jnp.asarray(0.5) ** (count // every)


assert_type(descend(0.1, decay=halving(0.9, 10)), gradtx.GradientTransformation)

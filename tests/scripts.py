"""Training scripts as people write them for Optax, as functions of the library.

Each does what its line in `SCRIPTS` says, with nothing but `optax.` names, and returns the numbers of each step. With
`import gradtx as optax` they are the same: test_scripts.py runs every script with both libraries.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from flax.training import train_state
from sklearn.datasets import load_digits

__all__ = ["SCRIPTS"]

# What the scripts share: data, a small network in plain JAX


@functools.cache
def _digits():
    images, labels = load_digits(return_X_y=True)
    return images[:512] / 16.0, labels[:512]


def digits(batch_size=64, steps=16):
    """Batches of scikit-learn's digits, again and again."""
    images, labels = _digits()
    for step in range(steps):
        rows = np.arange(step * batch_size, (step + 1) * batch_size) % len(images)
        yield jnp.asarray(images[rows]), jnp.asarray(labels[rows])


def init_mlp():
    """The parameters of a network with one hidden layer."""
    rng = np.random.default_rng(0)
    sizes = {"hidden": (64, 16), "output": (16, 10)}
    return {
        name: {"kernel": jnp.asarray(rng.normal(size=size) / size[0] ** 0.5), "bias": jnp.zeros(size[1])}
        for name, size in sizes.items()
    }


def mlp(params, x):
    """Its logits."""
    x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def regression_data():
    """Inputs and noisy linear targets."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(64, 3)))
    return x, x @ jnp.array([1.0, -2.0, 3.0]) + 0.5 + 0.1 * jnp.asarray(rng.normal(size=64))


# Loops of one's own


def getting_started(optax):
    x, y = regression_data()
    params = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    optimizer = optax.adam(learning_rate=1e-1)

    def compute_loss(params: optax.Params, x, y):
        return jnp.mean(optax.l2_loss(x @ params["w"] + params["b"], y))

    def fit(params: optax.Params, optimizer: optax.GradientTransformation) -> list[optax.Params]:
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params: optax.Params, opt_state: optax.OptState):
            loss_value, grads = jax.value_and_grad(compute_loss)(params, x, y)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            return params, opt_state, loss_value

        history = []
        for _ in range(30):
            params, opt_state, loss_value = step(params, opt_state)
            history.append((loss_value, params))
        return history

    return fit(params, optimizer)


def lbfgs(optax):
    x, y = regression_data()
    solver = optax.lbfgs()

    def loss_fn(params):
        return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)

    params = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    opt_state = solver.init(params)
    value_and_grad = optax.value_and_grad_from_state(loss_fn)

    @jax.jit
    def step(params, opt_state):
        value, grad = value_and_grad(params, state=opt_state)
        updates, opt_state = solver.update(grad, opt_state, params, value=value, grad=grad, value_fn=loss_fn)
        return optax.apply_updates(params, updates), opt_state, value

    history = []
    for _ in range(6):
        params, opt_state, value = step(params, opt_state)
        history.append((params, value, optax.tree.norm(optax.tree.get(opt_state, "grad"))))
    return history


def schedule_clip_adamw_accumulate(optax):
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=1e-2, warmup_steps=3, decay_steps=10, end_value=1e-4
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            schedule, b2=0.95, weight_decay=1e-2, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        ),
    )
    optimizer = optax.MultiSteps(optimizer, every_k_schedule=2)
    params = init_mlp()
    opt_state = optimizer.init(params)

    @jax.jit
    def train_step(params, opt_state, x, y):
        def loss_fn(params):
            return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss, optax.global_norm(grads)

    history = []
    for x, y in digits(steps=24):
        params, opt_state, loss, norm = train_step(params, opt_state, x, y)
        history.append((params, loss, norm, optimizer.has_updated(opt_state), opt_state.gradient_step))
    return history


def gradient_accumulation(optax):
    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy(mlp(params, x), optax.smooth_labels(jax.nn.one_hot(y, 10), 0.1)).mean()

    def train(optimizer, batch_size, steps):
        params = init_mlp()
        opt_state = optimizer.init(params)

        @jax.jit
        def train_step(params, opt_state, x, y):
            updates, opt_state = optimizer.update(jax.grad(loss_fn)(params, x, y), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        history = []
        for x, y in digits(batch_size, steps):
            params, opt_state = train_step(params, opt_state, x, y)
            history.append(params)
        return history

    whole = train(optax.sgd(0.1, momentum=0.9), batch_size=64, steps=4)
    mean = optax.MultiSteps(optax.sgd(0.1, momentum=0.9), every_k_schedule=4, accumulator_dtype=float)
    accumulated = train(mean, batch_size=16, steps=16)
    growing = optax.MultiSteps(
        optax.adam(1e-2), lambda step: jnp.where(step < 2, 1, 3), use_grad_mean=False, accumulator_dtype=float
    )
    chained = optax.chain(growing.gradient_transformation(), optax.scale(0.5))
    return whole, accumulated, train(chained, batch_size=16, steps=8)


def reduce_on_plateau(optax):
    optimizer = optax.chain(
        optax.sgd(0.5),
        optax.contrib.reduce_on_plateau(factor=0.5, patience=2, cooldown=1, rtol=1e-2, accumulation_size=2),
    )
    params = init_mlp()
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, x, y):
        def loss_fn(params):
            return optax.losses.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

        value, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params, value=value)
        return optax.apply_updates(params, updates), opt_state, value

    history = []
    for x, y in digits(batch_size=8, steps=40):
        params, opt_state, value = step(params, opt_state, x, y)
        history.append((params, value, opt_state[-1].scale))
    assert opt_state[-1].scale < 0.5, "the rate fell more than once"
    return history


def injected_hyperparams(optax):
    @optax.inject_hyperparams
    def make_optimizer(learning_rate, weight_decay):
        return optax.chain(
            optax.scale_by_adam(), optax.add_decayed_weights(weight_decay), optax.scale_by_learning_rate(learning_rate)
        )

    optimizers = {
        "constructor": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
        "own": make_optimizer(1e-2, weight_decay=optax.linear_schedule(0.1, 0.0, 10)),
        "static": optax.inject_hyperparams(optax.adamw, static_args=("b1", "nesterov"))(1e-2, nesterov=True),
    }

    def train(optimizer):
        params = init_mlp()
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params, opt_state, x, y):
            def loss_fn(params):
                return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

            updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        history = []
        for epoch in range(3):
            for x, y in digits(steps=4):
                params, opt_state = step(params, opt_state, x, y)
                history.append((params, dict(opt_state.hyperparams)))
            opt_state.hyperparams["learning_rate"] = 0.05 / (epoch + 1)
        return history

    return {name: train(optimizer) for name, optimizer in optimizers.items()}


def rate_set_from_outside(optax):
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2))
    params = init_mlp()
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, x, y):
        def loss_fn(params):
            return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

        grads = jax.grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads), optax.tree.norm(updates)

    history = []
    for i, (x, y) in enumerate(digits()):
        if i % 4 == 3:
            rate = optax.tree_utils.tree_get(opt_state, "learning_rate")
            opt_state = optax.tree_utils.tree_set(opt_state, learning_rate=rate / 2)
        params, opt_state, *norms = step(params, opt_state, x, y)
        history.append((params, norms, optax.tree.get(opt_state, "learning_rate")))
    return history


def skipped_steps(optax):
    optimizer = optax.apply_if_finite(optax.chain(optax.clip(0.1), optax.rmsprop(1e-2)), max_consecutive_errors=3)
    careful = optax.MultiSteps(
        optax.sgd(0.1), every_k_schedule=2, should_skip_update_fn=optax.skip_not_finite, accumulator_dtype=float
    )

    def train(optimizer):
        params = init_mlp()
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params, opt_state, x, y):
            def loss_fn(params):
                return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

            updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        history = []
        for i, (x, y) in enumerate(digits(steps=12)):
            x = x.at[0, 0].set(jnp.nan) if i in (2, 5, 6) else x
            params, opt_state = step(params, opt_state, x, y)
            history.append(params)
        return history, opt_state

    guarded, opt_state = train(optimizer)
    assert opt_state.total_notfinite == 3
    assert opt_state.last_finite
    return guarded, train(careful)[0]


# Averages


def lookahead(optax):
    optimizer = optax.lookahead(optax.adam(1e-2), sync_period=4, slow_step_size=0.5)
    params = optax.LookaheadParams.init_synced(init_mlp())
    opt_state = optimizer.init(params)

    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

    @jax.jit
    def step(params, opt_state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params.fast, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    history = []
    for x, y in digits():
        params, opt_state, loss = step(params, opt_state, x, y)
        history.append((loss, params.fast, params.slow, loss_fn(params.slow, x, y)))
    return history


def average_of_params(optax):
    optimizer, average = optax.adamw(1e-2), optax.ema(0.9)
    params = by_hand = init_mlp()
    opt_state, average_state = optimizer.init(params), average.init(params)

    @jax.jit
    def step(params, opt_state, average_state, by_hand, x, y):
        def loss_fn(params):
            return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state, params)
        params = optax.apply_updates(params, updates)
        averaged, average_state = average.update(params, average_state)
        by_hand = optax.incremental_update(params, by_hand, step_size=0.1)
        return params, opt_state, average_state, averaged, by_hand

    history = []
    for x, y in digits():
        params, opt_state, average_state, averaged, by_hand = step(params, opt_state, average_state, by_hand, x, y)
        history.append((params, averaged, by_hand))
    return history


def schedule_free(optax):
    optimizer = optax.contrib.schedule_free(optax.sgd(0.5), learning_rate=0.5, b1=0.9)
    params = init_mlp()
    opt_state = optimizer.init(params)

    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

    @jax.jit
    def step(params, opt_state, x, y):
        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params, x, y), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    history = []
    for x, y in digits():
        params, opt_state = step(params, opt_state, x, y)
        eval_params = optax.contrib.schedule_free_eval_params(opt_state, params)
        history.append((params, loss_fn(eval_params, x, y)))
    return history


def target_network(optax):
    """Q-learning of a chain of states, with a slow copy of the parameters."""
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(5e-2))
    params = target_params = {"q": jnp.zeros((6, 2))}
    opt_state = optimizer.init(params)

    @jax.jit
    def learn(params, target_params, opt_state, count, state, action):
        next_state = jnp.clip(state + 2 * action - 1, 0, 5)
        target = (next_state == 5) + 0.9 * target_params["q"][next_state].max(axis=1)

        def loss_fn(params):
            return optax.huber_loss(params["q"][state, action], target, delta=0.5).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(params, updates)
        return params, optax.periodic_update(params, target_params, count + 1, 5), opt_state, loss

    rng, history = np.random.default_rng(2), []
    for count in range(30):
        state, action = rng.integers(0, 6, 16), rng.integers(0, 2, 16)
        params, target_params, opt_state, loss = learn(params, target_params, opt_state, count, state, action)
        history.append((params, target_params, loss))
    return history


# Some of the parameters


def frozen_layers(optax):
    def labels(params):
        return {name: "train" if name == "output" else "freeze" for name in params}

    def is_bias(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)

    hidden = {"hidden": True, "output": False}
    optimizers = {
        "labels": optax.multi_transform({"train": optax.adam(1e-2), "freeze": optax.set_to_zero()}, labels),
        "partition": optax.partition(
            {"train": optax.sgd(optax.exponential_decay(0.1, 5, 0.5)), "freeze": optax.set_to_zero()},
            labels(init_mlp()),
        ),
        "masked": optax.chain(optax.adam(1e-2), optax.masked(optax.set_to_zero(), is_bias)),
        "freeze": optax.chain(optax.adam(1e-2), optax.freeze(hidden)),
        "selective": optax.selective_transform(optax.adam(1e-2), freeze_mask=hidden),
    }

    def train(optimizer):
        params = init_mlp()
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params, opt_state, x, y):
            def loss_fn(params):
                return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

            updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        history = []
        for x, y in digits(steps=6):
            params, opt_state = step(params, opt_state, x, y)
            history.append(params)
        return history

    return {name: train(optimizer) for name, optimizer in optimizers.items()}


# Optimizers within programs: differentiated, batched, scanned, one's own


def meta_learned_rate(optax):
    """Learn the learning rate of an optimizer by differentiating through its steps."""
    x, y = regression_data()
    meta_optimizer = optax.adam(1e-1)

    def loss_fn(w, batch):
        return jnp.mean((x[batch] @ w - y[batch]) ** 2)

    def loss_after_training(log_rate):
        optimizer = optax.inject_hyperparams(optax.rmsprop)(learning_rate=jnp.exp(log_rate))
        w = jnp.zeros(3)
        opt_state = optimizer.init(w)
        for i in range(5):
            grads = jax.grad(loss_fn)(w, slice(8 * i, 8 * i + 8))
            updates, opt_state = optimizer.update(grads, opt_state)
            w = optax.apply_updates(w, updates)
        return loss_fn(w, slice(40, 64))

    @jax.jit
    def meta_step(log_rate, meta_state):
        loss, grad = jax.value_and_grad(loss_after_training)(log_rate)
        updates, meta_state = meta_optimizer.update(grad, meta_state)
        return optax.apply_updates(log_rate, updates), meta_state, loss

    log_rate = jnp.log(0.01)
    meta_state = meta_optimizer.init(log_rate)
    history = []
    for _ in range(20):
        log_rate, meta_state, loss = meta_step(log_rate, meta_state)
        history.append((log_rate, loss))
    return history


def model_agnostic_meta_learning(optax):
    """Learn parameters from which a few steps fit any sine."""
    rng = np.random.default_rng(3)
    inner, outer = optax.sgd(0.1, momentum=0.5), optax.adam(1e-2)
    params = {"w1": jnp.asarray(rng.normal(size=(1, 16))), "w2": jnp.asarray(rng.normal(size=(16, 1)) / 4)}
    opt_state = outer.init(params)

    def loss_fn(params, x, phase):
        return jnp.mean(optax.squared_error(jnp.tanh(x @ params["w1"]) @ params["w2"], jnp.sin(x + phase)))

    def adapted_loss(params, x, phase):
        def inner_step(carry, _):
            params, state = carry
            updates, state = inner.update(jax.grad(loss_fn)(params, x[:10], phase), state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(inner_step, (params, inner.init(params)), None, length=3)
        return loss_fn(params, x[10:], phase)

    @jax.jit
    def outer_step(params, opt_state, x, phases):
        loss, grads = jax.value_and_grad(lambda p: jax.vmap(adapted_loss, (None, 0, 0))(p, x, phases).mean())(params)
        updates, opt_state = outer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    history = []
    for _ in range(10):
        x, phases = rng.uniform(-3, 3, size=(4, 20, 1)), rng.uniform(0, 3, size=4)
        params, opt_state, loss = outer_step(params, opt_state, x, phases)
        history.append((params, loss))
    return history


def ensemble_in_a_scan(optax):
    """Train five networks at once, all steps in one compiled loop."""
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9, nesterov=True))
    batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *digits(steps=8))
    scales = jnp.linspace(0.5, 1.5, 5)

    def train(scale):
        params = jax.tree.map(lambda p: scale * p, init_mlp())

        def step(carry, batch):
            params, opt_state = carry

            def loss_fn(params):
                return optax.softmax_cross_entropy_with_integer_labels(mlp(params, batch[0]), batch[1]).mean()

            loss, grads = jax.value_and_grad(loss_fn)(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), batches)
        return params, losses

    return jax.jit(jax.vmap(train))(scales)


def own_transformation(optax):
    """A gradient transformation in Optax's own terms, in a chain with parts of the library."""

    def scale_by_inverse_time(power: float) -> optax.GradientTransformation:
        def init_fn(params):
            del params
            return {"count": jnp.zeros([], jnp.int32)}

        def update_fn(updates, state, params=None):
            del params
            count = state["count"] + 1
            return jax.tree.map(lambda g: g / count**power, updates), {"count": count}

        return optax.GradientTransformation(init_fn, update_fn)

    def scale_by_loss() -> optax.GradientTransformationExtraArgs:
        def init_fn(params):
            return optax.EmptyState()

        def update_fn(updates, state, params=None, *, value, **extra_args):
            return jax.tree.map(lambda g: jnp.tanh(value) * g, updates), state

        return optax.GradientTransformationExtraArgs(init_fn, update_fn)

    optimizer = optax.named_chain(
        ("time", scale_by_inverse_time(0.5)),
        ("sign", optax.stateless(lambda updates, params: jax.tree.map(lambda u, p: u + 1e-3 * p, updates, params))),
        ("round", optax.stateless_with_tree_map(lambda u, p: jnp.round(u, 4))),
        ("loss", scale_by_loss()),
        ("step", optax.scale(-0.5)),
    )
    assert isinstance(optimizer, optax.GradientTransformation)
    params = init_mlp()
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, x, y):
        def loss_fn(params):
            return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params, value=loss)
        return optax.apply_updates(params, updates), opt_state, loss

    history = []
    for x, y in digits(steps=8):
        params, opt_state, loss = step(params, opt_state, x, y)
        history.append((params, loss))
    return history


def adversarial_training(optax):
    """Train on images moved, within a cube and in a few steps, to where the loss is highest."""
    optimizer, attacker = optax.adam(1e-2), optax.chain(optax.scale_by_sign(), optax.scale(0.05))
    params = init_mlp()
    opt_state = optimizer.init(params)

    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(mlp(params, x), y).mean()

    def attack(params, x, y):
        delta = jnp.zeros_like(x)
        state = attacker.init(delta)
        for _ in range(3):
            updates, state = attacker.update(jax.grad(loss_fn, 1)(params, x + delta, y), state, delta)
            delta = optax.projections.projection_linf_ball(optax.apply_updates(delta, updates), 0.1)
        return optax.projections.projection_box(x + delta, 0.0, 1.0)

    @jax.jit
    def step(params, opt_state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params, attack(params, x, y), y)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    history = []
    for x, y in digits(steps=8):
        params, opt_state, loss = step(params, opt_state, x, y)
        history.append((params, loss))
    return history


def optimistic_game(optax):
    """Both players of min max xy, round which plain descent circles."""
    optimizer = optax.optimistic_gradient_descent(learning_rate=0.1)
    players = {"x": jnp.array(1.0), "y": jnp.array(2.0)}
    state = optimizer.init(players)

    @jax.jit
    def step(players, state):
        grads = {"x": players["y"], "y": -players["x"]}
        updates, state = optimizer.update(grads, state, players)
        return optax.apply_updates(players, updates), state

    history = []
    for _ in range(40):
        players, state = step(players, state)
        history.append(players)
    return history


def two_players(optax):
    """A generator of numbers and its critic, each with an optimizer of its own."""
    optimizers = {"generator": optax.adam(1e-2, b1=0.5), "critic": optax.adam(3e-2, b1=0.5)}
    params = {"generator": jnp.array([0.0, 1.0]), "critic": jnp.array([0.1, -0.1, 0.0])}
    opt_states = {name: optimizer.init(params[name]) for name, optimizer in optimizers.items()}

    def critic(w, x):
        return w[0] * x + w[1] * x**2 + w[2]

    def losses(params, real, noise):
        fake = critic(params["critic"], params["generator"][0] + params["generator"][1] * noise)
        true = critic(params["critic"], real)
        fooled = optax.sigmoid_binary_cross_entropy(fake, jnp.ones_like(fake)).mean()
        told = optax.sigmoid_binary_cross_entropy(fake, jnp.zeros_like(fake)).mean()
        return {
            "generator": fooled,
            "critic": told + optax.sigmoid_binary_cross_entropy(true, jnp.ones_like(true)).mean(),
        }

    @jax.jit
    def step(params, opt_states, real, noise):
        new_params, new_states = {}, {}
        for name, optimizer in optimizers.items():
            grads = jax.grad(lambda p, name=name: losses(params | {name: p}, real, noise)[name])(params[name])
            updates, new_states[name] = optimizer.update(grads, opt_states[name], params[name])
            new_params[name] = optax.apply_updates(params[name], updates)
        return new_params, new_states

    rng, history = np.random.default_rng(4), []
    for _ in range(20):
        params, opt_states = step(params, opt_states, rng.normal(2.0, 0.5, size=32), rng.normal(size=32))
        history.append(params)
    return history


# flax


def flax_linen(optax):
    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = x.reshape((-1, 8, 8, 1))
            x = linen.relu(linen.Conv(4, (3, 3), strides=2, param_dtype=float)(x))
            return linen.Dense(10, param_dtype=float)(x.reshape((len(x), -1)))

    model = Network()
    params = model.init(jax.random.key(0), jnp.ones((1, 64)))["params"]
    schedule = optax.join_schedules(
        [optax.linear_schedule(0.0, 0.1, 4), optax.cosine_decay_schedule(0.1, decay_steps=12)], boundaries=[4]
    )
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(schedule, momentum=0.9))
    state = train_state.TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    @jax.jit
    def train_step(state, x, y):
        def loss_fn(params):
            logits = state.apply_fn({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

        (loss, logits), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), loss, jnp.mean(logits.argmax(-1) == y)

    history = []
    for x, y in digits():
        state, loss, accuracy = train_step(state, x, y)
        history.append((state.params, state.step, loss, accuracy))
    return history


def flax_nnx(optax):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(64, 16, param_dtype=float, rngs=rngs)
            self.output = nnx.Linear(16, 10, param_dtype=float, rngs=rngs)

        def __call__(self, x):
            return self.output(nnx.relu(self.hidden(x)))

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adamw(1e-2, b1=0.8), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, x, y):
        def loss_fn(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    history = []
    for x, y in digits():
        loss = train_step(model, optimizer, x, y)
        history.append((loss, jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.Param)))))
    return history


SCRIPTS = (
    getting_started,
    lbfgs,
    schedule_clip_adamw_accumulate,
    gradient_accumulation,
    reduce_on_plateau,
    injected_hyperparams,
    rate_set_from_outside,
    skipped_steps,
    lookahead,
    average_of_params,
    schedule_free,
    target_network,
    frozen_layers,
    meta_learned_rate,
    model_agnostic_meta_learning,
    ensemble_in_a_scan,
    own_transformation,
    adversarial_training,
    optimistic_game,
    two_players,
    flax_linen,
    flax_nnx,
)

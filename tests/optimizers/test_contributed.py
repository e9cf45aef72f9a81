"""The contributed optimizers against Optax's and pytorch_optimizer's: signatures, numbers beyond those of the case
table, and those optimizers that need the loss."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx
from helpers import assert_close, assert_same_form, random_tree
from trajectories import check, error, follow, problem, real

contrib = optax.contrib
LR = 1e-2


def start():
    return real(problem()[0]), real(problem()[1])


# Arguments that the case table leaves at their defaults, against Optax

BIG = {"estim_lr0": 0.05}  # or else nothing is seen of what follows
VARIANTS = {
    "adopt": [{"nesterov": True, "use_clipping": False}, {"clip_value_fn": lambda t: 1.0 + 0.1 * t, "b2": 0.9}],
    "ademamix": [{"b3": lambda t: 0.9 + 0.001 * t, "alpha": lambda t: 0.1 * t, "weight_decay": 0.1, "eps_root": 1e-3}],
    "simplified_ademamix": [{"alpha": 3.0, "weight_decay": 0.1}, {"alpha": lambda t: 0.1 * t}],
    "cocob": [{"alpha": 2.0, "weight_decay": 0.1, "learning_rate": lambda t: 1 / (t + 1.0)}],
    "dog": [
        {"init_step": ("distance", 0.5), "weight_decay": 0.1},
        {"init_step": ("learning_rate", 0.1)},
        {"init_step": ("heuristic", 0.1), "eps": 0.1, "learning_rate": lambda t: 1 / (t + 1.0)},
    ],
    "dowg": [{"init_estim_sq_dist": 0.5, "weight_decay": 0.1, "eps": 1e-2}],
    "prodigy": [
        BIG | {"weight_decay": 0.1, "safeguard_warmup": True, "estim_lr_coef": 2.0},
        BIG | {"beta3": 0.9, "betas": (0.8, 0.99), "learning_rate": lambda t: 1 / (t + 1.0)},
    ],
    "dadapt_adamw": [BIG | {"weight_decay": 0.1, "betas": (0.8, 0.99), "learning_rate": lambda t: 1 / (t + 1.0)}],
    "muon": [
        {"ns_coeffs": "dion", "weight_decay": 0.1, "adam_weight_decay": 0.2, "adam_learning_rate": 1e-3},
        {"preconditioning": "schatten", "nesterov": False, "consistent_rms": 0.2},
        {"preconditioning": "aol", "adaptive": True, "ns_steps": 4},
        {"preconditioning": "spectral", "beta": 0.8},
    ],
    "sophia": [
        {"clip_threshold": None, "gamma": 1.0, "eps": 0.1, "update_interval": 1},
        {"update_interval": 3, "b2": 0.5, "weight_decay": 0.1},
    ],
}
RATE_REQUIRED = {"adopt", "ademamix", "simplified_ademamix", "muon", "sophia"}


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, rows in VARIANTS.items() for i in range(len(rows))])
def test_other_arguments_agree_with_optax(float64, name, i):
    arguments = dict(VARIANTS[name][i])
    if name in RATE_REQUIRED:
        arguments["learning_rate"] = LR
    if name == "sophia":
        arguments["hessian_diagonal_fn"] = gradtx.square()
    mine, theirs = (follow(getattr(library, name)(**arguments), *start()) for library in (gradtx, contrib))
    check(mine, theirs)


@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_mechanize_agrees_with_optax(float64, base):
    for arguments in ({}, {"weight_decay": 0.1, "s_init": 0.01, "num_betas": 3}):
        mine = gradtx.mechanize(getattr(gradtx, base)(1.0), **arguments)
        theirs = contrib.mechanize(getattr(optax, base)(1.0), **arguments)
        check(follow(mine, *start()), follow(theirs, *start()))


def test_optax_takes_the_root_of_the_count_of_madgrad_in_float32(float64):
    for arguments in ({}, {"momentum": 0.5, "weight_decay": 0.1}):
        mine, theirs = (follow(library.madgrad(LR, **arguments), *start()) for library in (gradtx, contrib))
        assert 1e-10 < error(mine, theirs) < 1e-5


def test_acprop_of_optax_is_shorter_by_b1(float64):
    """The paper's m is the new one; g − m of the old one is larger by 1/β₁, from the second step on."""

    def chained(library, rate, eps_root):
        return library.chain(library.scale_by_acprop(eps_root=eps_root), library.scale(-rate))

    library = type("Optax", (), {**vars(optax), "scale_by_acprop": staticmethod(contrib.scale_by_acprop)})
    params, grads = start()
    grads = {k: g for k, g in grads.items() if k != "vector"}  # of which one element never has a gradient: 0/ε
    params = {k: params[k] for k in grads}

    def steps(tx):
        return {k: np.diff(x, axis=0) for k, x in follow(tx, params, grads).items()}

    mine, theirs = steps(chained(gradtx, 0.9, 0.0)), steps(chained(library, 1.0, 0.0))
    check(mine, theirs, rtol=1e-9)


# Against pytorch_optimizer


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def of_torch(torch, make, **arguments):
    """The trajectory of an optimizer of pytorch_optimizer, without the 1e-15 that it adds to v under some roots."""
    library = pytest.importorskip("pytorch_optimizer")
    base = getattr(library, make)

    class Exact(base):
        apply_ams_bound = staticmethod(functools.partial(base.apply_ams_bound, exp_avg_sq_eps=0.0))

    params, grads = start()
    params, grads = ({k: v for k, v in tree.items() if k != "scalar"} for tree in (params, grads))
    tensors = {name: torch.nn.Parameter(torch.tensor(leaf)) for name, leaf in params.items()}
    optimizer = Exact(list(tensors.values()), foreach=False, **arguments)
    visited = {name: [] for name in params}
    for t in range(50):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name][t])
        optimizer.step()
        for name, tensor in tensors.items():
            visited[name].append(tensor.detach().numpy().copy())
    return {name: np.stack(leaves) for name, leaves in visited.items()}


ADAMOD = {"learning_rate": LR, "b1": 0.8, "b2": 0.99, "b3": 0.9}
TINY = 1e-18  # where it stands differs
TORCH = {
    "qhadam": ("QHAdam", {"lr": LR, "nus": (0.7, 0.9), "betas": (0.8, 0.99)}, gradtx.qhadam(LR, 0.8, 0.99, 0.7, 0.9)),
    "laprop": ("LaProp", {"lr": LR, "eps": TINY}, gradtx.laprop(LR, eps=TINY)),
    "stable_adamw": (
        "StableAdamW",
        {"lr": LR, "weight_decay": 0.0, "eps": TINY},
        gradtx.stable_adamw(LR, weight_decay=0.0, eps=TINY),
    ),
    "adamod": ("AdaMod", {"lr": LR, "betas": (0.8, 0.99, 0.9)}, gradtx.adamod(**ADAMOD)),
    "mars": ("MARS", {"lr": LR, "optimize_1d": True, "eps": TINY}, gradtx.mars(LR, eps=TINY)),
    # Without AMSGrad's maximum, which the paper and its authors have.
    "padam": (
        "PAdam",
        {"lr": LR, "partial": 0.25},
        gradtx.chain(
            gradtx.product(
                gradtx.ema(0.9),
                gradtx.chain(
                    gradtx.square(),
                    gradtx.ema(0.999, debias=False),
                    gradtx.inverse_root(),
                    gradtx.power(0.5),
                    gradtx.bias_correction(0.999, power=-0.5),
                ),
            ),
            gradtx.scale(-LR),
        ),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_agrees_with_pytorch_optimizer(float64, torch, name):
    make, arguments, tx = TORCH[name]
    theirs = of_torch(torch, make, **arguments)
    mine = follow(tx, *start())
    # Its counts are float32 in places (QHAdam's weights, LaProp's and AdaMod's step sizes).
    check({k: mine[k] for k in theirs}, theirs, rtol=1e-6 if name in ("qhadam", "laprop", "adamod") else 1e-9)


def test_grokfast_agrees_with_its_authors_filter(float64, torch):
    library = pytest.importorskip("pytorch_optimizer.optimizer.grokfast")
    model = torch.nn.Linear(3, 2)
    tx, kept = gradtx.grokfast(0.9, 3.0), None
    params = {name: jnp.asarray(p.detach().numpy()) for name, p in model.named_parameters()}
    state = tx.init(params)
    for t in range(5):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1.0 + t) + torch.arange(p.numel()).reshape(p.shape)
        raw = {name: jnp.asarray(p.grad.numpy().copy()) for name, p in model.named_parameters()}
        kept = library.gradfilter_ema(model, kept, alpha=0.9, lamb=3.0)
        updates, state = tx.update(raw, state)
        assert_close(updates, {name: p.grad.numpy() for name, p in model.named_parameters()}, rtol=1e-12)


# Those that need the loss


def quadratic(params):
    return sum(jnp.sum((x - 0.5) ** 2 * (1 + i)) for i, x in enumerate(jax.tree.leaves(params))) + 0.1


def losses_of(tx, params, count):
    """The parameters after some steps down the quadratic, each step told the loss."""

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(quadratic)(params)
        updates, state = tx.update(gradient, state, params, value=value)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    state = tx.init(params)
    for _ in range(count):
        params, state = step(params, state)
    return params


MOMO = [
    {},
    {"weight_decay": 0.1, "lower_bound": 0.05, "learning_rate": lambda t: 1 / (t + 1.0)},
    {"adapt_lower_bound": True, "lower_bound": -1.0, "weight_decay": 0.01},
    {"adapt_lower_bound": True, "lower_bound": 0.0, "learning_rate": 0.5},
]


@pytest.mark.parametrize("name", ["momo", "momo_adam"])
@pytest.mark.parametrize("i", range(len(MOMO)))
def test_momo_agrees_with_optax(float64, name, i):
    params = random_tree(dtype=jnp.float64)
    mine, theirs = (losses_of(getattr(lib, name)(**MOMO[i]), params, 20) for lib in (gradtx, contrib))
    assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_the_bound_of_momo_is_lowered_in_the_test_above(float64):
    params = random_tree(dtype=jnp.float64)
    low, high = (losses_of(gradtx.momo(**MOMO[i]), params, 20) for i in (2, 0))
    assert not all(np.allclose(a, b) for a, b in zip(*map(jax.tree.leaves, (low, high)), strict=True))


NEED_MORE = {
    "momo": (gradtx.momo(), 1),
    "momo_adam": (gradtx.momo_adam(), 2),
    "mechanize": (gradtx.mechanize(gradtx.sgd(1.0, momentum=0.9)), 2),
    "sophia": (gradtx.sophia(LR, weight_decay=0.0), 2),
}
EACH = pytest.mark.parametrize("name", NEED_MORE)


@EACH
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: jnp.dtype(d).name)
def test_zero_gradients_and_spikes_of_those_that_need_the_loss(name, dtype):
    tx, _ = NEED_MORE[name]
    params = {"w": jnp.asarray([[1.0, -2.0], [0.5, 0.0]], dtype), "b": jnp.zeros((), dtype)}
    zero = jax.tree.map(jnp.zeros_like, params)
    spike = jax.tree.map(lambda p: jnp.full_like(p, 6e4 if dtype == jnp.float16 else 1e25), params)
    some = jax.tree.map(jnp.ones_like, params)

    def loss(params):
        return sum(jnp.sum(p.astype(jnp.float32)) ** 2 for p in jax.tree.leaves(params))

    def step(params, state, gradient):
        more = {"value": 1.0, "obj_fn": loss} if name == "sophia" else {"value": 1.0}
        updates, new = tx.update(gradient, state, params, **more)
        assert_same_form(new, state)
        return gradtx.apply_updates(params, updates), new

    step = jax.jit(chex.assert_max_traces(step, n=1))
    here, state = params, tx.init(params)
    for _ in range(3):
        here, state = step(here, state, zero)
    if name != "sophia":
        assert_close(here, params, rtol=0)
    for gradient in (some, spike, some, some):
        here, state = step(here, state, gradient)
    chex.assert_tree_all_finite((here, state))
    assert all(x.dtype != dtype or dtype == jnp.float32 for x in jax.tree.leaves(state))


@EACH
def test_slots_of_those_that_need_the_loss(name):
    tx, slots = NEED_MORE[name]
    state = jax.eval_shape(tx.init, {"w": jax.ShapeDtypeStruct((50, 40), jnp.float32)})
    numbers = sum(x.size for x in jax.tree.leaves(state))
    assert (numbers // 2000, numbers % 2000 < 40) == (slots, True)


@EACH
def test_those_that_need_the_loss_go_downhill_in_a_training_step(name):
    tx, _ = NEED_MORE[name]
    step = gradtx.make_step(quadratic, tx)
    params = random_tree()
    state, first = step.init(params), quadratic(params)
    for _ in range(300):
        params, state, _ = step(params, state)
    assert quadratic(params) < 0.9 * first


def test_hutchinson_agrees_with_optax():
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[0.5]])}

    def loss(p):
        return jnp.sum(p["a"]) ** 2 * jnp.sum(p["b"]) + jnp.sum(p["a"] ** 3)

    mine, theirs = gradtx.hutchinson_estimator_diag_hessian(), contrib.hutchinson_estimator_diag_hessian()
    state, their_state = mine.init(params), theirs.init(params)
    for _ in range(3):
        estimate, state = mine.update(params, state, params, value_fn=loss)
        expected, their_state = theirs.update(params, their_state, params, obj_fn=loss)
        assert_close(estimate, expected)
    other = gradtx.hutchinson_estimator_diag_hessian(random_seed=7)
    seeds = [other.init(params), gradtx.hutchinson_estimator_diag_hessian(jax.random.PRNGKey(7)).init(params)]
    assert_close(*seeds)


# What each is for


def test_prodigy_and_d_adaptation_find_the_distance():
    """From d = 1e-6 the estimates come to the order of the distance, 3, and the parameters to the minimum."""
    for tx in (gradtx.prodigy(), gradtx.dadapt_adamw(), gradtx.dog(), gradtx.dowg(), gradtx.cocob()):
        step = gradtx.make_step(lambda x: jnp.sum((x - 3.0) ** 2), tx)
        x, state = jnp.zeros(4), step.init(jnp.zeros(4))
        for _ in range(1500):
            x, state, _ = step(x, state)
        assert jnp.max(jnp.abs(x - 3.0)) < 0.5, tx.name


def test_dog_takes_its_first_step_when_there_is_a_gradient():
    """A rate of 0/0, or of a distance that is 0 for ever, is what a first gradient of zero makes of a division."""
    tx, x = gradtx.dog(init_step=("learning_rate", 0.5)), jnp.ones(2)
    updates, state = tx.update(jnp.zeros(2), tx.init(x), x)
    assert_close(updates, jnp.zeros(2), rtol=0)
    assert_close(tx.update(x, state, x)[0], jnp.array([-0.5, -0.5]))


def test_atan2_is_of_two_numbers():
    tx, g = gradtx.adam_atan2(1.0, b1=0.5, b2=0.75, a=2.0, b=3.0), jnp.array([1.0, -2.0])
    _, state = tx.update(g, tx.init(g), g)
    updates, _ = tx.update(jnp.array([3.0, 0.0]), state, g)
    m_hat, v_hat = np.array([7.0, -2.0]) / 3, np.array([0.75 * 1 + 9, 0.75 * 4]) / 1.75
    assert_close(updates, -2.0 * np.arctan2(m_hat, 3.0 * np.sqrt(v_hat)), rtol=1e-5)


def test_singular_values_of_muons_updates_are_about_one():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(6, 9)))
    for preset in ("standard", "dion"):
        tx = gradtx.orthogonalize(preset)
        values = jnp.linalg.svd(tx.update(matrix, tx.init(matrix))[0], compute_uv=False)
        assert bool(jnp.all((values > 0.5) & (values < 1.3)))


def test_a_single_leaf_or_none_of_a_kind_is_no_error_for_muon():
    for params in (jnp.ones(3), jnp.ones((2, 3)), {"a": None, "b": jnp.ones(2)}, {}):
        tx = gradtx.muon(LR)
        updates, _ = tx.update(params, tx.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)


# Errors


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: gradtx.dog(init_step=("far", 1.0)).init(jnp.ones(2)), ValueError, "init_step is one of 'distance'"),
        (lambda: gradtx.prodigy(betas=(0.9, 1.0)), ValueError, r"prodigy: betas must be in \[0, 1\), got 1.0"),
        (lambda: gradtx.prodigy(betas=0.9), TypeError, "prodigy: betas must be two numbers"),
        (lambda: gradtx.muon(LR, "quintic").init(jnp.ones((2, 2))), ValueError, "one of standard, dion, or numbers"),
        (lambda: gradtx.muon(LR, (1.0, 2.0)).init(jnp.ones((2, 2))), ValueError, "coeffs are triples, of shape"),
        (
            lambda: gradtx.muon(LR, preconditioning="none").init(jnp.ones((2, 2))),
            ValueError,
            "one of frobenius, spectral, aol, schatten, got 'none'",
        ),
        (
            lambda: gradtx.orthogonalize().update(jnp.ones(2), gradtx.EmptyState()),
            ValueError,
            r"takes matrices, got a leaf of shape \(2,\)",
        ),
        (
            lambda: gradtx.momo().update(jnp.ones(2), gradtx.momo().init(jnp.ones(2)), jnp.ones(2)),
            TypeError,
            "needs the extra argument 'value'",
        ),
        (
            lambda: gradtx.sophia(LR).update(jnp.ones(2), gradtx.sophia(LR).init(jnp.ones(2)), jnp.ones(2)),
            TypeError,
            "needs the loss of the parameters: update.*obj_fn=…",
        ),
        (lambda: gradtx.sophia(LR, verbose=True), TypeError, "sophia: no argument 'verbose'"),
    ],
)
def test_errors_say_what_is_wrong(make, kind, message):
    with pytest.raises(kind, match=message):
        make()

"""Numbers: every optimizer against its source (Optax, torch) and against its paper, in float64.

The same gradients go through both; the parameters are compared after each of 50 steps. Where two sources disagree, a
test says which one is followed and why.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx
from cases import BY_NAME, CASES, Case
from oracles import rule_named, textbook
from trajectories import STEPS, check, error, follow, is_whole, moved, on_paper, problem, real

SOURCES = ("optax", "optax.contrib", "torch", "paper")
BY_SOURCE = {source: [c.name for c in CASES if c.source == source] for source in SOURCES}

# Arguments that the case table leaves at their defaults.
MORE = {
    case.name: case
    for case in (
        Case("sgd-nesterov-schedule", gradtx.sgd, {"learning_rate": lambda t: 1e-2 / (t + 1), "momentum": 0.5}),
        Case("rmsprop-nesterov", gradtx.rmsprop, {"learning_rate": 1e-2, "momentum": 0.9, "nesterov": True}),
        Case("rmsprop-bias", gradtx.rmsprop, {"learning_rate": 1e-2, "bias_correction": True, "initial_scale": 0.5}),
        # At t = 1 this variance is v̂ − m̂² = 0, of which only rounding is left: ε has to be large to compare numbers.
        Case(
            "rmsprop-centered-bias",
            gradtx.rmsprop,
            {"learning_rate": 1e-2, "centered": True, "bias_correction": True, "eps": 0.1},
        ),
        Case("adadelta-decay", gradtx.adadelta, {"learning_rate": 1.0, "rho": 0.95, "weight_decay": 0.01}),
        Case("adam-nesterov", gradtx.adam, {"learning_rate": 1e-2, "eps_root": 1e-3, "nesterov": True}),
        Case("adamw-schedule", gradtx.adamw, {"learning_rate": lambda t: 1e-2 * 0.9**t, "weight_decay": 0.1}),
        Case("radam-nesterov", gradtx.radam, {"learning_rate": 1e-2, "b2": 0.99, "nesterov": True}),
        Case("adabelief-nesterov", gradtx.adabelief, {"learning_rate": 1e-2, "eps_root": 1e-3, "nesterov": True}),
        Case("lion-decay", gradtx.lion, {"learning_rate": 1e-2, "b1": 0.8, "weight_decay": 0.1}),
        Case("lamb-decay", gradtx.lamb, {"learning_rate": 1e-2, "weight_decay": 0.1}),
        Case("optimistic-all", gradtx.optimistic_gradient_descent, {"learning_rate": 1e-2, "alpha": 0.5, "beta": 2.0}),
        Case(
            "optimistic_adam_v2-all",
            gradtx.optimistic_adam_v2,
            {"learning_rate": lambda t: 1e-2 / (t + 1), "alpha": 0.5, "beta": -0.5, "nesterov": False},
        ),
        Case("fromage-schedule", gradtx.fromage, {"learning_rate": lambda t: 0.1 * 0.9**t, "min_norm": 0.5}),
        Case("novograd-decay", gradtx.novograd, {"learning_rate": 1e-2, "b2": 0.9, "weight_decay": 0.1}),
        Case("lars-all", gradtx.lars, {"learning_rate": 1.0, "weight_decay": 0.1, "eps": 0.1, "nesterov": True}),
        Case(
            "adafactor-all",
            gradtx.adafactor,
            {
                "min_dim_size_to_factor": 4,
                "decay_rate": 0.7,
                "clipping_threshold": 0.5,
                "weight_decay_rate": 0.01,
                "learning_rate": lambda t: 1e-2 / (t + 1),
                "eps": 1e-6,
            },
        ),
    )
}
ALL = BY_NAME | MORE


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def ours(name):
    """The trajectory of a case of gradtx."""
    case = ALL[name]
    params, grads = problem()
    return follow(case.tx, params, grads) if case.complex_safe else follow(case.tx, real(params), real(grads))


def oracle_of(case):
    """The case's rule: the oracle of the same name."""
    return functools.partial(rule_named(case.make.__name__), **case.arguments)


# The helpers can fail


@pytest.mark.parametrize("wrong", [{"b2": 0.999 + 1e-7}, {"eps": 1.1e-8}, {"learning_rate": 1e-2 * (1 + 1e-7)}])
def test_the_comparison_sees_a_slightly_wrong_number(wrong):
    params, grads = problem()
    rule = functools.partial(textbook.adam, **{"learning_rate": 1e-2} | wrong)
    with pytest.raises(AssertionError, match="relative difference"):
        check(ours("adam"), on_paper(rule, params, grads))


def test_the_comparison_sees_nan_and_missing_leaves():
    there = {"a": np.ones(3)}
    check(there, there)
    with pytest.raises(AssertionError, match="nan"):
        check({"a": np.array([1.0, np.nan, 1.0])}, there)
    with pytest.raises(AssertionError):
        check({}, there)
    assert not moved(there)


# Against the papers


@pytest.mark.parametrize("name", ALL)
def test_agrees_with_its_paper(name):
    case = ALL[name]
    params, grads = problem() if case.complex_safe else map(real, problem())
    check(ours(name), on_paper(oracle_of(case), params, grads))
    assert moved(ours(name))


@pytest.mark.parametrize("name", BY_NAME)
def test_oracles_have_the_same_defaults(name):
    make = BY_NAME[name].make
    theirs = {**inspect.signature(rule_named(make.__name__)).parameters}
    if "arguments" in theirs:
        theirs = {**inspect.signature(textbook._bounded).parameters} | theirs
    shared = inspect.signature(make).parameters.keys() & theirs.keys() - {"dtype_momentum", "hessian_diagonal_fn"}
    assert "learning_rate" in shared
    for argument in shared:
        default = inspect.signature(make).parameters[argument].default
        assert (theirs[argument].default or 0) == (default or 0), argument  # None is none


# Against Optax


def of_optax(case):
    """Optax's transformation of the same name and arguments.

    Its Adafactor is put together from its parts here, because its decay is rounded to float32 (see below).
    """
    if case.make is not gradtx.adafactor:
        library = optax.contrib if case.source == "optax.contrib" else optax
        return getattr(library, case.make.__name__)(**case.arguments)
    a = case.tx.arguments
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=a["decay_rate"],
            min_dim_size_to_factor=a["min_dim_size_to_factor"],
            epsilon=a["eps"],
            decay_rate_fn=lambda i, exponent: 1 - (i + 1.0) ** -exponent,
        ),
        optax.clip_by_block_rms(a["clipping_threshold"]),
        optax.scale_by_learning_rate(a["learning_rate"], flip_sign=False),
        optax.scale_by_param_block_rms(),
        optax.add_decayed_weights(a["weight_decay_rate"] or 0.0),
        optax.scale(-1.0),
    )


@pytest.mark.parametrize("name", [*BY_SOURCE["optax"], *BY_SOURCE["optax.contrib"], *MORE])
def test_agrees_with_optax(name):
    start = real(problem()[0]), real(problem()[1])
    mine = follow(ALL[name].tx, *start) if is_whole(oracle_of(ALL[name])) else real(ours(name))
    check(mine, follow(of_optax(ALL[name]), *start))


def test_optax_rounds_the_decay_of_adafactor_to_float32():
    # With x64 on, its `_decay_rate_pow` computes 1 − t^−0.8 in float32; ours follows the precision of JAX.
    theirs = follow(optax.adafactor(**BY_NAME["adafactor-factored"].arguments), *map(real, problem()))
    assert 1e-10 < error(real(ours("adafactor-factored")), theirs) < 1e-6


# Against torch


@pytest.fixture
def torch():
    """torch, with its scalars in float64, too: NAdam keeps ∏μ in the default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def of_torch(torch, make, lr_changes=None):
    """The trajectory of a torch optimizer; `lr_changes`: step -> learning rate."""
    params, grads = map(real, problem())
    tensors = {name: torch.nn.Parameter(torch.tensor(leaf)) for name, leaf in params.items()}
    optimizer = make(tensors.values())
    visited = {name: [] for name in params}
    for t in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = (lr_changes or {}).get(t, group["lr"])
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name][t])
        optimizer.step()
        for name, tensor in tensors.items():
            visited[name].append(tensor.detach().numpy().copy())
    return {name: np.stack(leaves) for name, leaves in visited.items()}


LR = 1e-2

# What torch calls it, its arguments, and the same in gradtx.
TORCH = {
    "sgd": ("SGD", {"lr": LR}, gradtx.sgd(LR)),
    "sgd-momentum": ("SGD", {"lr": LR, "momentum": 0.9, "dampening": 0}, gradtx.sgd(LR, momentum=0.9)),
    "sgd-nesterov": ("SGD", {"lr": LR, "momentum": 0.9, "nesterov": True}, gradtx.sgd(LR, 0.9, nesterov=True)),
    "adagrad": ("Adagrad", {"lr": LR}, gradtx.adagrad(LR, 0.0, eps=1e-10, eps_in_sqrt=False)),
    "rmsprop": ("RMSprop", {"lr": LR}, gradtx.rmsprop(LR, 0.99, eps_in_sqrt=False)),
    "rmsprop-centered": (
        "RMSprop",
        {"lr": LR, "centered": True, "momentum": 0.9},
        gradtx.rmsprop(LR, 0.99, eps_in_sqrt=False, centered=True, momentum=0.9),
    ),
    "adadelta": ("Adadelta", {}, gradtx.adadelta()),
    "adam": ("Adam", {"lr": LR}, gradtx.adam(LR)),
    "adamw": ("AdamW", {"lr": LR}, gradtx.adamw(LR, weight_decay=1e-2)),
    "adamax": ("Adamax", {"lr": LR}, gradtx.adamax(LR)),
    "nadam": ("NAdam", {"lr": LR, "momentum_decay": 4e-3}, gradtx.nadam(LR, momentum_decay=4e-3)),
    "nadamw": (
        "NAdam",
        {"lr": LR, "weight_decay": 0.1, "decoupled_weight_decay": True},
        gradtx.nadamw(LR, weight_decay=0.1, momentum_decay=4e-3),
    ),
    "amsgrad": ("Adam", {"lr": LR, "amsgrad": True}, gradtx.amsgrad(LR)),
    # torch adds ε to √v before the correction, which is ε/√(1−β₂ᵗ) in the paper's place; ours stands where Adam's does
    # and Optax's. The first line takes an ε that cannot be seen, the second writes torch's order as a formula.
    "radam": ("RAdam", {"lr": LR, "eps": 1e-18}, gradtx.radam(LR, eps=1e-18)),
    "radam-torch": (
        "RAdam",
        {"lr": LR, "eps": 1e-3},
        gradtx.chain(
            gradtx.product(
                gradtx.ema(0.9),
                gradtx.chain(
                    gradtx.square(),
                    gradtx.ema(0.999, debias=False),
                    gradtx.inverse_root(1e-3),
                    gradtx.bias_correction(0.999, power=-0.5),
                    gradtx.rectify(0.999),
                ),
            ),
            gradtx.scale_by_learning_rate(LR),
        ),
    ),
    "rprop": ("Rprop", {"lr": LR}, gradtx.rprop(LR)),
    "rprop-bounds": (
        "Rprop",
        {"lr": 0.1, "etas": (0.4, 1.3), "step_sizes": (0.05, 0.2)},
        gradtx.rprop(0.1, 0.4, 1.3, min_step_size=0.05, max_step_size=0.2),
    ),
    "adam-l2": (
        "Adam",
        {"lr": LR, "weight_decay": 0.1},
        gradtx.chain(gradtx.add_l2_regularization(0.1), gradtx.adam(LR)),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_agrees_with_torch(torch, name):
    torch_name, arguments, tx = TORCH[name]
    theirs = of_torch(torch, functools.partial(getattr(torch.optim, torch_name), **arguments, foreach=False))
    check(follow(tx, *map(real, problem())), theirs)


def test_every_case_whose_source_is_torch_is_compared_with_it():
    compared = {tx for _, _, tx in TORCH.values()} | {tx for _, tx in BOUND.values()}
    assert {name for name in BY_SOURCE["torch"] if BY_NAME[name].tx not in compared} == set()


def test_radam_puts_eps_where_adam_does_and_torch_does_not(torch):
    theirs = of_torch(torch, functools.partial(torch.optim.RAdam, lr=LR, eps=1e-3, foreach=False))
    ours = follow(gradtx.radam(LR, eps=1e-3), *map(real, problem()))
    assert error(ours, theirs) > 1e-3
    check(ours, on_paper(functools.partial(textbook.radam, learning_rate=LR, eps=1e-3), *map(real, problem())))


# AdaBound: the authors' code needs a torch of 2019; pytorch_optimizer has the same rule

BOUND = {
    "adabound": ({}, gradtx.adabound()),
    "amsbound": ({"ams_bound": True}, gradtx.amsbound()),
    "adaboundw": ({"weight_decay": 1e-4, "weight_decouple": True}, gradtx.adaboundw()),
    "amsboundw": (
        {"weight_decay": 1e-4, "weight_decouple": True, "ams_bound": True},
        gradtx.amsboundw(),
    ),
    "adabound-wide": (
        {"lr": 0.02, "final_lr": 0.05, "gamma": 0.1, "betas": (0.8, 0.9)},
        gradtx.adabound(0.02, 0.8, 0.9, final_lr=0.05, gamma=0.1),
    ),
    "amsbound-wide": (
        {"lr": 0.02, "final_lr": 0.05, "gamma": 0.1, "betas": (0.8, 0.9), "ams_bound": True},
        gradtx.amsbound(0.02, 0.8, 0.9, final_lr=0.05, gamma=0.1),
    ),
}


def of_bound(**arguments):
    """pytorch_optimizer's AdaBound, without the 1e-15 that it adds to v under the root (the authors do not)."""
    library = pytest.importorskip("pytorch_optimizer")

    class AdaBound(library.AdaBound):
        apply_ams_bound = staticmethod(functools.partial(library.AdaBound.apply_ams_bound, exp_avg_sq_eps=0.0))

    return functools.partial(AdaBound, **arguments, foreach=False)


@pytest.mark.parametrize("name", BOUND)
def test_agrees_with_adabound(torch, name):
    arguments, tx = BOUND[name]
    check(follow(tx, *map(real, problem())), of_torch(torch, of_bound(**arguments)))


@pytest.mark.parametrize("base_lr", [None, 0.02, 0.01])
@pytest.mark.parametrize("make", [gradtx.adabound, gradtx.adaboundw])
def test_the_bounds_of_adabound_follow_the_schedule(torch, make, base_lr):
    rates = {0: 0.02, 10: 0.002, 40: 0.005}

    def schedule(t):
        return jnp.where(t < 10, rates[0], jnp.where(t < 40, rates[10], rates[40]))

    decay = {"weight_decay": 0.1} if make is gradtx.adaboundw else {}
    tx = make(schedule, base_lr=base_lr, final_lr=0.05, gamma=0.1, **decay)
    # torch keeps the rate that the optimizer was made with as η₀; another base_lr is the same as another final_lr.
    final_lr = 0.05 * rates[0] / (base_lr or rates[0])
    theirs = of_torch(torch, of_bound(lr=rates[0], final_lr=final_lr, gamma=0.1, **decay), lr_changes=rates)
    check(follow(tx, *map(real, problem())), theirs)


def test_the_rates_of_adabound_are_seen_at_both_bounds_and_between():
    _, grads = problem()
    g, t = grads["vector"], np.arange(1, STEPS + 1)[:, None]
    v = np.stack(list(_average(g**2, 0.9)))
    free = 0.02 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t) / (np.sqrt(v) + 1e-8)
    lower, upper = 0.05 * (1 - 1 / (0.1 * t + 1)), 0.05 * (1 + 1 / (0.1 * t))
    assert all(np.any(where) for where in (free < lower, free > upper, (lower < free) & (free < upper)))


def _average(xs, decay):
    a = 0.0
    for x in xs:
        a = decay * a + (1 - decay) * x
        yield a


def test_adabound_at_its_first_step():
    # t = 1, γ = 1: l = ½·f, u = 2·f. m = (1−β₁)·g is not corrected: for a rate r the step is r·(1−β₁)·g.
    def step(gradient, **arguments):
        return one_step(gradtx.adabound(**{"b1": 0.5, "b2": 0.75, "gamma": 1.0, "eps": 0.0} | arguments), gradient)

    # The rate between the bounds: η·√(1−β₂)/(1−β₁)/√((1−β₂)·g²) = η/((1−β₁)·|g|) = η·2/|g|.
    assert step(4.0, learning_rate=0.5, final_lr=0.25) == pytest.approx(-0.25 * 0.5 * 4)
    assert step(4.0, learning_rate=0.5, final_lr=8.0) == pytest.approx(-4.0 * 0.5 * 4)  # l
    assert step(4.0, learning_rate=0.5, final_lr=0.01) == pytest.approx(-0.02 * 0.5 * 4)  # u
    assert step(4.0, learning_rate=0.5, final_lr=0.01, base_lr=0.25) == pytest.approx(-0.04 * 0.5 * 4)  # 2·f


# Where sources disagree


def test_amsgrad_takes_the_maximum_before_the_correction():
    # Paper and torch: x ← max(x, v), corrected afterwards. Optax corrects first (optax#1389): v̂ of the first steps is
    # the square of a single gradient, and stays the maximum for good.
    def step_two(tx):
        return follow(tx, {"x": 0.0}, {"x": np.array([1.0, 0.0])})["x"][1]

    optax_order = gradtx.chain(
        gradtx.product(
            gradtx.ema(0.9),
            gradtx.chain(
                gradtx.square(),
                gradtx.ema(0.999, debias=False),
                gradtx.bias_correction(0.999),
                gradtx.running_max(),
                gradtx.inverse_root(1e-8),
            ),
        ),
        gradtx.scale_by_learning_rate(LR),
    )
    theirs = follow(optax.amsgrad(LR), *map(real, problem()))
    check(follow(optax_order, *map(real, problem())), theirs)  # what the docstring of amsgrad says
    assert error(real(ours("amsgrad")), theirs) > 1e-3

    # v = ½, then ¼; the paper's x = ½ corrected by 1−β₂² = ¾ gives ⅔; Optax has max(1, ⅓) = 1.
    halves = {"b1": 0.5, "b2": 0.5, "eps": 0.0}  # m̂ = ⅓ at the second step
    assert step_two(gradtx.amsgrad(1.0, **halves)) == pytest.approx(-1 - (1 / 3) / np.sqrt(2 / 3))
    assert step_two(optax.amsgrad(1.0, **halves)) == pytest.approx(-1 - 1 / 3)


def test_yogi_starts_its_momentum_from_zero():
    # Paper: m₀ = 0. Optax starts m from 1e-6, too, and so moves parameters whose gradients are all zero.
    def from_zero(library):
        return library.chain(
            library.scale_by_yogi(initial_accumulator_value=0.0),
            library.scale_by_learning_rate(LR),
        )

    check(follow(from_zero(gradtx), *map(real, problem())), follow(from_zero(optax), *map(real, problem())))
    theirs = follow(optax.yogi(LR), *map(real, problem()))
    params, _ = problem()
    assert np.all(ours("yogi")["vector"][:, 0] == params["vector"][0])
    assert np.all(theirs["vector"][:, 0] != params["vector"][0])


def test_momentum_of_adafactor_does_not_mix_in_the_learning_rate():
    arguments = {"momentum": 0.9, "dtype_momentum": jnp.float64, "multiply_by_parameter_scale": False}
    start = real(problem()[0]), real(problem()[1])
    # A constant rate commutes with the average (Optax's decay is in float32).
    check(
        follow(gradtx.adafactor(LR, **arguments), *start),
        follow(optax.adafactor(LR, **arguments), *start),
        rtol=1e-6,
    )

    # A rate that stops: ours stops with it, Optax coasts on the average of old rates.
    def stops(t):
        return jnp.where(t < 25, LR, 0.0)

    mine, theirs = (follow(library.adafactor(stops, **arguments), *start) for library in (gradtx, optax))
    assert all(np.all(leaf[25:] == leaf[24]) for leaf in mine.values())
    assert all(np.any(leaf[25] != leaf[24]) for leaf in theirs.values())

    rule = functools.partial(textbook.adafactor, learning_rate=lambda t: LR * 0.9**t, momentum=0.9)
    scheduled = gradtx.adafactor(lambda t: LR * 0.9**t, momentum=0.9, dtype_momentum=jnp.float64)
    check(follow(scheduled, *start), on_paper(rule, *start))


def test_the_offset_of_adafactor_is_finite_from_a_fresh_state():
    # optax#1791: steps before the offset have a negative t, and NaN for a decay. Here they count as t = 1.
    arguments = {"decay_offset": 5, "min_dim_size_to_factor": 4}
    start = real(problem()[0]), real(problem()[1])
    rule = functools.partial(textbook.adafactor, learning_rate=LR, **arguments)
    check(follow(gradtx.adafactor(LR, **arguments), *start), on_paper(rule, *start))
    assert np.all(np.isnan(follow(optax.adafactor(LR, **arguments), *start)["matrix"][-1]))


# Golden numbers: the traps of the formulas


def one_step(tx, gradient, param=0.0):
    """The update of the first step, for a scalar."""
    updates, _ = tx.update(jnp.asarray(gradient, float), tx.init(jnp.asarray(param, float)), jnp.asarray(param, float))
    return float(updates)


def test_eps_of_adam_is_outside_the_root_and_after_the_correction():
    # m̂ = g and v̂ = g² at the first step. ε before the correction would be ε/√(1−β₂) = 2 here: −3/5.
    assert one_step(gradtx.adam(1.0, b2=0.75, eps=1.0), 3.0) == pytest.approx(-3 / (3 + 1))
    assert one_step(gradtx.adam(1.0, b2=0.75, eps=0.0, eps_root=7.0), 3.0) == pytest.approx(-3 / np.sqrt(9 + 7))


def test_nadam_has_no_extra_b2_and_its_momentum_decay_is_another_method():
    # β₁ = ½: m = g/2, so β₁·m/(1−β₁²) + (1−β₁)·g/(1−β₁) = g/3 + g. Dozat's first text multiplied v̂ by β₂ (optax#719).
    assert one_step(gradtx.nadam(1.0, b1=0.5, b2=0.75, eps=0.0), 3.0) == pytest.approx(-4 / 3)
    # ψ = 0: μ = β₁/2 = ¼, so ¼·½g/(1−¼²) + (1−¼)·g/(1−¼) = (2/15)·g + g.
    warming = gradtx.nadam(1.0, b1=0.5, b2=0.75, eps=0.0, momentum_decay=0.0)
    assert one_step(warming, 3.0) == pytest.approx(-17 / 15)
    # ψ → ∞: μ = β₁, which is NAdam.
    check(follow(gradtx.nadam(LR, momentum_decay=1e6), *problem()), ours("nadam"))
    assert error(ours("nadam-torch"), ours("nadam")) > 1e-3


def test_adabelief_is_surprised_by_the_new_momentum_and_has_eps_inside():
    # β₁ = ½: g − m = g/2 with the new m (the old one, 0, would give Adam's −1): ŝ = g²/4.
    b = {"b1": 0.5, "b2": 0.75, "eps": 0.0}
    assert one_step(gradtx.adabelief(1.0, **b, eps_root=0.0), 2.0) == pytest.approx(-2.0)
    # ε_root is added to s, before the correction: ŝ = 1 + ε_root/(1−β₂) = 4.
    assert one_step(gradtx.adabelief(1.0, **b, eps_root=0.75), 2.0) == pytest.approx(-1.0)


def test_decay_of_adamw_with_and_without_the_schedule():
    def η(t):
        return LR * 0.5**t

    params, grads = problem()
    zeros = jax.tree.map(np.zeros_like, grads)
    factors = np.cumprod([1 - η(t) * 0.1 for t in range(STEPS)])
    expected = {k: p * factors.reshape(-1, *[1] * p.ndim) for k, p in ((k, np.asarray(p)) for k, p in params.items())}
    check(follow(gradtx.adamw(η, weight_decay=0.1), params, zeros), expected)

    # The independent form, as the docstring of adamw writes it: θ ← θ − ηₜ·m̂/(√v̂ + ε) − λ·θ.
    decay = gradtx.chain(gradtx.set_to_zero(), gradtx.add_decayed_weights(0.1), gradtx.scale(-1.0))
    independent = follow(gradtx.add(gradtx.adam(η), decay), params, grads)

    def rule(θ, gradients):
        at_rest = on_paper(functools.partial(textbook.adam, learning_rate=η), {"x": 0 * θ}, {"x": gradients})["x"]
        for step in np.diff(at_rest, axis=0, prepend=0 * θ[None]):
            θ = θ + step - 0.1 * θ
            yield θ

    check(independent, on_paper(rule, params, grads))


def test_eps_of_rmsprop_is_inside_the_root_or_outside():
    assert one_step(gradtx.rmsprop(1.0, decay=0.0, eps=7.0), 3.0) == pytest.approx(-3 / np.sqrt(9 + 7))
    assert one_step(gradtx.rmsprop(1.0, decay=0.0, eps=1.0, eps_in_sqrt=False), 3.0) == pytest.approx(-3 / (3 + 1))


@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 4), (5, 2, 4), (4, 5, 2), (4, 4, 4), (3, 4, 5, 6), (6, 5, 4, 3)])
def test_adafactor_factors_the_two_largest_axes(shape):
    rng = np.random.default_rng(1)
    grads = {"x": rng.normal(size=(5, *shape)) * np.exp(rng.normal(size=shape))}
    params = {"x": rng.normal(size=shape)}
    tx = gradtx.adafactor(LR, min_dim_size_to_factor=4)
    rule = functools.partial(textbook.adafactor, learning_rate=LR, min_dim_size_to_factor=4)
    check(follow(tx, params, grads), on_paper(rule, params, grads))
    check(follow(tx, params, grads), follow(optax.adafactor(LR, 4), params, grads), rtol=1e-6)

    state = tx.init(jax.tree.map(jnp.asarray, params))[0]
    *others, second, largest = sorted(shape)
    sizes = state.row["x"].size, state.column["x"].size
    assert sizes == (np.prod(others) * second, np.prod(others) * largest)
    assert state.second_moment["x"] is None


def test_rates_of_complex_gradients_come_from_their_size():
    # |g|², not g²: a rotation of the gradient rotates the step. (Every complex_safe case has met its paper above, whose
    # problem has a complex leaf.)
    turn = np.exp(0.7j)
    params, grads = problem()
    start, zero = {"x": grads["complex"]}, {"x": np.zeros_like(params["complex"])}
    straight = follow(gradtx.adam(LR), zero, start)
    turned = follow(gradtx.adam(LR), zero, {"x": turn * start["x"]})
    check(turned, {"x": turn * straight["x"]})
    assert np.iscomplexobj(straight["x"])


# Regularisation


@pytest.mark.parametrize(
    ("tx", "penalty"),
    [
        (gradtx.add_l1_regularization(0.1), lambda θ: 0.1 * np.sign(θ)),
        (gradtx.add_l2_regularization(0.1), lambda θ: 0.1 * θ),
    ],
)
def test_regularisation_is_added_to_the_gradient(tx, penalty):
    def rule(θ, gradients):  # AdaGrad, so that the penalty is seen by the accumulator
        s = 0.1
        for g in gradients:
            g = g + penalty(θ)
            s = s + textbook.abs2(g)
            θ = θ - LR * g / np.sqrt(s + 1e-7)
            yield θ

    start = problem()
    check(follow(gradtx.chain(tx, gradtx.adagrad(LR)), *start), on_paper(rule, *start))

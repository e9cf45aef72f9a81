"""Schedules: Optax's and torch's numbers, the formulas written again in NumPy, edges, laws, and what values promise."""

import math
import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
import gradtx.schedules as S  # noqa: N812
from helpers import assert_close

COUNTS = np.arange(201)  # one shape wherever possible: every other is compiled anew
NAMES = {**vars(gradtx), **{name: getattr(S, name) for name in S.__all__}, "array": jnp.array}


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request):
    """Runs a test in both precisions."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


float64 = pytest.mark.parametrize("x64", [True], ids=["float64"], indirect=True)


def assert_curve(ours, theirs, x64=False, scale=1.0):
    """Curves agree to 1e-12 in float64; to 1e-6 in float32, or to float32's resolution of `scale` near 0."""
    rtol, atol = (1e-12, 1e-15 * scale) if x64 else (1e-6, 2e-7 * scale)
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=rtol, atol=atol)


def test_assert_curve_can_fail():
    with pytest.raises(AssertionError):
        assert_curve([1.0, 1.00001], [1.0, 1.0])
    with pytest.raises(AssertionError):
        assert_curve([1.0, 1 + 1e-11], [1.0, 1.0], x64=True)
    with pytest.raises(AssertionError):
        assert_curve([math.nan], [1.0])
    with pytest.raises(AssertionError):
        assert_curve([1.0], [1.0, 1.0, 1.1])


SGDR = [
    {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 30, "end_value": 0.1},
    {"init_value": 0.1, "peak_value": 0.5, "warmup_steps": 0, "decay_steps": 60, "exponent": 2.0},
    {"init_value": 0.0, "peak_value": 0.25, "warmup_steps": 10, "decay_steps": 70},
]

# name, arguments: Optax's constructor of this name takes the same.
SHARED = [
    ("constant_schedule", (0.3,)),
    ("polynomial_schedule", (1.0, 0.1, 2, 100)),
    ("polynomial_schedule", (0.1, 1.0, 2.0, 50, 20)),
    ("polynomial_schedule", (1.0, -1.0, 3.0, 1, 7)),
    ("linear_schedule", (1.0, 0.01, 100)),
    ("linear_schedule", (0.0, 0.7, 30, 15)),
    ("cosine_decay_schedule", (0.3, 100)),
    ("cosine_decay_schedule", (0.3, 77, 0.05)),
    ("cosine_decay_schedule", (2.0, 150, 0.2, 1.5)),
    ("exponential_decay", (1.0, 10, 0.9)),
    ("exponential_decay", (1.0, 10, 0.5, 15, True)),
    ("exponential_decay", (0.5, 7, 0.8, 0, False, 0.05)),
    ("exponential_decay", (0.1, 20, 1.3, 5, True, 0.4)),
    ("piecewise_constant_schedule", (1.0,)),
    ("piecewise_constant_schedule", (1.0, {100: 0.1, 50: 0.5, 150: 0.0})),
    ("piecewise_constant_schedule", (1.0, {0: 0.1, 200: 3.0})),
    ("piecewise_interpolate_schedule", ("linear", 1.0, {40: 0.1, 80: 5.0, 120: 0.3})),
    ("piecewise_interpolate_schedule", ("cosine", 0.5, {100: 0.1, 30: 2.0})),
    ("piecewise_interpolate_schedule", ("linear", 1.0, {0: 0.5, 50: 0.5})),
    ("linear_onecycle_schedule", (100, 0.4)),
    ("linear_onecycle_schedule", (180, 1.0, 0.1, 0.5, 10.0, 100.0)),
    ("cosine_onecycle_schedule", (100, 0.4)),
    ("cosine_onecycle_schedule", (190, 1.0, 0.45, 4.0, 50.0)),
    ("warmup_constant_schedule", (0.1, 1.0, 30)),
    ("warmup_cosine_decay_schedule", (0.0, 1.0, 20, 150)),
    ("warmup_cosine_decay_schedule", (0.1, 0.8, 50, 180, 0.05, 2.0)),
    ("warmup_cosine_decay_schedule", (0.1, 0.8, 0, 180, 0.05)),
    ("warmup_exponential_decay_schedule", (0.0, 1.0, 20, 10, 0.9)),
    ("warmup_exponential_decay_schedule", (0.0, 1.0, 20, 30, 0.5, 10, True, 0.1)),
    ("sgdr_schedule", (SGDR,)),
]

# Those that Optax does not have, and a composition.
OWN = [
    S.natural_exponential_decay(0.5, 0.03),
    S.inverse_power_decay(0.5, 0.1),
    S.inverse_power_decay(0.5, 0.1, power=1.0),
    S.factor_schedule(2.0, 0.9, 0.01),
    S.multi_step_schedule(0.5, [15, 30, 30], 0.5),
    S.onecycle_schedule(97, 0.8, 0.4),
    S.onecycle_schedule(97, 0.8, 0.2, "linear", three_phase=True),
    S.cyclic_schedule(0.1, 0.5, 7, 4, 0.5, 0.99),
    S.cyclic_schedule(0.1, 0.5, 13, cycle_factor=1.1),
    S.cosine_restarts_schedule(0.5, 11, 2, 0.8, 0.1),
    S.cosine_restarts_schedule(0.5, 30),
    S.warmup(S.inverse_power_decay(0.5, 0.1), 10),
    S.warmup(0.25, 10, 0.1, 0.5),
    S.lower_bound_schedule(0.1),
    S.upper_bound_schedule(0.1),
    S.warming_momentum_schedule(0.9),
    S.power_schedule(0.25),
    S.after_first_step(0.9),
    S.warmup_stable_decay_schedule(0.0, 1.0, 10, 50, 30, 0.1, 2.0),
    S.join_schedules([S.linear_schedule(0.0, 1.0, 20), 0.5, S.cosine_decay_schedule(1.0, 50)], [20, 90]),
    0.5 * S.cosine_decay_schedule(1.0, 100) + 0.1,
    S.linear_schedule(1.0, 0.0, 100) / S.constant_schedule(4.0),
    (1.0 + S.linear_schedule(1.0, 0.0, 100) ** 2) ** 0.5,
    S.cosine_decay_schedule(S.linear_schedule(1.0, 0.5, 100), 150),
]
LAST = dict(SHARED)  # of each name the last, with the most arguments
EVERY = [getattr(S, name)(*arguments) for name, arguments in LAST.items()] + OWN
every = pytest.mark.parametrize("s", EVERY, ids=lambda s: s.name)


def test_every_schedule_is_tested():
    assert {s.name for s in EVERY} >= set(S.__all__)


def optax_curve(name, arguments):
    return jax.jit(jax.vmap(getattr(optax, name)(*arguments)))(jnp.asarray(COUNTS))


@float64
@pytest.mark.parametrize(("name", "arguments"), SHARED)
def test_optax_numbers(name, arguments, x64):
    assert_curve(getattr(S, name)(*arguments)(COUNTS), optax_curve(name, arguments), x64)


@pytest.mark.parametrize(("name", "arguments"), LAST.items())
def test_optax_numbers_in_float32(name, arguments):
    assert_curve(getattr(S, name)(*arguments)(COUNTS), optax_curve(name, arguments))


def test_a_root_of_the_time_left_is_real_at_the_end(x64):
    """Optax's is NaN there under jit, where XLA's 1 − t/T is below 0 by a rounding."""
    s = S.polynomial_schedule(0.1, 1.0, 0.5, 50, 20)
    expected = 1 - 0.9 * np.sqrt(1 - np.clip(COUNTS - 20, 0, 50) / 50)
    assert_curve(s(COUNTS), expected, x64)
    assert_curve(jax.jit(lambda s: s(COUNTS))(s), expected, x64)


def test_optax_join(x64):
    ours = S.join_schedules([S.linear_schedule(0.0, 1.0, 20), S.exponential_decay(1.0, 10, 0.9)], [40])
    theirs = optax.join_schedules([optax.linear_schedule(0.0, 1.0, 20), optax.exponential_decay(1.0, 10, 0.9)], [40])
    assert_curve(ours(COUNTS), theirs(COUNTS), x64)
    foreign = S.join_schedules([optax.linear_schedule(0.0, 1.0, 20), optax.exponential_decay(1.0, 10, 0.9)], [40])
    assert_curve(foreign(COUNTS), ours(COUNTS), x64)


LONGEST = 4100  # a cycle and a bit of CyclicLR's defaults

# torch's schedulers for base rate 0.5, and how many steps they are compared for: past their end if they have one.
TORCH = [
    ("MultiStepLR", {"milestones": [15, 30, 30], "gamma": 0.2}, S.multi_step_schedule(0.5, [15, 30, 30], 0.2), 60),
    ("StepLR", {"step_size": 7, "gamma": 0.5}, S.exponential_decay(0.5, 7, 0.5, staircase=True), 60),
    ("ExponentialLR", {"gamma": 0.9}, S.factor_schedule(0.5, 0.9), 60),
    ("ExponentialLR", {"gamma": 0.9}, S.exponential_decay(0.5, 1, 0.9), 60),
    ("ConstantLR", {"factor": 0.25, "total_iters": 12}, S.join_schedules([0.125, 0.5], [12]), 60),
    ("CosineAnnealingLR", {"T_max": 50, "eta_min": 0.01}, S.cosine_decay_schedule(0.5, 50, 0.02), 51),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": 10, "T_mult": 2, "eta_min": 0.01},
        S.sgdr_schedule(
            [
                {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 0, "decay_steps": n, "end_value": 0.01}
                for n in (10, 20, 40)
            ]
        ),
        70,
    ),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": 10, "T_mult": 2, "eta_min": 0.01},
        S.cosine_restarts_schedule(0.5, 10, 2, alpha=0.02),
        500,
    ),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}, S.cosine_restarts_schedule(0.5, 7), 200),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}, S.cosine_restarts_schedule(0.5, 1, 3), 200),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 20}, S.linear_schedule(0.05, 0.4, 20), 60),
    ("PolynomialLR", {"total_iters": 20, "power": 2.0}, S.polynomial_schedule(0.5, 0.0, 2.0, 20), 60),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}, 0.5 * gradtx.as_schedule(lambda t: 1 / (1 + t)), 60),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.95}, S.factor_schedule(0.5, 0.95), 60),
    *(
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "cycle_momentum": False, **arguments}, s, 150)
        for arguments, s in (
            ({"step_size_up": 10}, S.cyclic_schedule(0.1, 0.5, 10)),
            ({"step_size_up": 4, "step_size_down": 9}, S.cyclic_schedule(0.1, 0.5, 4, 9)),
            ({"step_size_up": 7, "mode": "triangular2"}, S.cyclic_schedule(0.1, 0.5, 7, cycle_factor=0.5)),
            (
                {"step_size_up": 5, "step_size_down": 1, "mode": "exp_range", "gamma": 0.97},
                S.cyclic_schedule(0.1, 0.5, 5, 1, step_factor=0.97),
            ),
            ({"step_size_up": 6, "step_size_down": 0}, S.cyclic_schedule(0.1, 0.5, 6, 0)),
        )
    ),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "cycle_momentum": False}, S.cyclic_schedule(0.1, 0.5), LONGEST),
    *(
        ("OneCycleLR", {"max_lr": 0.5, "cycle_momentum": False, **arguments}, s, arguments["total_steps"])
        for arguments, s in (
            ({"total_steps": 100}, S.onecycle_schedule(100, 0.5)),
            ({"total_steps": 37, "div_factor": 10.0}, S.onecycle_schedule(37, 0.5, div_factor=10.0)),
            (
                {"total_steps": 53, "pct_start": 0.43, "anneal_strategy": "linear", "final_div_factor": 9.0},
                S.onecycle_schedule(53, 0.5, 0.43, "linear", final_div_factor=9.0),
            ),
            ({"total_steps": 53, "three_phase": True}, S.onecycle_schedule(53, 0.5, three_phase=True)),
            (
                {"total_steps": 41, "three_phase": True, "anneal_strategy": "linear", "pct_start": 0.21},
                S.onecycle_schedule(41, 0.5, 0.21, "linear", three_phase=True),
            ),
            ({"total_steps": 20, "pct_start": 0.0}, S.onecycle_schedule(20, 0.5, 0.0)),
            ({"total_steps": 20, "pct_start": 0.93}, S.onecycle_schedule(20, 0.5, 0.93)),
            # Where torch's phases end at whole steps, one before the fraction, Optax's cycle is the same.
            ({"total_steps": 11, "pct_start": 4 / 11}, S.cosine_onecycle_schedule(10, 0.5)),
            (
                {"total_steps": 11, "pct_start": 4 / 11, "anneal_strategy": "linear", "three_phase": True},
                S.linear_onecycle_schedule(10, 0.5, 0.3, 0.6),
            ),
        )
    ),
]


def torch_rates(make, steps):
    """The rates of the first steps, of a scheduler made for an optimizer of rate 0.5."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    return rates


def assert_torch(s, make, steps, x64):
    """torch multiplies step by step, and rounds every time: 1e-10 in float64, 1e-6 of the largest rate in float32."""
    rtol, atol = (1e-10, 1e-13) if x64 else (1e-6, 1e-6)
    counts = COUNTS if steps <= len(COUNTS) else np.arange(LONGEST)
    np.testing.assert_allclose(s(counts)[:steps], torch_rates(make, steps), rtol=rtol, atol=atol)


@pytest.mark.parametrize(("name", "arguments", "s", "steps"), TORCH)
def test_torch_numbers(name, arguments, s, steps, x64):
    assert_torch(s, lambda module, optimizer: getattr(module, name)(optimizer, **arguments), steps, x64)


def test_torch_compositions(x64):
    def one_after_another(module, optimizer):
        schedulers = [module.LinearLR(optimizer, 0.1, total_iters=10), module.ExponentialLR(optimizer, 0.9)]
        return module.SequentialLR(optimizer, schedulers, milestones=[10])

    s = S.join_schedules([S.linear_schedule(0.05, 0.5, 10), S.factor_schedule(0.5, 0.9)], [10])
    assert_torch(s, one_after_another, 60, x64)

    def at_once(module, optimizer):
        schedulers = [module.ConstantLR(optimizer, 0.1, total_iters=10), module.ExponentialLR(optimizer, 0.9)]
        return module.ChainedScheduler(schedulers, optimizer)

    assert_torch(S.join_schedules([0.1, 1.0], [10]) * S.factor_schedule(0.5, 0.9), at_once, 60, x64)


def test_past_the_end_where_torch_goes_on_or_fails():
    torch = pytest.importorskip("torch")
    rates = torch_rates(lambda module, optimizer: module.CosineAnnealingLR(optimizer, T_max=10), 21)
    assert rates[20] == pytest.approx(0.5)  # up again
    assert S.cosine_decay_schedule(0.5, 10)(20) == 0
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=10, cycle_momentum=False)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    with pytest.raises(ValueError, match="total steps"):
        scheduler.step()
    assert_close(S.onecycle_schedule(10, 0.5)([9, 10, 99]), jnp.full(3, 0.5 / 25 / 1e4))


def test_momentum_cycles_the_other_way_round(x64):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.1, 0.5, 6, 3, base_momentum=0.8, max_momentum=0.95)
    momenta = []
    for _ in range(40):
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert_curve(S.cyclic_schedule(0.95, 0.8, 6, 3)(COUNTS)[:40], momenta, x64)


def test_every_torch_scheduler_has_its_place():
    lr_scheduler = pytest.importorskip("torch").optim.lr_scheduler
    table = re.findall(r"^    (\w+) +\w", S.__doc__, re.MULTILINE)
    compared = {name for name, *_ in TORCH} | {"SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}
    assert set(lr_scheduler.__all__) - {"LRScheduler"} == compared
    assert compared <= set(table)


def test_the_formulas(x64):
    t = COUNTS.astype(float)
    cosine = lambda start, end, t, length: end + (start - end) / 2 * (1 + np.cos(np.pi * np.minimum(t / length, 1)))
    expected = {
        S.natural_exponential_decay(0.5, 0.03): 0.5 * np.exp(-0.03 * t),
        S.inverse_power_decay(0.5, 0.1): 0.5 / np.sqrt(0.1 * t + 1),
        S.inverse_power_decay(0.5, 0.1, 0.75): 0.5 * (0.1 * t + 1) ** -0.75,
        S.factor_schedule(2.0, 0.9, 0.01): np.maximum(0.01, 2 * 0.9**t),
        S.factor_schedule(0.1, 1.0, 0.01): np.full(201, 0.1),
        S.multi_step_schedule(0.5, [15], 0.5): np.where(t < 15, 0.5, 0.25),
        S.multi_step_schedule(0.5, [15, 30], 0.5): 0.5 * 0.5 ** ((t >= 15) * 1.0 + (t >= 30)),
        S.cosine_decay_schedule(0.3, 20, 0.01 / 0.3): cosine(0.3, 0.01, t, 20),
        S.warmup_cosine_decay_schedule(0.0, 0.3, 5, 20, 0.01): np.where(
            t < 5, 0.3 * t / 5, cosine(0.3, 0.01, t - 5, 15)
        ),
        # the Transformer's rate
        S.warmup(S.inverse_power_decay(1.0, 1 / 16), 16): np.minimum(t / 16, np.sqrt(16 / np.maximum(t, 1))),
        S.warmup_stable_decay_schedule(0.1, 1.0, 10, 50, 40, 0.2): np.interp(t, [0, 10, 60, 100], [0.1, 1, 1, 0.2]),
        S.warmup_stable_decay_schedule(0.1, 1.0, 10, 50, 40, 0.2, 2.0): np.where(
            t < 60, np.interp(t, [0, 10], [0.1, 1]), 0.2 + 0.8 * (1 - np.minimum(t - 60, 40) / 40) ** 2
        ),
        S.piecewise_interpolate_schedule("linear", 1.0, {50: 0.5, 150: 4.0}): np.interp(t, [0, 50, 150], [1, 0.5, 2]),
    }
    for s, values in expected.items():
        assert_curve(s(COUNTS), values, x64)


def test_keras_numbers(x64):
    """Keras's schedules, as its documentation writes them."""
    t = COUNTS.astype(float)
    half_cosine = lambda part: (1 + np.cos(np.pi * part)) / 2

    def restarts(first, t_mul, m_mul, alpha):
        start, length, height, rates = 0, first, 1.0, []
        for step in COUNTS:
            if step >= start + length:
                start, length, height = start + length, length * t_mul, height * m_mul
            rates.append(0.5 * ((1 - alpha) * height * half_cosine((step - start) / length) + alpha))
        return rates

    expected = {
        S.exponential_decay(0.5, 20, 0.9): 0.5 * 0.9 ** (t / 20),
        S.exponential_decay(0.5, 20, 0.9, staircase=True): 0.5 * 0.9 ** (t // 20),
        S.inverse_power_decay(0.5, 0.3 / 20, power=1.0): 0.5 / (1 + 0.3 * t / 20),
        S.polynomial_schedule(0.5, 0.1, 2.0, 100): 0.4 * (1 - np.minimum(t, 100) / 100) ** 2 + 0.1,
        S.join_schedules([0.5, 0.2, 0.1], [31, 91]): np.where(t <= 30, 0.5, np.where(t <= 90, 0.2, 0.1)),
        S.cosine_decay_schedule(0.5, 100, 0.1): 0.5 * (0.9 * half_cosine(np.minimum(t, 100) / 100) + 0.1),
        S.warmup_cosine_decay_schedule(0.1, 0.5, 20, 120, 0.1 * 0.5): np.where(
            t < 20,
            0.1 + 0.4 * t / 20,
            0.5 * (0.9 * half_cosine(np.minimum(t - 20, 100) / 100) + 0.1),
        ),
        S.cosine_restarts_schedule(0.5, 10, 2, 0.8, 0.1): restarts(10, 2, 0.8, 0.1),
        S.cosine_restarts_schedule(0.5, 25, 1, 0.5): restarts(25, 1, 0.5, 0.0),
    }
    for s, values in expected.items():
        assert_curve(s(COUNTS), values, x64)


def test_cycles_far_out():
    last = 2**31 - 2
    assert_close(S.cyclic_schedule(0.0, 1.0, 2**30)([2**29, 2**30, 2**30 + 2**29]), jnp.array([0.5, 1.0, 0.5]))
    assert_close(S.cyclic_schedule(0.0, 1.0, 10**10)(last), jnp.float32(last / 1e10))
    assert_close(
        S.cosine_restarts_schedule(1.0, 2**29, 2)([2**29 - 1, 2**29, 2**30 + 2**29]), jnp.array([0.0, 1, 1]), atol=1e-6
    )
    assert_close(S.cosine_restarts_schedule(1.0, 10**10, 3)(last), jnp.cos(jnp.pi / 2 * last / 1e10) ** 2)
    assert_close(S.cosine_restarts_schedule(1.0, 1, 2)(last + 1), jnp.float32(1.0))  # cycle 31 begins there


# What holds for every schedule


@every
def test_arrays_scalars_and_jit(s):
    curve = s(COUNTS)
    assert curve.shape == COUNTS.shape
    row, rectangle = jax.jit(lambda s: (s(COUNTS), s(COUNTS.reshape(3, 67))))(s)  # its numbers are traced
    assert_close(row, curve, atol=2e-7)
    assert_close(rectangle, curve.reshape(3, 67), atol=2e-7)
    inside = jax.jit(lambda t: s(t))
    for t in (0, 15):
        assert s(t).shape == inside(t).shape == ()
        assert_close(s(t), curve[t])
        assert_close(inside(t), curve[t], atol=2e-7)
    assert float(inside(0)) == float(s(0)) == float(curve[0])


@every
def test_the_end_is_held_and_finite(s):
    late = s(np.array([10**6, 2**30, 2**31 - 2, 2**31 - 1]))
    assert np.isfinite(late).all()
    assert (np.isfinite(s(COUNTS))).all()
    without_end = {"exponential_decay", "natural_exponential_decay", "inverse_power_decay", "warmup"}
    without_end |= {"cyclic_schedule", "cosine_restarts_schedule", "power_schedule"}
    without_end |= {"lower_bound_schedule", "upper_bound_schedule"}
    if s.name not in without_end:
        assert (late == late[0]).all()


@every
def test_derivatives_are_finite(s):
    counts = jnp.array([0, 5, 10, 15, 150, 2**31 - 1])
    derivatives = jax.jit(jax.jacobian(lambda s: s(counts)))(s)
    chex.assert_tree_all_finite(derivatives)


@every
def test_numbers_are_leaves(s):
    leaves, structure = jax.tree.flatten(s)
    assert leaves
    assert all(isinstance(leaf, float) for leaf in leaves)
    batch = structure.unflatten([jnp.array([leaf, 0.9 * leaf]) for leaf in leaves])
    swept = jax.jit(jax.vmap(lambda s: s(COUNTS)))(batch)
    for row, factor in zip(swept, (1.0, 0.9), strict=True):
        assert_curve(row, structure.unflatten([factor * leaf for leaf in leaves])(COUNTS), scale=3.0)


@every
def test_values_round_trip(s):
    assert eval(repr(s), NAMES) == s
    for again in (pickle.loads(pickle.dumps(s)), jax.tree.map(lambda x: x, s)):
        assert again == s
        assert hash(again) == hash(s)
    assert s != S.constant_schedule(7.0)


def test_array_and_half_precision_numbers():
    s = S.warmup_cosine_decay_schedule(0.0, jnp.array([1.0, 2.0]), 4, 20, end_value=0.5)
    assert_close(jax.jit(lambda t: s(t))(12), jnp.array([0.75, 1.25]))  # traced first, then used outside
    assert_close(s(12), jnp.array([0.75, 1.25]))
    low = S.linear_schedule(jnp.ones(2, jnp.bfloat16), 0.0, 1000)
    assert low(1).dtype == jnp.float32
    assert_close(low(1), jnp.full(2, 0.999))


# Edges


def test_empty_stretches():
    counts = np.array([0, 1, 3, 2**31 - 1])
    half = S.constant_schedule(0.5)
    for empty in (
        S.linear_schedule(0.0, 0.5, 0),
        S.polynomial_schedule(0.0, 0.5, 2.0, 0),
        S.cosine_decay_schedule(1.0, 0, alpha=0.5),
        S.warmup_constant_schedule(0.0, 0.5, 0),
        S.warmup(half, 0),
        S.join_schedules([0.1, half], [0]),
        S.join_schedules([0.1, 0.2, 0.3, half], [0, 0, 0]),
        S.piecewise_constant_schedule(1.0, {0: 0.5}),
        S.multi_step_schedule(1.0, [0], 0.5),
        S.piecewise_interpolate_schedule("cosine", 1.0, {0: 0.5}),
        S.warmup_stable_decay_schedule(0.0, 1.0, 0, 0, 0, 0.5),
        S.warmup_cosine_decay_schedule(0.0, 1.0, 0, 0, 0.5),
        S.linear_onecycle_schedule(0, 0.5, final_div_factor=1.0, div_factor=1.0),
    ):
        assert (empty(counts) == 0.5).all(), empty
        assert (jax.jit(lambda s: s(counts))(empty) == 0.5).all(), empty


def test_warmup_as_long_as_everything():
    s = S.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10, end_value=0.1)
    assert_curve(s(COUNTS)[:13], [*np.arange(10) / 10, 0.1, 0.1, 0.1])
    triangle = S.warmup_stable_decay_schedule(0.0, 1.0, 4, 0, 4)(COUNTS)
    assert_curve(triangle[:9], [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0])
    zero = S.warmup_cosine_decay_schedule(0.0, 0.0, 5, 20, end_value=0.1)  # Optax ignores end_value here
    assert_curve(zero([0, 5, 20]), [0, 0, 0.1])


def test_ends_are_exact():
    for start, end in ((0.1, 0.7), (1e-3, 1e-5), (0.3, 0.01)):
        ends = [np.float32(start), np.float32(end)]
        assert S.linear_schedule(start, end, 7)([0, 7]).tolist() == ends
        assert S.warmup_cosine_decay_schedule(0.0, start, 3, 9, end)([3, 9]).tolist() == ends


def test_counts_near_the_largest():
    last = 2**31 - 1
    assert float(S.join_schedules([1.0, lambda t: t], [last - 3])(last)) == 3
    assert float(S.linear_schedule(1.0, 0.0, 4, last - 4)(last - 1)) == 0.25
    assert float(S.multi_step_schedule(1.0, [last], 0.5)(last - 1)) == 1.0
    assert float(S.multi_step_schedule(1.0, [last], 0.5)(last)) == 0.5
    for s in (S.linear_schedule(1.0, 0.0, 10**10), S.cosine_decay_schedule(1.0, 10**10), S.warmup(1.0, 10**10)):
        assert 0 < float(s(last - 1)) < 1  # a length that no count reaches
    assert float(S.join_schedules([1.0, 2.0], [10**10])(last - 1)) == 1.0
    assert np.isfinite(S.exponential_decay(1.0, 1, 1.5)([1000, last])).all()
    assert float(S.exponential_decay(0.0, 1, 1.5)(last)) == 0


def test_a_schedule_is_asked_for_its_own_stretch_only():
    root = S.join_schedules([lambda t: jnp.sqrt(1.0 * 10 - t), lambda t: 1 / (t + 1.0)], [10])
    assert np.isfinite(root(COUNTS)).all()
    slope = jax.grad(lambda x: S.join_schedules([lambda t: jnp.sqrt(x * (10 - t)), 0.5], [10])(50))(1.0)
    assert float(slope) == 0


def test_one_cycle_phases_survive_rounding():
    s = S.linear_onecycle_schedule(10, 1.0, pct_start=0.7, pct_final=0.9)  # float32(0.7)·10 < 7
    assert int(jnp.argmax(s(np.arange(11)))) == 7
    assert int(jnp.argmax(jax.jit(lambda s: s(np.arange(11)))(s))) == 7
    assert S.linear_onecycle_schedule(10, 1.0, pct_start=0.0)(0) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.linear_schedule(1.0, 0.1, 12.5, 2.25),
        lambda lib: lib.polynomial_schedule(1.0, 0.1, 2, 12.5),
        lambda lib: lib.cosine_decay_schedule(1.0, 12.5, 0.1),
        lambda lib: lib.exponential_decay(1.0, 2.5, 0.5, 1.5, staircase=True),
        lambda lib: lib.piecewise_constant_schedule(1.0, {2.5: 0.5, 7.0: 0.1}),
        lambda lib: lib.warmup_cosine_decay_schedule(0.0, 1.0, 0.05 * 37, 12.5, 0.1),
        lambda lib: lib.warmup_exponential_decay_schedule(0.0, 1.0, 2.5, 3.3, 0.5),
        lambda lib: lib.join_schedules([lambda t: 0.1 * t, lambda t: 1.0 - 0.1 * t], [4.5]),
    ],
)
def test_a_number_of_steps_need_not_be_whole(make):
    """`warmup_steps=0.05 * total` is what people write."""
    counts = jnp.arange(20)
    theirs = jnp.stack([jnp.asarray(make(optax)(count)) for count in counts])
    np.testing.assert_allclose(make(S)(counts), theirs, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(jax.jit(make(S))(counts), theirs, rtol=2e-6, atol=1e-7)
    assert S.linear_schedule(1.0, 0.1, 12.0).transition_steps == 12


BAD = [
    (
        lambda: S.linear_schedule(1.0, 0.0, -1),
        "linear_schedule: transition_steps must be a number of steps, at least 0",
    ),
    (lambda: S.polynomial_schedule(1.0, 0.0, 1, 5, -2), "polynomial_schedule: transition_begin"),
    (lambda: S.polynomial_schedule(1.0, 0.0, -1.0, 5), "polynomial_schedule: power must be at least 0"),
    (lambda: S.cosine_decay_schedule(1.0, math.nan), "cosine_decay_schedule: decay_steps"),
    (lambda: S.cosine_decay_schedule(1.0, math.inf), "cosine_decay_schedule: decay_steps"),
    (
        lambda: S.exponential_decay(1.0, 0, 0.5),
        "exponential_decay: transition_steps must be a number of steps, above 0",
    ),
    (lambda: S.exponential_decay(1.0, 10, 0.0), "exponential_decay: decay_rate must be greater than 0"),
    (lambda: S.piecewise_constant_schedule(1.0, {-1: 0.5}), "piecewise_constant_schedule: boundaries_and_scales"),
    (lambda: S.piecewise_constant_schedule(1.0, {"a": 0.5}), "piecewise_constant_schedule: boundaries_and_scales"),
    (lambda: S.piecewise_constant_schedule(1.0, {1: -0.5}), "piecewise_constant_schedule: the scales"),
    (
        lambda: S.piecewise_interpolate_schedule("cubic", 1.0),
        "interpolate_type must be 'linear' or 'cosine'",
    ),
    (lambda: S.piecewise_interpolate_schedule("linear", 1.0, {1: -2.0}), "piecewise_interpolate_schedule: the scales"),
    (lambda: S.multi_step_schedule(1.0, [20, 10]), "multi_step_schedule: milestones must be in increasing order"),
    (lambda: S.join_schedules([1.0, 2.0], []), "join_schedules: 2 schedules need one boundary less, got 0"),
    (lambda: S.join_schedules([], []), "join_schedules: 0 schedules"),
    (lambda: S.join_schedules([1.0, 2.0, 3.0], [20, 10]), "join_schedules: boundaries must be in increasing order"),
    (lambda: S.join_schedules([1.0, 2.0], [-1]), "join_schedules: boundaries must be a number of steps"),
    (lambda: S.onecycle_schedule(10, 1.0, 0.6, three_phase=True), "onecycle_schedule: with three phases pct_start"),
    (lambda: S.onecycle_schedule(10, 1.0, interpolate_type="cos"), "onecycle_schedule: interpolate_type must be 'lin"),
    (lambda: S.onecycle_schedule(0, 1.0), "onecycle_schedule: total_steps must be an integer, at least 1"),
    (lambda: S.cyclic_schedule(0.0, 1.0, 0), "cyclic_schedule: up_steps must be an integer, at least 1"),
    (lambda: S.cyclic_schedule(0.0, 1.0, 5, -1), "cyclic_schedule: down_steps must be an integer, at least 0"),
    (lambda: S.cosine_restarts_schedule(1.0, 10, 1.5), "cosine_restarts_schedule: length_factor must be an integer"),
    (lambda: S.linear_onecycle_schedule(10, 1.0, 0.5, 0.4), "linear_onecycle_schedule: pct_final must not be below"),
    (lambda: S.cosine_onecycle_schedule(10, 1.0, 1.5), r"cosine_onecycle_schedule: pct_start must be in \[0, 1\]"),
    (lambda: S.warmup(1.0, -1), "warmup: warmup_steps"),
    (lambda: S.warmup_constant_schedule(0.0, 1.0, -1), "warmup_constant_schedule: warmup_steps"),
    (lambda: S.warmup_cosine_decay_schedule(0.0, 1.0, 9, 5), "warmup_cosine_decay_schedule: decay_steps is below"),
    (lambda: S.warmup_exponential_decay_schedule(0.0, 1.0, 5, 0, 0.5), "warmup_exponential_decay_schedule: transition"),
    (lambda: S.warmup_stable_decay_schedule(0.0, 1.0, 5, -1, 5), "warmup_stable_decay_schedule: stable_steps"),
    (lambda: S.sgdr_schedule([{"peak_value": 1.0}]), "sgdr_schedule: cosine_kwargs must be a list"),
    (lambda: S.sgdr_schedule(3.0), "sgdr_schedule: cosine_kwargs must be a list"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()(0)


def test_whole_floats_are_steps():
    assert_close(S.cosine_decay_schedule(1.0, 1e2)(COUNTS), S.cosine_decay_schedule(1.0, 100)(COUNTS))
    assert_close(S.join_schedules([1.0, 2.0], np.array([50]))(COUNTS), S.join_schedules([1.0, 2.0], [50])(COUNTS))


# Laws


@every
def test_laws(s):
    curve = s(COUNTS)
    assert_close(S.join_schedules([s], [])(COUNTS), curve)
    assert_close(S.join_schedules([0.0, s], [0])(COUNTS), curve)
    assert_close(S.warmup(s, 0)(COUNTS), curve)
    assert_close(S.warmup(s, 7)(COUNTS)[7:], curve[:-7])
    assert_close((2.0 * s + 1.0 - s / 2 - 1.0)(COUNTS), 1.5 * curve, atol=1e-6)
    assert_close((-s * s)(COUNTS), -curve * curve)


def test_numbers_of_a_schedule_may_be_schedules():
    outer = S.linear_schedule(1.0, 0.0, 100)
    assert_curve(S.constant_schedule(outer)(COUNTS), outer(COUNTS))
    assert_curve(
        S.natural_exponential_decay(outer, 0.1)(COUNTS),
        outer(COUNTS) * S.natural_exponential_decay(1.0, 0.1)(COUNTS),
    )


# In an optimizer


def test_the_first_step_uses_the_first_value():
    s = S.join_schedules([S.linear_schedule(0.5, 1.0, 3), S.cosine_decay_schedule(1.0, 5)], [3])
    tx = gradtx.sgd(s)
    params = jnp.zeros(())
    state = tx.init(params)
    assert float(gradtx.hyperparams(state)["learning_rate"]) == 0.5
    step = jax.jit(lambda gradient, state: tx.update(gradient, state, params))
    for t in range(12):
        update, state = step(jnp.ones(()), state)
        assert_close(update, -s(t), atol=1e-7)
        assert_close(gradtx.hyperparams(state)["learning_rate"], s(t), atol=1e-7)


def test_one_compile_for_many_schedules():
    traces = []

    @jax.jit
    def rate(tx):
        traces.append(tx)
        return tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0]

    for peak in (0.1, 0.2, 0.3):
        assert_close(rate(gradtx.sgd(S.warmup_cosine_decay_schedule(peak, peak, 5, 20))), jnp.float32(-peak))
    assert len(traces) == 1


# Reduce on plateau


def plateau_scales(tx, losses):
    """The scale that each step applies."""

    def step(state, loss):
        update, state = tx.update(jnp.ones(()), state, value=loss)
        return state, update

    return jax.lax.scan(step, tx.init(jnp.ones(())), jnp.asarray(losses, jnp.float32))[1]


PLATEAU = [
    {},
    {"patience": 1, "factor": 0.5},
    {"patience": 3, "factor": 0.5, "cooldown": 4},
    {"patience": 2, "factor": 0.7, "accumulation_size": 5},
    {"patience": 2, "factor": 0.5, "cooldown": 2, "accumulation_size": 3, "min_scale": 0.1},
    {"patience": 4, "factor": 0.3, "rtol": 0.0, "atol": 0.05, "min_scale": 1e-3},
]


@pytest.mark.parametrize("settings", PLATEAU, ids=str)
def test_plateau_optax_numbers(settings):
    rng = np.random.default_rng(0)
    losses = 3 * np.exp(-np.arange(300) / 60) + rng.uniform(0.5, 1.0, (3, 300)).round(1)

    def scales(module):
        return jax.vmap(lambda losses: plateau_scales(module.reduce_on_plateau(**settings), losses))(losses)

    ours = scales(gradtx)
    assert all(len(set(row)) > 1 for row in ours.tolist())
    assert_close(ours, scales(optax.contrib))


def test_plateau_comparison_can_fail():
    losses = np.ones(50)
    ours = plateau_scales(gradtx.reduce_on_plateau(patience=5), losses)
    with pytest.raises(AssertionError):
        assert_close(ours, plateau_scales(optax.contrib.reduce_on_plateau(patience=6), losses))


def test_plateau_negative_losses():
    falling = -1.0 - 0.01 * np.arange(50)
    tx = gradtx.reduce_on_plateau(0.5, patience=3)
    assert (plateau_scales(tx, falling) == 1).all()
    # A negative loss that stands still is a plateau, where Optax sees an improvement in every step.
    still = plateau_scales(tx, np.full(8, -1.0))
    assert still.tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert (plateau_scales(optax.contrib.reduce_on_plateau(0.5, 3), np.full(8, -1.0)) == 1).all()


def test_plateau_needs_the_loss():
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.reduce_on_plateau())
    with pytest.raises(TypeError, match="reduce_on_plateau needs the extra argument 'value'"):
        tx.update(jnp.ones(()), tx.init(jnp.ones(())))

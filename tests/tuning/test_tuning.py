"""The learning-rate range test and sweeps: known limits are found, chunks and samples do not show in the numbers."""

import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.tuning.sweep import SweepResult

CURVATURES = jnp.array([1.0, 4.0])
START = {"w": jnp.array([1.0, 1.0])}


def bowl(params):
    return 0.5 * jnp.sum(CURVATURES * params["w"] ** 2)


def linear_loss(params, x, y):
    return jnp.mean((x @ params["w"] - y) ** 2)


X = np.random.default_rng(0).normal(size=(6, 8, 2)).astype(np.float32)  # 6 batches of 8 examples
Y = (X @ np.array([1.0, -2.0], np.float32)).astype(np.float32)


# The range test


def test_divergence_is_found_at_the_largest_stable_rate():
    for curvature in (0.1, 1.0, 100.0):

        def loss(p, curvature=curvature):
            return 0.5 * curvature * jnp.sum(p["w"] ** 2)

        found = gradtx.lr_range_test(loss, gradtx.sgd(0.1), START, max_rate=1e3, steps=200, smoothing=0.0)
        limit = 2 / curvature  # steps of gradient descent shrink below it and grow above
        least = found.rates[found.smoothed.argmin()]
        assert found.diverged
        assert limit / 1.13 < least < limit
        assert limit < found.rates[-1] < 1.5 * limit
        assert limit / 1e3 < found.suggestion < limit
        assert found.suggestions["minimum / 10"] == pytest.approx(least / 10)


def test_each_loss_belongs_to_the_step_at_its_rate():
    found = gradtx.lr_range_test(bowl, gradtx.sgd(0.1), START, min_rate=0.01, max_rate=0.1, steps=5, smoothing=0.5)
    np.testing.assert_allclose(found.rates, np.geomspace(0.01, 0.1, 5))
    w, average, losses, smoothed = np.ones(2), 0.5 * 2.5, [], []
    for k, rate in enumerate(found.rates):
        w = w - rate * np.array([1.0, 4.0]) * w
        losses.append(0.5 * w @ (np.array([1.0, 4.0]) * w))
        average = 0.5 * average + 0.5 * losses[-1]
        smoothed.append(average / (1 - 0.5 ** (k + 2)))
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(found.smoothed, smoothed, rtol=1e-5)
    assert not found.diverged


def test_batches_stacked_listed_and_loaded_give_the_same():
    class Loader:  # yields lists, as torch's DataLoader does, and can be iterated again
        def __iter__(self):
            return ([x, y] for x, y in zip(X, Y, strict=True))

    def stream():
        while True:
            yield from Loader()

    kinds = ((X, Y), list(zip(X, Y, strict=True)), Loader(), stream())
    first, *others = (gradtx.lr_range_test(linear_loss, gradtx.adam(0.1), START, b, steps=20) for b in kinds)
    for other in others:
        np.testing.assert_array_equal(first.losses, other.losses)
        assert first.suggestion == other.suggestion
    by_name = gradtx.lr_range_test(  # what is not a tuple is one argument
        lambda p, batch: linear_loss(p, batch["x"], batch["y"]), gradtx.adam(0.1), START, {"x": X, "y": Y}, steps=20
    )
    np.testing.assert_array_equal(first.losses, by_name.losses)


def test_batches_that_end_are_an_error():
    for batches, count in ((iter([(X[0], Y[0])] * 3), 3), ([], 0)):
        with pytest.raises(ValueError, match=f"the batches ended after {count}, and 5 steps need one more"):
            gradtx.lr_range_test(linear_loss, gradtx.sgd(0.1), START, batches, steps=5, max_rate=1e-3)


def test_the_parameters_are_left_alone_and_one_trace_does_all_steps():
    params = {"w": jnp.array([1.0, 1.0])}
    counted = chex.assert_max_traces(linear_loss, n=1)
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(gradtx.linear_schedule(0.0, 1.0, 10)))
    gradtx.lr_range_test(counted, tx, params, (X, Y), steps=30)
    assert params["w"].tolist() == [1.0, 1.0]


def test_wherever_the_learning_rate_is_it_is_set():
    at_once = gradtx.lr_range_test(bowl, gradtx.sgd(7.0), START, steps=20)
    for tx in (
        gradtx.chain(gradtx.identity(), gradtx.sgd(gradtx.cosine_decay_schedule(0.1, 5))),
        gradtx.masked(gradtx.scale_by_learning_rate(0.1), "w"),
        gradtx.inject_hyperparams(gradtx.sgd(0.1), "learning_rate"),
        gradtx.chain(gradtx.clip(1e9), gradtx.inject_hyperparams(gradtx.sgd(0.1))),
    ):
        found = gradtx.lr_range_test(bowl, tx, START, steps=20)
        np.testing.assert_allclose(found.losses, at_once.losses, rtol=1e-5)


def test_several_learning_rates_keep_their_ratios():
    def both(tx, **arguments):
        return gradtx.lr_range_test(lambda p: bowl(p) + bowl({"w": p["v"]}), tx, START | {"v": START["w"]}, **arguments)

    halves = gradtx.partition({"w": gradtx.sgd(0.1), "v": gradtx.sgd(0.05)})
    one = both(gradtx.chain(gradtx.masked(gradtx.scale(0.5), "v"), gradtx.sgd(1.0)), steps=30)
    np.testing.assert_allclose(both(halves, steps=30).losses, one.losses, rtol=1e-5)
    with pytest.raises(TypeError, match=r"none may be a schedule: .*learning_rate, .*learning_rate"):
        both(gradtx.partition({"w": gradtx.sgd(0.1), "v": gradtx.sgd(gradtx.linear_schedule(0.1, 0.0, 5))}))
    with pytest.raises(ValueError, match="all learning rates are 0"):
        both(gradtx.partition({"w": gradtx.sgd(0.0), "v": gradtx.sgd(0.0)}))


def test_without_a_learning_rate_the_error_lists_what_there_is():
    with pytest.raises(TypeError, match=r"no argument 'learning_rate'; it has .*step_size"):
        gradtx.lr_range_test(bowl, gradtx.chain(gradtx.clip(1.0), gradtx.scale(-0.1)), START)
    optax = pytest.importorskip("optax")
    with pytest.raises(TypeError, match="no learning rate can be set"):
        gradtx.lr_range_test(bowl, optax.sgd(0.1), START)


def test_numbers_out_of_range_and_losses_that_are_none():
    for arguments, message in (
        ({"steps": 1}, "steps must be at least 2, got 1"),
        ({"min_rate": 0.0}, "0 < min_rate < max_rate must hold, got 0.0"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1.0"),
        ({"stop_factor": 1.0}, "stop_factor must be above 1, got 1.0"),
        ({"rule": "valley"}, "no rule 'valley'; there are 'steepest', 'minimum / 10'"),
    ):
        with pytest.raises(ValueError, match="lr_range_test: " + message):
            gradtx.lr_range_test(bowl, gradtx.sgd(0.1), START, **arguments)
    with pytest.raises(ValueError, match="the loss is nan before any step"):
        gradtx.lr_range_test(lambda p: bowl(p) * jnp.nan, gradtx.sgd(0.1), START)
    with pytest.raises(ValueError, match=r"lr_range_test: batches are stacked .* got shapes \(\(6, 8, 2\), \(5, 8\)\)"):
        gradtx.lr_range_test(linear_loss, gradtx.sgd(0.1), START, (X, Y[:5]))


def test_a_loss_that_never_falls_has_no_suggestion():
    rising = gradtx.lr_range_test(bowl, gradtx.sgd(0.1), START, min_rate=1.0, max_rate=10.0, steps=5)
    assert np.isnan(rising.suggestion)
    assert rising.diverged
    flat = gradtx.lr_range_test(lambda p: 0.0 * bowl(p) - 1.0, gradtx.sgd(0.1), START, steps=5)
    assert np.isnan(flat.suggestion)
    assert not flat.diverged  # a negative loss is not above four times itself


def test_a_range_test_prints_what_it_suggests():
    shown = repr(gradtx.lr_range_test(bowl, gradtx.sgd(0.1), START, rule="minimum / 10"))
    assert "diverged at" in shown
    assert "* 0." in shown.splitlines()[2]
    assert "minimum / 10: a tenth of" in shown.splitlines()[2]


# Sweeps


def final_loss(learning_rate, b1):
    found = gradtx.minimize(bowl, START, gradtx.adam(learning_rate, b1=b1), steps=10)
    return {"loss": found.value, "curve": found.history.value}


SPACE = {"learning_rate": [0.01, 0.1, 1.0], "b1": [0.5, 0.9]}


@pytest.fixture(scope="module")
def swept():
    return gradtx.sweep(final_loss, SPACE)


def test_a_sweep_is_the_runs_one_by_one(swept):
    assert len(swept) == 6
    assert swept.hyperparameters["learning_rate"].tolist() == [0.01, 0.01, 0.1, 0.1, 1.0, 1.0]
    assert swept.hyperparameters["b1"].tolist() == [0.5, 0.9] * 3
    alone = jax.jit(final_loss)
    for i in range(6):
        row = swept[i]
        one = alone(row["learning_rate"], row["b1"])
        assert row["loss"] == pytest.approx(float(one["loss"]), rel=1e-5)
        np.testing.assert_allclose(swept.curves["curve"][i], one["curve"], rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 4, 5, 6, 100])
def test_chunks_do_not_show(swept, chunk_size):
    counted = chex.assert_max_traces(final_loss, n=1)
    done = []
    chunked = gradtx.sweep(counted, SPACE, chunk_size=chunk_size, progress=lambda *counts: done.append(counts))
    assert len(done) == -(-6 // chunk_size)
    assert done[-1] == (6, 6)
    np.testing.assert_allclose(chunked.values["loss"], swept.values["loss"], rtol=1e-6)
    np.testing.assert_allclose(chunked.curves["curve"], swept.curves["curve"], rtol=1e-6)


def test_chunks_fit_in_memory():
    def run(x):
        return jnp.sum(jnp.sort(x * jnp.arange(1000.0)) * jnp.arange(1000.0)[::-1])  # one array of 4 kB, at least

    counted = chex.assert_max_traces(run, n=1)
    for max_bytes, chunks in ((1e9, (1, 1)), (50e3, (3, 31)), (1.0, (32, 32))):
        chex.clear_trace_counter()
        done = []
        result = gradtx.sweep(
            counted, {"x": np.arange(32.0)}, max_bytes=max_bytes, progress=lambda n, total, done=done: done.append(n)
        )
        assert chunks[0] <= len(done) <= chunks[1]
        np.testing.assert_allclose(result.values["value"], np.arange(32) * float(run(1.0)), rtol=1e-5)


def test_samples_come_from_the_key_and_are_spread_evenly():
    space = {"a": gradtx.log_uniform(1e-4, 1.0), "b": gradtx.uniform(-1.0, 1.0), "c": lambda share: share > 0.25}

    def draw(key):
        return gradtx.sweep(lambda a, b, c: a + b + c, space, samples=64, key=key).hyperparameters

    one, same, other = draw(3), draw(jax.random.key(3)), draw(4)
    for name in space:
        np.testing.assert_array_equal(one[name], same[name])
    assert not np.array_equal(one["a"], other["a"])
    for shares in ((np.log10(one["a"]) + 4) / 4, (one["b"] + 1) / 2):
        np.testing.assert_array_equal(np.sort(np.floor(shares * 64)), np.arange(64))  # one in every slice
    assert one["c"].sum() == 48
    assert abs(np.corrcoef(np.log(one["a"]), one["b"])[0, 1]) < 0.4


def test_a_grid_meets_the_same_samples_at_every_point():
    space = {"a": [1, 2, 3], "b": gradtx.uniform(0.0, 1.0), "c": [True, False]}
    result = gradtx.sweep(lambda a, b, c: a * b + c, space, samples=4)
    assert list(result.hyperparameters) == ["a", "b", "c"]
    assert len(result) == 24
    assert result.hyperparameters["a"].dtype.kind == "i"
    b = result.hyperparameters["b"].reshape(6, 4)
    assert (b == b[0]).all()
    assert len(np.unique(b)) == 4
    sums = result.hyperparameters["a"] * result.hyperparameters["b"] + result.hyperparameters["c"]
    np.testing.assert_allclose(result.values["value"], sums, rtol=1e-6)


def test_what_is_no_number_is_compiled_once_for_each():
    traces = []

    def run(make, learning_rate, steps):
        traces.append((make, steps))
        found = gradtx.minimize(bowl, START, make(learning_rate), steps)
        return {"loss": found.value, "curve": found.history.value}

    space = {"learning_rate": [0.01, 0.1], "make": [gradtx.sgd, gradtx.adam], "steps": [3, 5]}
    result = gradtx.sweep(run, space, static=["steps"])
    assert sorted(map(str, traces)) == sorted(map(str, {(make, n) for make in space["make"] for n in (3, 5)}))
    for i in range(8):
        row = result[i]
        alone = gradtx.minimize(bowl, START, row["make"](row["learning_rate"]), row["steps"])
        assert row["loss"] == pytest.approx(float(alone.value), rel=1e-5)
        assert np.isfinite(result.curves["curve"][i]).sum() == row["steps"] + 1  # the rest is NaN
    assert "adam" in repr(result)


def test_runs_of_strings_alone_and_of_seeds():
    named = gradtx.sweep(lambda name: float(len(name)), {"name": ["sgd", "adam"]})
    assert named.values["value"].tolist() == [3.0, 4.0]
    seeds = gradtx.sweep(lambda seed: jax.random.normal(jax.random.key(seed)), {"seed": range(3)})
    expected = [float(jax.random.normal(jax.random.key(i))) for i in range(3)]
    np.testing.assert_allclose(seeds.values["value"], expected, rtol=1e-6)


def test_a_number_that_has_to_be_known_is_named():
    def run(learning_rate, steps):
        return gradtx.minimize(bowl, START, gradtx.sgd(learning_rate), steps).value

    def scheduled(learning_rate, steps):
        tx = gradtx.sgd(gradtx.linear_schedule(learning_rate, 0.0, steps))
        return gradtx.minimize(bowl, START, tx, 3).value

    for function in (run, scheduled):
        with pytest.raises(TypeError, match=r"values of learning_rate, steps together, .* name it in static=\[…\]"):
            gradtx.sweep(function, {"learning_rate": [0.1], "steps": [2, 3]})
        assert len(gradtx.sweep(function, {"learning_rate": [0.1], "steps": [2, 3]}, static=["steps"])) == 2


def table():
    loss = np.array([2.0, np.nan, 1.0, np.inf, -np.inf, 3.0])
    return SweepResult({"rate": np.arange(6)}, {"loss": loss, "size": np.arange(6) % 2}, {"curve": np.zeros((6, 3))})


def test_diverged_runs_come_last_and_are_counted():
    assert table().sort("loss").hyperparameters["rate"].tolist() == [2, 0, 5, 1, 3, 4]
    assert table().sort("loss", largest=True).hyperparameters["rate"].tolist() == [5, 0, 2, 1, 3, 4]
    assert table().sort("size").hyperparameters["rate"].tolist() == [0, 2, 5, 4, 1, 3]
    assert table().best("loss") == {"rate": 2, "loss": 1.0, "size": 0}
    assert table().best("loss", largest=True)["rate"] == 5
    assert "6 runs, 3 diverged; curves curve (3)" in repr(table())


def test_a_result_is_a_table():
    result = table()
    assert result[2] == {"rate": 2, "loss": 1.0, "size": 0}
    assert [row["rate"] for row in result] == list(range(6))
    assert result[-1]["rate"] == 5
    part = result[~result.diverged]
    assert len(part) == len(part.curves["curve"]) == 3
    assert repr(result[:2]).splitlines()[0].split() == ["rate", "loss", "size"]
    assert result._repr_html_().count("<tr>") == 7
    assert "…" in repr(gradtx.sweep(lambda x: x, {"x": np.arange(50.0)}))
    with pytest.raises(LookupError, match="no metric matches 'los'; there are loss, size"):
        result.sort("los")
    with pytest.raises(LookupError, match="which metric\\? There are loss, size"):
        result.best()


def test_a_result_becomes_a_data_frame(monkeypatch):
    pd = pytest.importorskip("pandas")
    frame = table().to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["rate", "loss", "size"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        table().to_pandas()


def test_results_are_drawn_by_the_plotting_module(swept, monkeypatch):
    drawn = types.ModuleType("gradtx.plotting")
    drawn.plot_lr_range_test = lambda result, ax: ("range", result, ax)
    drawn.plot_sweep = lambda result, *args, **kwargs: ("sweep", result, args, kwargs)
    monkeypatch.setitem(sys.modules, "gradtx.plotting", drawn)
    found = gradtx.lr_range_test(bowl, gradtx.sgd(0.1), START, steps=5)
    assert found.plot(ax=1) == ("range", found, 1)
    assert swept.plot("loss", ax=1) == ("sweep", swept, ("loss",), {"ax": 1})


def test_progress_is_silent_where_nobody_looks(capsys, monkeypatch):
    for _ in range(2):  # with rich and without
        gradtx.sweep(lambda x: x, {"x": [1.0, 2.0]}, progress=True)
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("", "")
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    gradtx.sweep(lambda x: x, {"x": [1.0, 2.0]}, progress=True, chunk_size=1)
    assert "1 of 2 runs\r2 of 2 runs\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("space", "arguments", "error", "message"),
    [
        ({}, {}, ValueError, "the space is empty"),
        ({"x": 0.5, "y": [1]}, {}, TypeError, "'x' must be a sequence of values or a distribution, got 0.5"),
        ({"x": "adam", "y": [1]}, {}, TypeError, "'x' must be a sequence of values or a distribution, got 'adam'"),
        ({"x": gradtx.sgd(0.1), "y": [1]}, {}, TypeError, r"'x' must be a sequence .* got sgd\(learning_rate=0.1\)"),
        ({"x": [], "y": [1]}, {}, ValueError, "'x' has no values"),
        ({"x": [1], "z": [1]}, {}, TypeError, r"missing a required argument: 'y'; run\(x, y\) is to take x, z"),
        ({"x": [1], "y": [1], "z": [1]}, {}, TypeError, r"unexpected keyword argument 'z'; run\(x, y\)"),
        ({"x": gradtx.uniform(0, 1), "y": [1]}, {}, ValueError, "x: how many samples=…"),
        ({"x": [1], "y": [1]}, {"samples": 3}, ValueError, "there is no distribution to draw samples of"),
        ({"x": [1], "y": [1]}, {"static": ["z"]}, ValueError, "static names 'z', .* there are x, y"),
        ({"x": [1], "y": [1]}, {"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
    ],
)
def test_a_space_that_will_not_do(space, arguments, error, message):
    with pytest.raises(error, match="sweep: .*" + message):
        gradtx.sweep(lambda x, y: x + y, space, **arguments)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (jnp.zeros((2, 2)), r"'value' is float(32|64)\[2,2\]"),
        ({"a": jnp.zeros(2), "b": 1j}, "'b' is a complex"),
        ({"a": "text"}, "'a' is a str"),
        (None, "'value' is a NoneType"),
    ],
)
def test_a_result_that_will_not_do(result, message):
    with pytest.raises(TypeError, match="sweep: run must return a real number, or a dict .*" + message):
        gradtx.sweep(lambda x: result, {"x": [1.0]})


def test_results_and_hyperparameters_have_their_own_names():
    with pytest.raises(ValueError, match="run returns 'x', which is the name of a hyperparameter"):
        gradtx.sweep(lambda x: {"x": x}, {"x": [1.0]})
    with pytest.raises(TypeError, match="must return the same names for all values"):
        gradtx.sweep(lambda x: {x: 1.0}, {"x": ["a", "b"]})


def test_bounds_of_distributions():
    for make, low, high in ((gradtx.uniform, 1.0, 0.0), (gradtx.uniform, 0.0, np.inf), (gradtx.log_uniform, 0.0, 1.0)):
        with pytest.raises(ValueError, match=f"{make.__name__}: low"):
            make(low, high)

"""Pictures hold the numbers that they claim to, on axes of the user's or their own, and say what they leave out."""

import subprocess
import sys
import types
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest

import gradtx
from gradtx import plotting
from gradtx.plotting.style import apart, ink, log_spaced, readable
from gradtx.test_functions import ravine, rosenbrock, saddle, square, x_cos_pi_x

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STEPS = 12
INF = float("inf")


@pytest.fixture(autouse=True)
def _no_figures_from_elsewhere():
    plt.close("all")
    yield
    plt.close("all")


def by_hand(function, tx, start, steps=STEPS):
    x, state, points = jnp.asarray(start, float), tx.init(jnp.asarray(start, float)), [start]
    for _ in range(steps):
        updates, state = tx.update(jax.grad(function)(x), state, x)
        x = gradtx.apply_updates(x, updates)
        points.append(np.asarray(x))
    return np.asarray(points)


def lines(ax):
    """The lines of a picture that stand for something, by label."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def written(ax):
    """All that is written at or in the axes."""
    legend = ax.get_legend()
    return [text.get_text() for text in (*ax.texts, *(legend.get_texts() if legend else ()))]


def sweep(values, **hyperparameters):
    return types.SimpleNamespace(hyperparameters=hyperparameters, values={"loss": np.asarray(values)}, curves={})


def pictures():
    """Each kind of picture, as a function of its axes."""
    paths = {"function": ravine, "optimizers": [gradtx.sgd(0.3), gradtx.adam(0.3)], "steps": STEPS}
    rates = {f"rate_quantiles/{q}": np.full(5, 0.1) for q in ("min", "q25", "median", "q75", "max")}
    tested = types.SimpleNamespace(
        rates=np.logspace(-4, 0, 9), losses=np.ones(9), smoothed=np.linspace(2, 1, 9), suggestion=0.01
    )
    one, two = np.repeat([0.01, 0.1, 1.0], 2), np.tile([0.0, 0.9], 3)
    return {
        "plot_schedule": lambda ax: plotting.plot_schedule(gradtx.cosine_decay_schedule(0.1, 10), 10, ax=ax),
        "plot_trajectories": lambda ax: plotting.plot_trajectories(**paths, ax=ax),
        "animate_trajectories": lambda ax: plotting.animate_trajectories(**paths, ax=ax, frames=2),
        "plot_curves": lambda ax: plotting.plot_curves({"a": np.ones((3, 5))}, ax=ax),
        "plot_sweep": lambda ax: plotting.plot_sweep(sweep(one, lr=one), ax=ax),
        "plot_sweep of two": lambda ax: plotting.plot_sweep(sweep(one, lr=one, b1=two), "lr", "b1", ax=ax),
        "plot_lr_range_test": lambda ax: plotting.plot_lr_range_test(tested, ax=ax),
        "plot_rates": lambda ax: plotting.plot_rates(rates, ax=ax),
        "plot_metrics": lambda ax: plotting.plot_metrics({"loss": np.ones(5)}, axes=None if ax is None else [ax]),
    }


# All of them


@pytest.mark.parametrize("name", pictures())
@pytest.mark.filterwarnings("ignore:Animation was deleted")
def test_a_picture_is_drawn_in_the_axes_of_the_user_or_else_in_one_new_figure(name):
    draw = pictures()[name]
    figure, (left, right) = plt.subplots(1, 2)
    draw(left)
    assert plt.get_fignums() == [figure.number]
    assert left.has_data()
    assert not right.has_data()
    draw(None)
    assert len(plt.get_fignums()) == 2


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.filterwarnings("error", "ignore:Animation was deleted")
def test_pictures_lay_out_without_complaint_in_light_and_dark(style):
    with plt.style.context(style):
        for name, draw in pictures().items():
            if name != "animate_trajectories":
                draw(None)
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()


def test_every_public_function_has_a_picture_here():
    drawn = {name.split()[0] for name in pictures()}
    assert drawn == {name for name in plotting.__all__ if name.startswith(("plot_", "animate_"))}


@pytest.mark.parametrize("name", pictures())
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{name.split()[0]} needs matplotlib.*pip install "gradtx\[plot\]"'):
        pictures()[name](None)


def test_the_module_is_there_after_import_and_matplotlib_is_not():
    code = "import sys, gradtx; gradtx.plotting.plot_schedule; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Colours and names


@pytest.mark.parametrize(("style", "foreground"), [("default", 0.0), ("dark_background", 1.0)])
def test_colours_suit_the_ground(style, foreground):
    with plt.style.context(style):
        ground = ink(plt.subplots()[1])
        assert ground.foreground == (foreground,) * 3
        styles = [(s["color"], s["linestyle"]) for s in map(ground.style, range(21))]
        assert len(set(styles)) == 21
        for colour in ground.colours:
            shade = np.array(readable(colour, ground))
            light = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4) @ [
                0.2126,
                0.7152,
                0.0722,
            ]
            assert ((light + 0.05) / 0.05 if foreground else 1.05 / (light + 0.05)) >= 4.5


def test_labels_are_pushed_apart_and_keep_their_order():
    heights = apart([0.5, 0.99, 0.5, 0.98, 0.0, 0.51], gap=0.06)
    assert np.argsort(heights, kind="stable").tolist() == [4, 0, 2, 5, 3, 1]
    assert np.diff(sorted(heights)).min() > 0.059
    assert min(heights) > 0
    assert max(heights) <= 1


def test_names_stand_at_the_ends_of_lines_where_there_is_room_and_in_a_legend_where_not():
    runs = {"low": np.full(5, 0.1), "high": np.full(5, 0.9)}
    roomy = plotting.plot_curves(runs)
    heights = {text.get_text(): text.get_position()[1] for text in roomy.texts}
    assert heights["low"] < heights["high"]
    assert roomy.get_legend() is None
    assert written(plotting.plot_curves(runs, ax=plt.subplots()[1])) == ["low", "high"]
    early = plotting.plot_curves({"low": np.full(5, 0.1), "high": np.full(3, 0.9)})
    assert not early.texts  # a name at the right would not stand at the end of the short one
    assert written(early) == ["low", "high"]


def test_values_are_log_spaced_if_their_ratios_are_alike():
    assert log_spaced([1e-3, 1e-2, 1e-1])
    assert log_spaced([0.1, 1.0])
    assert log_spaced(10 ** np.random.default_rng(0).uniform(-4, 0, 30))
    assert not log_spaced([0.1, 0.2, 0.3, 0.4, 0.5])
    assert not log_spaced([0.0, 0.1, 1.0])
    assert not log_spaced([0.1])


# Schedules


def test_the_line_of_a_schedule_is_its_values():
    cosine, halving = gradtx.cosine_decay_schedule(0.1, 20), gradtx.exponential_decay(0.1, 10, 0.5)
    ax = plotting.plot_schedule({"cosine": cosine, "halving": halving}, 21, scale="log")
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(lines(ax)["cosine"].get_xdata(), np.arange(21))
    np.testing.assert_allclose(lines(ax)["cosine"].get_ydata(), [cosine(t) for t in range(21)], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(lines(ax)["halving"].get_ydata(), 0.1 * 0.5 ** (np.arange(21) / 10), rtol=1e-5)


def test_schedules_without_labels_show_how_they_print():
    one = gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100)
    assert "\n" in repr(one)
    (label,) = lines(plotting.plot_schedule(one, 10))
    assert label == "warmup_cosine_decay_schedule(init_value=0.0, peak_value=0.1, warmup_steps=10, decay_steps=100)"
    assert eval(label, vars(gradtx)) == one
    constant = plotting.plot_schedule([gradtx.constant_schedule(0.5), lambda count: 0.1 * count], 10)
    assert "constant_schedule(value=0.5)" in lines(constant)
    assert lines(constant)["constant_schedule(value=0.5)"].get_ydata().tolist() == [0.5] * 10


# Trajectories


@pytest.mark.parametrize(("function", "start"), [(rosenbrock, (-1.0, 0.5)), (x_cos_pi_x, -0.5)])
def test_a_path_is_where_the_optimizer_went(function, start):
    optimizers = {
        "slow": gradtx.adam(0.01),
        "fast": gradtx.adam(0.02),
        "sgd": gradtx.sgd(1e-3, momentum=0.9),
        "optax": optax.rmsprop(0.01),
    }
    ax = plotting.plot_trajectories(function, optimizers, steps=STEPS, start=start)
    assert set(lines(ax)) == set(optimizers)
    for label, tx in optimizers.items():
        points = by_hand(function, tx, start)
        expected = points if points.ndim == 2 else np.stack([points, np.asarray(function(points))], axis=1)
        np.testing.assert_allclose(np.transpose(lines(ax)[label].get_data()), expected, rtol=1e-4, atol=1e-6)
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    minimum = function.minima[0] if function.dimension == 2 else (*function.minima, function.minimum)
    assert np.ravel(stars[0].get_data()).tolist() == pytest.approx(minimum)


def test_all_paths_are_one_program_with_a_trace_for_each_structure():
    function = Mock(wraps=lambda x: jnp.sum(x**2))
    optimizers = {f"adam {rate}": gradtx.adam(rate) for rate in (0.1, 0.2, 0.3)}
    optimizers |= {"sgd": gradtx.sgd(0.1), "slower sgd": gradtx.sgd(0.01), "momentum": gradtx.sgd(0.1, momentum=0.9)}
    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        plotting.trajectories(function, optimizers, steps=5, start=(1.0, 2.0))
        assert (function.call_count, len(compiled)) == (3, 1)
        others = {label: tx.replace(learning_rate=0.05) for label, tx in optimizers.items()}
        plotting.trajectories(function, others, steps=5, start=(3.0, 2.0))
        assert (function.call_count, len(compiled)) == (3, 1)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_paths_in_a_list_are_named_by_constructor_and_by_all_that_they_print_if_that_is_the_same():
    ax = plotting.plot_trajectories(ravine, [gradtx.sgd(0.1), gradtx.adam(0.1), gradtx.adam(0.2)], steps=3)
    assert list(lines(ax)) == ["sgd", "adam(learning_rate=0.1)", "adam(learning_rate=0.2)"]
    assert written(ax) == list(lines(ax))


def test_a_path_that_leaves_is_cut_at_the_border_and_its_label_says_so():
    ax = plotting.plot_trajectories(saddle, {"out": gradtx.sgd(0.1), "in": gradtx.sgd(0.001)}, steps=60)
    assert list(lines(ax)) == ["out (leaves)", "in"]
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    x, y = np.ravel(cross.get_data())
    assert y == 2.0
    drawn = np.transpose(lines(ax)["out (leaves)"].get_data())
    assert all(map(saddle.contains, drawn[:-1]))
    assert not saddle.contains(drawn[-1])
    assert min(drawn[-2:, 0]) <= x <= max(drawn[-2:, 0])
    assert ax.get_ylim() == (-2.0, 2.0)


@pytest.mark.parametrize("function", [rosenbrock, square])
def test_a_path_to_infinity_is_drawn_as_far_as_it_can_be_seen(function):
    optimizers = {"gone": gradtx.sgd(5.0), "here": gradtx.sgd(1e-4)}
    ax = plotting.plot_trajectories(function, optimizers, steps=100)
    assert list(lines(ax)) == ["gone (diverges)", "here"]
    drawn = np.transpose(lines(ax)["gone (diverges)"].get_data())
    assert np.isfinite(drawn).all()
    assert len(drawn) < 10
    assert len([line for line in ax.lines if line.get_marker() == "x"]) == 1


def test_any_function_has_a_picture_around_where_its_paths_go():
    ax = plotting.plot_trajectories(lambda x: x[0] ** 2 + 4 * x[1] ** 2, gradtx.sgd(0.1), steps=20, start=(2.0, 1.0))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < 0.1 < 2 < right < 3
    assert bottom < 0.1 < 1 < top < 2
    ax = plotting.plot_trajectories(lambda x: (x - 1) ** 2, gradtx.sgd(0.1), steps=5, start=3, domain=[(-4, 4)])
    assert ax.get_xlim() == (-4, 4)


@pytest.mark.filterwarnings("error")
def test_an_animation_shows_the_path_up_to_each_step_and_can_be_saved(tmp_path):
    from PIL import Image

    moving = plotting.animate_trajectories(saddle, {"sgd": gradtx.sgd(0.1)}, steps=40, frames=5)
    moving.save(tmp_path / "paths.gif", writer="pillow", dpi=30)
    with Image.open(tmp_path / "paths.gif") as image:
        assert image.n_frames == 5
    (line,) = lines(moving.figure.axes[0]).values()
    (cross,) = [x for x in moving.figure.axes[0].lines if x.get_marker() == "x"]
    path = by_hand(saddle, gradtx.sgd(0.1), saddle.start, 40)
    moving._func(10)
    np.testing.assert_allclose(np.transpose(line.get_data()), path[:11], rtol=1e-5)
    assert moving.figure.axes[0].get_title(loc="right") == "step 10"
    assert not cross.get_visible()
    moving._func(40)
    assert cross.get_visible()
    with plt.rc_context({"figure.dpi": 30}):
        html = moving._repr_html_()
    assert html.count("data:image/jpeg") == 5
    assert plt.get_fignums() == []


# Curves


def test_a_curve_of_seeds_is_the_median_in_a_band_of_quartiles():
    runs = np.random.default_rng(0).normal(size=(8, 5))
    ax = plotting.plot_curves({"a": runs}, x=[0.0, 0.5, 1.0, 2.0, 4.0])
    np.testing.assert_allclose(lines(ax)["a"].get_ydata(), np.median(runs, axis=0))
    assert lines(ax)["a"].get_xdata().tolist() == [0.0, 0.5, 1.0, 2.0, 4.0]
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx(np.quantile(runs, 0.75, axis=0).max())
    assert corners[:, 1].min() == pytest.approx(np.quantile(runs, 0.25, axis=0).min())
    mean = plotting.plot_curves({"a": runs}, band="error")
    np.testing.assert_allclose(lines(mean)["a"].get_ydata(), runs.mean(axis=0))
    spread = mean.collections[0].get_paths()[0].vertices[:, 1].max()
    assert spread == pytest.approx((runs.mean(axis=0) + runs.std(axis=0, ddof=1) / 8**0.5).max())
    assert not plotting.plot_curves({"a": runs}, band=None).collections


def test_smoothing_is_an_average_without_bias_and_leaves_the_curve_behind_it():
    y = np.array([1.0, 3.0, 2.0])
    ax = plotting.plot_curves({"a": y}, smoothing=0.5)
    expected = [1.0, (0.5 * 1 + 3) / 1.5, (0.25 * 1 + 0.5 * 3 + 2) / 1.75]
    np.testing.assert_allclose(lines(ax)["a"].get_ydata(), expected)
    (raw,) = [line for line in ax.lines if line.get_label() == "_raw"]
    assert raw.get_ydata().tolist() == y.tolist()
    assert raw.get_alpha() < 1


def test_runs_that_diverge_count_as_worst_and_are_counted():
    runs = np.ones((5, 4)) * np.arange(1.0, 6.0)[:, None]
    runs[0, 2:], runs[1, 3:] = np.nan, INF
    ax = plotting.plot_curves({"a": runs})
    (label,) = lines(ax)
    assert label == "a (2 of 5 not finite)"
    assert lines(ax)[label].get_ydata().tolist() == [3.0, 3.0, 4.0, 5.0]  # the median falls behind the lost ones
    runs[2, 3:] = INF
    assert np.isnan(lines(plotting.plot_curves({"a": runs}))["a (3 of 5 not finite)"].get_ydata()[3])
    single = plotting.plot_curves({"up": [1.0, 9.0, INF, np.nan], "lost": [1.0, np.nan, np.nan]}, scale="log")
    assert list(lines(single)) == ["up (diverges at 2)", "lost (NaN at 1)"]
    assert single.get_yscale() == "log"


# Sweeps


def test_one_hyperparameter_is_a_line_through_the_medians_with_the_best_marked():
    rates = np.repeat([1e-3, 1e-2, 1e-1, 1.0], 3)
    losses = [3.0, 2.0, 4.0, 0.5, 0.6, 0.1, 1.0, 2.0, INF, np.nan, INF, 7.0]
    ax = plotting.plot_sweep(sweep(losses, learning_rate=rates))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (median,) = [line for line in ax.lines if line.get_label() == "_median"]
    np.testing.assert_array_equal(median.get_ydata(), [3.0, 0.5, 2.0, np.nan])
    best = lines(ax)["best: 0.1 at 0.01"]
    assert np.ravel(best.get_data()).tolist() == [0.01, 0.1]
    diverged = lines(ax)["diverged"]
    assert diverged.get_xdata().tolist() == [0.1, 1.0]
    assert diverged.get_transform() == ax.get_xaxis_transform()
    assert set(diverged.get_ydata()) == {1}  # the top edge
    assert written(ax) == ["diverged", "best: 0.1 at 0.01"]


def test_evenly_spaced_values_have_a_linear_axis_and_a_loss_beyond_all_others_no_say():
    ax = plotting.plot_sweep(sweep([1.0, 0.5, 2.0, 1e12], b1=[0.1, 0.2, 0.3, 0.4]))
    assert ax.get_xscale() == "linear"
    assert ax.get_ylim()[1] < 10
    assert lines(ax)["off the scale"].get_xdata().tolist() == [0.4]


def test_two_hyperparameters_are_a_map_with_diverged_cells_hatched():
    rates, decays = np.repeat([1e-3, 1e-2, 1e-1], 2), np.tile([0.0, 0.9], 3)
    ax = plotting.plot_sweep(sweep([3.0, 2.0, 0.01, 0.5, INF, 4.0], lr=rates, b1=decays), "lr", "b1")
    cells = ax.collections[0].get_array()
    assert cells.shape == (2, 3)
    np.testing.assert_array_equal(cells.filled(-1), [[3.0, 0.01, -1], [2.0, 0.5, 4.0]])
    assert isinstance(ax.collections[0].norm, matplotlib.colors.LogNorm)
    (gone,) = ax.patches
    assert (gone.get_x(), gone.get_y(), gone.get_hatch()) == (2, 0, "////")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lr", "b1")
    assert sorted(written(ax)) == ["best: 0.01 at 0.01, 0", "diverged"]
    narrow = plotting.plot_sweep(sweep(np.arange(1.0, 7.0), lr=rates, b1=decays), "lr", "b1")
    assert not isinstance(narrow.collections[0].norm, matplotlib.colors.LogNorm)
    huge = plotting.plot_sweep(sweep([3.0, 2.0, 0.01, 0.5, 1e12, 4.0], lr=rates, b1=decays), "lr", "b1")
    assert huge.collections[0].norm.vmax == 1e4 * 2.5  # times the median; one run has no say over all the colours


def test_runs_at_random_places_are_points():
    rng = np.random.default_rng(0)
    rates, decays = 10 ** rng.uniform(-4, 0, 20), rng.uniform(0, 1, 20)
    ax = plotting.plot_sweep(sweep(np.where(rates > 0.1, np.nan, rates), lr=rates, b1=decays), "lr", "b1")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert len(ax.collections[0].get_offsets()) == (rates <= 0.1).sum()
    assert len(ax.collections[1].get_offsets()) == (rates > 0.1).sum()


def test_a_sweep_in_which_every_run_diverged_is_drawn_as_such():
    ax = plotting.plot_sweep(sweep([INF, np.nan], lr=[0.1, 1.0]))
    assert written(ax) == ["diverged"]
    two = plotting.plot_sweep(sweep([INF] * 4, lr=[0.1, 1.0] * 2, b1=[0.0, 0.0, 0.9, 0.9]), "lr", "b1")
    assert len(two.patches) == 4


def test_a_range_test_shows_its_suggestion_and_is_not_scaled_by_its_explosion():
    rates = np.logspace(-4, 1, 20)
    losses = np.linspace(2, 1, 20)
    losses[-2:] = 1e6, np.nan
    result = types.SimpleNamespace(rates=rates, losses=losses, smoothed=losses, suggestion=0.03)
    ax = plotting.plot_lr_range_test(result)
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[1] < 4
    assert written(ax) == ["suggested: 0.03"]
    assert written(plotting.plot_lr_range_test(types.SimpleNamespace(**vars(result) | {"suggestion": None}))) == []


# Telemetry


def test_the_rates_of_adabound_close_between_its_bounds():
    tx = gradtx.adabound(0.1, final_lr=0.05, gamma=0.1, b1=0.0)
    bounds = tuple(0.05 * b(0.1) for b in (gradtx.lower_bound_schedule, gradtx.upper_bound_schedule))
    scales = jnp.logspace(-1, 1, 10)
    measured = plotting.measure_run(lambda x: jnp.sum(scales * x**2), jnp.ones(10), tx, 30)
    ax = plotting.plot_rates(measured, bounds=bounds)
    assert ax.get_yscale() == "log"
    low, median, high = (lines(ax)[name].get_ydata() for name in ("lower bound", "median", "upper bound"))
    assert (low <= median * 1.001).all()
    assert (median <= high * 1.001).all()
    assert high[-1] / low[-1] < high[0] / low[0] / 10
    np.testing.assert_array_equal(median, measured["rate_quantiles/median"])
    assert len(ax.collections) == 2


def test_a_measured_run_is_the_run():
    measured = plotting.measure_run(lambda x: jnp.sum(x**2), jnp.ones(2), gradtx.sgd(0.1), 4, ["gradient_norm"])
    np.testing.assert_allclose(measured["loss"], 2 * 0.64 ** np.arange(4), rtol=1e-5)
    np.testing.assert_allclose(measured["gradient_norm"], 8**0.5 * 0.8 ** np.arange(4), rtol=1e-5)


def test_groups_of_leaves_have_a_line_each():
    tx = gradtx.monitor(["rate_quantiles"], gradtx.sgd(0.1), by="leaf")
    params = {"w": jnp.ones(2), "b": jnp.ones(())}
    _, state = tx.update(params, tx.init(params), params)
    ax = plotting.plot_rates([gradtx.metrics(state)] * 3)
    assert sorted(lines(ax)) == ["rate_quantiles/b", "rate_quantiles/w"]


def test_metrics_have_a_panel_each_and_quantiles_one_together():
    names = ("min", "q25", "median", "q75", "max")
    series = {f"rate_quantiles/{q}": np.full(4, i + 1.0) for i, q in enumerate(names)}
    series |= {"loss": np.array([100.0, 10.0, 1.0, 0.1]), "clip_rate": np.array([1.0, 0.5, np.nan, 0.3])}
    axes = plotting.plot_metrics(series, x=[0, 10, 20, 30])
    assert [ax.get_title(loc="left") for ax in axes] == ["rate_quantiles", "loss", "clip_rate"]
    assert axes[0].lines[0].get_ydata().tolist() == [3.0] * 4
    assert len(axes[0].collections) == 2
    assert (axes[1].get_yscale(), axes[2].get_yscale()) == ("log", "linear")
    assert axes[1].lines[0].get_xdata().tolist() == [0, 10, 20, 30]
    (cross,) = [line for line in axes[2].lines if line.get_marker() == "x"]
    assert cross.get_xdata().tolist() == [20]


# What cannot be drawn


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plotting.plot_schedule(0.1, 10), "0.1, which is no function of the step count"),
        (lambda: plotting.plot_schedule({"a": "cos"}, 10), "a is 'cos', which is no function of the step count"),
        (lambda: plotting.plot_schedule([], 10), "nothing to draw"),
        (lambda: plotting.plot_schedule(gradtx.constant_schedule(1.0), 0), "steps must be at least 1, got 0"),
        (lambda: plotting.plot_schedule(gradtx.constant_schedule(1.0), 5, scale="lg"), "'linear', 'log', got 'lg'"),
        (lambda: plotting.plot_trajectories(ravine, {"a": 3}, steps=5), "a is 3, which is not a transformation"),
        (lambda: plotting.plot_trajectories(jnp.sum, gradtx.sgd(0.1), steps=5), "give the start"),
        (lambda: plotting.plot_trajectories(jnp.sum, gradtx.sgd(0.1), steps=5, start=(1, 2, 3)), r"\(3,\)"),
        (lambda: plotting.plot_trajectories(ravine, gradtx.sgd(0.1), steps=5, domain=(0, 1)), "domain must be an"),
        (lambda: plotting.animate_trajectories(ravine, gradtx.sgd(0.1), steps=5, frames=1), "at least 2, got 1"),
        (lambda: plotting.plot_curves({"a": np.ones((2, 3, 4))}), r"'a' must have the shape .* got \(2, 3, 4\)"),
        (lambda: plotting.plot_curves({"a": np.ones(3)}, x=np.ones(4)), r"shape \(3,\) of 'a', got \(4,\)"),
        (lambda: plotting.plot_curves({"a": np.ones(3)}, x={"b": np.ones(3)}), "nothing for 'a'; it has 'b'"),
        (lambda: plotting.plot_curves({"a": np.ones(3)}, smoothing=1.0), r"smoothing must be in \[0, 1\), got 1.0"),
        (lambda: plotting.plot_curves({"a": np.ones(3)}, band="iqr"), "'quartiles', 'range', .* got 'iqr'"),
        (lambda: plotting.plot_curves({}), "no runs"),
        (lambda: plotting.plot_sweep(sweep([1.0], lr=[1.0]), metric="los"), "no metric 'los'; did you mean 'loss'"),
        (lambda: plotting.plot_sweep(sweep([1.0], lr=[1.0]), "rate"), "no hyperparameter 'rate'; there are lr"),
        (lambda: plotting.plot_sweep(sweep([1.0], lr=[1.0], b1=[0.9])), "say which x; there are 'lr', 'b1'"),
        (lambda: plotting.plot_sweep(sweep([1.0], lr=[1.0, 2.0])), r"loss has \(1,\) and lr has \(2,\)"),
        (lambda: plotting.plot_rates({"loss": np.ones(3)}), "no quantiles in loss; measure them with monitor"),
        (lambda: plotting.plot_metrics([{"a": 1.0}, {"b": 1.0}]), "step 1 has b; the first has a"),
        (lambda: plotting.plot_metrics({"a": np.ones(3), "b": np.ones(4)}), r"a has \(3,\) and b has \(4,\)"),
        (lambda: plotting.plot_metrics({"a": np.ones(3)}, axes=[]), "1 numbers were measured, and there are 0 axes"),
        (lambda: plotting.plot_metrics([]), "nothing was measured"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_leaves_no_figure(draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
    assert plt.get_fignums() == []


def test_names_can_be_left_out_for_a_legend_of_ones_own():
    figure, axes = plt.subplots(1, 3, layout="constrained")
    plotting.plot_schedule({"a": gradtx.constant_schedule(1.0)}, 5, names=False, ax=axes[0])
    plotting.plot_curves({"a": [1.0, 2.0]}, names=False, ax=axes[1])
    plotting.plot_trajectories(ravine, {"a": gradtx.sgd(0.1)}, steps=3, names=False, ax=axes[2])
    assert all(ax.get_legend() is None and not ax.texts for ax in axes)
    assert [ax.get_legend_handles_labels()[1] for ax in axes] == [["a"]] * 3
    plt.close(figure)


def test_one_curve_needs_no_name():
    figure, ax = plt.subplots(layout="constrained")
    plotting.plot_curves([1.0, 2.0], ax=ax)
    assert not ax.texts
    plt.close(figure)

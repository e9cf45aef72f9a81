"""The command line: the race measures what it says, its files are there, and bad requests get one line."""

import json
import subprocess
import sys

import chex
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.__main__ import main
from gradtx.race import digits, entrants, plots
from gradtx.race.functions import follow
from gradtx.race.loop import Loop
from gradtx.test_functions import TEST_FUNCTIONS

RATES = (0.01, 0.1)


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    return digits.load(seed=0)


def learned(data, names, rates, epochs=2):
    training = digits.train(names, lambda name: rates, data, epochs, batch_size=100, seed=0)
    return [result for _, result in training if result is not None]


# The race on digits


def test_a_race_prints_a_table_and_writes_picture_and_numbers(tmp_path, capsys):
    arguments = ["race", "--optimizers", "adam,sgd", "--rates", "0.01,0.1", "--epochs", "2", "--output"]
    assert main([*arguments, str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("adam", "sgd", "training loss", "test accuracy", "steps to 95 %", "state B/param", "best rate"):
        assert word in out

    for name in ("digits.png", "digits-rates.png"):
        picture = (tmp_path / name).read_bytes()
        width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
        assert picture.startswith(b"\x89PNG")
        assert 600 <= width <= 3000
        assert 300 <= height <= 3000

    report = json.loads((tmp_path / "digits.json").read_text(encoding="utf-8"))
    assert report["versions"]["gradtx"] == gradtx.__version__
    assert report["options"]["epochs"] == 2
    assert set(report["optimizers"]) == {"adam", "sgd"}
    adam = report["optimizers"]["adam"]
    assert [entry["rate"] for entry in adam["rates"]] == [0.01, 0.1]
    assert adam["best_rate"] in RATES
    assert adam["state_bytes_per_parameter"] == pytest.approx(8, abs=0.1)
    curve = adam["rates"][0]["curve"]
    assert curve["steps"] == [0, 14, 28]
    assert curve["training_loss"][-1] == adam["rates"][0]["training_loss"] < curve["training_loss"][0]
    assert 0.5 < adam["rates"][0]["test_accuracy"] <= 1


def test_a_grid_gives_what_each_rate_alone_gives(data):
    for name in ("adam", "momentum"):
        (grid,) = learned(data, [name], RATES)
        for i, rate in enumerate(RATES):
            (alone,) = learned(data, [name], (rate,))
            # Products of matrices are added up in another order beside others; training lets that grow.
            np.testing.assert_allclose(grid.loss[i], alone.loss[0], rtol=1e-4)
            np.testing.assert_array_equal(grid.accuracy[i], alone.accuracy[0])


def test_a_grid_is_one_trace_per_optimizer():
    for name in entrants.DEFAULT_RATES:
        chex.clear_trace_counter()
        loss = chex.assert_max_traces(lambda x, _: jnp.sum(x * x), n=1)
        loop = Loop([entrants.make(name, rate) for rate in (0.01, 0.1, 1.0)], loss, jnp.ones(3))
        for _ in range(3):
            assert loop.run(jnp.arange(4)).shape == (3, 4, 3)


def test_optimizers_start_from_the_same_network_and_see_the_same_batches(data):
    adam, sgd = learned(data, ["adam", "sgd"], (0.01,), epochs=1)
    assert adam.loss[0, 0] == sgd.loss[0, 0]
    first, again = (digits.batches(1437, 100, seed=0, epoch=3) for _ in range(2))
    assert (first == again).all()
    assert len(np.unique(first)) == 1400
    assert (digits.batches(1437, 100, seed=0, epoch=4) != first).any()


@pytest.mark.parametrize(("size", "steps"), [("1", 1437), ("10", 143), ("100", 14), ("full", 1)])
def test_batch_sizes(size, steps, tmp_path, capsys):
    arguments = f"race --optimizers sgd --rates 0.01 --epochs 1 --batch-size {size} --output {tmp_path}"
    assert main(arguments.split()) == 0
    report = json.loads((tmp_path / "digits.json").read_text(encoding="utf-8"))
    (entry,) = report["optimizers"]["sgd"]["rates"]
    assert entry["curve"]["steps"] == [0, steps]
    assert entry["training_loss"] < entry["curve"]["training_loss"][0]
    assert f"batches of {1437 if size == 'full' else size}" in capsys.readouterr().out


def test_the_split_is_stratified_and_standardised(data):
    assert (len(data.images), len(data.test_images)) == (1437, 360)
    shares = [np.bincount(labels, minlength=10) / len(labels) for labels in (data.labels, data.test_labels)]
    np.testing.assert_allclose(*shares, atol=0.005)
    np.testing.assert_allclose(data.images.mean(axis=0), 0, atol=1e-5)
    assert (np.abs(data.images.std(axis=0) - 1)[data.images.std(axis=0) > 0] < 1e-4).all()


def test_the_loss_is_the_cross_entropy(data):
    params = digits.network(seed=1)
    logits = np.maximum(data.images @ np.asarray(params[0]["kernel"]), 0) @ np.asarray(params[1]["kernel"])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(len(logits)), data.labels]).mean()
    np.testing.assert_allclose(digits.cross_entropy(params, data.images, data.labels), expected, rtol=1e-4)


def test_every_optimizer_of_the_default_race_learns(data):
    results = learned(data, list(entrants.DEFAULT_RATES), (0.01,), epochs=1)
    assert len(results) == 20
    for result in results:
        assert result.loss[0, 1] < result.loss[0, 0], result.name


# The race on test functions


def test_a_race_on_a_function(tmp_path, capsys):
    arguments = f"race --problem ravine --optimizers sgd,adam --steps 200 --output {tmp_path}"
    assert main(arguments.split()) == 0
    out, _ = capsys.readouterr()
    assert "steps to within 0.01" in out
    assert (tmp_path / "ravine.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "ravine.json").read_text(encoding="utf-8"))
    sgd = report["optimizers"]["sgd"]
    # 0.3 is the largest rate of the grid below 2/4, the limit of the steep direction.
    assert sgd["best_rate"] == 0.3
    best = next(entry for entry in sgd["rates"] if entry["rate"] == 0.3)
    assert best["distance_to_minimum"] < 0.01
    assert best["curve"]["points"][0] == [-5.0, -2.0]
    assert best["curve"]["points"][1] == pytest.approx([-5 + 0.3, -2 + 0.3 * 8], rel=1e-6)
    # x₁ shrinks by 0.94 a step: 5 · 0.94ⁿ ≤ 0.01
    assert best["steps_to_goal"] == int(np.ceil(np.log(0.01 / 5) / np.log(0.94)))
    assert sgd["rates"][-1]["diverged"]


def test_divergence_is_reported(tmp_path, capsys):
    arguments = f"race --problem rosenbrock --optimizers sgd --rates 1.0 --steps 50 --output {tmp_path}"
    assert main(arguments.split()) == 0
    assert "diverged" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "rosenbrock.json").read_text(encoding="utf-8"))["optimizers"]["sgd"]["rates"]
    assert entry["diverged"]
    assert entry["final_value"] is None
    assert entry["steps_to_goal"] is None


@pytest.mark.parametrize("name", TEST_FUNCTIONS)
def test_every_function_can_be_raced_on_and_drawn(name, tmp_path, capsys):
    arguments = f"race --problem {name} --optimizers momentum --steps 60 --output {tmp_path}"
    assert main(arguments.split()) == 0
    assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_a_path_without_a_minimum_ends_outside_the_domain():
    saddle = TEST_FUNCTIONS["saddle"]
    *_, (_, result) = follow(saddle, ["sgd"], lambda name: (0.1, 0.3), steps=500)
    for i, path in enumerate(result.paths):
        assert all(map(saddle.contains, path[:-1]))
        assert not saddle.contains(path[-1])
        assert np.isfinite(result.values[i]).all()
    assert result.distance(0) is None
    assert result.best == 1


# Pictures


@pytest.mark.parametrize("names", [["adam"], entrants.racers()])
@pytest.mark.filterwarnings("error")
def test_pictures_lay_out_without_complaint_even_when_some_diverge(names, tmp_path):
    decay = np.exp(1 - np.arange(11.0) * np.linspace(0.02, 3, len(names))[:, None])
    results = [
        digits.Learned(n, RATES, np.arange(11), np.stack([y, y]), np.stack([y, y]), 8, 1, 1)
        for n, y in zip(names, decay, strict=True)
    ]
    results[-1].loss[0, 3:] = np.nan
    results[0].loss[:, 4:] = np.inf
    results[0].accuracy[:] = 0.1
    plots.save_curves(results, tmp_path / "curves.png", "A title " * 20)
    plots.save_rates(results, tmp_path / "rates.png", "A title")
    shown = [name for share in plots._shares(names) for name in share]
    assert sorted(shown) == sorted(names)


# List and show


def test_list_names_every_optimizer_with_its_source(capsys):
    assert main(["list"]) == 0
    out, _ = capsys.readouterr()
    for name in entrants.optimizers():
        assert f"  {name} " in out
    for text in (
        "momentum  sgd(learning_rate, momentum=0.9)",
        "Schedules",
        "Transformations",
        "https://arxiv.org/abs/1412.6980",
        "scale_by_learning_rate",
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 130


def test_the_registry_finds_optimizers_and_nothing_else():
    found = entrants.optimizers().keys()
    assert {"adam", "adamaxw", "lars", "sgd"} <= found
    assert not found & {"scale_by_adam", "chain", "lower_bound_schedule", "direction"}
    assert entrants.DEFAULT_RATES.keys() <= set(entrants.racers())
    for name in entrants.racers():
        assert isinstance(entrants.default_rate(name), float)
        entrants.make(name).init(jnp.ones((2, 3)))


def test_show_tells_signature_formula_expansion_state_and_source(capsys):
    assert main(["show", "adamw"]) == 0
    out, _ = capsys.readouterr()
    for text in (
        "adamw(learning_rate, b1=0.9",
        "decoupled weight decay",
        "    scale_by_adam(),",
        "inverse_root()",
        "State: 2 slots per parameter",
        "https://arxiv.org/abs/1711.05101",
    ):
        assert text in out


@pytest.mark.parametrize(("name", "slots"), [("sgd", 0), ("momentum", 1), ("lion", 1), ("adam", 2), ("amsgrad", 3)])
def test_slots_of_state(name, slots, capsys):
    assert main(["show", name]) == 0
    assert f"State: {slots} slot" in capsys.readouterr().out


def test_show_takes_everything_that_list_lists(capsys):
    for name, constructor in entrants.constructors().items():
        assert main(["show", name]) == 0
        assert capsys.readouterr().out.startswith(f"{constructor.__name__}(")


# Requests that cannot be met


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("race --optimizers adm", "did you mean adam"),
        ("race --optimizers ,", "at least one"),
        ("race --rates -1", "greater than 0"),
        ("race --rates=1e-3,nan", "greater than 0"),
        ("race --rates 1e-3,x", "'x' is not a number"),
        ("race --batch-size 0", "at least 1"),
        ("race --batch-size 1438", "larger than the training set (1437"),
        ("race --epochs 0", "at least 1"),
        ("race --epochs 1.5", "whole number"),
        ("race --steps 0 --problem saddle", "at least 1"),
        ("race --steps 5", "--steps is for a test function"),
        ("race --problem saddle --batch-size 5", "--batch-size is for digits"),
        ("race --problem rosenbrok", "did you mean rosenbrock"),
        ("race --seed -1", "from 0"),
        ("race --nonsense", "unrecognized"),
        ("race --output FILE/below", "cannot write to"),
        ("race --output FILE", "cannot write to"),
        ("show adm", "did you mean adam"),
        ("show zzz", "unknown name 'zzz'"),
        ("frobnicate", "invalid choice"),
    ],
)
def test_bad_requests_get_one_line_and_exit_code_2(arguments, words, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("in the way")
    if "--output" not in arguments and arguments.startswith("race"):
        arguments += f" --output {tmp_path}"
    assert main(arguments.replace("FILE", str(file)).split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("gradtx: ")
    assert words in err


@pytest.mark.parametrize("package", ["sklearn", "matplotlib", "rich"])
def test_a_missing_extra_is_named(package, tmp_path, capsys, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["race", "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert 'pip install "gradtx[race]"' in err


def test_an_interrupted_race_says_so(capsys, monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradtx.__main__.race", interrupt)
    assert main(["race"]) == 130
    assert capsys.readouterr().err == "gradtx: interrupted\n"


def test_help_and_version(capsys):
    assert main([]) == 0
    assert "race" in capsys.readouterr().out
    for arguments in (["--help"], ["race", "--help"], ["--version"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    assert gradtx.__version__ in capsys.readouterr().out


def test_neither_the_library_nor_list_imports_what_only_a_race_needs():
    script = (
        "import sys, gradtx; assert 'gradtx.race' not in sys.modules\n"
        "from gradtx.__main__ import main; main(['list'])\n"
        "assert not {'sklearn', 'matplotlib', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

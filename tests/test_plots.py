"""Stored results to figures and tables, from made-up runs."""

import json
from pathlib import Path

import numpy as np
import pytest

import plot_embeddings
import plot_points
import plot_tables
from command_helpers import assert_refused
from plot_data import Study
from results_helpers import arrays_of, check_picture, facts_of
from runs import RunError, write_arrays, write_json


def make_run(folder, dim, **changes):
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", facts_of(dim=dim, **changes))
    write_arrays(folder / "embeddings.npz", **arrays_of(dim))
    return folder


# ------------------------------------------------------------------------------------- one run's figure


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
def test_a_run_of_any_dimension_is_drawn_the_same_twice(tmp_path, dim):
    run = make_run(tmp_path / "run", dim)
    first = plot_embeddings.run_figure(run, tmp_path / "a", "png")
    assert first == tmp_path / "a" / "embedding_run.png"
    check_picture(first, least=900)
    second = plot_embeddings.run_figure(run, tmp_path / "b", "png")
    assert first.read_bytes() == second.read_bytes()
    other = arrays_of(dim, seed=1)
    write_arrays(run / "embeddings.npz", **other)
    assert plot_embeddings.run_figure(run, tmp_path / "c", "png").read_bytes() != first.read_bytes()


def test_a_trained_run_is_drawn_by_the_command(command, finished_run, tmp_path):
    done = command(plot_embeddings.main, finished_run, "--figures-dir", tmp_path / "figures")
    assert done.status == 0 and done.out == f"wrote {tmp_path / 'figures' / 'embedding_run.png'}\n"
    check_picture(tmp_path / "figures" / "embedding_run.png")


def test_only_does_not_go_with_runs(command, finished_run, tmp_path):
    done = command(plot_embeddings.main, finished_run, "--only", "roc_mnist", "--figures-dir", tmp_path / "figures")
    assert_refused(done, "--only roc_mnist")
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_vector_formats_repeat_too(tmp_path, kind):
    run = make_run(tmp_path / "run", 2)
    pictures = [plot_embeddings.run_figure(run, tmp_path / name, kind).read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1] and pictures[0].startswith({"svg": b"<?xml", "pdf": b"%PDF"}[kind])


@pytest.mark.filterwarnings("ignore:Glyph")  # pytest undoes the program's own filter
def test_letters_that_the_font_lacks_are_one_line(tmp_path, capsys):
    run = make_run(tmp_path / "run", 2, classes=["猫", "犬", "bird", "fish"])
    assert plot_embeddings.run_figure(run, tmp_path, "png").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("warning: embedding_run: the font has no 犬猫")


def test_few_points_and_more_classes_than_colours_are_drawn(tmp_path):
    names = [f"class {i}" for i in range(13)]
    for dim in (2, 8):
        run = make_run(tmp_path / f"run{dim}", dim, classes=names)
        rng = np.random.default_rng(0)
        x, weights = rng.normal(size=(2, 13, dim))
        write_arrays(run / "embeddings.npz", embeddings=x, labels=np.arange(13), weights=weights)
        check_picture(plot_embeddings.run_figure(run, tmp_path, "png"))


def broken_arrays():
    good = arrays_of(2)
    holes = good["embeddings"].copy()
    holes[0, 0] = np.inf
    return {
        "labels": {"labels": good["labels"][:-1]}, "weights": {"weights": good["weights"][:3]},
        "dimension": {"weights": np.ones((4, 3), np.float32)}, "holes": {"embeddings": holes},
        "flat": {"embeddings": good["embeddings"].ravel()}, "text": {"embeddings": np.full((80, 2), "x")},
        "empty": {"embeddings": np.zeros((0, 2), np.float32), "labels": np.zeros(0, int)},
        "label-range": {"labels": good["labels"] + 9}, "lacking": {"weights": None},
    }  # fmt: skip


@pytest.mark.parametrize("kind", broken_arrays())
def test_arrays_that_do_not_fit_are_refused(command, tmp_path, kind):
    run = make_run(tmp_path / "run", 2)
    arrays = {name: value for name, value in {**arrays_of(2), **broken_arrays()[kind]}.items() if value is not None}
    write_arrays(run / "embeddings.npz", **arrays)
    with pytest.raises(RunError):
        plot_embeddings.run_figure(run, tmp_path / "figures", "png")
    assert_refused(command(plot_embeddings.main, run, "--figures-dir", tmp_path / "figures"), "train that run again")
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("name", ["test_accuracy", "loss", "classes", "dataset", "source", "scale", "m2"])
@pytest.mark.parametrize("value", ["absent", None, [], {}, 3])
def test_metrics_that_do_not_fit_are_refused(command, tmp_path, name, value):
    run = make_run(tmp_path / "run", 2)
    facts = {k: v for k, v in facts_of().items() if k != name} | ({} if value == "absent" else {name: value})
    write_json(run / "metrics.json", facts)
    done = command(plot_embeddings.main, run, "--figures-dir", tmp_path / "figures")
    numbers = {"test_accuracy", "scale", "m2"}
    if value == 3 and name in numbers:
        assert done.status == 0
    elif name in ("dataset", "source") and value != "absent":  # an odd name is a name
        assert done.status == 0 or done.err.count("\n") == 1
    else:
        assert_refused(done, "train that run again")


def test_what_is_no_run_is_named(command, tmp_path):
    assert_refused(command(plot_embeddings.main, tmp_path / "nothing"), tmp_path / "nothing")
    run = make_run(tmp_path / "run", 2)
    (run / "embeddings.npz").write_bytes(b"no npz")
    assert_refused(command(plot_embeddings.main, run, "--figures-dir", tmp_path), "embeddings.npz", "damaged")
    assert_refused(command(plot_embeddings.main, run, "--format", "gif"), "gif", "png", "svg", "pdf")


def test_one_bad_run_does_not_keep_back_the_others(command, tmp_path):
    runs = [make_run(tmp_path / name, 2) for name in "abc"]
    (runs[1] / "embeddings.npz").unlink()
    done = command(plot_embeddings.main, *runs, "--figures-dir", tmp_path / "figures")
    assert done.status == 2 and "embeddings.npz is missing: train that run again" in done.err
    assert [line.rpartition("_")[2] for line in done.out.splitlines()] == ["a.png", "c.png"]


def test_a_file_in_the_way_of_the_figures_is_named(command, tmp_path):
    run = make_run(tmp_path / "run", 3)
    (tmp_path / "file").write_text("mine")
    done = command(plot_embeddings.main, run, "--figures-dir", tmp_path / "file")
    assert_refused(done, tmp_path / "file", "--figures-dir")


# ------------------------------------------------------------------------------------- the study's figures


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A made-up report/results/: two losses in 2-D, one in 3-D, two seeds in 512-D."""
    folder = tmp_path / "results"
    folder.mkdir()
    runs = [("mnist", "softmax", 2, 0), ("mnist", "arcface", 2, 0), ("mnist", "arcface", 2, 1),
            ("cifar10", "arcface", 2, 0), ("mnist", "cosface", 3, 0), ("mnist", "arcface", 512, 0),
            ("mnist", "arcface", 512, 1)]  # fmt: skip
    for dataset, loss, dim, seed in runs:
        name = f"{dataset}-{loss}-{dim}d-seed{seed}"
        write_json(folder / f"{name}.json", facts_of(loss, dim, seed, dataset, history=[]))
        if dim <= 3:
            arrays = arrays_of(dim, seed=seed)
            arrays["embeddings"] = arrays["embeddings"].astype(np.float16)
            write_arrays(folder / f"{name}.npz", **arrays)
    monkeypatch.setattr(plot_embeddings, "RESULTS", folder)
    return folder


def stored_points(dataset, dim):
    return plot_points.stored_points(Study(plot_embeddings.RESULTS), dataset, dim)


def test_the_study_s_figures_come_from_the_stored_results_alone(results, command, tmp_path):
    figures = tmp_path / "figures"
    wanted = [f"embeddings_{dim}d_{dataset}" for dim in (2, 3) for dataset in ("mnist", "cifar10")]
    done = command(plot_embeddings.main, "--figures-dir", figures, "--only", *wanted, "accuracy")
    assert done.status == 0, done.err
    assert done.out.count("left out") == 1 and "left out embeddings_3d_cifar10: no runs on" in done.out
    pictures = {"embeddings_2d_mnist.png", "embeddings_3d_mnist.png", "embeddings_2d_cifar10.png",
                "accuracy_mnist.png", "accuracy_cifar10.png"}  # fmt: skip
    written = {path.name for path in figures.iterdir()}
    assert pictures | {"accuracy_mnist.json", "accuracy_cifar10.json"} <= written
    for name in (name for name in written if name.endswith(".png")):
        check_picture(figures / name, least=150)
    told = {Path(line.removeprefix("wrote ")).name for line in done.out.splitlines() if line.startswith("wrote ")}
    assert told | {"captions.json"} == written
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert command(plot_embeddings.main, "--figures-dir", figures, "--only", *wanted, "accuracy").status == 0
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before


def test_one_run_a_loss_is_drawn_in_the_order_of_the_losses(results):
    points = stored_points("mnist", 2)
    assert [(p.facts["loss"], p.facts["seed"]) for p in points] == [("softmax", 0), ("arcface", 0)]


def test_the_embedded_sample_does_not_pass_for_mnist(results):
    for path in results.glob("mnist-softmax-2d*"):
        path.rename(path.with_name(path.name.replace("mnist-", "mnist-5k-")))
    path = results / "mnist-5k-softmax-2d-seed0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dataset": "mnist-5k"}))
    assert [p.facts["loss"] for p in stored_points("mnist", 2)] == ["arcface"]


def test_runs_with_held_out_classes_are_not_in_the_study_s_grids(results):
    path = results / "mnist-softmax-2d-seed0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unseen_classes": ["fig"]}))
    assert [p.facts["loss"] for p in stored_points("mnist", 2)] == ["arcface"]


def test_damaged_results_are_one_clear_line(results, command, tmp_path):
    path = results / "mnist-softmax-2d-seed0.json"
    good = path.read_text()
    for text in ("{", "[]", "{}", json.dumps({**json.loads(good), "accuracy": 3})):
        path.write_text(text)
        assert_refused(command(plot_embeddings.main, "--figures-dir", tmp_path / "figures"), path.name)
    path.write_text(good)
    path.with_suffix(".npz").write_bytes(b"no npz")
    names = ["embeddings_2d_mnist", "embeddings_3d_mnist"]
    done = command(plot_embeddings.main, "--figures-dir", tmp_path / "figures", "--only", *names)
    assert_refused(done, path.stem)
    assert (tmp_path / "figures" / "embeddings_3d_mnist.png").exists()  # one damaged file costs its own figures


# ------------------------------------------------------------------------------------- tables


def test_spread_is_the_mean_and_the_sample_standard_deviation():
    assert plot_tables.spread([98.0, 99.0, 100.0]) == {"mean": 99.0, "std": 1.0, "n": 3}
    two = plot_tables.spread([1.0, None, 2.0])
    assert two == {"mean": 1.5, "std": pytest.approx(0.5**0.5), "n": 2}  # of n - 1 = 1, not n = 2
    assert plot_tables.spread([7.0]) == {"mean": 7.0, "std": None, "n": 1}
    assert plot_tables.spread([None, None]) == plot_tables.spread([]) == {"mean": None, "std": None, "n": 0}


def test_a_row_of_the_table_is_the_mean_over_seeds():
    runs = [facts_of(seed=seed, accuracy=value) for seed, value in ((2, 0.97), (0, 0.94), (1, 0.98))]
    runs[1]["verification"] = {"impossible": "no pairs"}
    (row,) = plot_tables.table_rows(runs)
    assert row["seeds"] == [0, 1, 2] and row["loss"] == "arcface" and row["embedding_dim"] == 2
    # The mean of 97, 94 and 98 is 96 1/3; deviations 2/3, -7/3, 5/3 make a variance of (4 + 49 + 25) / 9 / 2.
    for name in ("head", "nearest_mean", "5_nearest_neighbours"):
        assert row[name] == {"mean": pytest.approx(289 / 3), "std": pytest.approx((13 / 3) ** 0.5), "n": 3}
    assert row["intra"] == {"mean": pytest.approx(13), "std": pytest.approx(1), "n": 3}
    assert row["eer"] == {"mean": pytest.approx(2), "std": pytest.approx(0), "n": 2}
    assert row["tar_at_far_0.001"]["mean"] == pytest.approx(80) and row["map_at_r"]["mean"] == pytest.approx(75)
    assert row["head_interval"] is None


def test_a_single_run_shows_its_interval():
    (row,) = plot_tables.table_rows([facts_of(accuracy=0.5)])
    assert row["head_interval"] == pytest.approx([45, 55]) and row["head"]["std"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"m2": 0.4}, {"scale": 30.0}, {"epochs": 9}, {"lr": 0.1}, {"batch_size": 32}, {"margin_warmup": 0.0},
        {"validation": 0.1}, {"source": "a JPEG copy"}, {"embedding_dim": 3},
        {"loss": "cosface"}, {"fingerprint": "fedcba9876543210"}, {"scale_start": 2.0}, {"widths": [16, 16, 16]},
        {"shift": 4}, {"flip": True}, {"image_size": 48}, {"hold_out": ["fig"]},
    ],
    ids=str,
)  # fmt: skip
def test_runs_of_other_settings_are_another_row(change):
    runs = [facts_of(seed=0), facts_of(seed=1), facts_of(seed=0, **change)]
    assert sorted(row["head"]["n"] for row in plot_tables.table_rows(runs)) == [1, 2]


def test_the_scale_that_adacos_found_does_not_part_its_seeds():
    runs = [facts_of("adacos", seed=seed, scale=3.0 + seed, m2=0.0) for seed in (0, 1)]
    assert [row["head"]["n"] for row in plot_tables.table_rows(runs)] == [2]


def test_rows_are_ordered_by_dimension_then_loss():
    runs = [facts_of(loss, dim) for dim in (512, 2, 3) for loss in ("arcface", "softmax", "adacos")]
    rows = plot_tables.table_rows(runs)
    order = ["softmax", "arcface", "adacos"]
    assert [(row["embedding_dim"], row["loss"]) for row in rows] == [(d, loss) for d in (2, 3, 512) for loss in order]


def test_held_out_classes_and_a_jpeg_copy_are_named(tmp_path, monkeypatch):
    titles, real = [], plot_tables.draw_table

    def draw_table(rows, title, *rest):
        titles.append(title)
        return real(rows, title, *rest)

    monkeypatch.setattr(plot_tables, "draw_table", draw_table)
    runs = [facts_of(dataset="cifar10", source="CIFAR-10, JPEG copy", unseen_classes=["fig", "plum"])]
    written = plot_tables.accuracy_tables(runs, tmp_path)
    assert "JPEG" in titles[0] and "80 test images" in titles[0]
    assert "without fig, plum" in plot_tables.table_rows(runs)[0]["title"]
    assert [path.name for path in written] == ["accuracy_cifar10.png", "accuracy_cifar10.json"]
    (vector, _) = plot_tables.accuracy_tables(runs, tmp_path, kind="svg")
    assert vector.name == "accuracy_cifar10.svg" and vector.read_bytes().startswith(b"<?xml")


def test_rows_say_what_they_do_not_share_with_the_others():
    runs = [facts_of(), facts_of(seed=1, validation=0.1, test_images=60), facts_of(hold_out=["fig"], test_images=70,
            unseen_classes=["fig"]), facts_of(source="JPEG copy")]  # fmt: skip
    titles = [row["title"] for row in plot_tables.table_rows(runs)]
    assert sum("60 validation images" in title for title in titles) == 1
    assert sum("without fig (pairs of these)" in title for title in titles) == 1
    assert sum("JPEG copy" in title for title in titles) == 1 and len(set(titles)) == 4
    heading = plot_tables.markdown(runs).splitlines()[0]
    assert "70 to 80 test images" in heading and "made up; " not in heading.partition("(")[0]
    assert "JPEG copy; made up" in heading and "MNIST and MNIST (JPEG copy)" in heading


def test_rows_of_the_mean_of_the_weights_say_so():
    runs = [
        facts_of(averaging=0.995),
        facts_of(),
        facts_of(dataset="cifar10"),
        facts_of(dataset="cifar10", averaging=0.9),
    ]
    assert [plot_tables.other_weights(f) for f in runs] == [", mean of the weights", "", ", last weights", ""]
    titles = [row["title"] for row in plot_tables.table_rows(runs[:2])]
    assert sorted("mean of the weights" in title for title in titles) == [False, True]


def test_precision_follows_the_machine_and_makes_no_row_of_its_own():
    (row,) = plot_tables.table_rows([facts_of(seed=0), facts_of(seed=1, precision="bf16")])
    assert row["seeds"] == [0, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_for_a_map_are_named(tmp_path, count):
    run = make_run(tmp_path / "run", 8)
    arrays = arrays_of(8)
    write_arrays(run / "embeddings.npz", **{k: v if k == "weights" else v[:count] for k, v in arrays.items()})
    with pytest.raises(RunError, match=f"{count} test images"):
        plot_embeddings.run_figure(run, tmp_path / "figures", "png")


def test_the_table_s_json_holds_the_rows(tmp_path):
    runs = [facts_of(seed=0, accuracy=0.9), facts_of(seed=1, accuracy=0.8), facts_of(dataset="mnist-5k")]
    plot_tables.accuracy_tables(runs, tmp_path)
    stored = json.loads((tmp_path / "accuracy_mnist.json").read_text())
    assert stored["dataset"] == "mnist" and stored["rows"] == plot_tables.table_rows(runs[:2])
    assert stored["rows"][0]["head"] == {"mean": pytest.approx(85), "std": pytest.approx(50**0.5), "n": 2}
    assert len(json.loads((tmp_path / "accuracy_mnist-5k.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [([98.3], "98 s"), ([98.3, 98.4], "98 s"), ([20, 119.6], "20 to 120 s"), ([167, 217], "2.8 to 3.6 min"),
     ([1258, 2295], "21 to 38 min"), ([90, 700], "2 to 12 min")],
)  # fmt: skip
def test_times_are_told_in_a_unit_that_fits(seconds, said):
    assert plot_tables.span_of_times(seconds) == said


def test_the_readme_tells_how_long_the_widest_runs_trained():
    runs = [facts_of(dim=2, train_seconds=1.0), facts_of(dim=512, train_seconds=61.4), facts_of(dim=512, seed=1)]
    runs.append(facts_of(dim=512, seed=2, device="cuda, made up", train_seconds=2.6))
    last = plot_tables.markdown(runs).splitlines()[-1]
    assert last == (
        "A run in 512 dimensions trained for 10 to 61 s on cpu, 2 threads, made up, fp32; 3 s on cuda, made up, fp32."
    )

"""Stored results to figures, from made-up runs."""

import json
from pathlib import Path

import numpy as np
import pytest

import plot_embeddings
import plot_points
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


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_for_a_map_are_named(tmp_path, count):
    run = make_run(tmp_path / "run", 8)
    arrays = arrays_of(8)
    write_arrays(run / "embeddings.npz", **{k: v if k == "weights" else v[:count] for k, v in arrays.items()})
    with pytest.raises(RunError, match=f"{count} test images"):
        plot_embeddings.run_figure(run, tmp_path / "figures", "png")


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


def test_two_runs_of_one_name_are_not_drawn_over_each_other(command, tmp_path):
    runs = [make_run(tmp_path / place / "run", 2) for place in "ab"]
    assert_refused(command(plot_embeddings.main, *runs, "--figures-dir", tmp_path / "figures"), "2 runs named run")
    assert not (tmp_path / "figures").exists()


def test_another_format_keeps_the_caption_of_the_picture_in_the_report(tmp_path):
    import matplotlib.pyplot as plt

    from plot_data import Drawn

    write_json(tmp_path / "captions.json", {"one": {"file": "one.png", "caption": "old"}})
    assert len(list(plot_embeddings.draw({"one": lambda: Drawn(plt.figure(), "new")}, tmp_path, "svg"))) == 1
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert captions == {"one.svg": {"file": "one.svg", "caption": "new"}}  # one.png is gone
    (tmp_path / "one.png").write_bytes(b"a picture")
    write_json(tmp_path / "captions.json", {"one": {"file": "one.png", "caption": "old"}})
    assert len(list(plot_embeddings.draw({"one": lambda: Drawn(plt.figure(), "new")}, tmp_path, "svg"))) == 1
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert captions["one"]["caption"] == "old" and captions["one.svg"] == {"file": "one.svg", "caption": "new"}


def test_maps_that_cannot_be_drawn_name_their_runs(command, tmp_path):
    runs = [make_run(tmp_path / name, 5) for name in ("first", "second")]
    for folder in runs:
        arrays = dict(np.load(folder / "embeddings.npz"))
        few = {name: arrays[name][:2] if name != "weights" else arrays[name] for name in arrays}
        np.savez(folder / "embeddings.npz", **few)
    done = command(plot_embeddings.main, *runs, "--figures-dir", tmp_path / "figures")
    assert_refused(done, f"{runs[0]}: 2 test images make no map", f"{runs[1]}: 2 test images")


def test_stopped_half_way_the_captions_are_those_of_the_pictures(tmp_path):
    import matplotlib.pyplot as plt

    from plot_data import Drawn

    def stopped():
        raise KeyboardInterrupt

    write_json(tmp_path / "captions.json", {"one": {"file": "one.png", "caption": "old"}})
    with pytest.raises(KeyboardInterrupt):
        list(plot_embeddings.draw({"one": lambda: Drawn(plt.figure(), "new"), "two": stopped}, tmp_path, "png"))
    assert json.loads((tmp_path / "captions.json").read_text())["one"]["caption"] == "new"

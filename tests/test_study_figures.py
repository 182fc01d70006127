"""The study's figures from made-up results: all are drawn, the same twice, with captions whose numbers are right."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import plot_compare
import plot_cost
import plot_embeddings
import plot_open_set
import plot_theory
from command_helpers import assert_refused
from losses import LOSSES, Margins
from plot_data import NotStored, Study, half_width, minus, seed_pairs
from results_helpers import arrays_of, check_picture, facts_of
from runs import RunError, write_arrays, write_json

LOSSES_SHOWN = ("softmax", "norm-softmax", "arcface")
CURVE = {"far": np.logspace(-6, 0, 20), "tar": np.linspace(0.5, 1, 20)}
COUNTS = {"genuine": np.arange(180), "impostor": np.arange(180)[::-1]}


def store(folder, name, arrays=None, **changes):
    history = [{"epoch": e, "loss": 1 / e, "train_accuracy": 1 - 0.1 / e} for e in (1.0, 2.0)]
    write_json(folder / f"{name}.json", facts_of(history=history, **changes))
    if arrays:
        write_arrays(folder / f"{name}.npz", **arrays)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Something for every figure but the two that need data; tests only read it."""
    folder = tmp_path_factory.mktemp("results")
    curves = {f"test_{k}": v for k, v in {**CURVE, **COUNTS}.items()}
    angles = np.zeros((3, 180), np.uint16)
    angles[[0, 1, 2], [90, 50, 10]] = 7
    rng = np.random.default_rng(0)
    for dataset in ("mnist", "cifar10"):
        source = "CIFAR-10, JPEG copy" if dataset == "cifar10" else "made up"
        same = {"dataset": dataset, "source": source, "part": "main"}
        for i, loss in enumerate(LOSSES_SHOWN):
            for seed in range(3):
                accuracy = 0.9 + 0.01 * i + 0.002 * rng.normal()
                name = f"{dataset}-{loss}-512d-seed{seed}"
                store(folder, name, {**curves, "train_angles": angles}, loss=loss, dim=512, seed=seed,
                      accuracy=accuracy, m2=0.3 * (i == 2), **same)  # fmt: skip
            for dim in (2, 3):
                arrays = arrays_of(dim)
                shots = {"snapshot_embeddings": np.stack([arrays["embeddings"][:20] * k for k in (0.2, 0.5, 1)]),
                         "snapshot_labels": arrays["labels"][:20], "snapshot_weights": np.stack([arrays["weights"]] * 3)}  # noqa: E501  # fmt: skip
                store(folder, f"{dataset}-{loss}-{dim}d-seed0", arrays | shots, loss=loss, dim=dim, seed=0,
                      **{**same, "part": "drawn"})  # fmt: skip
    unseen = {f"unseen_{k}": v for k, v in {**CURVE, **COUNTS}.items()}
    for loss in LOSSES_SHOWN:
        store(folder, f"mnist-{loss}-512d-seed0-without-7-8", curves | unseen, loss=loss, dim=512, part="open",
              unseen_classes=["7", "8"], hold_out=["7", "8"])  # fmt: skip
    for scale in (1.0, 16.0):
        for margin in (0.1, 0.5):
            failed = {"failed": "ended near chance", "test_accuracy": 0.1} if scale == 1 else {}
            store(folder, f"mnist-arcface-512d-seed0-scale={scale:g}-margin={margin:g}-epochs=3", dim=512,
                  part="sensitivity", scale=scale, m2=margin, **failed)  # fmt: skip
    for epochs, seconds, device in ((1, 2.0, "2 threads"), (2, 4.0, "2 threads"), (4, 16.0, "1 thread")):
        store(folder, f"mnist-arcface-512d-seed0-epochs={epochs}", dim=512, part="budget", epochs=epochs,
              train_seconds=seconds, device=f"cpu, {device}, made up")  # fmt: skip
    lost = {k: v for k, v in facts_of(dim=512, part="sensitivity", scale=64.0, m2=0.5).items()
            if k not in ("accuracy", "test_accuracy", "confusion")}  # fmt: skip
    write_json(folder / "mnist-arcface-512d-seed0-scale=64-margin=0.5-epochs=3.json", {**lost, "failed": "diverged"})
    store(folder, "mnist-arcface-512d-seed0-schedule=cosine-epochs=3", dim=512, part="sensitivity", schedule="cosine")
    store(folder, "mnist-arcface-512d-seed0-margin-warmup=0.25-epochs=3", dim=512, part="sensitivity",
          margin_warmup=0.25)  # fmt: skip
    for margin in (0.5, 0.8):
        store(folder, f"mnist-arcface-2d-seed0-scale=16-margin={margin:g}-epochs=2", arrays_of(2), part="plane",
              scale=16.0, m2=margin, epochs=2)  # fmt: skip
    store(folder, "mnist-arcface-512d-seed0-scale=8", dim=512, part="scale", scale=8.0)
    entry = {loss: {"median": 1e-3} for loss in ("linear", *LOSSES)}
    head = {"batch": 256, "embedding_dim": 512, "classes": {"10": entry, "100000": entry}, "machine": {"threads": 2}}
    memory = {"classes": {"10": dict.fromkeys(entry, 1.0), "100000": dict.fromkeys(entry, 100.0)}}
    write_json(folder / "benchmark.json", {"head": head, "memory": memory})
    return folder


@pytest.fixture
def drawn_from(results, monkeypatch):
    monkeypatch.setattr(plot_embeddings, "RESULTS", results)
    return results


def figures_but_images(results, tmp_path):
    names = plot_embeddings.catalogue(Study(results), tmp_path, "none")
    return [name for name in names if not name.startswith(("images", "mistakes"))]


# In a process of its own, where sets have another order.
ELSEWHERE = """
import sys
from pathlib import Path
import plot_embeddings
plot_embeddings.RESULTS = Path(sys.argv.pop(1))
sys.exit(plot_embeddings.main())
"""


def test_every_figure_is_drawn_the_same_twice_with_its_caption(drawn_from, results, command, tmp_path):
    nowhere = ("--output-dir", tmp_path / "none", "--data-dir", tmp_path / "none")
    done = command(plot_embeddings.main, "--figures-dir", tmp_path / "a", *nowhere)
    assert done.status == 0, done.err
    left_out = [line.split(":")[0] for line in done.out.splitlines() if line.startswith("left out")]
    assert left_out == [f"left out {kind}_{d}" for d in ("mnist", "cifar10") for kind in ("images", "mistakes")]
    words = [sys.executable, "-c", ELSEWHERE, results, "--figures-dir", tmp_path / "b", *nowhere]
    again = subprocess.run(
        list(map(str, words)), cwd=plot_embeddings.ROOT, env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True
    )
    assert again.returncode == 0, again.stderr
    names = figures_but_images(drawn_from, tmp_path)
    names += ["accuracy_mnist", "accuracy_cifar10"]
    assert {path.stem for path in (tmp_path / "a").glob("*.png")} == set(names)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
        if path.suffix == ".png":
            check_picture(path, least=150)
    captions = json.loads((tmp_path / "a" / "captions.json").read_text())
    assert sorted(names) == list(captions)
    for name, entry in captions.items():
        assert entry["file"] == f"{name}.png" and len(entry["caption"]) > 80 and entry["caption"].endswith(".")
        assert "JPEG copy" in entry["caption"] or not name.endswith("cifar10"), name
        assert "nan" not in entry["caption"] and "inf" not in entry["caption"].replace("information", "")


def test_one_figure_alone_keeps_the_captions_of_the_rest(drawn_from, command, tmp_path):
    for name in ("scale_bound", "worked_example"):
        done = command(plot_embeddings.main, "--figures-dir", tmp_path, "--only", name)
        assert done.status == 0 and done.out == f"wrote {tmp_path / name}.png\n"
    assert list(json.loads((tmp_path / "captions.json").read_text())) == ["scale_bound", "worked_example"]
    assert_refused(command(plot_embeddings.main, "--only", "nonsense"), "nonsense", "scale_bound", "accuracy")


def test_without_results_only_what_needs_none_is_drawn(command, tmp_path, monkeypatch):
    monkeypatch.setattr(plot_embeddings, "RESULTS", tmp_path / "none")
    monkeypatch.setattr(plot_theory, "decision_margins", plot_theory.worked_example)  # the slow one
    done = command(plot_embeddings.main, "--figures-dir", tmp_path / "figures", "--output-dir", tmp_path)
    assert done.status == 0, done.err
    assert f"no results in {tmp_path / 'none'}: run experiments.py" in done.out
    assert len(list((tmp_path / "figures").glob("*.png"))) == 6


def test_a_result_that_is_gone_leaves_the_old_picture(drawn_from, command, tmp_path, monkeypatch):
    words = ("--figures-dir", tmp_path / "figures", "--only", "head_cost")
    assert command(plot_embeddings.main, *words).status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    monkeypatch.setattr(plot_embeddings, "RESULTS", tmp_path / "none")
    assert "left out head_cost" in command(plot_embeddings.main, *words).out
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before


def test_times_of_other_hardware_are_not_compared(results):
    found = [(f["epochs"], f["train_seconds"]) for f in Study(results).budgets("mnist")]
    assert found == [(1, 2.0), (2, 4.0), (5, 10.0)]
    with pytest.raises(NotStored, match="cifar10 with several"):
        Study(results).budgets("cifar10")


# ------------------------------------------------------------------------------------- the numbers


def test_paired_differences_are_those_of_scipy():
    rng = np.random.default_rng(1)
    ours = [facts_of(seed=seed, accuracy=0.9 + 0.01 * rng.normal()) for seed in (3, 0, 1, 2)]
    others = [facts_of(seed=seed, accuracy=0.89 + 0.01 * rng.normal()) for seed in (0, 1, 2, 3, 4)]
    of_seed = [{f["seed"]: 100 * f["accuracy"]["head"]["value"] for f in runs} for runs in (ours, others)]
    pairs = seed_pairs(*of_seed)
    a, b = ([runs[seed] for seed in range(4)] for runs in of_seed)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert pairs == list(zip(a, b, strict=True)) and seed_pairs(of_seed[0], {9: 1.0}) == []
    assert half_width(minus(pairs)) == pytest.approx((interval.high - interval.low) / 2)
    assert half_width([0.03] * 5) == half_width([0.03]) == math.inf  # no interval of no width


def test_norm_softmax_at_another_scale_is_not_the_control(results):
    groups = Study(results).main("mnist")
    study = Study(results)
    assert len(plot_compare.base_runs(study, groups, "norm-softmax", groups["arcface"])) == 3
    other = [{**f, "scale": 5.0} for f in groups["arcface"]]
    assert plot_compare.base_runs(study, groups, "norm-softmax", other) == []
    study.runs.append({**groups["norm-softmax"][0], "scale": 5.0, "part": "control"})
    assert [f["scale"] for f in plot_compare.base_runs(study, groups, "norm-softmax", other)] == [5.0]
    study.runs[-1]["schedule"] = "constant"
    assert plot_compare.base_runs(study, groups, "norm-softmax", other) == []


def test_runs_of_an_older_recipe_are_set_aside(results):
    study = Study(results)
    older = [{**f, "epochs": 2} for f in study.runs if f["name"].startswith("mnist-softmax-512d-seed0")]
    study.runs += older
    assert all(f["epochs"] == 5 for f in study.main("mnist")["softmax"])
    groups = study.main("mnist") | {"softmax": older}
    assert plot_compare.base_runs(study, groups, "softmax", groups["arcface"]) == []


def test_failed_runs_are_in_the_grids_and_nowhere_else(results):
    study = Study(results)
    grid = study.grid("arcface", ("scale", "margin"))
    assert len(grid) == 5 and sum("failed" in f for f in grid) == 3
    assert all("failed" not in f for f in study.main("mnist")["arcface"])
    assert "(3 of 5)" in plot_compare.sensitivity(study).caption
    assert [f["schedule"] for f in study.grid("arcface", ("schedule",))] == ["cosine"]
    assert [f["margin_warmup"] for f in study.grid("arcface", ("margin-warmup",))] == [0.25]


def test_unseen_classes_are_a_point_a_run(results):
    study = Study(results)
    drawn = plot_open_set.unseen_classes(study)
    points = sorted((float(x), float(y)) for line in drawn.figure.axes[0].lines for x, y in line.get_xydata())
    runs = [f for f in study.runs if f["unseen_classes"]]
    assert len(runs) == 3
    assert points == sorted((f["angles"]["test"]["intra"], 100 * f["verification"]["eer"]) for f in runs)
    looks = {line.get_label(): (line.get_marker(), line.get_color()) for line in drawn.figure.axes[0].lines}
    assert (
        len({marker for marker, _ in looks.values()})
        == len({colour for _, colour in looks.values()})
        == len(looks)
        == 3
    )
    plot_open_set.plt.close(drawn.figure)


def test_a_grid_leaves_out_cells_of_an_older_recipe(tmp_path):
    for margin, rate in ((0.1, 0.02), (0.3, 0.02), (0.5, 0.05)):
        store(tmp_path, f"mnist-arcface-512d-seed0-scale=4-margin={margin}-epochs=2", dim=512, part="sensitivity",
              scale=4.0, m2=margin, lr=rate)  # fmt: skip
    assert [f["m2"] for f in Study(tmp_path).grid("arcface", ("scale", "margin"))] == [0.1, 0.3]


def test_main_runs_are_those_of_the_recipe_alone(results):
    groups = Study(results).main("mnist")
    assert list(groups) == ["softmax", "norm-softmax", "arcface"]
    assert [f["seed"] for f in groups["arcface"]] == [0, 1, 2]
    with pytest.raises(NotStored, match="fashion"):
        Study(results).main("fashion-mnist")


def test_a_damaged_benchmark_is_one_clear_line(tmp_path):
    good = {"batch": 256, "embedding_dim": 512, "classes": {"10": {"linear": {"median": 0.1}}}}
    memory = {"classes": {"10": {"linear": 1.0}}}
    for head, other in (({"classes": {"ten": {}}}, memory), ({"classes": 3}, memory), (good, {"classes": {"10": 3}})):
        write_json(tmp_path / "benchmark.json", {"head": head, "memory": other})
        with pytest.raises(RunError, match="benchmark"):
            plot_cost.head_cost(Study(tmp_path))
    for content in ({}, {"head": good}, {"memory": memory}):
        write_json(tmp_path / "benchmark.json", content)
        with pytest.raises(NotStored, match=r"benchmark\.py (head|memory)"):
            plot_cost.head_cost(Study(tmp_path))


def test_psi_in_the_figures_is_the_losses_own():
    theta = np.linspace(0, math.pi, 50)
    np.testing.assert_allclose(plot_theory.psi(theta, Margins(m3=0.35)), np.cos(theta) - 0.35, atol=1e-12)
    low = theta < math.pi - 0.5
    np.testing.assert_allclose(plot_theory.psi(theta, Margins(m2=0.5))[low], np.cos(theta + 0.5)[low], atol=1e-7)
    assert (np.diff(plot_theory.psi(theta, Margins(1.35, 0.2, 0.1))) < 0).all()


def test_the_worked_example_has_the_right_angle_and_the_bounds_their_values():
    assert all(number in plot_theory.worked_example().caption for number in ("2.83", "6.80", "7.94°"))
    caption = plot_theory.feasible_margins().caption
    assert f"±{math.degrees(2 * math.pi / 10 - 0.5) / 2:.1f}°" in caption
    assert f"{9 / 10 * math.log(9 * 0.9 / 0.1):.2f}" in plot_theory.scale_bound().caption


# ------------------------------------------------------------------------------------- test images


def test_pictures_have_200_dots_an_inch(drawn_from, command, tmp_path):
    assert command(plot_embeddings.main, "--figures-dir", tmp_path, "--only", "embeddings_2d_mnist").status == 0
    with Image.open(tmp_path / "embeddings_2d_mnist.png") as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=1)


def test_the_accuracy_table_counts_every_seed_of_what_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(plot_embeddings, "RESULTS", tmp_path)
    for seed, part in enumerate(("drawn", "sensitivity")):
        store(tmp_path, f"mnist-arcface-2d-seed{seed}", dim=2, seed=seed, part=part)
    store(tmp_path, "mnist-arcface-8d-seed0", dim=8, seed=0, part="sensitivity")  # a size, in a figure of its own
    store(tmp_path, "mnist-arcface-512d-seed0-scale=1-epochs=2", dim=512, seed=0, part="sensitivity")
    list(plot_embeddings.study_figures(["accuracy"], tmp_path, "png", tmp_path, "none"))
    rows = json.loads((tmp_path / "accuracy_mnist.json").read_text())["rows"]
    assert [(row["embedding_dim"], row["seeds"]) for row in rows] == [(2, [0, 1])]

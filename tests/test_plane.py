"""Margins past their bound in the plane: the grids' numbers, what seeds agree on, the line in the figure."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import plot_plane
from plot_data import NotStored, Study
from report.plane import bundles, plane
from results_helpers import facts_of
from runs import read_json, write_arrays, write_json

# Four classes on the circle, 90 degrees apart at best: ArcFace's bound is 1.571, CosFace's 1.
ARCFACE = {(4.0, 0.5): 0.99, (16.0, 0.5): 0.985, (4.0, 1.5): 0.98, (16.0, 1.5): 0.97, (4.0, 2.0): 0.96,
           (16.0, 2.0): 0.5}  # fmt: skip


def store(folder, loss, margin, scale, accuracy, spacing=80.0, ramp=0.8, seed=0, lost=0):
    """One run of the grids; `lost` of its four classes are never right."""
    name = f"mnist-{loss}-2d-seed{seed}-scale={scale:g}" + (f"-margin={margin}" if margin else "")
    name += "-margin-warmup=0.0" if not ramp else ""
    settings = {"m2": 0.0, "m3": 0.0} | ({"m3" if loss == "cosface" else "m2": margin} if margin else {})
    settings |= {"scale": scale, "part": "plane", "epochs": 2, "margin_warmup": ramp}
    facts = facts_of(loss, seed=seed, accuracy=accuracy, **settings)
    facts["angles"]["test"]["w_inter"] = spacing
    facts["per_class_accuracy"] = [0.2] * lost + [0.9] * (4 - lost)
    write_json(folder / f"{name}-epochs=2.json", facts)
    angles = np.radians([0, 90, 180, 230])
    weights = np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
    write_arrays(folder / f"{name}-epochs=2.npz", weights=weights, embeddings=weights.repeat(5, 0),
                 labels=np.arange(4, dtype=np.uint16).repeat(5))  # fmt: skip


@pytest.fixture
def grids(tmp_path):
    for ramp, factor in ((0.8, 1.0), (0.0, 0.9)):
        for (scale, margin), accuracy in ARCFACE.items():
            store(tmp_path, "arcface", margin, scale, factor * accuracy, 85 if scale == 16 else 60, ramp)
        for scale in (4.0, 16.0):
            store(tmp_path, "norm-softmax", None, scale, factor * 0.9, 40 if scale == 16 else 70, ramp)
    return tmp_path


def test_margins_with_room_are_told_from_those_past_the_bound(grids):
    grown, once = plane(grids)["grids"]
    assert (grown["title"], once["title"], grown["bound"]) == ("ArcFace", "ArcFace, at once", "1.571")
    assert grown["scales"] == ["4", "16"]
    assert grown["within"] == {"low": "97.0", "high": "99.0"}
    assert grown["past_small"] == {"low": "96.0", "high": "96.0"}
    assert grown["past_large"] == {"low": "50.0", "high": "50.0"}
    assert grown["plain_spacing"] == {"low": "40.0", "high": "40.0"} and grown["spacing"]["high"] == "85.0"
    assert once["within"] == {"low": "87.3", "high": "89.1"}


def test_seeds_are_taken_together_and_do_not_crowd_the_grid(grids):
    store(grids, "arcface", 2.0, 16.0, 0.40, ramp=0.0, seed=1, lost=1)
    store(grids, "arcface", 0.5, 16.0, 0.99, ramp=0.0, seed=1)
    found = plane(grids)
    # 88.65 is a tie: see plot_tables.TIES.
    same = {"n": 2, "directions": ["4", "4"], "shared": None}
    cells = [
        {"margin": "0.5", "fits": True, "failing": 0, "given_up": 0, "low": "88.7", "high": "99.0", "lost": ["0", "0"],
         "accuracies": ["88.7", "99.0"], **same},
        {"margin": "2", "fits": False, "failing": 1, "given_up": None, "low": "40.0", "high": "45.0",
         "lost": ["0", "1"], "accuracies": ["45.0", "40.0"], **same},
    ]  # fmt: skip
    assert found["repeated"]["arcface"] == {"title": "ArcFace", "scale": "16", "cells": cells}
    assert found["grids"][1]["within"]["high"] == "89.1"  # of the first seed alone
    store(grids, "arcface", 2.0, 16.0, 0.45, ramp=0.0, seed=0, lost=1)
    assert plane(grids)["repeated"]["arcface"]["cells"][1]["given_up"] == 1


def test_a_run_that_diverged_counts_as_chance(grids):
    store(grids, "arcface", 2.0, 16.0, 0.45, ramp=0.0, seed=1)
    path = grids / "mnist-arcface-2d-seed1-scale=16-margin=2.0-margin-warmup=0.0-epochs=2.json"
    lost = {k: v for k, v in read_json(path).items() if k not in ("accuracy", "per_class_accuracy", "test_accuracy")}
    write_json(path, {**lost, "failed": "diverged"})
    (cell,) = plane(grids)["repeated"]["arcface"]["cells"]
    assert (cell["low"], cell["high"], cell["given_up"]) == ("25.0", "45.0", None)  # one of four classes
    assert cell["lost"] == ["0", None] and cell["shared"] is None
    first = grids / path.name.replace("seed1", "seed0")
    write_json(first, {**lost, "seed": 0, "failed": "diverged"})
    assert plane(grids)["grids"][1]["past_large"] == {"low": "25.0", "high": "25.0"}


def test_which_classes_share_a_direction_in_the_drawn_runs(tmp_path):
    def put(loss, angles, accuracy):
        name = f"mnist-{loss}-2d-seed0"
        write_json(tmp_path / f"{name}.json", facts_of(loss, accuracy=accuracy, embedding_dim=2, part="drawn"))
        weights = on_circle(*angles)
        write_arrays(
            tmp_path / f"{name}.npz", weights=weights, embeddings=weights, labels=np.arange(4, dtype=np.uint16)
        )

    assert plane(tmp_path)["crowded"] == {"mnist": None, "cifar10": None}
    put("softmax", (0, 90, 180, 270), 0.75)
    put("arcface", (0, 70, 180, 270), 0.875)
    put("cosface", (0, 50, 52, 270), 0.5)
    put("adacos", (0, 91, 180, 271), 0.8)
    put("norm-softmax", (0, 92, 90, 3), 0.625)
    found = plane(tmp_path)["crowded"]["mnist"]
    names = sorted(facts_of("softmax")["classes"])
    assert found["sharing"] == {
        f"{names[1]} and {names[2]}": ["Norm-softmax", "CosFace"],
        f"{names[0]} and {names[3]}": ["Norm-softmax"],
    }
    assert found["lost"] == {"titles": ["Norm-softmax", "CosFace"], "low": "50.0", "high": "62.5"}
    assert found["kept"] == {"titles": ["Softmax", "ArcFace", "AdaCos"], "low": "75.0", "high": "87.5"}
    assert found["nearest"] == {"low": "70", "high": "90"}


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)


def test_weights_that_share_a_direction_are_taken_together():
    groups, apart = bundles(on_circle(60, 0, 118, 3, 180, 236, 241.5, 300))
    assert groups == [[5], [6], [7], [1, 3], [0], [2], [4]] and sum(apart) == pytest.approx(360 - 3, abs=1e-3)
    assert bundles(on_circle(179, -179, 0))[0] == [[0, 1], [2]]  # across the half turn
    assert bundles(on_circle(7)) == ([[0]], [360.0]) and bundles(on_circle(7, 9))[0] == [[0, 1]]
    assert bundles(on_circle(*range(0, 360, 4)))[0] == [list(range(90))]  # no gap to begin at


@pytest.mark.parametrize(
    ("angles", "right", "expected"),
    [
        ((0, 2, 90, 91), [0.9, 0.1, 0.9, 0.0], {"alone": 0, "groups": 2, "one_each": True, "low": "88", "high": "269"}),
        ((0, 90, 180, 181), [0.9, 0.9, 0.9, 0.9], {"alone": 2, "groups": 1, "one_each": False, "low": None}),
        ((0, 90, 180, 270), [0.9, 0.9, 0.9, 0.9], None),
    ],
)
def test_what_classes_that_share_a_direction_come_to(grids, angles, right, expected):
    for seed in (0, 1):
        store(grids, "cosface", 0.35, 16.0, 0.8, ramp=0.0, seed=seed, lost=2)
        path = grids / f"mnist-cosface-2d-seed{seed}-scale=16-margin=0.35-margin-warmup=0.0-epochs=2.json"
        write_json(path, read_json(path) | {"per_class_accuracy": right})
        arrays = dict(np.load(path.with_suffix(".npz"))) | {"weights": on_circle(*angles)}
        write_arrays(path.with_suffix(".npz"), **arrays)
    (cell,) = plane(grids)["repeated"]["cosface"]["cells"]
    if expected is None:
        assert cell["shared"] is None and cell["directions"] == ["4", "4"]
        return
    found = cell["shared"]
    assert found["size"] == 2 and {name: found[name] for name in ("alone", "groups", "one_each")} == {
        name: expected[name] for name in ("alone", "groups", "one_each")
    }
    assert found["apart"] == (expected["low"] and {"low": expected["low"], "high": expected["high"]})


def test_nothing_stored_says_nothing(tmp_path):
    found = plane(tmp_path)
    assert found["grids"] == [] and not any(one["cells"] for one in found["repeated"].values())
    with pytest.raises(NotStored, match="two dimensions"):
        plot_plane.plane_margins(Study(tmp_path))


def test_the_line_stands_between_margins_that_fit_and_those_that_do_not(grids):
    drawn = plot_plane.plane_margins(Study(grids))
    try:
        panels = {axes.get_title(): axes for axes in drawn.figure.axes}
        axes = panels["ArcFace, growing:\naccuracy, %"]
        rows = [float(label.get_text()) for label in axes.get_yticklabels()]
        (line,) = axes.lines
        place = line.get_ydata()[0]
        assert rows == [0, 0.5, 1.5, 2.0] and 2 < place < 3
        shown = {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in axes.texts}
        assert shown[(1, 3)] == "50.00" and shown[(0, 1)] == "99.00"
        nearest = {t.get_text() for t in panels["ArcFace, growing:\nnearest weights, °"].texts}
        assert nearest == {"50.0"}  # of weights at 0, 90, 180 and 230 degrees
        assert "1.571 for ArcFace" in drawn.caption and "80 %" in drawn.caption and "at most 90°" in drawn.caption
    finally:
        plt.close(drawn.figure)


def test_the_nearest_weights_are_those_of_a_slow_loop(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10, 2)).astype(np.float32)
    write_arrays(tmp_path / "run.npz", weights=vectors)
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    angles = [np.degrees(np.arccos(np.clip(a @ b, -1, 1))) for i, a in enumerate(unit) for b in unit[:i]]
    study = Study(tmp_path)
    assert plot_plane.closest(study, {"name": "run"}) == pytest.approx(min(angles), abs=1e-4)
    assert np.isnan(plot_plane.closest(study, {"name": "none"}))

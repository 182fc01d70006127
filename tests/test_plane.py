"""Margins past their bound in the plane: the grids' numbers, what seeds agree on, the line in the figure."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import plot_plane
from plot_data import NotStored, Study
from report.plane import directions, plane
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
    cells = [
        {"margin": "0.5", "fits": True, "n": 2, "given_up": 0, "low": "88.6", "high": "99.0"},
        {"margin": "2", "fits": False, "n": 2, "given_up": None, "low": "40.0", "high": "45.0"},  # 0 and 1
    ]
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
    first = grids / path.name.replace("seed1", "seed0")
    write_json(first, {**lost, "seed": 0, "failed": "diverged"})
    assert plane(grids)["grids"][1]["past_large"] == {"low": "25.0", "high": "25.0"}


def test_the_directions_that_weights_take_up_are_counted(grids):
    angles = np.radians([0, 3, 60, 118, 180, 236, 241, 300])
    weights = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    for margin in (0.35, 0.5):  # 49.5 and 60 degrees between neighbours
        assert directions(weights, margin) == 6
    assert directions(weights, 0.05) == 6 and directions(weights, 0.001) == 8  # 18.2 and 2.6 degrees
    assert directions(weights[:1], 0.35) == directions(weights[:2], 0.35) == 1
    for seed in (0, 1):
        store(grids, "cosface", 0.35, 16.0, 0.8, ramp=0.0, seed=seed, lost=2)
    (cell,) = plane(grids)["repeated"]["cosface"]["cells"]
    assert (cell["fit"], cell["taken"], cell["given_up"]) == (7, 4, 2)


def test_nothing_stored_says_nothing(tmp_path):
    found = plane(tmp_path)
    assert found["grids"] == [] and not any(one["cells"] for one in found["repeated"].values())
    with pytest.raises(NotStored, match="two dimensions"):
        plot_plane.plane_margins(Study(tmp_path))


def test_the_line_stands_between_margins_that_fit_and_those_that_do_not(grids):
    drawn = plot_plane.plane_margins(Study(grids))
    try:
        panels = {axes.get_title(): axes for axes in drawn.figure.axes}
        axes = panels["ArcFace:\naccuracy, %"]
        rows = [float(label.get_text()) for label in axes.get_yticklabels()]
        (line,) = axes.lines
        place = line.get_ydata()[0]
        assert rows == [0, 0.5, 1.5, 2.0] and 2 < place < 3
        shown = {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in axes.texts}
        assert shown[(1, 3)] == "50.00" and shown[(0, 1)] == "99.00"
        spaced = {t.get_text() for t in panels["ArcFace:\nspacing, °"].texts}
        assert spaced == {"85.0", "60.0", "40.0", "70.0"}
        assert "1.571 for ArcFace" in drawn.caption and "80 %" in drawn.caption and "at most 90°" in drawn.caption
    finally:
        plt.close(drawn.figure)

"""Test images by their angle to their class: the figures that need a run folder and its data."""

import numpy as np
import pytest
import torch

import plot_images
from plot_data import NotStored, Study
from results_helpers import facts_of
from runs import RunError, write_arrays, write_json


def test_test_images_are_chosen_by_their_angle(tmp_path, monkeypatch):
    import data

    run, n = tmp_path / "mnist-arcface-512d-seed0", 48
    labels = np.arange(n) % 4
    degrees = np.linspace(0, 60, n)
    degrees[:4] = (103, 102, 101, 100)  # the next class is nearer than their own
    at = np.radians(90 * labels + degrees)
    write_json(run_made(run) / "metrics.json", facts_of(dim=512))
    write_json(run_made(tmp_path / "results") / f"{run.name}.json", facts_of(dim=512))
    study = Study(tmp_path / "results")
    write_arrays(run / "embeddings.npz", embeddings=np.stack([np.cos(at), np.sin(at)], 1), labels=labels,
                 weights=np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))  # fmt: skip
    images = torch.zeros(n, 1, 16, 16, dtype=torch.uint8)

    class Data:
        fingerprint, test_images = facts_of()["fingerprint"], images

    monkeypatch.setattr(data, "load_dataset", lambda *args, **kwargs: Data)
    _, _, found, angles, to_centre = plot_images.images_and_angles(study, "mnist", tmp_path, "data")
    np.testing.assert_allclose(angles[np.arange(n), found], degrees, atol=1e-6)
    mistakes = plot_images.worst_mistakes(study, "mnist", tmp_path, "data")
    wrong = int((degrees > 45).sum())
    assert f"of {wrong} mistakes among {n} test images" in mistakes.caption
    shown = [axes.get_xlabel() for axes in mistakes.figure.axes if axes.get_xlabel()]
    assert "apple: 103°\npear: 13°" in shown and len(shown) == min(plot_images.MISTAKES, wrong)
    near = plot_images.nearest_and_farthest(study, "mnist", tmp_path, "data")
    first = degrees[found == 0]
    middle = np.degrees(np.angle(np.exp(1j * np.radians(first)).mean()))
    np.testing.assert_allclose(to_centre[found == 0], abs(first - middle), atol=1e-6)
    row = [a.get_xlabel() for a in near.figure.axes if a.get_xlabel()][: 2 * plot_images.SHOWN]
    ends = sorted(abs(first - middle))
    assert row == [f"{angle:.0f}°" for angle in (*ends[: plot_images.SHOWN], *ends[-plot_images.SHOWN :])]
    monkeypatch.setattr(plot_images, "SHOWN", 8)  # there are 12 of a class: some in both halves, none missing
    plot_images.nearest_and_farthest(study, "mnist", tmp_path, "data")
    monkeypatch.setattr(plot_images, "SHOWN", 13)
    few = plot_images.nearest_and_farthest(study, "mnist", tmp_path, "data")
    assert sum(bool(a.get_xlabel()) for a in few.figure.axes) == 2 * n
    Data.fingerprint = "other"
    with pytest.raises(NotStored, match="data"):
        plot_images.worst_mistakes(study, "mnist", tmp_path, "data")
    Data.fingerprint = facts_of()["fingerprint"]
    with np.load(run / "embeddings.npz") as whole:
        part = {name: whole[name] for name in ("embeddings", "weights")}
    write_arrays(run / "embeddings.npz", **part)
    with pytest.raises(RunError, match="damaged"):
        plot_images.worst_mistakes(study, "mnist", tmp_path, "data")
    for change in ({"epochs": 1}, {"test_accuracy": 0.89}):  # a run of a reader's own under the default name
        write_json(run / "metrics.json", facts_of(dim=512, **change))
        with pytest.raises(NotStored, match="holds another run"):
            plot_images.worst_mistakes(study, "mnist", tmp_path, "data")


def run_made(folder):
    folder.mkdir()
    return folder

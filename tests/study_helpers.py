"""Runs of the study as tests need them: what train.py leaves of one begun or finished, made up."""

import csv

import numpy as np

from results_helpers import arrays_of, facts_of
from runs import write_arrays, write_json
from study import Run

ROWS = [{"epoch": 1.0, "loss": 0.5, "train_accuracy": 0.75}, {"epoch": 2.0, "loss": 0.25, "train_accuracy": 1.0}]
RUN = Run("drawn", "mnist", "arcface", 2, extra=(("epochs", 2),))


def begin(run, folder, dataset=None):
    """What train.py leaves of a run that has begun."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = run.settings(dataset)
    write_json(folder / "config.json", {"settings": settings, "fingerprint": "f", "source": "made up", "classes": []})
    return settings


def finish(run, output_dir, dataset=None, **changes):
    """A finished run folder of made-up numbers, snapshots included where the study asks for them."""
    folder, dim = output_dir / run.name(), run.embedding_dim
    settings = begin(run, folder, dataset)
    write_json(folder / "metrics.json", {**facts_of(), **settings, "scale": settings["scale"] or 1.0, **changes})
    curve = {"far": [0.1, 1.0], "tar": [0.5, 1.0], "genuine": [3] * 180, "impostor": [70_000] * 180}
    write_json(folder / "curves.json", {"test": curve, **({"unseen": curve} if run.hold_out else {})})
    write_arrays(folder / "embeddings.npz", **arrays_of(dim))
    with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    if run.snapshots():
        (folder / "snapshots").mkdir(exist_ok=True)
        for epoch in range(settings["epochs"] + 1):
            angles = np.full(7, 10.0 * epoch, np.float16)
            drawn = {"embeddings": np.full((7, dim), epoch, np.float16), "weights": np.ones((4, dim), np.float32)}
            labels = {"test_labels": np.arange(7, dtype=np.uint16) % 4}
            path = folder / "snapshots" / f"epoch-{epoch:03d}.npz"
            write_arrays(path, train_angles=angles, test_angles=angles, **labels, **(drawn if dim <= 3 else {}))
    return folder

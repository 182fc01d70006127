"""Stored results as tests need them: made up, without their figures, or measured the plain way."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from runs import read_json, write_json

CLASSES = ["apple", "pear", "fig", "plum"]
FIGURES = ("accuracy", "per_class_accuracy", "confusion", "angles", "angular_fisher_score", "pairs_from",
           "verification", "verification_10_fold", "retrieval")  # fmt: skip


def facts_of(loss="arcface", dim=2, seed=0, dataset="mnist", accuracy=0.9, **changes):
    """metrics.json of a measured run, made up."""
    rate = {"value": accuracy, "low": accuracy - 0.05, "high": min(1, accuracy + 0.05)}
    angles = {"w_ec": 10.0, "w_inter": 70.0, "intra": 12.0 + seed, "inter": 68.0}
    return {
        "dataset": dataset, "loss": loss, "embedding_dim": dim, "seed": seed, "scale": 16.0, "m1": 1.0, "m2": 0.3,
        "m3": 0.0, "epochs": 5, "batch_size": 16, "lr": 0.05, "margin_warmup": 0.5, "precision": "fp32",
        "validation": 0.0, "source": "made up", "fingerprint": "0123456789abcdef", "classes": CLASSES,
        "unseen_classes": [], "hold_out": [], "test_images": 80, "test_accuracy": accuracy, "scale_start": None,
        "widths": [8, 8, 8], "shift": 2, "flip": False, "image_size": None,
        "depth": 2, "momentum": 0.9, "averaging": 0.0,
        "device": "cpu, 2 threads, made up", "train_seconds": 10.0,
        "accuracy": {"head": rate, "nearest_mean": rate, "5_nearest_neighbours": rate},
        "angles": {"train": angles, "test": angles},
        "verification": {"pairs": 3160, "auc": 0.99, "eer": 0.02, "eer_threshold": 0.4,
                         "tar_at_far": {"0.01": 0.9, "0.001": 0.8, "0.0001": 0.7}},
        "verification_10_fold": {"mean": 0.95, "std": 0.01, "pairs": 6000}, "angular_fisher_score": 0.1,
        "confusion": [[20, 0, 0, 0], [0, 20, 0, 0], [0, 0, 20, 0], [0, 0, 0, 20]], "per_class_accuracy": [1.0] * 4,
        "retrieval": {"rank_1": 0.9, "r_precision": 0.8, "map_at_r": 0.75}, "pairs_from": "test images",
        **changes,
    }  # fmt: skip


def arrays_of(dim, per_class=20, seed=0):
    """Embeddings in four bunches, labels and class weights."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, dim)).astype(np.float32)
    labels = np.repeat(np.arange(4), per_class)
    x = 3 * weights[labels] + rng.normal(0, 0.3, (len(labels), dim))
    return {"embeddings": x.astype(np.float32), "labels": labels, "weights": weights}


def check_picture(path, least=400):
    """A PNG that decodes, of a sane size, with something drawn on it."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert all(least <= side <= 6000 for side in image.size), image.size
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def strip_figures(run: Path) -> dict:
    """Leave in metrics.json what training writes, without the evaluation; returns the whole."""
    whole = read_json(run / "metrics.json")
    facts = dict(whole)
    for name in FIGURES:
        del facts[name]
    write_json(run / "metrics.json", facts)
    return whole


def degrees_between(a, b):
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(np.asarray(v, np.float64)) for v in (a, b))
    return math.degrees(math.acos(np.clip(a @ b, -1, 1)))

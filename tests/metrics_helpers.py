"""Embeddings for the tests of metrics.py, and the scores of their pairs by definition."""

from itertools import combinations

import numpy as np


def clusters(n=120, d=8, classes=5, spread=1.5, seed=0, dtype=np.float64):
    """Overlapping random clusters: embeddings [n, d], labels [n] with every class present."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    x = rng.standard_normal((classes, d))[y] + spread * rng.standard_normal((n, d))
    return x.astype(dtype), y


def tied(n=60, classes=4, seed=0):
    """Embeddings on directions whose entries are 0, +-1/2 and +-1, so that many cosines are exactly equal."""
    rng = np.random.default_rng(seed)
    directions = np.concatenate([np.eye(4), -np.eye(4), rng.choice([-0.5, 0.5], (8, 4))])
    return 3 * directions[rng.integers(0, 16, n)], rng.permutation(np.arange(n) % classes)


def pair_scores(x, y):
    """All pairs' cosines and whether they share a class, in float64 and in a loop."""
    x = np.asarray(x, float) / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = list(combinations(range(len(x)), 2))
    scores = np.array([float(np.dot(x[i], x[j])) for i, j in pairs])
    return np.round(scores, 9), np.array([y[i] == y[j] for i, j in pairs])


def rates(scores, same):
    """(threshold, FAR, TAR) at every distinct score from high to low, from their definitions."""
    points = []
    for t in sorted(set(scores.tolist()), reverse=True):
        points.append((t, np.mean(scores[~same] >= t), np.mean(scores[same] >= t)))
    return points


def on_circle(*degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)

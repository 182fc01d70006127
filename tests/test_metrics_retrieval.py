"""metrics.py's retrieval against pytorch-metric-learning and its definitions as a loop."""

import numpy as np
import pytest

import metrics
from metrics_helpers import clusters, tied


def slow_retrieval(x, y):
    """Rank-1, R-precision, MAP@R and the number of queries, from their definitions."""
    x = np.asarray(x, float) / np.linalg.norm(x, axis=1, keepdims=True)
    rows = []
    for q in range(len(x)):
        others = [i for i in range(len(x)) if i != q]
        ranked = sorted(others, key=lambda i: (-round(float(x[q] @ x[i]), 9), i))
        relevant = [y[i] == y[q] for i in ranked]
        r = sum(relevant)
        if r:
            precision = [sum(relevant[: i + 1]) / (i + 1) for i in range(r)]
            average = sum(p for p, hit in zip(precision, relevant[:r], strict=True) if hit) / r
            rows.append((relevant[0], sum(relevant[:r]) / r, average))
    return dict(zip(("rank_1", "r_precision", "map_at_r"), np.mean(rows, axis=0), strict=True)) | {"queries": len(rows)}


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_retrieval_matches_a_loop(chunk):
    x, y = clusters(90, classes=4)
    y[:6] = [
        50,
        60,
        60,
        70,
        3,
        3,
    ]  # two classes of one sample, one of two: R differs and some queries drop out
    result = metrics.retrieval(x, y, chunk=chunk)
    assert result == pytest.approx(slow_retrieval(x, y), rel=1e-12)
    assert result["queries"] == 88


def test_retrieval_of_many_samples():
    """Large enough that a partial sort is really partial."""
    x, y = clusters(1500, classes=12)
    scores = metrics.unit(x) @ metrics.unit(x).T
    np.fill_diagonal(scores, -2)
    hits = y[np.argsort(-scores, axis=1)[:, :124]] == y[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, 125)
    expected = {
        "rank_1": hits[:, 0].mean(),
        "r_precision": hits.mean(),
        "map_at_r": (precision * hits).mean(),
    }
    assert metrics.retrieval(x, y) == pytest.approx(expected | {"queries": 1500}, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_retrieval_breaks_ties_by_index(seed):
    x, y = tied(seed=seed)
    assert metrics.retrieval(x, y, chunk=9) == pytest.approx(slow_retrieval(x, y), rel=1e-12)


def test_retrieval_matches_pytorch_metric_learning():
    pytest.importorskip("pytorch_metric_learning")
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    x, y = clusters(150, classes=6)
    x, y = x[y + np.arange(150) % 3 > 1], y[y + np.arange(150) % 3 > 1]  # classes of different sizes
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    theirs = calculator.get_accuracy(torch.tensor(x), torch.tensor(y))
    ours = metrics.retrieval(x, y)
    assert ours["rank_1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["map_at_r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def test_retrieval_perfect_and_impossible():
    perfect = metrics.retrieval(np.repeat(np.eye(4), 3, axis=0), np.repeat(np.arange(4), 3))
    assert perfect == pytest.approx({"rank_1": 1, "r_precision": 1, "map_at_r": 1, "queries": 12})
    with pytest.raises(ValueError, match="3 classes of one sample each"):
        metrics.retrieval(np.eye(3), [0, 1, 2])

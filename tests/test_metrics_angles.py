"""metrics.py's angles: their statistics and the Fisher score against loops and values known by hand."""

import math

import numpy as np
import pytest

import metrics
from metrics_helpers import clusters, on_circle


def slow_angle(a, b):
    """Degrees, from the cosine in extended precision."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    return math.degrees(math.acos(min(1, np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))))


def test_angle_statistics_match_a_loop():
    x, y = clusters(90, d=5, classes=4)
    weights = np.random.default_rng(3).standard_normal((4, 5))
    ids = [2, 0, 3, 1]
    means = [sum(row / np.linalg.norm(row) for row in x[y == c]) for c in ids]
    result = metrics.angle_statistics(metrics.centred(x, y, ids), weights)

    def nearest(rows):
        others = [[b for b in rows if b is not a] for a in rows]
        return np.mean([min(slow_angle(a, b) for b in rest) for a, rest in zip(rows, others, strict=True)])

    assert result == pytest.approx(
        {
            "intra": np.mean([slow_angle(row, means[ids.index(c)]) for row, c in zip(x, y, strict=True)]),
            "inter": nearest(means),
            "w_ec": np.mean([slow_angle(w, m) for w, m in zip(weights, means, strict=True)]),
            "w_inter": nearest(list(weights)),
        },
        rel=1e-9,
    )
    assert set(metrics.angle_statistics(metrics.centred(x, y, ids))) == {"intra", "inter"}


def test_angles_by_hand():
    # Class 0 at +-10 degrees, class 1 at 90 +- 20, class 2 at 200; weights turned by 5, 0 and -3 degrees.
    x, weights = on_circle(10, -10, 70, 110, 200), on_circle(5, 90, 197)
    result = metrics.angle_statistics(metrics.centred(x, [0, 0, 1, 1, 2], [0, 1, 2]), weights)
    expected = {
        "intra": (10 + 10 + 20 + 20 + 0) / 5,
        "inter": (90 + 90 + 110) / 3,
        "w_ec": (5 + 0 + 3) / 3,
        "w_inter": (85 + 85 + 107) / 3,
    }
    assert result == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-10])
def test_small_and_straight_angles_are_accurate(tiny):
    x = np.array([[1, tiny], [1, -tiny], [-1, tiny], [-1, -tiny]])
    result = metrics.angle_statistics(metrics.centred(x, [0, 0, 1, 1], [0, 1]))
    assert result["intra"] == pytest.approx(math.degrees(math.atan(tiny)), rel=1e-4)
    assert result["inter"] == pytest.approx(180, abs=1e-9)
    score = metrics.angular_fisher_score(
        metrics.centred(np.array([[1, tiny], [1, -tiny], [tiny, 1], [-tiny, 1]]), [0, 0, 1, 1], [0, 1])
    )
    assert score == pytest.approx(tiny**2 / 2 / (1 - math.cos(math.pi / 4)), rel=1e-4)


def test_samples_seen_in_parts_are_seen_as_in_one():
    x, y = clusters(40, d=5, classes=3)
    whole, parts = (metrics.centred(x, y, [2, 0, 1], chunk=chunk) for chunk in (1000, 17))  # of 17, 17 and 6
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    mean = np.mean([row / np.linalg.norm(row) for row in x], axis=0)
    np.testing.assert_allclose(parts.mean[0], mean / np.linalg.norm(mean), atol=1e-12)


def test_a_zero_embedding_is_perpendicular():
    x = np.array([[1.0, 0], [0, 0], [0, 1]])
    assert metrics.angle_statistics(metrics.centred(x, [0, 0, 1], [0, 1]))["intra"] == pytest.approx(30)


def test_angular_fisher_score_matches_a_loop():
    x, y = clusters(100, d=6, classes=4)
    keep = (y != 3) | (np.arange(100) % 3 == 0)  # classes of different sizes: n_i matters
    x, y = x[keep], y[keep]
    unit = [row / np.linalg.norm(row) for row in x]

    def cosine(a, b):
        return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)

    within = between = 0.0
    for c in range(4):
        members = [u for u, label in zip(unit, y, strict=True) if label == c]
        within += sum(1 - cosine(u, sum(members)) for u in members)
        between += len(members) * (1 - cosine(sum(members), sum(unit)))
    assert metrics.angular_fisher_score(metrics.centred(x, y, [3, 1, 2, 0])) == pytest.approx(
        within / between, rel=1e-9
    )


def test_angular_fisher_score_extremes():
    assert metrics.angular_fisher_score(
        metrics.centred(np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 1], [0, 1])
    ) == pytest.approx(0, abs=1e-15)
    for d in (1, 3, 512):  # collapsed to one direction
        x = np.tile(np.random.default_rng(d).standard_normal(d), (7, 1))
        assert metrics.angular_fisher_score(metrics.centred(x, [0, 0, 1, 1, 1, 0, 1], [0, 1])) == math.inf


@pytest.mark.parametrize(
    ("labels", "classes", "weights", "message"),
    [
        ([0, 1, 2], [0, 1], None, "label 2 is not among"),
        ([0, 1, 1], [0, 1, 2], None, "class 2 has no samples"),
        ([0, 0, 0], [0], None, "at least two"),
        ([0, 1, 1], [0, 1, 1], None, "each once"),
        ([0, 1, 1], [0, 1], np.ones((3, 3)), "3 weights for 2 classes"),
        ([0, 1, 1], [0, 1], np.ones((2, 4)), "weights of shape"),
    ],
)
def test_angle_statistics_refuse(labels, classes, weights, message):
    with pytest.raises(ValueError, match=message):
        metrics.angle_statistics(metrics.centred(np.eye(3), labels, classes), weights)


def test_the_way_to_the_nearest_direction_matches_a_loop():
    x, _ = clusters(50, d=4, classes=3)
    directions = np.random.default_rng(5).standard_normal((6, 4)) * [[1], [2], [3], [4], [5], [0.1]]
    angles = [min(slow_angle(row, w) for w in directions) for row in x]
    found = metrics.to_nearest(x, directions)
    assert list(found.values()) == pytest.approx(list(np.quantile(angles, (0.25, 0.5, 0.75))), rel=1e-9)
    assert metrics.to_nearest(directions, directions)["upper_quartile"] == pytest.approx(0, abs=1e-6)


def test_the_angles_to_weights_match_a_loop():
    x, y = clusters(70, d=5, classes=4)
    weights = np.random.default_rng(3).standard_normal((4, 5)) * [[1], [9], [0.1], [2]]
    own, other = metrics.angles_to_weights(x.astype(np.float32), y, weights, chunk=11)
    for i, row in enumerate(x):
        angles = [slow_angle(row, w) for w in weights]
        assert math.degrees(own[i]) == pytest.approx(angles.pop(y[i]), abs=1e-4)
        assert math.degrees(other[i]) == pytest.approx(min(angles), abs=1e-4)


@pytest.mark.parametrize(
    "margins", [(1, 0, 0), (1, 0.5, 0), (1, 0, 0.35), (1.35, 0, 0), (0.9, 0.4, 0.15), (4, 0, 0), (1, 2.5, 0)]
)
def test_a_margin_is_kept_where_the_training_head_s_target_is_ahead(margins):
    import torch

    from losses import target_psi

    own, other = np.random.default_rng(1).uniform(0, math.pi, (2, 5000))
    psi = target_psi(torch.from_numpy(np.cos(own)), *margins).numpy()
    expected = np.mean(psi > np.cos(other))
    assert metrics.margin_kept(own, other, *margins) == pytest.approx(expected, abs=2e-4)
    assert 0 < expected < 0.75


def test_an_additive_margin_is_kept_where_the_lead_is_larger():
    own, other = np.radians([0, 10, 20, 80]), np.radians([28, 39, 48, 109])
    assert metrics.margin_kept(own, other, m2=0.5) == 0.5  # 0.5 rad are 28.65 degrees
    assert metrics.margin_kept(own, other, m3=1 - math.cos(math.radians(30))) == 0.75


@pytest.mark.parametrize(("labels", "count"), [([0, 2, 1], 2), ([0, 0, -1], 3), ([0, 0, 0], 1)])
def test_angles_to_weights_refuse(labels, count):
    weights = np.ones((count, 3))
    with pytest.raises(ValueError, match="need two and a row for each"):
        metrics.angles_to_weights(np.eye(3), labels, weights)

"""metrics.py's verification of pairs against scikit-learn, the definitions and the 10-fold protocol."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

import metrics
from metrics_helpers import clusters, on_circle, pair_scores, rates, tied
from pair_scores import equal_error, tar_at


@pytest.mark.parametrize("data", [clusters(), clusters(spread=0.4, seed=1), clusters(dtype=np.float32), tied()])
def test_verification_matches_definitions(data):
    x, y = data
    result = metrics.verification(x, y)
    scores, same = pair_scores(x, y)
    assert result["pairs"] == len(scores)
    assert result["genuine_pairs"] == same.sum()
    assert result["auc"] == pytest.approx(roc_auc_score(same, scores), abs=1e-6)
    points = [(math.inf, 0.0, 0.0), *rates(scores, same)]
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    for target, value in result["tar_at_far"].items():
        assert value == pytest.approx(max(t for _, f, t in points if f <= float(target)), abs=1e-9)
    for target, value in zip(result["roc"]["far"], result["roc"]["tar"], strict=True):
        assert value == pytest.approx(tar[far <= target + 1e-12].max(), abs=1e-9)
    # The first step of the ROC that reaches FAR >= FRR, and the point on it where the two meet.
    end = next(i for i, (_, f, t) in enumerate(points) if f >= 1 - t)
    (_, far_0, tar_0), (_, far_1, tar_1) = points[end - 1 : end + 1]
    step = (1 - tar_0 - far_0) / ((1 - tar_0 - far_0) - (1 - tar_1 - far_1))
    assert result["eer"] == pytest.approx(far_0 + step * (far_1 - far_0), abs=1e-6)
    genuine = max(s for s in scores[same] if np.mean(scores[~same] >= s) >= np.mean(scores[same] < s))
    assert result["eer_threshold"] == pytest.approx(genuine, abs=1e-6)


@pytest.mark.parametrize("data", [clusters(), clusters(spread=0.4, seed=1), clusters(dtype=np.float32)])
def test_pair_angles_are_counted_in_whole_degrees(data):
    counts, (scores, same) = metrics.verification(*data)["angles"], pair_scores(*data)
    angles = np.degrees(np.arccos(scores))
    assert np.abs(angles - np.rint(angles)).min() > 2e-5  # else rounding decides
    for kind, chosen in (("genuine", same), ("impostor", ~same)):
        assert counts[kind] == np.histogram(angles[chosen], np.arange(181))[0].tolist()


def test_the_ends_of_the_angle_counts_take_what_lies_on_them():
    counts = metrics.verification(np.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]]), [0, 0, 1, 1])["angles"]
    assert counts["genuine"][0] == 2 == sum(counts["genuine"])
    assert counts["impostor"][179] == 4 == sum(counts["impostor"])


def test_verification_by_hand():
    # One class at 0, 10 and 40 degrees, the other at 45 and 75: genuine pairs are 10, 40, 30 and 30 apart,
    # impostors 45, 35, 5, 75, 65 and 35.
    result = metrics.verification(on_circle(0, 10, 40, 45, 75), [0, 0, 0, 1, 1])
    assert (result["pairs"], result["genuine_pairs"]) == (10, 4)
    assert result["auc"] == pytest.approx((3 * 5 + 3) / 24)  # 10, 30, 30 beat all but one impostor, 40 beats three
    assert result["tar_at_far"] == {"0.01": 0, "0.001": 0, "0.0001": 0}
    far = np.array(result["roc"]["far"])
    tar = np.array(result["roc"]["tar"])
    assert tar[far < 1 / 6].tolist() == [0] * (far < 1 / 6).sum()
    assert set(tar[(far >= 1 / 6) & (far < 3 / 6)]) == {0.75}
    assert set(tar[far >= 3 / 6]) == {1.0}
    assert result["eer"] == pytest.approx(0.25)  # FRR stays 1/4 from 30 to 40 degrees, FAR passes it at 35
    assert result["eer_threshold"] == pytest.approx(math.cos(math.radians(40)), abs=1e-6)


def test_verification_perfect_and_degenerate():
    perfect = metrics.verification(np.repeat(np.eye(3), 4, axis=0), np.repeat([5, 1, 9], 4))
    assert (perfect["auc"], perfect["eer"], perfect["eer_threshold"]) == (1, 0, 1)
    assert set(perfect["tar_at_far"].values()) == {1.0}
    collapsed = metrics.verification(np.full((12, 3), 0.3), np.repeat([0, 1, 2], 4))
    assert (collapsed["auc"], collapsed["eer"]) == (0.5, 0.5)
    assert set(collapsed["tar_at_far"].values()) == {0.0}
    assert collapsed["roc"]["tar"][-2:] == [0.0, 1.0]
    x = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]])
    reverse = metrics.verification(x, [0, 0, 1, 1])  # genuine -1 -1, impostor 1 1 -1 -1
    assert (reverse["auc"], reverse["eer"]) == (0.25, pytest.approx(2 / 3))


def test_equal_error_where_the_rates_are_equal_at_a_score():
    genuine, impostor = np.array([0.1, 0.5], np.float32), np.array([0.3, 0.7], np.float32)
    assert equal_error(genuine, impostor) == (0.5, 0.5)


@pytest.mark.parametrize("limit", [1, 29, 57, 58])
def test_far_limit_counts_exactly(limit):
    """A target FAR of k out of n must allow k false accepts, whatever the product k / n * n rounds to."""
    impostor = np.arange(100, dtype=np.float32)
    genuine = np.arange(100, dtype=np.float32) + np.float32(0.5)
    assert tar_at(genuine, impostor, limit / 100) == pytest.approx((limit + 1) / 100)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(1, 70), st.sampled_from([np.float32, np.float64]))
def test_verification_does_not_depend_on_chunk(seed, n, d, dtype):
    x, y = clusters(n, d, 2, spread=0.1, seed=seed, dtype=dtype)
    whole = metrics.verification(x, y, chunk=n)
    for chunk in range(1, n):
        assert metrics.verification(x, y, chunk=chunk) == whole


@pytest.mark.parametrize("n", [7, 24])
def test_every_chunk_size_gives_the_same_to_the_last_bit(n):
    x, y = clusters(n, 6, 3, seed=n, dtype=np.float32)
    whole = metrics.verification(x, y, chunk=n), metrics.retrieval(x, y, chunk=n)
    for chunk in range(1, n + 2):
        assert metrics.verification(x, y, chunk=chunk) == whole[0]
        assert metrics.retrieval(x, y, chunk=chunk) == pytest.approx(whole[1], rel=1e-14)


def test_dot_products_are_exact():
    """The claim behind that: in any order of summation, with any kernel, the same bits."""
    x = metrics.grid_unit(clusters(40, 300, seed=5)[0])
    whole = x @ x.T
    order = np.random.default_rng(0).permutation(300)
    assert np.array_equal(whole, x[:, order] @ x[:, order].T)
    for i in range(0, 40, 7):
        assert [math.fsum(x[i] * row) for row in x] == (x[i : i + 1] @ x.T)[0].tolist() == whole[i].tolist()


@pytest.mark.parametrize("labels", [[0, 1, 2], [4, 4, 4]])
def test_verification_needs_both_kinds_of_pair(labels):
    for function in (metrics.verification, metrics.verification_accuracy):
        with pytest.raises(ValueError, match=r"same-class and \d other pairs"):
            function(np.eye(3), labels)


def test_verification_accuracy_follows_the_protocol():
    x, y = clusters(150, spread=1.0)
    result = metrics.verification_accuracy(x, y, pairs=1000)
    assert result["pairs"] == 1000
    assert result == metrics.verification_accuracy(x, y, pairs=1000)
    assert result != metrics.verification_accuracy(x, y, pairs=1000, seed=1)
    # Near the best balanced accuracy of any threshold over all pairs, which is what the folds sample.
    scores, same = pair_scores(x, y)
    far, tar, _ = roc_curve(same, scores)
    assert result["mean"] == pytest.approx((1 + (tar - far).max()) / 2, abs=4 * result["std"] / math.sqrt(10) + 0.02)
    assert 0 < result["std"] < 0.15


def test_verification_accuracy_extremes():
    perfect = metrics.verification_accuracy(np.repeat(np.eye(3), 20, axis=0), np.repeat([0, 1, 2], 20))
    assert perfect == {"mean": 1.0, "std": 0.0, "pairs": 2 * 3 * 190}  # every genuine pair, as many impostors
    collapsed = metrics.verification_accuracy(np.ones((60, 3)), np.repeat([0, 1, 2], 20), pairs=200)
    assert collapsed == {"mean": 0.5, "std": 0.0, "pairs": 200}
    few = metrics.verification_accuracy(np.repeat(np.eye(2), 3, axis=0), np.repeat([0, 1], 3))
    assert few == {"mean": 1.0, "std": 0.0, "pairs": 12}  # six pairs of a kind: six folds of one each
    # Two folds of two pairs: accuracies a, b of 0, 1/2 or 1, so a sample deviation of |a - b| / sqrt(2).
    x, y = clusters(12, classes=3)
    spreads = {metrics.verification_accuracy(x, y, pairs=4, seed=seed)["std"] for seed in range(20)}
    assert len(spreads) > 1
    assert all(min(abs(s - gap / 2**0.5) for gap in (0, 0.5, 1)) < 1e-9 for s in spreads)
    with pytest.raises(ValueError, match="1 folds for 1 pairs"):
        metrics.verification_accuracy(np.eye(3), [0, 0, 1])


def test_verification_accuracy_draws_no_pair_twice(monkeypatch):
    """Asked for all pairs, it must draw each genuine pair once: seen through their distinct scores."""
    x, y = clusters(24, d=6, classes=3)
    scores, same = pair_scores(x, y)
    seen = []
    threshold = metrics.best_threshold
    monkeypatch.setattr(metrics, "best_threshold", lambda s, g: seen.append((s, g)) or threshold(s, g))
    assert metrics.verification_accuracy(x, y)["pairs"] == 2 * same.sum()
    union = {(round(s, 6), bool(g)) for drawn in seen for s, g in zip(*drawn, strict=True)}
    assert {s for s, g in union if g} == {round(s, 6) for s in scores[same]}
    impostors = {s for s, g in union if not g}
    assert len(impostors) == same.sum()
    assert impostors <= {round(s, 6) for s in scores[~same]}
    assert len(seen) == 10
    for s, g in seen:  # nine tenths of the pairs, both kinds alike
        assert abs(len(s) - 0.9 * 2 * same.sum()) <= 2
        assert abs(int(g.sum()) - int((~g).sum())) == 0

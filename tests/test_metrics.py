"""metrics.py against scikit-learn, pytorch-metric-learning, known values and definitions written as loops."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsClassifier

import metrics

NEEDS_SAMPLES = [
    metrics.verification,
    metrics.verification_accuracy,
    metrics.retrieval,
    lambda x, y: metrics.class_centres(x, y, [0, 1]),
    lambda x, y: metrics.angle_statistics(x, y, [0, 1]),
    lambda x, y: metrics.angular_fisher_score(x, y, [0, 1]),
    lambda x, y: metrics.nearest_neighbours(x, y, np.eye(3), k=1),
]


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


def rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def flat(result):
    """A metrics dictionary as one list of numbers."""
    values = []
    for value in result.values() if isinstance(result, dict) else result:
        values += flat(value) if isinstance(value, dict | list) else [value]
    return values


# ---- accuracy


def test_wilson_known_value():
    # Newcombe 1998 (Statistics in Medicine 17:857), Table I, method 3.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert metrics.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_solve_the_score_equation(case):
    successes, n = case
    low, high = metrics.wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    for end in (low, high):
        assert (successes / n - end) ** 2 * n == pytest.approx(1.96**2 * end * (1 - end), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of {n}"):
        metrics.wilson_interval(successes, n)


def test_confusion_and_per_class_accuracy():
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 4, 200).astype(np.uint8), rng.integers(0, 5, 200)
    counts = metrics.confusion(true, predicted, 6)
    assert np.array_equal(counts, confusion_matrix(true, predicted, labels=range(6)))
    accuracy = metrics.per_class_accuracy(counts)
    for c in range(4):
        assert accuracy[c] == pytest.approx(np.mean(predicted[true == c] == c))
    assert np.isnan(accuracy[4:]).all()


def test_confusion_refuses_a_class_outside():
    for true, predicted in (([0, 3], [0, 0]), ([0, 0], [0, 3]), ([-1, 0], [0, 0])):
        with pytest.raises(ValueError, match="need 0 to 2"):
            metrics.confusion(true, predicted, 3)
    with pytest.raises(ValueError, match="2 predictions for 3 rows"):
        metrics.confusion([0, 1, 2], [0, 1], 3)
    with pytest.raises(ValueError, match="confusion matrix of shape"):
        metrics.per_class_accuracy(np.ones((2, 3)))


# ---- directions, centres, neighbours


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_keeps_type_and_survives_extremes(dtype):
    extreme = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    x = np.array([[3, 4], [0, 0], [extreme[0], extreme[0]], [extreme[1], 0]], dtype=dtype)
    result = metrics.unit(x)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, [[0.6, 0.8], [0, 0], [0.5**0.5, 0.5**0.5], [1, 0]], rtol=1e-6)
    assert metrics.unit(np.array([[3, 4]])).dtype == np.float64


def test_class_centres_and_nearest_centre():
    x, y = clusters()
    ids = np.array([4, 0, 2])
    centres = metrics.class_centres(x.astype(np.float32), y, ids)
    for centre, c in zip(centres, ids, strict=True):
        mean = np.zeros(x.shape[1])
        for row in x[y == c]:
            mean += row / math.sqrt(sum(row**2))
        np.testing.assert_allclose(centre, mean / math.sqrt(sum(mean**2)), atol=1e-6)
    predicted = metrics.nearest_centre(x, 7 * centres, ids)
    for row, guess in zip(x, predicted, strict=True):
        assert guess == ids[np.argmax([np.dot(row, centre) for centre in centres])]


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("chunk", [1, 17, 1000])
def test_nearest_neighbours_match_scikit_learn(k, chunk):
    # Where votes are tied (k = 8) scikit-learn takes the smaller class, so only the clear ones are compared.
    x, y = clusters(200, classes=2)
    y = 10 + 5 * y
    train_x, train_y, test_x = x[:120], y[:120], x[120:]
    oracle = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train_x, train_y)
    share = oracle.predict_proba(test_x)
    clear = share[:, 0] != share[:, 1]
    predicted = metrics.nearest_neighbours(train_x, train_y, test_x, k=k, chunk=chunk)
    assert clear.mean() > 0.5
    assert np.array_equal(predicted[clear], oracle.predict(test_x)[clear])


def test_nearest_neighbours_vote_ties_go_to_the_nearer_class():
    train = on_circle(1, 60, 20, 25, 80, 170)
    labels = np.array([3, 3, 7, 7, 5, 5])

    def predict(angle, k, n=6):
        return metrics.nearest_neighbours(train[:n], labels[:n], 9 * on_circle(angle), k=k).tolist()

    # From 0 degrees class 3 has the nearest sample and the smaller id, class 7 the larger sum.
    assert predict(0, k=4) == [7]
    assert predict(0, k=2) == [3]
    assert predict(150, k=6) == [5]
    # Two votes beat one, although their cosines, 0.33 and -0.64, add up to less than its 0.
    assert predict(-70, k=3, n=3) == [3]


def test_nearest_neighbours_take_equally_near_ones_in_training_order():
    train, test = np.ones((6, 2)), np.ones((3, 2))
    assert metrics.nearest_neighbours(train, [4, 2, 2, 9, 9, 9], test, k=1).tolist() == [4, 4, 4]
    assert metrics.nearest_neighbours(train, [4, 2, 2, 9, 9, 9], test, k=3).tolist() == [2, 2, 2]


# ---- angles


def slow_angle(a, b):
    """Degrees, from the cosine in extended precision."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    return math.degrees(math.acos(min(1, np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))))


def test_angle_statistics_match_a_loop():
    x, y = clusters(90, d=5, classes=4)
    weights = np.random.default_rng(3).standard_normal((4, 5))
    ids = [2, 0, 3, 1]
    means = [sum(row / np.linalg.norm(row) for row in x[y == c]) for c in ids]
    result = metrics.angle_statistics(x, y, ids, weights)

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
    assert set(metrics.angle_statistics(x, y, ids)) == {"intra", "inter"}


def test_angles_by_hand():
    # Class 0 at +-10 degrees, class 1 at 90 +- 20, class 2 at 200; weights turned by 5, 0 and -3 degrees.
    x, weights = on_circle(10, -10, 70, 110, 200), on_circle(5, 90, 197)
    result = metrics.angle_statistics(x, [0, 0, 1, 1, 2], [0, 1, 2], weights)
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
    result = metrics.angle_statistics(x, [0, 0, 1, 1], [0, 1])
    assert result["intra"] == pytest.approx(math.degrees(math.atan(tiny)), rel=1e-4)
    assert result["inter"] == pytest.approx(180, abs=1e-9)
    score = metrics.angular_fisher_score(np.array([[1, tiny], [1, -tiny], [tiny, 1], [-tiny, 1]]), [0, 0, 1, 1], [0, 1])
    assert score == pytest.approx(tiny**2 / 2 / (1 - math.cos(math.pi / 4)), rel=1e-4)


def test_a_zero_embedding_is_perpendicular():
    x = np.array([[1.0, 0], [0, 0], [0, 1]])
    assert metrics.angle_statistics(x, [0, 0, 1], [0, 1])["intra"] == pytest.approx(30)


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
    assert metrics.angular_fisher_score(x, y, [3, 1, 2, 0]) == pytest.approx(within / between, rel=1e-9)


def test_angular_fisher_score_extremes():
    assert metrics.angular_fisher_score(np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 1], [0, 1]) == pytest.approx(0, abs=1e-15)
    for d in (1, 3, 512):  # collapsed to one direction
        x = np.tile(np.random.default_rng(d).standard_normal(d), (7, 1))
        assert metrics.angular_fisher_score(x, [0, 0, 1, 1, 1, 0, 1], [0, 1]) == math.inf


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
        metrics.angle_statistics(np.eye(3), labels, classes, weights)


# ---- verification


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
    assert metrics._equal_error(genuine, impostor) == (0.5, 0.5)


@pytest.mark.parametrize("limit", [1, 29, 57, 58])
def test_far_limit_counts_exactly(limit):
    """A target FAR of k out of n must allow k false accepts, whatever the product k / n * n rounds to."""
    impostor = np.arange(100, dtype=np.float32)
    genuine = np.arange(100, dtype=np.float32) + np.float32(0.5)
    assert metrics._tar_at(genuine, impostor, limit / 100) == pytest.approx((limit + 1) / 100)


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
    x = metrics._grid_unit(clusters(40, 300, seed=5)[0])
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
    threshold = metrics._best_threshold
    monkeypatch.setattr(metrics, "_best_threshold", lambda s, g: seen.append((s, g)) or threshold(s, g))
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


# ---- retrieval


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


# ---- properties and refusals


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_rotation_and_length_change_nothing(seed, d):
    x, y = clusters(60, d, 3, seed=seed)
    lengths = np.exp(np.random.default_rng(seed).uniform(-30, 30, (60, 1)))
    turned = x @ rotation(d, seed)
    ids = [0, 1, 2]
    for other in (turned, x * lengths):
        assert flat(metrics.angle_statistics(other, y, ids)) == pytest.approx(
            flat(metrics.angle_statistics(x, y, ids)), rel=1e-9
        )
        assert metrics.angular_fisher_score(other, y, ids) == pytest.approx(
            metrics.angular_fisher_score(x, y, ids), rel=1e-9
        )
        # Rounding may swap two scores closer than 1e-7: at most a few of 570 genuine pairs, or a query.
        for function, slack in ((metrics.verification, 0.01), (metrics.retrieval, 0.02)):
            assert flat(function(other, y)) == pytest.approx(flat(function(x, y)), abs=slack)
    centres = metrics.class_centres(x, y, ids)
    again = metrics.nearest_centre(x * lengths, metrics.class_centres(x * lengths, y, ids), ids)
    assert np.array_equal(again, metrics.nearest_centre(x, centres, ids))
    assert np.array_equal(metrics.nearest_neighbours(x * lengths, y, x), metrics.nearest_neighbours(x, y, x))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_sample_order_changes_nothing(seed):
    x, y = clusters(50, 6, 4, seed=seed)
    order = np.random.default_rng(seed).permutation(50)
    assert metrics.verification(x[order], y[order]) == metrics.verification(x, y)
    assert metrics.retrieval(x[order], y[order]) == pytest.approx(metrics.retrieval(x, y), rel=1e-12)
    names = np.array([9, -4, 1000, 7])  # nor do the names of the classes
    assert metrics.verification(x, names[y]) == metrics.verification(x, y)


@pytest.mark.parametrize("function", NEEDS_SAMPLES)
def test_bad_input_is_refused(function):
    good, labels = np.eye(3), np.array([0, 1, 1])
    function(good[[0, 1, 1, 0]], np.array([0, 1, 1, 0]))
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[1, 2] = value
        with pytest.raises(ValueError, match="row 1 is NaN or infinite"):
            function(bad, labels)
    with pytest.raises(ValueError, match="not empty"):
        function(np.empty((0, 3)), np.empty(0, int))
    with pytest.raises(ValueError, match="of shape"):
        function(np.ones(3), labels)
    with pytest.raises(ValueError, match="for 3 rows: need one each"):
        function(good, labels[:2])
    with pytest.raises(ValueError, match="float64: need 1-D integers"):
        function(good, labels.astype(float))


def test_further_bad_arguments_are_refused():
    x, y = np.eye(3), [0, 1, 1]
    for chunked in (
        metrics.verification,
        metrics.retrieval,
        lambda x, y, chunk: metrics.nearest_neighbours(x, y, x, 1, chunk),
    ):
        with pytest.raises(ValueError, match="chunk is -1"):
            chunked(x, y, chunk=-1)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k is {k} with 3"):
            metrics.nearest_neighbours(x, y, x, k=k)
    with pytest.raises(ValueError, match=r"test embeddings of shape .*: need \[rows, 3\]"):
        metrics.nearest_neighbours(x, y, np.eye(2), k=1)
    with pytest.raises(ValueError, match="centres of shape"):
        metrics.nearest_centre(x, np.eye(2), [0, 1])
    with pytest.raises(ValueError, match="2 classes for 3 rows"):
        metrics.nearest_centre(x, x, [0, 1])

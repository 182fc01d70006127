"""metrics.py: accuracy, directions, centres and neighbours against scikit-learn; what all metrics ignore and refuse."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

import metrics
from metrics_helpers import clusters, on_circle

NEEDS_SAMPLES = [
    metrics.verification,
    metrics.verification_accuracy,
    metrics.retrieval,
    lambda x, y: metrics.class_centres(x, y, [0, 1]),
    lambda x, y: metrics.angle_statistics(metrics.centred(x, y, [0, 1])),
    lambda x, y: metrics.angular_fisher_score(metrics.centred(x, y, [0, 1])),
    lambda x, y: metrics.nearest_neighbours(x, y, np.eye(3), k=1),
]


def rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def flat(result):
    """A metrics dictionary as one list of numbers."""
    values = []
    for value in result.values() if isinstance(result, dict) else result:
        values += flat(value) if isinstance(value, dict | list) else [value]
    return values


# ------------------------------------------------------------------------------------- accuracy


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


# ------------------------------------------------------------------------------------- directions, centres, neighbours


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


# ------------------------------------------------------------------------------------- properties and refusals


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
@example(156524, 7)
def test_rotation_and_length_change_nothing(seed, d):
    x, y = clusters(60, d, 3, seed=seed)
    lengths = np.exp(np.random.default_rng(seed).uniform(-30, 30, (60, 1)))
    turned = x @ rotation(d, seed)
    ids = [0, 1, 2]
    for other in (turned, x * lengths):
        assert flat(metrics.angle_statistics(metrics.centred(other, y, ids))) == pytest.approx(
            flat(metrics.angle_statistics(metrics.centred(x, y, ids))), rel=1e-9
        )
        assert metrics.angular_fisher_score(metrics.centred(other, y, ids)) == pytest.approx(
            metrics.angular_fisher_score(metrics.centred(x, y, ids)), rel=1e-9
        )
        # Rounding may swap two scores closer than 1e-7: at most a few of 570 genuine pairs, or a query.
        for function, slack in ((metrics.verification, 0.01), (metrics.retrieval, 0.02)):
            ours, theirs = function(other, y), function(x, y)
            counts = [result.pop("angles", {}) for result in (ours, theirs)]
            assert flat(ours) == pytest.approx(flat(theirs), abs=slack)
            assert counts[0].keys() == counts[1].keys()
            for kind in counts[0]:  # a pair at the edge of a whole degree may fall into the next
                moved = np.cumsum(counts[0][kind]) - np.cumsum(counts[1][kind])
                assert np.abs(moved).max() <= 1 and moved[-1] == 0
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

"""bounds.py's scales: exact where an arrangement reaches them, a bound where none can beat them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import minimum_scale
from bounds_helpers import circle, packing, posterior_at_centres, simplex

quick = settings(max_examples=60, deadline=None, derandomize=True)


@quick
@given(st.integers(2, 60), st.floats(0.01, 0.9999))
def test_scale_bound_is_met_exactly_by_the_simplex(classes, probability):
    scale = minimum_scale(classes, probability, classes - 1)
    assert scale.case == "simplex" and scale.exact
    got = posterior_at_centres(simplex(classes), scale)
    if probability > 1 / classes:
        assert scale > 0 and got == pytest.approx(probability, rel=1e-9)
    else:
        assert scale == 0 and got >= probability * (1 - 1e-12)


@quick
@given(st.integers(4, 40), st.floats(0.01, 0.9999))
def test_scale_bound_is_met_exactly_on_the_circle(classes, probability):
    scale = minimum_scale(classes, probability, 2)
    assert scale.case == "circle" and scale.exact
    got = posterior_at_centres(circle(classes), scale)
    if probability > 1 / classes:
        assert scale > 0 and got == pytest.approx(probability, rel=1e-9)
        assert scale > minimum_scale(classes, probability)  # Eq. 6 is loose where there is no simplex
    else:
        assert scale == 0 and got >= probability * (1 - 1e-12)


@quick
@given(st.integers(2, 12), st.integers(1, 12), st.floats(0.55, 0.99), st.floats(0.001, 3), st.integers(0))
def test_no_arrangement_beats_the_scale_bound(classes, dim, probability, noise, seed):
    points = np.random.default_rng(seed).normal(size=(classes, dim))
    if dim == 2:  # evenly spaced ones, more or less disturbed
        points = circle(classes) + noise * points
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert posterior_at_centres(points, minimum_scale(classes, probability, dim)) <= probability + 1e-9
    assert posterior_at_centres(points, minimum_scale(classes, probability)) <= probability + 1e-9


def linear_posterior(points: np.ndarray, scale: float) -> float:
    """The least posterior of a class centre when logits are Li-ArcFace's, s (1 - 2 theta / pi)."""
    theta = np.arccos((points @ points.T).clip(-1, 1))
    np.fill_diagonal(theta, 0)
    logits = scale * (1 - 2 * theta / np.pi)
    return float((np.exp(scale) / np.exp(logits).sum(1)).min())


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 61])
def test_linear_logits_reach_the_posterior_at_their_own_scale(classes, probability):
    for points, dim in ((simplex(classes), classes - 1), (circle(classes), 2)):
        if classes > dim:
            scale = minimum_scale(classes, probability, dim, "li-arcface")
            if scale.exact:
                assert linear_posterior(points, scale) == pytest.approx(probability, rel=1e-6)
            else:
                assert classes == 4 and probability == 0.5 and scale == minimum_scale(classes, probability)
    assert minimum_scale(classes, probability, loss="li-arcface") == minimum_scale(classes, probability)


@quick
@given(st.integers(2, 12), st.integers(2, 12), st.floats(0.55, 0.99), st.floats(0.001, 3), st.integers(0))
def test_no_arrangement_beats_the_scale_bound_of_linear_logits(classes, dim, probability, noise, seed):
    points = np.random.default_rng(seed).normal(size=(classes, dim))
    if dim == 2:
        points = circle(classes) + noise * points
    if classes <= dim + 1:  # near the simplex, where the bound is reached
        best = np.zeros((classes, dim))
        whole = simplex(classes)
        best[:, : classes - 1] = whole @ np.linalg.svd(whole)[2][: classes - 1].T
        points = best + noise * points
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert linear_posterior(points, minimum_scale(classes, probability, dim, "li-arcface")) <= probability + 1e-9


def test_a_square_beats_the_tetrahedron_for_linear_logits_at_a_small_scale():
    gap = 2 / np.pi * np.arccos(-1 / 3)
    for probability, square_is_better in ((0.55, True), (0.6, True), (0.61, False), (0.9, False)):
        scale = math.log(3 * probability / (1 - probability)) / gap  # the tetrahedron's
        assert (linear_posterior(circle(4), scale) > probability) == square_is_better
        assert minimum_scale(4, probability, 3, "li-arcface").exact <= (not square_is_better)
        assert linear_posterior(circle(4), minimum_scale(4, probability, 3, "li-arcface")) <= probability


def test_the_simplex_is_best_for_linear_logits_where_a_tangent_says_so():
    """exp(-2 s theta / pi) over the cosine lies above its tangent at the simplex's: so no mean of it is smaller."""
    t, answers = np.linspace(-1, 1, 20001), []
    for classes in (4, 5, 10, 30, 100, 1000, 10**5):
        for probability in (0.34, 0.5, 0.6, 0.9, 0.99, 0.9999):
            bound, at = minimum_scale(classes, probability, classes, "li-arcface"), -1 / (classes - 1)
            s = math.log((classes - 1) * probability / (1 - probability)) / (2 / np.pi * math.acos(at))
            assert bound == (pytest.approx(s) if bound.exact else minimum_scale(classes, probability))
            answers.append(bound.exact)
            value = np.exp(-2 * s * np.arccos(t) / np.pi)
            there = math.exp(-2 * s * math.acos(at) / math.pi)
            slope = there * 2 * s / math.pi / math.sqrt(1 - at * at)
            assert (value >= there + slope * (t - at) - 1e-12).all() == bound.exact, (classes, probability)
    assert {True, False} == set(answers) and minimum_scale(10, 0.9, 512, "li-arcface").exact


def test_scale_bound_in_figures():
    assert minimum_scale(10, 0.9) == pytest.approx(0.9 * math.log(81), rel=1e-12)
    assert minimum_scale(10) == minimum_scale(10, 0.9)
    assert not minimum_scale(10, 0.9).exact and not minimum_scale(10, 0.9, 3).exact
    assert minimum_scale(10, 0.9, 512) == minimum_scale(10, 0.9) == minimum_scale(10, 0.9, 9)
    assert minimum_scale(10, 0.9, 2) == pytest.approx(15.14, abs=0.01)
    # In 3-D even the best packing falls short of 0.9 there: true, but loose.
    assert posterior_at_centres(packing(10, 3), minimum_scale(10, 0.9, 3)) < 0.9


@pytest.mark.parametrize("dim", [None, 1, 2, 3, 8])
def test_scale_bound_grows_with_classes_and_probability(dim):
    probabilities, classes = (0.3, 0.5, 0.7, 0.9, 0.99, 0.9999), (2, 3, 4, 5, 9, 10, 30, 200)
    table = np.array([[float(minimum_scale(c, p, dim)) for p in probabilities] for c in classes])
    for axis in (0, 1):
        steps, ends = np.diff(table, axis=axis), np.delete(table, 0, axis)
        assert (steps[ends > 0] > 0).all() and (steps >= 0).all()

"""The spacing against explicit and numerically packed directions; bounds against searches."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import (
    TAMMES,
    Bound,
    feasibility_warnings,
    largest_spacing,
    maximum_margin,
    minimum_scale,
    target_at_centre,
)

CM1, CM2 = (1.0, 0.3, 0.2), (0.9, 0.4, 0.15)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def simplex(classes):
    """C unit vectors with equal angles, in the C - 1 dimensions orthogonal to (1, ..., 1)."""
    centred = np.eye(classes) - 1 / classes
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def circle(classes):
    angles = 2 * np.pi * np.arange(classes) / classes
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def icosahedron():
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    corners = np.array([np.roll(corner, turn) for corner in corners for turn in range(3)])
    return corners / np.linalg.norm(corners, axis=1, keepdims=True)


def smallest_angle(points):
    cosine = np.clip(points @ points.T, -1, 1)
    return math.acos(cosine[~np.eye(len(points), dtype=bool)].max())


def packing(classes, dim, tries=60, steps=400):
    """The best of some random arrangements, each pushed apart by gradient steps on ever sharper repulsion."""
    generator = torch.Generator().manual_seed(classes * 100 + dim)
    points = torch.randn(tries, classes, dim, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)
    itself = torch.eye(classes, dtype=torch.bool)
    for step in range(steps):
        sharpness = 4 * 10000 ** (step / steps)
        optimizer.param_groups[0]["lr"] = 0.2 / sharpness**0.75
        unit = F.normalize(points, dim=2)
        cosine = (unit @ unit.mT).masked_fill(itself, -math.inf)
        loss = torch.logsumexp(sharpness * cosine.flatten(1), 1).sum() / sharpness
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = F.normalize(points.detach(), dim=2).numpy()
    return max(found, key=smallest_angle)


def posterior_at_centres(points, scale):
    """Smallest probability that any centre, used as an embedding, gives its own class."""
    logits = scale * points @ points.T
    odds = np.exp(logits - logits.diagonal()[:, None])
    return (1 / odds.sum(axis=1)).min()


ORTHOPLEX = np.vstack([np.eye(3), -np.eye(3)])


@pytest.mark.parametrize("classes, dim, points, case", [
    (2, 1, simplex(2), "simplex"), (2, 5, simplex(2), "simplex"), (3, 2, simplex(3), "simplex"),
    (4, 3, simplex(4), "simplex"), (10, 9, simplex(10), "simplex"), (10, 512, simplex(10), "simplex"),
    (4, 2, circle(4), "circle"), (5, 2, circle(5), "circle"), (10, 2, circle(10), "circle"),
    (97, 2, circle(97), "circle"), (6, 3, ORTHOPLEX, "orthoplex"), (5, 3, ORTHOPLEX[:5], "orthoplex"),
    (14, 7, np.vstack([np.eye(7), -np.eye(7)]), "orthoplex"), (12, 3, icosahedron(), "best packing in 3-D"),
])  # fmt: skip
def test_spacing_of_known_arrangements(classes, dim, points, case):
    assert len(points) == classes
    spacing = largest_spacing(classes, dim)
    assert spacing == pytest.approx(smallest_angle(points), abs=1e-6)
    assert spacing.case == case and spacing.exact


SIZES = [(3, 2), (7, 2), (4, 3), (15, 3), (30, 3), (8, 4), (11, 4), (20, 4), (10, 5), (11, 5), (40, 8)]


@pytest.mark.parametrize("classes, dim", SIZES + [(classes, 3) for classes in TAMMES])
def test_no_packing_beats_the_spacing(classes, dim):
    spacing, found = largest_spacing(classes, dim), smallest_angle(packing(classes, dim))
    assert found <= spacing + 1e-6
    assert found >= spacing - 1e-4 if spacing.exact else found > 0.8 * spacing


@pytest.mark.parametrize("classes, cosine", [(8, (8**0.5 - 1) / 7), (9, 1 / 3), (11, 5**-0.5), (12, 5**-0.5)])
def test_spacing_of_the_packings_with_a_closed_form(classes, cosine):
    assert largest_spacing(classes, 3) == pytest.approx(math.acos(cosine), abs=1e-6)


def test_spacing_on_a_line_is_nothing():
    assert largest_spacing(3, 1) == 0 and largest_spacing(3, 1).exact


def test_more_classes_or_fewer_dimensions_never_widen_the_spacing():
    for dim in range(1, 12):
        spacings = [largest_spacing(classes, dim) for classes in range(2, 60)]
        assert all(more <= less + 1e-12 for less, more in pairwise(spacings)), dim
    for classes in range(2, 60):
        spacings = [largest_spacing(classes, dim) for dim in range(1, 40)]
        assert all(wider >= narrow - 1e-12 for narrow, wider in pairwise(spacings)), classes


def psi(theta, m1, m2, m3):
    k = np.floor((m1 * theta + m2) / np.pi)
    return (-1) ** k * np.cos(m1 * theta + m2) - 2 * k - m3


@pytest.mark.parametrize(("dim", "loss"), [(3, "cosface"), (4, "cosface"), (4, "arcface"), (6, "cosface")])
def test_no_arrangement_of_ten_classes_found_by_search_beats_the_bound(dim, loss):
    """Weights and samples are both moved to make the smallest margin as large as can be; the search comes close."""
    best = max(widest_margin(10, dim, loss, seed) for seed in range(4))
    bound = maximum_margin(loss, 10, dim)
    assert bound.exact and 0.97 * bound < best < bound + 1e-6


def widest_margin(classes: int, dim: int, loss: str, seed: int) -> float:
    """The smallest margin by which a sample of each class beats the nearest other class, after maximising it."""
    start = torch.randn(classes, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights, samples = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights, samples], lr=0.05)
    own = torch.eye(classes, dtype=torch.bool)
    for step in range(500):
        cosine = F.normalize(samples) @ F.normalize(weights).T
        near = cosine if loss == "cosface" else -torch.acos(cosine.clamp(-1 + 1e-9, 1 - 1e-9))
        gaps = (near.diagonal()[:, None] - near)[~own]
        sharpness = 10 * 1.012**step
        optimizer.zero_grad()
        (torch.logsumexp(-sharpness * gaps, 0) / sharpness).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 500) + 1e-4
    return gaps.min().item()


def feasible_on_the_circle(classes, margins, linear=False):
    """Whether any embedding on the circle wins for class 0 with the margins, by looking at 40001 of them."""
    theta = np.linspace(-np.pi, np.pi, 40001)
    others = np.cos(theta[:, None] - 2 * np.pi * np.arange(1, classes) / classes).max(axis=1)
    if linear:
        return bool((-np.abs(theta) - margins[1] > -np.arccos(others)).any())
    return bool((psi(np.abs(theta), *margins) > others).any())


@pytest.mark.parametrize("classes", [3, 4, 10, 17])
@pytest.mark.parametrize("loss", ["arcface", "cosface", "combined", "li-arcface"])
def test_maximum_margin_on_the_circle_by_search(loss, classes):
    m1, m2 = (0.9, 0.1) if loss == "combined" else (1.0, 0.0)
    bound = maximum_margin(loss, classes, 2, m2=m2)
    for factor, expected in ((0.999, True), (1.001, False)):
        margin = factor * bound
        margins = (m1, m2, margin) if loss in ("cosface", "combined") else (m1, margin, 0.0)
        assert feasible_on_the_circle(classes, margins, loss == "li-arcface") == expected
    assert bound.exact


def test_maximum_margin_in_figures():
    assert maximum_margin("arcface", 10, 2) == pytest.approx(0.62832, abs=1e-5)
    assert maximum_margin("li-arcface", 10, 2) == pytest.approx(0.62832, abs=1e-5)
    assert maximum_margin("cosface", 10, 2) == pytest.approx(0.19098, abs=1e-5)
    for classes, dim in ((2, 1), (3, 2), (10, 9), (10, 512)):
        assert maximum_margin("cosface", classes, dim) == pytest.approx(classes / (classes - 1))
        assert maximum_margin("combined", classes, dim) == pytest.approx(classes / (classes - 1))
    assert maximum_margin("combined", 10, 512, m2=0.4) == pytest.approx(math.cos(0.4) + 1 / 9)
    assert maximum_margin("cosface", 10, 3) == pytest.approx(1 - math.cos(math.radians(66.1468)))
    sphereface = maximum_margin("sphereface", 10, 2)
    assert sphereface == math.inf and sphereface.exact
    loose = maximum_margin("cosface", 10_000, 512)
    assert not loose.exact and 0 < loose <= 1


def test_ten_classes_in_2d():
    """CosFace 0.35 and both CM presets cannot work there; ArcFace 0.5 leaves 3.68 degrees on either side."""
    for loss, margins, feasible in (
        *[("cosface", (1, 0, 0.35), False), ("combined", CM1, False), ("combined", CM2, False)],
        *[("arcface", (1, 0.5, 0), True), ("cosface", (1, 0, 0.15), True), ("sphereface", (4, 0, 0), True)],
        *[("li-arcface", (1, 0.4, 0), True), ("li-arcface", (1, 0.7, 0), False)],
    ):
        assert feasible_on_the_circle(10, margins, loss == "li-arcface") == feasible
        lines = feasibility_warnings(loss, margins, 1000.0, 10, 2)
        assert len(lines) == (not feasible), (loss, margins)
    theta = np.radians(np.linspace(0, 18, 18001))
    wins = psi(theta, 1, 0.5, 0) > np.cos(math.pi / 5 - theta)
    room = np.degrees(theta[wins].max())
    assert room == pytest.approx(math.degrees((maximum_margin("arcface", 10, 2) - 0.5) / 2), abs=0.002)
    assert room == pytest.approx(3.676, abs=0.002)


def test_psi_at_the_centre():
    for margins in ((1, 0, 0), (1.35, 0, 0), (1, 0.5, 0), CM1, CM2, (2, 3.1, 0.2), (1, 3.5, 0.1), (1, 7, 0)):
        assert target_at_centre(margins) == pytest.approx(psi(0.0, *margins))


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


def test_a_bound_is_a_number_with_its_reason():
    bound = Bound(0.25, "why", exact=False)
    assert isinstance(bound, float) and 2 * bound == 0.5 and f"{bound:.1f}" == "0.2"
    assert (bound.case, bound.exact) == ("why", False)
    for made in (largest_spacing(10, 3), maximum_margin("cosface", 10, 64), minimum_scale(10, 0.9)):
        assert isinstance(made, Bound) and made.case and isinstance(made.exact, bool)


@pytest.mark.parametrize("call, named", [
    (lambda: largest_spacing(1, 2), "1 classes"), (lambda: largest_spacing(10, 0), "0 dimensions"),
    (lambda: maximum_margin("softmax", 10, 2), "'softmax'"),
    (lambda: maximum_margin("adacos", 10, 2), "cosface"),
    (lambda: maximum_margin("norm-softmax", 10, 2), "arcface"),
    (lambda: maximum_margin("arcface", 1, 2), "1 classes"), (lambda: minimum_scale(1, 0.9), "1 classes"),
    (lambda: minimum_scale(10, 0.0), "probability 0.0"), (lambda: minimum_scale(10, 1.0), "probability 1.0"),
    (lambda: minimum_scale(10, -0.5), "-0.5"), (lambda: minimum_scale(10, math.nan), "nan"),
    (lambda: minimum_scale(10, 1.5, 2), "1.5"),
])  # fmt: skip
def test_bounds_refuse_in_one_line(call, named):
    with pytest.raises(ValueError) as caught:
        call()
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("loss, margins, scale, dim", [
    ("softmax", (1, 0, 0), None, 2), ("adacos", (1, 0, 0), None, 2), ("adacos", (1, 0, 0), 2.0, 2),
    ("softmax", (1, 0, 0), 1.0, 512), ("norm-softmax", (1, 0, 0), 16.0, 2),
    ("norm-softmax", (1, 0, 0), 4.0, 512), ("arcface", (1, 0.5, 0), 30.0, 512),
    ("arcface", (1, 0.5, 0), 30.0, 2), ("cosface", (1, 0, 0.35), 30.0, 512),
    ("cosface", (1, 0, 0.35), 30.0, 3), ("sphereface", (4, 0, 0), 30.0, 2),
    ("combined", CM1, 30.0, 512), ("combined", CM2, 30.0, 3), ("li-arcface", (1, 0.4, 0), 8.0, 2),
])  # fmt: skip
def test_sane_settings_pass_without_a_word(loss, margins, scale, dim):
    assert feasibility_warnings(loss, margins, scale, 10, dim) == []


@pytest.mark.parametrize("loss, margins, scale, dim, numbers", [
    ("cosface", (1, 0, 0.35), 30.0, 2, ["(1, 0, 0.35)", "10 classes", "2-D", "36.0 degrees", "circle"]),
    ("combined", CM1, 30.0, 2, ["(1, 0.3, 0.2)", "36.0 degrees"]),
    ("combined", CM2, 30.0, 2, ["(0.9, 0.4, 0.15)", "36.0 degrees"]),
    ("arcface", (1, 0.7, 0), 30.0, 2, ["(1, 0.7, 0)", "36.0 degrees"]),
    ("li-arcface", (1, 0.7, 0), 30.0, 2, ["(1, 0.7, 0)", "36.0 degrees"]),
    ("arcface", (1, 1.2, 0), 30.0, 3, ["(1, 1.2, 0)", "66.1 degrees", "best packing"]),
    ("cosface", (1, 0, 1.2), 30.0, 512, ["(1, 0, 1.2)", "96.4 degrees", "simplex"]),
    ("arcface", (1, 0.5, 0), 3.0, 512, ["scale 3 ", "3.96", "10 classes", "512-D", "0.9", "simplex"]),
    ("norm-softmax", (1, 0, 0), 10.0, 2, ["scale 10 ", "15.14", "2-D", "circle"]),
    ("cosface", (1, 0, 0.35), 2.5, 3, ["scale 2.5 ", "3.96", "3-D", "loose"]),
    ("li-arcface", (1, 0.4, 0), 4.0, 512, ["scale 4 ", "4.10", "512-D", "simplex"]),
    ("li-arcface", (1, 0.4, 0), 7.0, 2, ["scale 7 ", "7.36", "2-D", "circle"]),
])  # fmt: skip
def test_a_bad_setting_gets_one_line_with_the_numbers(loss, margins, scale, dim, numbers):
    lines = feasibility_warnings(loss, margins, scale, 10, dim)
    assert len(lines) == 1 and "\n" not in lines[0]
    assert all(number in lines[0] for number in numbers), lines


@pytest.mark.parametrize("loss", ["norm-softmax", "arcface", "adacos"])
def test_one_dimension_is_no_place_for_cosines(loss):
    lines = feasibility_warnings(loss, (1, 0, 0), None, 10, 1)
    assert len(lines) == 1 and "--embedding-dim 2" in lines[0]
    assert feasibility_warnings("softmax", (1, 0, 0), None, 10, 1) == []


def test_two_bad_settings_get_two_lines_and_probability_counts():
    assert len(feasibility_warnings("cosface", (1, 0, 0.35), 2.0, 10, 2)) == 2
    assert feasibility_warnings("norm-softmax", (1, 0, 0), 5.0, 10, 512) == []
    assert len(feasibility_warnings("norm-softmax", (1, 0, 0), 5.0, 10, 512, probability=0.99)) == 1

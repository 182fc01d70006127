"""The spacing against explicit and numerically packed directions; bounds against searches."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bounds import (
    TAMMES,
    Bound,
    feasibility_warnings,
    largest_spacing,
    maximum_margin,
    minimum_scale,
    target_at_centre,
)
from bounds_helpers import circle, icosahedron, packing, simplex, smallest_angle

CM1, CM2 = (1.0, 0.3, 0.2), (0.9, 0.4, 0.15)
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
    (lambda: minimum_scale(10, 1.5, 2), "1.5"), (lambda: minimum_scale(10, embedding_dim=0), "0 dimensions"),
    (lambda: minimum_scale(10, 0.9, 2, "li-arcfase"), "'li-arcfase'"),
    (lambda: minimum_scale(10, loss="softmax"), "'softmax'"),
    (lambda: maximum_margin("combined", 10, 2, m2=math.nan), "m2 = nan"),
    (lambda: maximum_margin("combined", 10, 2, m2=-0.1), "m2 = -0.1"),
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

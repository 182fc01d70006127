"""The report's computed theory: the worked example, the pull of the margins, and what fits on the circle."""

import math

import numpy as np
import pytest
import torch

from losses import LOSSES, build_head
from recipes import recipe
from report import theory


def test_the_worked_example():
    a, b = np.array([5.0, 2.0]), np.array([7.0, 4.0])
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    example = theory.worked_example()
    assert example["angle"] == example["grown_angle"] == f"{angle:.2f}"
    assert example["distance"] == f"{np.linalg.norm(a - b):.2f}"
    assert example["grown_distance"] == f"{np.linalg.norm(a - 1.5 * b):.2f}"


@pytest.mark.parametrize("loss", theory.PULL_LOSSES)
@pytest.mark.parametrize("degrees", [1, 30, 90, 150])
def test_the_pull_is_the_formulas(loss, degrees):
    m1, m2, _ = LOSSES[loss].margins
    expected = m1 * abs(math.sin(m1 * math.radians(degrees) + m2))
    assert theory.pull(LOSSES[loss].margins, degrees) == pytest.approx(expected, rel=1e-6)


def test_no_sample_on_the_circle_meets_the_margins_called_empty():
    """By brute force over samples and uneven weights: no arrangement of ten satisfies every class."""
    rng = np.random.default_rng(0)
    samples = np.radians(np.arange(0, 360, 0.5))
    assert theory.papers_margins_on_circle()["empty"] == ["cosface", "cm1", "cm2"]
    for spread in (0.0, 0.02, 0.1, 1.0):
        weights = np.arange(10) * 2 * np.pi / 10 + spread * rng.uniform(-1, 1, 10)
        cosines = np.cos(samples[:, None] - weights)
        angles = np.arccos(np.clip(cosines, -1, 1))
        for m1, m2, m3 in ((1, 0, 0.35), (1, 0.3, 0.2), (0.9, 0.4, 0.15)):
            target = np.where(m1 * angles + m2 <= np.pi, np.cos(m1 * angles + m2) - m3, -3)
            met = [(target[:, y] > np.delete(cosines, y, axis=1).max(axis=1)).any() for y in range(10)]
            assert not all(met)


def test_the_usual_fallbacks_jump_as_stated():
    m, step = 0.5, 1e-9
    at = math.pi - m
    fallback = math.cos(at) - m * math.sin(m)
    assert theory.numerics()["jump"] == f"{math.cos(at - step + m) - fallback:.3f}"
    assert theory.numerics()["easy_jump"] == f"{math.cos(math.pi / 2) - math.cos(math.pi / 2 + m):.3f}"


def test_what_cifar10_s_scale_allows_in_the_plane():
    scale = recipe("cifar10", "cosface", 2, 10)["scale"]
    weights = np.array([[math.cos(2 * math.pi * j / 10), math.sin(2 * math.pi * j / 10)] for j in range(10)])
    logits = torch.from_numpy(scale * weights @ weights[0])
    assert theory.crowded() == {"scale": f"{scale:g}", "posterior": f"{float(logits.softmax(0)[0]):.2f}"}


def test_adacos_settles_where_the_report_says():
    """Its head, fed with samples on the vertices of a simplex, ends at that scale and at a probability of one half."""
    head = build_head("adacos", 10, 10).train()
    with torch.no_grad():
        head.weight.copy_(torch.eye(10) - 0.1)  # a regular simplex, nine-dimensional
        for _ in range(200):
            logits = head(head.weight.clone(), torch.arange(10))
    found = theory.adacos()
    assert found["settled"] == f"{float(head.scale):.2f}"
    assert found["settled_posterior"] == f"{float(logits.softmax(1)[0, 0]):.2f}"

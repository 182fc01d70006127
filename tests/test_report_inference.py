"""Holm's correction and Student's p, against SciPy and slow loops."""

import numpy as np
import pytest
from scipy import stats

from report import inference


def test_the_p_value_is_students():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        values = list(rng.normal(0.3, 1, n))
        assert inference.p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)
    assert inference.p_value([0.5]) is None
    assert inference.p_value([0.0, 0.0]) == inference.p_value([1e-16, 0.0]) == 1
    assert inference.p_value([0.5, 0.5]) is None  # a coincidence of rounded numbers is no certainty


def stepped_down(p: list[float], level: float) -> set[int]:
    """Holm's procedure as he gives it: from the smallest p on, until one is above level / (how many are left)."""
    rejected: set[int] = set()
    while len(rejected) < len(p):
        left = [i for i in range(len(p)) if i not in rejected]
        smallest = min(left, key=lambda i: p[i])
        if p[smallest] >= level / len(left):
            break
        rejected.add(smallest)
    return rejected


def test_holms_correction_rejects_what_the_procedure_does():
    rng = np.random.default_rng(1)
    for _ in range(200):
        p = list(rng.random(rng.integers(1, 9)) ** 3)
        corrected = inference.holm(p)
        assert all(a <= b <= 1 for a, b in zip(p, corrected, strict=True))
        for level in (0.01, 0.05, 0.3):
            assert {i for i, value in enumerate(corrected) if value < level} == stepped_down(p, level)
    assert inference.holm([]) == []


def test_a_family_is_corrected_by_how_many_it_tests():
    clear, likely = [1.0, 1.1, 0.9, 1.05], [1.0, 0.4, 0.2, 0.6]
    p = stats.ttest_1samp(likely, 0).pvalue
    assert 0.025 < p < 0.05
    assert inference.kept({"a": clear, "b": likely}) == {
        "tested": 2,
        "single": 2,
        "kept": ["a", "b"],
        "above": ["a", "b"],
    }
    more = {"a": clear, "b": likely, "c": [0.1, -0.1, 0.0, 0.2]}
    assert inference.kept(more) == {"tested": 3, "single": 2, "kept": ["a"], "above": ["a"]}
    constant = inference.kept(more | {"d": [0.5, 0.5, 0.5, 0.5]})  # no spread to test by, yet one comparison more
    assert constant["tested"] == 4 and constant["kept"] == ["a"]
    below = inference.kept(more | {"a": [-value for value in clear]})
    assert (below["kept"], below["above"]) == (["a"], [])
    assert inference.kept({**more, "d": None, "e": [2.0]}) == inference.kept(more)

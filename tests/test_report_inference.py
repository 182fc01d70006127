"""Holm's correction and Student's p, against SciPy and slow loops."""

import numpy as np
import pytest
from scipy import stats

from report import inference


def beside(differences: list[float]) -> list[tuple[float, float]]:
    """Pairs with these differences, of a base without spread."""
    return [(value, 0.0) for value in differences]


def test_the_p_values_are_students_and_welchs():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        a, b = rng.normal(0.3, 1, n), rng.normal(0, 2, n)
        pairs = list(zip(a, b, strict=True))
        assert inference.p_value(pairs) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
        error = (a.var(ddof=1) / n + b.var(ddof=1) / n) ** 0.5  # Welch (1947), by his formulas
        freedom = error**4 / ((a.var(ddof=1) / n) ** 2 / (n - 1) + (b.var(ddof=1) / n) ** 2 / (n - 1))
        expected = 2 * stats.t.sf(abs(a.mean() - b.mean()) / error, freedom)
        assert inference.p_value(pairs, unpaired=True) == pytest.approx(expected, rel=1e-9)
    assert inference.p_value(beside([0.5])) is None
    assert inference.p_value(beside([0.0, 0.0])) == inference.p_value(beside([1e-16, 0.0])) == 1
    assert inference.p_value(beside([0.5, 0.5])) is None  # a coincidence of rounded numbers is no certainty


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
    likely = [1.0, 0.4, 0.2, 0.6]
    p = stats.ttest_1samp(likely, 0).pvalue
    assert 0.025 < p < 0.05
    two = {"a": beside([1.0, 1.1, 0.9, 1.05]), "b": beside(likely)}
    found = inference.kept(two)
    assert (found["tested"], found["kept"], found["above"]) == (2, ["a", "b"], ["a", "b"])
    more = {**two, "c": beside([0.1, -0.1, 0.0, 0.2])}
    assert inference.kept(more) == {"tested": 3, "kept": ["a"], "above": ["a"], "unpaired": ["a"]}
    constant = inference.kept(more | {"d": beside([0.5] * 4)})  # no spread to test by, yet one comparison more
    assert constant["tested"] == 4 and constant["kept"] == ["a"]
    below = inference.kept(more | {"a": [(0.0, value) for value, _ in more["a"]]})
    assert (below["kept"], below["above"]) == (["a"], [])
    assert inference.kept({**more, "d": None, "e": beside([2.0])}) == inference.kept(more)


def test_what_is_kept_may_rest_on_the_pairing():
    drifting = [(value + 0.1 + 0.01 * (-1) ** i, value) for i, value in enumerate((1.0, 3.0, 5.0, 7.0))]
    found = inference.kept({"a": drifting})
    assert (found["kept"], found["unpaired"]) == (["a"], [])

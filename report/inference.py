"""What is left of many comparisons, and rank correlations over few losses: Holm's correction, exact p values."""

import math
from collections.abc import Sequence
from itertools import permutations
from statistics import fmean

import numpy as np

from plot_data import without_spread
from report.facts import MEASURES, number, values_of

MOST_RANKED = 9  # 9! orders are looked through in a second


def p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's test that paired differences have mean 0; None for fewer than two, or all the same."""
    if len(differences) < 2 or without_spread(differences):
        return None
    if np.max(np.abs(differences)) < 1e-9:  # none, but for rounding
        return 1.0
    error = np.std(differences, ddof=1) / math.sqrt(len(differences))
    from scipy.special import stdtr

    return float(2 * stdtr(len(differences) - 1, -abs(fmean(differences)) / error))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for how many there are, in the order given (Holm 1979)."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, (len(p) - rank) * p[i])
        corrected[i] = min(1.0, least)
    return corrected


def kept(family: dict[str, list[float] | None], level: float = 0.05) -> dict:
    """Which of a family's paired differences have a mean other than 0 after Holm's correction, and above it: titles.

    family: {title: differences over seeds}; what has fewer than two is no test and does not count. One that is the same
    on every seed counts, but has no spread to be tested by: it is never kept.
    """
    tests = {
        title: 1.0 if (p := p_value(found)) is None else p
        for title, found in family.items()
        if found and len(found) > 1
    }
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    return {
        "tested": len(tests),
        "single": sum(p < level for p in tests.values()),
        "kept": [title for title, p in corrected.items() if p < level],
        "above": [title for title, p in corrected.items() if p < level and fmean(family[title] or []) > 0],
    }


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided p, exact: the share of all orders of y that correlate as much.

    ValueError for fewer than 4 or more than MOST_RANKED values, and for values that are all the same.
    """
    from scipy.stats import rankdata

    if not 4 <= len(x) == len(y) <= MOST_RANKED or len(set(x)) == 1 or len(set(y)) == 1:
        raise ValueError(f"{len(x)} and {len(y)} values: need 4 to {MOST_RANKED} pairs that differ")
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (x, y)]
    orders = np.array(list(permutations(ranks[1])))
    found = orders @ ranks[0] / math.sqrt(np.prod([r @ r for r in ranks]))
    observed = float(ranks[1] @ ranks[0] / math.sqrt(np.prod([r @ r for r in ranks])))
    return observed, float(np.mean(np.abs(found) >= abs(observed) - 1e-12))


def collapse(groups: dict[str, dict[int, dict]], measure: str) -> dict | None:
    """Rank correlation over losses of Intra on the trained classes with a measure on unseen ones, as text.

    None where fewer than four losses have both, or where there is nothing to rank.
    """
    both = [
        (values_of(members, MEASURES["intra"]), values_of(members, MEASURES[measure])) for members in groups.values()
    ]
    means = [(fmean(a.values()), fmean(b.values())) for a, b in both if a and b]
    try:
        correlation, p = rank_correlation(*zip(*means, strict=True)) if means else rank_correlation((), ())
    except ValueError:
        return None
    return {"correlation": number(correlation, 2, signed=True), "p": as_text(p), "losses": len(means)}


def as_text(p: float) -> str:
    """'p = 0.07', or 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"

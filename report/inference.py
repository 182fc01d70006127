"""What is left of many comparisons after Holm's correction, and rank correlations over losses."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from plot_data import without_spread
from report.facts import MEASURES, number, values_of


def p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's test that paired differences have mean 0; None for fewer than two, or all the same."""
    if len(differences) < 2 or without_spread(differences):
        return None
    if np.max(np.abs(differences)) < 1e-9:  # none, but for rounding
        return 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0).pvalue)


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


def collapse(groups: dict[str, dict[int, dict]], measure: str) -> dict | None:
    """Spearman's rank correlation over losses of Intra on the trained classes with a measure on unseen ones, as text.

    None where fewer than four losses have both, or where there is nothing to rank. It has no p value: the losses share
    seeds and formulas, so that their orders are not equally likely.
    """
    from scipy.stats import spearmanr

    both = [
        (values_of(members, MEASURES["intra"]), values_of(members, MEASURES[measure])) for members in groups.values()
    ]
    means = [(fmean(a.values()), fmean(b.values())) for a, b in both if a and b]
    if len(means) < 4 or any(len(set(values)) == 1 for values in zip(*means, strict=True)):
        return None
    found = float(spearmanr(*zip(*means, strict=True)).statistic)
    return {"correlation": number(found, 2, signed=True), "losses": len(means)}

"""What is left of many comparisons after Holm's correction, and rank correlations over losses."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from plot_data import LEVEL, minus, without_spread
from report.facts import number, values_of, welch_p
from report.measures import MEASURES


def p_value(pairs: Sequence[tuple[float, float]], unpaired: bool = False) -> float | None:
    """Two-sided p of Student's test that paired differences have mean 0, or of Welch's, which pairs nothing; None for
    fewer than two pairs, or the same difference in all."""
    differences = minus(pairs)
    if len(pairs) < 2 or without_spread(differences):
        return None
    if np.max(np.abs(differences)) < 1e-9:  # none, but for rounding
        return 1.0
    from scipy.stats import ttest_1samp

    return welch_p(pairs) if unpaired else float(ttest_1samp(differences, 0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for how many there are, in the order given (Holm 1979)."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, (len(p) - rank) * p[i])
        corrected[i] = min(1.0, least)
    return corrected


def kept(family: Mapping[str, Sequence[tuple[float, float]] | None]) -> dict:
    """Which of a family's differences have a mean other than 0 after Holm's correction: titles.

    family: {title: pairs, one a seed}; what has fewer than two is no test and does not count. One with the same
    difference on every seed counts, but has no spread to be tested by: it is never kept. above: those kept with a mean
    above 0. unpaired: those that would be kept if seeds were not paired.
    """
    tests = {title: pairs for title, pairs in family.items() if pairs and len(pairs) > 1}

    def left(unpaired: bool) -> list[str]:
        p = [1.0 if (one := p_value(pairs, unpaired)) is None else one for pairs in tests.values()]
        return [title for title, corrected in zip(tests, holm(p), strict=True) if corrected < 1 - LEVEL]

    found = left(unpaired=False)
    above = [title for title in found if fmean(minus(tests[title])) > 0]
    return {"tested": len(tests), "kept": found, "above": above, "unpaired": left(unpaired=True)}


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

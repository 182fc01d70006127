"""The study's numbers for the report: stored results in, finished cells and verdicts out.

A row is a loss with one set of settings over its seeds; a missing row or value is None and shown as a dash. Runs are
paired by seed, and a difference counts only where its 95 % interval (Student's t over seeds) excludes 0.
"""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from choices import LOSSES
from plot_data import LEVEL, Study, half_width, minus, most_alike, seed_pairs
from plot_data import SHARED as SAME_RECIPE
from plot_style import data_title, settings_text
from plot_tables import key_of, rounded, spread, with_mean_scale
from report.measures import MEASURES, Measure

DATASETS = ("mnist", "cifar10")
DIM = 512  # the main comparison's
# What two runs must share for their difference to be the loss's doing. Precision: bf16 and fp32 differ by noise alone.
SHARED = (*SAME_RECIPE, "unseen_classes", "scale_start")
MADE_TO_FAIL = ("sensitivity", "plane")  # grids are there to find failures
MINUS = "−"


class Run(NamedTuple):
    """A stored run of a standard name."""

    dataset: str
    loss: str
    dim: int
    seed: int
    held_out: str  # the classes it was not trained on, 'a, b'
    extra: str  # flags beyond the recipe, as they stand in its name: 'scale=4-epochs=3'
    facts: dict


def stored_runs(results: Path) -> tuple[list[Run], list[str]]:
    """The runs in `results` that have figures, and the names of those that failed where the recipe should have worked.

    A run that ended near chance is both: it counts in its row's mean and is named. Where MNIST was not to be had, runs
    on the embedded sample stand in for it; their titles say so.
    """
    study, found = Study(results), []
    for facts in study.runs:
        # A name is train.py's own, then what is not the recipe's as -flag=value.
        suffix = re.sub(r".*-seed\d+", "", facts["name"])
        without = "-".join(re.sub(r"\W", "_", name) for name in facts["hold_out"])
        extra = suffix.removeprefix(f"-without-{without}").lstrip("-")
        held_out = ", ".join(facts["unseen_classes"])
        found.append(
            Run(facts["dataset"], facts["loss"], facts["embedding_dim"], facts["seed"], held_out, extra, facts)
        )
    if not any(run.dataset == "mnist" for run in found):
        found = [run._replace(dataset="mnist") if run.dataset == "mnist-5k" else run for run in found]
    return found, [facts["name"] for facts in study.failed if facts["part"] not in MADE_TO_FAIL]


def alike(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Runs of one loss in two parts: the most that differ in nothing but their seed, and the rest.

    Results of an older recipe lie beside those of a newer one until all have been run again.
    """
    most = most_alike(runs, lambda run: key_of(run.facts))
    return most, [run for run in runs if run not in most]


def group(
    runs: Iterable[Run], dataset: str, extra: str = "", dim: int = DIM, held_out: str = ""
) -> dict[str, dict[int, dict]]:
    """{loss: {seed: metrics}} of such runs, alike but for their seed, in LOSSES' order."""
    wanted = (dataset, extra, dim, held_out)
    chosen = [run for run in runs if (run.dataset, run.extra, run.dim, run.held_out) == wanted]
    kept = {loss: alike([run for run in chosen if run.loss == loss])[0] for loss in LOSSES}
    return {loss: {run.seed: run.facts for run in sorted(members, key=lambda r: r.seed)}
            for loss, members in kept.items() if members}  # fmt: skip


def scale_of(members: dict[int, dict]) -> float:
    """The scale of a group of runs alike but for their seed."""
    return next(iter(members.values()))["scale"]


def set_aside(runs: Iterable[Run]) -> list[str]:
    """Names of runs that no table shows because their settings differ from the other seeds' of their row."""
    rows: dict[tuple, list[Run]] = {}
    for run in runs:
        rows.setdefault((run.dataset, run.loss, run.dim, run.held_out, run.extra), []).append(run)
    rest = [run for members in rows.values() for run in alike(members)[1]]
    return [f"{r.dataset}-{r.loss}-{r.dim}d-seed{r.seed}{'-' if r.extra else ''}{r.extra}" for r in rest]


def number(value: float, digits: int, signed: bool = False) -> str:
    """A number as text with a true minus sign; what rounds to nothing has no sign."""
    text = rounded(value, digits, "+" if signed else "")
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def extent(values: list[float], digits: int = 1) -> dict | None:
    """The lowest and the highest of some numbers as text; None of none."""
    return {"low": number(min(values), digits), "high": number(max(values), digits)} if values else None


def values_of(members: dict[int, dict], measure: Measure) -> dict[int, float]:
    """{seed: value} of the seeds that have one."""
    read = {seed: measure.read(facts) for seed, facts in members.items()}
    return {seed: value for seed, value in read.items() if value is not None}


def cell(members: dict[int, dict], measure: Measure) -> dict | None:
    """Mean and standard deviation over seeds as text, with n; None where no seed has a value."""
    found = spread(list(values_of(members, measure).values()))
    if not found["n"]:
        return None
    mean, sd = (None if found[name] is None else number(found[name], measure.digits) for name in ("mean", "std"))
    return {"mean": mean, "sd": sd, "n": found["n"], "best": False}


def pairs_of(
    a: dict[int, dict], b: dict[int, dict], measure: Measure, same_scale: bool = False
) -> list[tuple[float, float]] | None:
    """The values of a and b seed by seed, over the seeds that both have; None where they cannot be compared."""
    names = (*SHARED, "scale") if same_scale else SHARED
    first, second = next(iter(a.values())), next(iter(b.values()))
    # Softmax has no scale to grow: that setting differs by what the heads are.
    free = {"scale_start"} if first["scale_start"] is None or second["scale_start"] is None else set()
    if any(first.get(name) != second.get(name) for name in names if name not in free):
        return None
    return seed_pairs(values_of(a, measure), values_of(b, measure)) or None


def paired(
    a: dict[int, dict], b: dict[int, dict], measure: Measure, same_scale: bool = False, digits: int | None = None
) -> dict | None:
    """The mean difference a - b over shared seeds, with its interval and verdict; None where they cannot be compared.

    verdict: 'higher', 'lower' or 'undecided'; 'single' where one shared seed gives no interval. The same difference on
    each seed gives none either and is undecided: its interval of no width would count a coincidence as certainty.
    unpaired: whether Welch's interval of the same values, which pairs nothing, has another verdict.
    """
    found = pairs_of(a, b, measure, same_scale)
    if not found:
        return None
    result = difference_text(minus(found), measure.digits if digits is None else digits)
    return result | {"unpaired": result["low"] is not None and welch_verdict(found) != result["verdict"]}


def welch_verdict(pairs: Sequence[tuple[float, float]]) -> str:
    """'higher', 'lower' or 'undecided' by Welch's 95 % interval of a difference of means, over two pairs or more."""
    if welch_p(pairs) >= 1 - LEVEL:
        return "undecided"
    return "higher" if statistics.fmean(minus(pairs)) > 0 else "lower"


def welch_p(pairs: Sequence[tuple[float, float]]) -> float:
    """Two-sided p of Welch's test that the two sides of two pairs or more have one mean; 1 where neither has a spread
    to test by."""
    from scipy.stats import ttest_ind_from_stats  # ttest_ind warns of a side without spread

    left, right = zip(*pairs, strict=True)
    if max(np.ptp(left), np.ptp(right)) < 1e-9:
        return 1.0
    sides = ((statistics.fmean(side), statistics.stdev(side), len(side)) for side in (left, right))
    return float(ttest_ind_from_stats(*next(sides), *next(sides), equal_var=False).pvalue)


def difference_text(differences: list[float], digits: int) -> dict:
    """The mean of paired differences as text, with n, its interval and verdict as `paired` gives them."""
    mean, half = statistics.fmean(differences), half_width(differences)
    result = {"n": len(differences), "mean": number(mean, digits, signed=True)}
    if math.isinf(half):
        verdict = "single" if len(differences) == 1 else "undecided"
        return result | {"low": None, "high": None, "verdict": verdict}
    low, high = mean - half, mean + half
    verdict = "higher" if low > 0 else "lower" if high < 0 else "undecided"
    while verdict != "undecided" and not all(number(end, digits).strip(f"0.{MINUS}") for end in (low, high)):
        digits += 1  # an end that rounds to zero would contradict the verdict
        result["mean"] = number(mean, digits, signed=True)
    return result | {"low": number(low, digits, True), "high": number(high, digits, True), "verdict": verdict}


def best_loss(groups: dict[str, dict[int, dict]], measure: Measure) -> str | None:
    """The loss better than every other by an interval that excludes 0, or None."""
    wanted = {1: "higher", -1: "lower"}.get(measure.better)
    if wanted is None or len(groups) < 2:
        return None
    for loss, members in groups.items():
        others = [paired(members, rest, measure) for name, rest in groups.items() if name != loss]
        if all(difference and difference["verdict"] == wanted for difference in others):
            return loss
    return None


def table(groups: dict[str, dict[int, dict]], names: tuple[str, ...]) -> dict:
    """Rows for every loss, stored or not: title, settings, n, epochs and a cell a measure; the best one marked."""
    best = {name: best_loss(groups, MEASURES[name]) for name in names}
    rows: list[dict[str, Any]] = []
    for loss, entry in LOSSES.items():
        members = groups.get(loss)
        if not members:
            rows.append({"loss": loss, "title": entry.title, "settings": None, "n": 0, "epochs": None,
                         "cells": [None] * len(names)})  # fmt: skip
            continue
        cells = []
        for name in names:
            content = cell(members, MEASURES[name])
            cells.append(content and content | {"best": best[name] == loss})
        first = next(iter(members.values()))
        rows.append({"loss": loss, "title": entry.title, "settings": mean_settings(members), "n": len(members),
                     "epochs": first["epochs"], "cells": cells})  # fmt: skip
    columns = [{"name": name, "title": MEASURES[name].title} for name in names]
    return {"columns": columns, "rows": rows, "n": span(len(m) for m in groups.values())}


def mean_settings(members: dict[int, dict]) -> str:
    """`settings_text` of runs alike but for their seed; AdaCos's scale, an outcome, is their mean."""
    return settings_text(with_mean_scale(list(members.values()))[0])


def span(values: Iterable[float]) -> str:
    """'3', or '1 to 5' where they differ; '0' of none."""
    low, high = min(found := list(values) or [0]), max(found)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def nsl_at(groups: dict, controls: list[dict], scale: float) -> dict | None:
    """The runs of normalised softmax at this scale, of the table or of the controls made for it; None without any."""
    of_scale = [members for members in (groups.get("norm-softmax", {}), *controls)
                if members and next(iter(members.values()))["scale"] == scale]  # fmt: skip
    return of_scale[0] if of_scale else None


def differences(groups: dict[str, dict[int, dict]], controls: list[dict], measure: Measure) -> dict[str, dict]:
    """{loss: {'softmax': paired, 'norm-softmax': paired at the same s}}, None where not comparable.

    controls: groups of norm-softmax runs at scales other than the table's.
    """
    result = {}
    for loss, members in groups.items():
        softmax = groups.get("softmax") if loss != "softmax" else None
        scale = next(iter(members.values()))["scale"]
        nsl = nsl_at(groups, controls, scale) if loss not in ("softmax", "norm-softmax", "adacos") else None
        result[loss] = {"softmax": paired(members, softmax, measure) if softmax else None,
                        "norm-softmax": paired(members, nsl, measure, True) if nsl else None}  # fmt: skip
    return result


def margin_verdicts(groups: dict[str, dict[int, dict]], controls: list[dict], measure: Measure) -> dict:
    """How the losses with a margin stand to NSL at the same s: their titles by verdict."""
    rows = differences(groups, controls, measure)
    found = by_verdict({loss: row["norm-softmax"] for loss, row in rows.items() if LOSSES[loss].own_margin})
    return found | {"tested": sum(map(len, found.values())) - len(found["single"])}


def by_verdict(found: dict[str, dict | None]) -> dict[str, list[str]]:
    """Titles of the losses by the verdict of their difference, where they have one."""
    return {
        verdict: [LOSSES[loss].title for loss, one in found.items() if one and one["verdict"] == verdict]
        for verdict in ("higher", "lower", "undecided", "single")
    }


def margins_and_plain(groups: dict, measure: str) -> dict[str, list[tuple[float, float]] | None]:
    """{title: pairs with normalised softmax at the same scale} of the losses with a margin."""
    plain = groups.get("norm-softmax")
    return {
        LOSSES[loss].title: pairs_of(groups[loss], plain, MEASURES[measure], same_scale=True)
        for loss, entry in LOSSES.items()
        if plain and loss in groups and entry.own_margin
    }


def sources(runs: Iterable[Run]) -> dict[str, dict]:
    """Where each data set's pixels came from, as its runs recorded it."""
    found: dict[str, dict] = {}
    for run in runs:
        facts = run.facts
        entry = {"title": data_title(facts), "source": facts["source"], "test": f"{facts['test_images']:,}",
                 "train": f"{facts['train_images']:,}"}  # fmt: skip
        if not run.held_out:
            found.setdefault(run.dataset, entry)
    return found


def devices_text(devices: Iterable[str]) -> str:
    """Device labels for a sentence: '1 or 2 threads of AMD EPYC'; what is no processor stays as recorded.

    A processor's family and model, which tell one virtual machine's from another's, are for the record alone.
    """
    threads: dict[str, list[str]] = {}
    others = []
    for device in sorted(devices):
        if found := re.fullmatch(r"cpu, (\d+) threads?, (.+?)(?: \(family \d+, model \d+\))?", device):
            threads.setdefault(found[2], []).append(found[1])
        else:
            others.append(device.replace("cuda, ", "one "))
    counted = []
    for name, counts in threads.items():
        numbers = sorted(set(counts), key=int)
        counted.append(f"{' or '.join(numbers)} thread{'s' * (numbers != ['1'])} of {name}")
    return "; ".join((*counted, *others))

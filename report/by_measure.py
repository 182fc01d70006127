"""What one step changes, by every measure: does a finding depend on which is used? And what pairing by seed gains."""

from statistics import fmean, stdev
from typing import Any

import numpy as np

from choices import LOSSES
from report.controls import controls_of, longer_groups, margins_of
from report.facts import DIM, Run, group, number, paired, scale_of, span, values_of
from report.measures import MEASURES

COMPARED = ("accuracy", "nearest_mean", "neighbours", "eer", "auc", "tar_2", "tar", "tar_4", "rank_1", "map")
WHOLE = ("main", "control", "scale", "longer")  # parts of the study whose runs have the recipe's epochs or more
TIGHT = 10  # degrees of Intra, at most: MNIST's at a small scale or with a margin
RELATED = ("accuracy", "eer", "tar", "rank_1", "map")


def steps(runs: list[Run], dataset: str) -> list[tuple[dict[str, Any], dict, dict]]:
    """What is set against what: a key and what it is called, the runs, and those they are compared with; `shown`: in
    the table, not in the text alone.

    Normalising at the recipe's scale; there ArcFace's margin, in the recipe's training and in the longer one. Then,
    where margins were run at another scale, the scale's step from there, and there normalising and each margin, and
    that margin against the recipe's scale without one. Elsewhere normalised softmax at a smaller scale, the largest
    that was tried, or, where none was, AdaCos.
    """
    groups, more = group(runs, dataset), longer_groups(runs, dataset)
    plain, longest = groups.get("norm-softmax"), more.get("norm-softmax")
    if not plain:
        return []
    found: list[tuple[dict[str, Any], dict | None, dict | None]] = [
        ({"key": "normalising"}, plain, groups.get("softmax")), ({"key": "margin"}, groups.get("arcface"), plain)
    ]  # fmt: skip
    if longest:
        epochs = {"epochs": next(iter(longest.values()))["epochs"]}
        found.append(({"key": "longer"} | epochs, more.get("arcface"), longest))
        found.append(({"key": "normalising-longer", "shown": False} | epochs, longest, more.get("softmax")))
    scales = {scale_of(members): members for members in controls_of(runs, dataset)}
    margins = [members for members in margins_of(runs, dataset) if scale_of(members) in scales]
    smaller = [s for s in scales if s < scale_of(plain)]
    if margins:
        found += at_another_scale(plain, scales[scale_of(margins[0])], margins, groups.get("softmax"))
    elif smaller:
        ends = {"from": f"{scale_of(plain):g}", "to": f"{max(smaller):g}"}
        found.append(({"key": "scale"} | ends, scales[max(smaller)], plain))
    else:
        found.append(({"key": "adacos"}, groups.get("adacos"), plain))
    return [({"shown": True} | words, ours, theirs) for words, ours, theirs in found if ours and theirs]


def at_another_scale(plain: dict, bare: dict, margins: list[dict], softmax: dict | None) -> list[tuple]:
    """`steps` to another scale than the recipe's: without a margin, `bare`, and with each that was run there."""
    here, there = f"{scale_of(plain):g}", f"{scale_of(bare):g}"
    found = [({"key": "scale", "from": there, "to": here}, plain, bare),
             ({"key": "normalising-at", "scale": there, "shown": False}, bare, softmax)]  # fmt: skip
    for members in (members for members in margins if scale_of(members) == scale_of(bare)):
        loss = next(iter(members.values()))["loss"]
        words = {"loss": LOSSES[loss].title, "scale": there}
        found.append(({"key": "margin-at", "shown": loss == "arcface"} | words, members, bare))
        found.append(({"key": "instead", "shown": False, "to": here} | words, members, plain))
    return found


def by_measure(runs: list[Run], dataset: str) -> dict[str, Any] | None:
    """A column a step of `steps`, a row a measure: the paired difference, in percentage points.

    Each column has its differences by measure, Intra's too, which belongs to no row, and says by which of the rows it
    is better, worse and undecided. `titles` are for the table, `names` for a sentence. None without a step over two
    seeds that the table shows.
    """
    columns: list[dict[str, Any]] = []
    for words, ours, theirs in steps(runs, dataset):
        cells = {name: paired(ours, theirs, MEASURES[name]) for name in (*COMPARED, "intra")}
        said: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
        for name in COMPARED:
            one = cells[name]
            if one and one["verdict"] != "single":
                better = {1: "higher", -1: "lower"}[MEASURES[name].better]
                said[{"undecided": "undecided", better: "better"}.get(one["verdict"], "worse")].append(name)
        if any(said.values()):
            seeds = span(one["n"] for one in cells.values() if one)
            columns.append({**words, "n": seeds, "cells": cells, **said})
    titles = {name: MEASURES[name].title.split(",")[0] for name in COMPARED}
    titles["tar"] = "TAR at FAR 10⁻³"
    names = titles | {name: titles[name].lower() for name in ("accuracy", "nearest_mean", "rank_1")}
    shown = any(one["shown"] for one in columns)
    return {"columns": columns, "titles": titles, "names": names, "order": COMPARED} if shown else None


def related(groups: dict[str, dict[int, dict]]) -> dict[str, str] | None:
    """Pearson's correlation over seeds between two losses' values, averaged over all pairs of losses, by measure: what
    pairing by seed takes out of a difference. None with fewer than three seeds that all losses share, or two losses."""
    shared = sorted(set.intersection(*(set(members) for members in groups.values()))) if groups else []
    if len(shared) < 3 or len(groups) < 2:
        return None
    result = {}
    for name in RELATED:
        values = [values_of({seed: members[seed] for seed in shared}, MEASURES[name]) for members in groups.values()]
        rows = [list(of_seed.values()) for of_seed in values if len(set(of_seed.values())) > 1]
        if len(rows) < 2 or len({len(row) for row in rows}) > 1:
            continue
        pairs = np.atleast_2d(np.corrcoef(rows))[np.triu_indices(len(rows), 1)]
        result[name] = number(fmean(pairs), 2, signed=True)
    return result or None


def error_floor(runs: list[Run], dataset: str) -> dict[str, str] | None:
    """EER as a multiple of the head's error over the runs of tight classes, on all classes and the whole recipe: mean
    and standard deviation as text, and their number. None for fewer than two."""
    ratios = []
    for facts in (run.facts for run in runs if run.dataset == dataset and run.dim == DIM and not run.held_out):
        intra, error = MEASURES["intra"].read(facts), 100 - (MEASURES["accuracy"].read(facts) or 0)
        eer = MEASURES["eer"].read(facts)
        if facts.get("part") in WHOLE and intra is not None and intra < TIGHT and eer is not None and error > 0:
            ratios.append(eer / error)
    if len(ratios) < 2:
        return None
    return {
        "ratio": number(fmean(ratios), 2),
        "sd": number(stdev(ratios), 2),
        "n": str(len(ratios)),
        "intra": str(TIGHT),
    }

"""What became of margins past the bound in the plane, for the report's text: the grids that plot_plane.py draws."""

from pathlib import Path

import numpy as np

from choices import LOSSES
from plot_data import NotStored, Study, accuracy_or_chance
from plot_plane import AT_ONCE, DRAWN, GRIDS, bound_of, spacing
from report.facts import DATASETS, extent, number

TOGETHER = 5.0  # degrees: class weights nearer than this share a direction


def grid_text(title: str, loss: str, runs: list[dict]) -> dict:
    """Accuracies of one grid, in per cent: of margins with room, and past the bound at its least scale and above it.

    Spacing, in degrees: at the largest scale without a margin, and at its best with a margin that has room.
    """
    own, bound, scales = LOSSES[loss].own_margin or "", bound_of(runs, loss), sorted({f["scale"] for f in runs})
    within = [f for f in runs if f["loss"] == loss and f[own] < bound]
    past = [f for f in runs if f[own] >= bound]
    large = [f for f in runs if f["scale"] == scales[-1] and "failed" not in f]
    return {
        "title": title, "bound": number(bound, 3), "scales": [f"{s:g}" for s in scales],
        "within": extent([accuracy_or_chance(f) for f in within]),
        "past_small": extent([accuracy_or_chance(f) for f in past if f["scale"] == scales[0]]),
        "past_large": extent([accuracy_or_chance(f) for f in past if f["scale"] > scales[0]]),
        "plain_spacing": extent([spacing(f) for f in large if f["loss"] == "norm-softmax"]),
        "spacing": extent([spacing(f) for f in large if f in within]),
    }  # fmt: skip


def at_once(study: Study, loss: str) -> dict[float, list[dict]]:
    """Runs at the drawn scale with margin and scale full from the first step: {margin: one a seed}."""
    own = LOSSES[loss].own_margin or ""
    found: dict[float, list[dict]] = {}
    for facts in study.grid(loss, ("scale", "margin", *AT_ONCE), dim=2):
        if facts["scale"] == DRAWN["scale"]:
            found.setdefault(facts[own], []).append(facts)
    return dict(sorted(found.items()))


def given_up(facts: dict) -> int | None:
    """Classes of which less than half of the test images are classified correctly; None for a run that diverged."""
    if "accuracy" not in facts:
        return None
    return sum(share is not None and share < 0.5 for share in facts["per_class_accuracy"])


def bundles(weights: np.ndarray) -> tuple[list[list[int]], list[float]]:
    """Class weights [C, 2] that share a direction, round the circle, and the gap in degrees after each group."""
    angles = np.degrees(np.arctan2(weights[:, 1], weights[:, 0]))
    order = np.argsort(angles)
    gaps = np.diff(angles[order], append=angles[order[0]] + 360)
    cuts = np.flatnonzero(gaps >= TOGETHER)
    if not len(cuts):
        return [sorted(map(int, order))], []
    groups: list[list[int]] = [[]]
    apart = []
    for c, gap in zip(np.roll(order, -cuts[-1] - 1), np.roll(gaps, -cuts[-1] - 1), strict=True):
        groups[-1].append(int(c))
        if gap >= TOGETHER:
            apart.append(float(gap))
            groups.append([])
    return groups[:-1], apart


def shared(study: Study, runs: list[dict]) -> dict | None:
    """How weights share directions, where all runs agree on it: how many stand alone, how many groups of which size.

    apart: degrees between two such groups that are neighbours; one_each: of each group one class is still recognised.
    None where runs differ, or no two weights share a direction.
    """
    sizes, apart, one_each = set(), [], True
    for facts in runs:
        arrays = study.arrays(facts)
        if "weights" not in arrays or "accuracy" not in facts:
            return None
        groups, gaps = bundles(arrays["weights"])
        sizes.add(tuple(sorted(map(len, groups))))
        for group, following, gap in zip(groups, groups[1:] + groups[:1], gaps, strict=False):
            apart += [gap] if min(len(group), len(following)) > 1 else []
            shares = [facts["per_class_accuracy"][c] or 0 for c in group]
            one_each = one_each and sum(share >= 0.5 for share in shares) == 1
    found = sizes.pop()
    larger = [size for size in found if size > 1]
    if sizes or not larger or len(set(larger)) > 1:
        return None
    return {"alone": found.count(1), "groups": len(larger), "size": larger[0], "one_each": one_each,
            "apart": extent(apart, 0)}  # fmt: skip


def directions(study: Study, facts: dict) -> str | None:
    """How many directions a run's class weights take up, as text."""
    arrays = study.arrays(facts)
    return str(len(bundles(arrays["weights"])[0])) if "weights" in arrays else None


def crowded_together(study: Study, dataset: str) -> dict | None:
    """Which classes' weights share a direction in the drawn runs in the plane; None without such a run.

    sharing: {'cat and dog': titles of the losses}, the most frequent first; lost and kept: accuracies in per cent and
    titles of the runs with and without such classes; nearest: degrees between the nearest weights of the latter.
    """
    try:
        runs = [(facts, study.arrays(facts)) for facts in study.drawn(dataset, 2)]
    except NotStored:
        return None
    sharing: dict[str, list[str]] = {}
    parts: dict[bool, list[dict]] = {True: [], False: []}
    nearest = []
    for facts, arrays in runs:
        groups, apart = bundles(arrays["weights"])
        together = [sorted(facts["classes"][c] for c in group) for group in groups if len(group) > 1]
        for names in together:
            sharing.setdefault(" and ".join(names), []).append(LOSSES[facts["loss"]].title)
        nearest += [] if together else [min(apart)]
        parts[bool(together)].append(facts)
    ends: dict[str, dict] = {}
    for name, found in (("lost", parts[True]), ("kept", parts[False])):
        of_these = extent([accuracy_or_chance(f) for f in found]) or {"low": None, "high": None}
        ends[name] = {"titles": [LOSSES[f["loss"]].title for f in found], **of_these}
    most_first = dict(sorted(sharing.items(), key=lambda item: -len(item[1])))
    return {"sharing": most_first, **ends, "nearest": extent(nearest, 0)}


def repeated(study: Study, loss: str) -> dict:
    """Of `at_once` what was run over several seeds, a cell a margin: whether it has room, accuracies in per cent,
    classes given up and directions of each run, and what the runs agree on."""
    cells = []
    for margin, runs in at_once(study, loss).items():
        if len(runs) > 1:
            lost, accuracies = [given_up(f) for f in runs], [accuracy_or_chance(f) for f in runs]
            cells.append({
                "margin": f"{margin:g}", "fits": margin < bound_of(runs, loss), "n": len(runs),
                "failing": sum(n != 0 for n in lost),
                "given_up": lost[0] if len(set(lost)) == 1 else None, "accuracies": [number(a, 1) for a in accuracies],
                "lost": [None if n is None else str(n) for n in lost],
                "directions": [directions(study, f) for f in runs], "shared": shared(study, runs),
                **(extent(accuracies) or {}),
            })  # fmt: skip
    return {"title": LOSSES[loss].title, "scale": f"{DRAWN['scale']:g}", "cells": cells}


def plane(results: Path) -> dict:
    """The grids that are stored, and what of them was repeated over seeds."""
    study = Study(results)
    found = [(title, loss, study.margin_grid(loss, 2, more)) for title, loss, more in GRIDS]
    return {
        "grids": [grid_text(*entry) for entry in found if entry[2]],
        "together": f"{TOGETHER:g}",
        "epochs": max((f["epochs"] for _, _, runs in found for f in runs), default=0),
        "repeated": {loss: repeated(study, loss) for loss in ("arcface", "cosface")},
        "crowded": {name: crowded_together(study, name) for name in DATASETS},
    }  # fmt: skip

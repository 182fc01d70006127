"""Along the scale: normalised softmax, ArcFace and Li-ArcFace without a margin at several scales, for the report."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from choices import LOSSES
from plot_data import NotStored, Study
from plot_scales import families
from report.controls import of_slope
from report.facts import Run, cell, group, mean_settings, paired, pairs_of, values_of
from report.inference import kept
from report.measures import MEASURES
from report.theory import PROBABILITIES

TIGHT = 1.25  # times another's Intra, at most: about as tight
COLUMNS = ("accuracy", "intra", "inter", "eer", "tar")


def along_scale(results: Path, dataset: str) -> dict | None:
    """A row a loss and scale: accuracy, angles, EER and TAR; accuracy and EER minus those of normalised softmax at the
    same scale (`accuracy_minus`, `eer_minus`), and EER minus that at the scale where its Intra is nearest (`near`),
    where it is near; of Li-ArcFace that at the scale where its slope is the same, too (`slope`).

    leads: by what cosine the true class must be ahead of all others, equally far, for the first of PROBABILITIES.
    corrected: what Holm's correction leaves of the differences in EER at the same scale. None without two scales.
    """
    try:
        found = families(Study(results), dataset)
    except NotStored:
        return None
    by_seed = {(family.loss, s): {f["seed"]: f for f in runs} for family in found for s, runs in family.scales.items()}
    plain = {s: members for (loss, s), members in by_seed.items() if loss == "norm-softmax"}
    titles = {family.loss: family.title for family in found}
    rows: list[dict[str, Any]] = []
    tested: dict[str, list[tuple[float, float]] | None] = {}
    for (loss, scale), members in by_seed.items():
        row: dict[str, Any] = {"loss": loss, "title": titles[loss], "scale": f"{scale:g}", "n": len(members)}
        row |= {"cells": {name: cell(members, MEASURES[name]) for name in COLUMNS}, "near": None}
        base = plain.get(scale) if loss != "norm-softmax" else None
        for name in ("accuracy", "eer"):
            row[f"{name}_minus"] = paired(members, base, MEASURES[name], same_scale=True) if base else None
        if base:
            tested[f"{titles[loss]} at {scale:g}"] = pairs_of(members, base, MEASURES["eer"], same_scale=True)
        if loss != "norm-softmax" and plain:
            row["near"] = nearest_in_tightness(scale, members, plain)
        row["slope"] = of_the_same_slope(scale, members, plain) if loss == "li-arcface" else None
        rows.append(row)
    classes = len(next(iter(found[0].scales.values()))[0]["classes"])
    leads = {f"{s:g}": f"{lead(s, classes):.2f}" for s in sorted({s for _, s in by_seed})}
    return {"rows": rows, "corrected": kept(tested), "probability": f"{PROBABILITIES[0]:g}", "leads": leads}


def scales_of(runs: list[Run], dataset: str) -> dict[str, dict[int, dict]]:
    """{'ArcFace at s = 4, m₂ = 0.5': {seed: metrics}} of the runs that the study makes along the scale alone."""
    of_part = [run for run in runs if run.facts.get("part") == "scale"]
    found = (group(of_part, dataset, extra) for extra in sorted({run.extra for run in of_part}))
    return {f"{LOSSES[loss].title} at {mean_settings(members)}": members
            for groups in found for loss, members in groups.items()}  # fmt: skip


def lead(scale: float, classes: int) -> float:
    """cos(own) - cos(others) at which softmax of s cos gives the own class P, the first of PROBABILITIES, all others
    being equally far: 1 / (1 + (C - 1) exp(-s lead)) = P."""
    return math.log((classes - 1) * PROBABILITIES[0] / (1 - PROBABILITIES[0])) / scale


def of_the_same_slope(own_scale: float, members: dict[int, dict], plain: dict[float, dict[int, dict]]) -> dict | None:
    """What Li-ArcFace without a margin has minus normalised softmax as steep at a right angle: that scale, and EER and
    Intra, paired by seed. None where there is none."""
    scale = of_slope(own_scale, plain)
    if scale is None:
        return None
    return {"scale": f"{scale:g}", **{name: paired(members, plain[scale], MEASURES[name])
                                      for name in ("eer", "intra")}}  # fmt: skip


def nearest_in_tightness(
    own_scale: float, members: dict[int, dict], plain: dict[float, dict[int, dict]]
) -> dict | None:
    """The scale of normalised softmax whose mean Intra is nearest to that of `members`, by ratio, that Intra, and EER
    minus its, paired by seed. None where none is within a factor of TIGHT, or where it is their own scale."""
    intra = {s: fmean(values_of(runs, MEASURES["intra"]).values()) for s, runs in plain.items()}
    own = fmean(values_of(members, MEASURES["intra"]).values())
    apart = {s: abs(math.log(mean / own)) for s, mean in intra.items()}
    scale = min(apart, key=lambda s: apart[s])
    if apart[scale] > math.log(TIGHT) or scale == own_scale:
        return None
    return {"scale": f"{scale:g}", "intra": cell(plain[scale], MEASURES["intra"]),
            "eer": paired(members, plain[scale], MEASURES["eer"])}  # fmt: skip

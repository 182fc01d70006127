"""What became of margins past the bound in the plane, for the report's text: the grids that plot_plane.py draws."""

import math
from pathlib import Path

import numpy as np

from losses import LOSSES
from plot_data import Study, head_accuracy
from plot_plane import AT_ONCE, DRAWN, GRIDS, bound_of, spacing
from report.facts import number

ALIKE = 0.1  # weights nearer to each other than this part of the margin share a direction


def extent(values: list[float], digits: int = 1) -> dict | None:
    """The lowest and the highest of some numbers as text; None of none."""
    return {"low": number(min(values), digits), "high": number(max(values), digits)} if values else None


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
        "within": extent([head_accuracy(f) for f in within]),
        "past_small": extent([head_accuracy(f) for f in past if f["scale"] == scales[0]]),
        "past_large": extent([head_accuracy(f) for f in past if f["scale"] > scales[0]]),
        "plain_spacing": extent([spacing(f) for f in large if f["loss"] == "norm-softmax"]),
        "spacing": extent([spacing(f) for f in large if f in within]),
    }  # fmt: skip


def directions(weights: np.ndarray, margin: float) -> tuple[int, float]:
    """How many directions 2-D class weights [C, 2] share among them, and the smallest angle (radians) between two."""
    angles = np.sort(np.arctan2(weights[:, 1], weights[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * math.pi))
    apart = gaps[gaps > ALIKE * margin]
    return len(apart), float(apart.min())


def at_once(study: Study, loss: str) -> dict[float, list[dict]]:
    """Runs at the drawn scale with margin and scale full from the first step: {margin: one a seed}."""
    own = LOSSES[loss].own_margin or ""
    found: dict[float, list[dict]] = {}
    for facts in study.grid(loss, ("scale", "margin", *AT_ONCE), dim=2):
        if facts["scale"] == DRAWN["scale"]:
            found.setdefault(facts[own], []).append(facts)
    return dict(sorted(found.items()))


def repeated(study: Study, loss: str) -> list[dict]:
    """Of `at_once` what was run over several seeds: margin, whether it has room, accuracies in per cent and n."""
    several = {margin: runs for margin, runs in at_once(study, loss).items() if len(runs) > 1}
    return [
        {"margin": f"{margin:g}", "fits": margin < bound_of(runs, loss), "n": len(runs),
         **(extent([head_accuracy(f) for f in runs]) or {})} for margin, runs in several.items()
    ]  # fmt: skip


def survivors(study: Study) -> dict | None:
    """The directions left by ArcFace's largest margin, full from the first step, beside how many have room.

    None where no such run is stored with its weights, or where the seeds end with different numbers of them.
    """
    runs = list(at_once(study, "arcface").values())[-1:]
    known = [f for f in (runs[0] if runs else []) if "weights" in study.arrays(f)]
    if not known:
        return None
    margin = known[0]["m2"]
    counts, gaps = zip(*(directions(study.arrays(f)["weights"], margin) for f in known), strict=True)
    if len(set(counts)) > 1:
        return None
    return {
        "margin": f"{margin:g}", "degrees": number(math.degrees(margin), 1), "scale": f"{known[0]['scale']:g}",
        "count": counts[0], "gap": number(math.degrees(min(gaps)), 1), "room": math.floor(2 * math.pi / margin),
        "ratio": number(2 * math.pi / margin, 1), "n": len(known), "classes": len(known[0]["classes"]),
        **(extent([head_accuracy(f) for f in known]) or {}),
    }  # fmt: skip


def plane(results: Path) -> dict:
    """The grids that are stored, and what is left of ten classes under the largest margin."""
    study = Study(results)
    found = [(title, loss, study.margin_grid(loss, 2, more)) for title, loss, more in GRIDS]
    return {
        "grids": [grid_text(*entry) for entry in found if entry[2]], "survivors": survivors(study),
        "repeated": [{"title": LOSSES[loss].title, "cells": repeated(study, loss)} for loss in ("arcface", "cosface")],
    }  # fmt: skip

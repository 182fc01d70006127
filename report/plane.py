"""What became of margins past the bound in the plane, for the report's text: the grids that plot_plane.py draws."""

import math
from pathlib import Path

import numpy as np

from losses import LOSSES
from plot_data import Study, accuracy_or_chance
from plot_plane import AT_ONCE, DRAWN, GRIDS, bound_of, spacing
from report.facts import number


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


def given_up(facts: dict) -> int:
    """Classes of which less than half of the test images are classified correctly."""
    return sum(share is not None and share < 0.5 for share in facts["per_class_accuracy"])


def directions(weights: np.ndarray, margin: float) -> int:
    """How many directions apart class weights [C, 2] take up: groups with gaps of over half the angle that CosFace's
    margin asks of neighbours."""
    angles = np.sort(np.arctan2(weights[:, 1], weights[:, 0]))
    gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
    return max(1, int((gaps > math.acos(1 - margin) / 2).sum()))


def room_for(study: Study, runs: list[dict], margin: float) -> dict:
    """How many directions in the plane CosFace's margin leaves room for, and how many the runs' weights take up, where
    that is the same number in all."""
    found = {directions(arrays["weights"], margin) for f in runs if "weights" in (arrays := study.arrays(f))}
    return {"fit": int(2 * math.pi / math.acos(1 - margin)), "taken": found.pop() if len(found) == 1 else None}


def repeated(study: Study, loss: str) -> dict:
    """Of `at_once` what was run over several seeds: margins with their accuracies in per cent, whether they have room,
    and how many classes they give up, where that is the same number on every seed."""
    cells = []
    for margin, runs in at_once(study, loss).items():
        lost = {given_up(f) if "accuracy" in f else None for f in runs}
        if len(runs) > 1:
            cells.append({
                "margin": f"{margin:g}", "fits": margin < bound_of(runs, loss), "n": len(runs),
                "given_up": lost.pop() if len(lost) == 1 else None,
                **(extent([accuracy_or_chance(f) for f in runs]) or {}),
                **(room_for(study, runs, margin) if loss == "cosface" else {}),
            })  # fmt: skip
    return {"title": LOSSES[loss].title, "scale": f"{DRAWN['scale']:g}", "cells": cells}


def plane(results: Path) -> dict:
    """The grids that are stored, and what of them was repeated over seeds."""
    study = Study(results)
    found = [(title, loss, study.margin_grid(loss, 2, more)) for title, loss, more in GRIDS]
    return {
        "grids": [grid_text(*entry) for entry in found if entry[2]],
        "repeated": {loss: repeated(study, loss) for loss in ("arcface", "cosface")},
    }  # fmt: skip

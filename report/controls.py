"""Runs beside the main tables: other scales, more training, and how many samples keep a margin."""

import math
import re
from collections.abc import Iterable
from typing import Any

from choices import LOSSES, WITHOUT_SCALE, Margins
from plot_data import margins_in
from plot_style import channels
from recipes import BASE, Settings
from report.facts import (
    DATASETS,
    DIM,
    Run,
    alike,
    cell,
    devices_text,
    differences,
    group,
    mean_settings,
    paired,
    scale_of,
)
from report.measures import MEASURES, TABLES
from study import LARGEST_SEEDS, WIDER_SEEDS

KEPT_OF = ("control", "scale", "longer")  # parts of the study; the tables, grids and budgets are too many


def controls_of(runs: list[Run], dataset: str) -> list[dict]:
    """Groups of norm-softmax runs at scales beyond the recipe's, made to be compared with margin losses at the same."""
    runs = [run for run in runs if run.facts.get("part") != "scale"]  # see scales.py
    names = sorted({run.extra for run in runs if re.fullmatch(r"scale=[\d.]+", run.extra)})
    found = [group(runs, dataset, name).get("norm-softmax") for name in names]
    return [members for members in found if members]


def margins_of(runs: list[Run], dataset: str) -> list[dict]:
    """Groups of margin losses at another scale than the recipe's, with a margin of their own."""
    runs = [run for run in runs if run.facts.get("part") != "scale"]  # see scales.py
    named = sorted({(list(LOSSES).index(run.loss), run.extra) for run in runs
                    if re.fullmatch(r"scale=[\d.]+-margin=[\d.]+", run.extra)}, reverse=True)  # fmt: skip
    found = [group(runs, dataset, name).get(list(LOSSES)[at]) for at, name in named]
    return [members for members in found if members]


def by_scale(groups: dict, controls: list[dict], margins: list[dict]) -> list[dict]:
    """NSL at the recipe's and the controls' scales, margins at other scales, AdaCos and ArcFace: accuracy, angles, EER.

    recipe: NSL's row at the recipe's scale; own: a margin at another. With EER minus ArcFace's and minus NSL's at the
    recipe's scale; elsewhere: as the function of that name. Empty
    without a control: the main tables then say as much.
    """
    arcface = groups.get("arcface")
    if not controls or not arcface:
        return []
    own, adacos = ([groups[loss]] if loss in groups else [] for loss in ("norm-softmax", "adacos"))
    plain = sorted(own + controls, key=scale_of)
    rows = []
    for members in (*plain, *margins, *adacos, arcface):
        first = next(iter(members.values()))
        rows.append({"title": LOSSES[first["loss"]].title, "recipe": members in own,
                     "scale": f"{first['scale']:g}", "own": members in margins,
                     "settings": mean_settings(members), "n": len(members),
                     "cells": [cell(members, MEASURES[name]) for name in TABLES["low"]],
                     "eer": paired(members, arcface, MEASURES["eer"], digits=3) if members is not arcface else None,
                     "minus_own": paired(members, own[0], MEASURES["eer"], digits=3)
                     if own and members is not own[0] else None,
                     "elsewhere": elsewhere(members, arcface), "tar": cell(members, MEASURES["tar"])})  # fmt: skip
    return rows


VARIANTS = {"cm2": ("combined", "margin=cm2"), "line": ("li-arcface", "margin=0")}


def variants_of(runs: list[Run], dataset: str) -> dict[str, dict]:
    """Groups of runs by the name in VARIANTS, those that were run: two losses once more with other margins, the
    combined form with ArcFace's second preset and Li-ArcFace without a margin."""
    found = {name: group(runs, dataset, extra).get(loss)
             for name, (loss, extra) in VARIANTS.items()}  # fmt: skip
    return {name: members for name, members in found.items() if members}


def of_slope(line_scale: float, scales: Iterable[float]) -> float | None:
    """Among scales of normalised softmax that at which its logit falls at a right angle, by s a radian, as steeply as
    Li-ArcFace's line everywhere, by 2 s / pi; None where none is within one in a hundred."""
    wanted = 2 * line_scale / math.pi
    nearest = min(scales, key=lambda scale: abs(scale - wanted), default=0.0)
    return nearest if math.isclose(nearest, wanted, rel_tol=0.01) else None


def variants(runs: list[Run], dataset: str, groups: dict) -> dict[str, dict | None]:
    """VARIANTS: accuracy, angles and EER; accuracy, Intra and EER minus those of the table's run of that loss (`own`)
    and of its NSL (`plain`), paired by seed. `beside_arcface`: of Li-ArcFace the table's run, with its margin, minus
    ArcFace's. `slope`: minus NSL at the scale, `slope_scale`, with the slope of that loss's line, where a control has
    it. None for one that was not run."""
    stored = variants_of(runs, dataset)
    controls = {scale_of(members): members for members in controls_of(runs, dataset)}

    def variant(name: str) -> dict | None:
        loss, found = VARIANTS[name][0], stored.get(name)
        if not found:
            return None
        cells = {name: cell(found, MEASURES[name]) for name in ("accuracy", "intra", "eer")}
        slope = of_slope(scale_of(found), controls) if name == "line" else None
        sloped = controls[slope] if slope else {}
        minus: dict[str, Any] = {}
        for key, other in (("own", groups.get(loss)), ("plain", groups.get("norm-softmax")), ("slope", sloped)):
            pairs = {name: paired(found, other, MEASURES[name]) if other else None
                     for name in ("accuracy", "intra", "eer")}  # fmt: skip
            minus[key] = pairs if all(pairs.values()) else None
        place = elsewhere(found, groups[loss]) if loss in groups else None
        both = loss in groups and "arcface" in groups
        return {"settings": mean_settings(found), "n": len(found), "cells": cells, "elsewhere": place,
                "beside_arcface": paired(groups[loss], groups["arcface"], MEASURES["eer"]) if both else None,
                "slope_scale": f"{slope:g}" if slope else None, **minus}  # fmt: skip

    return {name: variant(name) for name in VARIANTS}


def elsewhere(members: dict[int, dict], table: dict[int, dict]) -> str | None:
    """'1 thread of AMD EPYC with PyTorch 2.15.0': where a CPU's runs beside a GPU's table were made, or the other way
    round; None of runs on the same kind."""
    there, here = ({"cpu" in f["device"] for f in some.values()} for some in (table, members))
    if here <= there:
        return None
    versions = sorted({f["torch"].split("+")[0] for f in members.values()})
    return f"{devices_text({f['device'] for f in members.values()})} with PyTorch {', '.join(versions)}"


def margins_kept(runs: list[Run]) -> list[dict]:
    """Rows of controls and longer runs, alike but for their seed, asked whether their samples keep a margin: their own
    and ArcFace's, on training and test images, and by how many degrees the median one is ahead."""
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        recorded = run.facts.get("part") in KEPT_OF and "margins_kept" in run.facts
        if recorded and run.dataset in DATASETS and run.dim == DIM and not run.held_out:
            scale = 0.0 if run.loss in WITHOUT_SCALE else run.facts["scale"]
            order = DATASETS.index(run.dataset), list(LOSSES).index(run.loss), scale, run.extra
            found.setdefault(order, []).append(run)
    rows = []
    for _, members in sorted(found.items()):
        members, _ = alike(members)
        of_seed = {run.seed: run.facts for run in members}
        first = members[0].facts
        rows.append({
            "dataset": members[0].dataset, "loss": first["loss"], "title": LOSSES[first["loss"]].title,
            "settings": mean_settings(of_seed), "n": len(of_seed), "epochs": first["epochs"],
            "margin": margins_in(first) != Margins(),
            "cells": [cell(of_seed, MEASURES[name]) for name in TABLES["kept"]],
        })  # fmt: skip
    return rows


def longer_groups(runs: list[Run], dataset: str) -> dict[str, dict[int, dict]]:
    """Groups of the runs with more epochs and the mean of the weights; empty where there are none."""
    own = [run for run in runs if run.dataset == dataset]
    names = sorted({run.extra for run in own if re.fullmatch(r"epochs=\d+-averaging=[\d.]+", run.extra)})
    return group(own, dataset, names[0]) if names else {}


def larger(runs: list[Run], dataset: str) -> list[dict]:
    """ArcFace with more training and larger networks, as far as they were run: network, epochs, accuracy and EER, and
    how many seeds the study has of it (`planned`)."""
    rows = []
    for part, seeds in (("wider", WIDER_SEEDS), ("largest", LARGEST_SEEDS)):
        found = alike([run for run in runs if run.facts.get("part") == part and run.dataset == dataset])[0]
        members = {run.seed: run.facts for run in found}
        for first in found[:1]:
            rows.append({"net": channels(first.facts), "depth": first.facts["depth"], "epochs": first.facts["epochs"],
                         "averaging": first.facts["averaging"], "planned": seeds,
                         **{name: cell(members, MEASURES[name]) for name in ("accuracy", "eer")}})  # fmt: skip
    return rows


def longer(runs: list[Run], dataset: str) -> dict | None:
    """Runs of several losses with more epochs and the mean of the weights: a row a loss, and what is ahead of what;
    None where there are none."""
    if not (groups := longer_groups(runs, dataset)):
        return None
    first = next(iter(next(iter(groups.values())).values()))
    accuracy, eer = (differences(groups, [], MEASURES[name]) for name in ("accuracy", "eer"))
    rows = [
        {"loss": loss, "title": LOSSES[loss].title, "n": len(members),
         "cells": [cell(members, MEASURES[name]) for name in TABLES["low"]],
         "softmax": accuracy[loss]["softmax"], "plain": accuracy[loss]["norm-softmax"],
         "eer": eer[loss]["norm-softmax"], "eer_softmax": eer[loss]["softmax"]}
        for loss, members in groups.items()
    ]  # fmt: skip
    usual = {"averaging": Settings.averaging} | BASE[dataset]
    return {"epochs": first["epochs"], "averaging": first["averaging"], "usual_epochs": usual["epochs"],
            "own_averaging": usual["averaging"] == first["averaging"], "rows": rows}  # fmt: skip

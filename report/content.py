"""All of the study's numbers in one value for the report's text: tables, differences, claims, protocol."""

import re
from pathlib import Path
from statistics import fmean
from typing import Any

from losses import LOSSES
from plot_data import LEVEL
from plot_style import channels, data_title, settings_text
from recipes import CROWDED
from report.claims import claims, paper_angles, papers
from report.facts import (
    DATASETS,
    DIM,
    MEASURES,
    TABLES,
    Run,
    cell,
    differences,
    group,
    margin_verdicts,
    number,
    paired,
    set_aside,
    sources,
    span,
    stored_runs,
    table,
    values_of,
)
from report.plane import plane
from report.sensitivity import sensitivity
from runs import read_json

DIMENSIONS = (2, 3, 8, 32, 128, 512, 1024)
OVERVIEW = ("arcface", "accuracy")  # what the abstract quotes of each data set


def protocol(runs: list[Run]) -> dict[str, Any]:
    """What the main runs of one data set had in common, as text; spans where they differ."""
    facts = [run.facts for run in runs]
    if not facts:
        return {}
    first = facts[0]
    return {
        "epochs": span(f["epochs"] for f in facts), "batch": span(f["batch_size"] for f in facts),
        "lr": span(f["lr"] for f in facts), "widths": channels(first),
        "parameters": span_of_thousands([f["parameters"] for f in facts]),
        "head": f"{len(first['classes']) * first['embedding_dim']:,}",
        "devices": "; ".join(sorted({f["device"] for f in facts})),
        "precision": " and ".join(sorted({f["precision"] for f in facts})),
        "torch": ", ".join(sorted({f["torch"].split("+")[0] for f in facts})),
        "shift": first["shift"], "flip": first["flip"], "warmup": span(100 * f["margin_warmup"] for f in facts) + " %",
        "pairs": f"{first['verification'].get('pairs', 0):,}", "scale": span(
            f["scale"] for f in facts if f["loss"] not in ("softmax", "adacos")),
        "runs": len(facts), "seeds": span({run.loss: sum(r.loss == run.loss for r in runs) for run in runs}.values()),
    }  # fmt: skip


def span_of_thousands(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def drawn(runs: list[Run], dataset: str, dim: int) -> dict:
    """The groups of a low dimension; their runs may be shorter than the recipe's, and say so in their names."""
    short = [run._replace(extra="") if run.extra.startswith("epochs=") else run for run in runs]
    return group(short, dataset=dataset, dim=dim, held_out="", extra="")


def low_tables(runs: list[Run], dataset: str) -> list[dict]:
    """The tables of a data set in two and three dimensions, those with a run."""
    tables = []
    for dim in (2, 3):
        groups = drawn(runs, dataset, dim)
        if groups:
            facts = [f for members in groups.values() for f in members.values()]
            nets = sorted({channels(f) for f in facts})
            tables.append({"dim": dim, "epochs": span(f["epochs"] for f in facts), "nets": nets,
                           "lr": span(f["lr"] for f in facts),
                           **table(groups, TABLES["low"])})  # fmt: skip
    return tables


def dimension_table(runs: list[Run], dataset: str, loss: str = "arcface") -> list[dict]:
    """Accuracy and angles of one loss against the embedding's size, as far as measured."""
    rows = []
    for dim in DIMENSIONS:
        members = group(runs, dataset=dataset, dim=dim, held_out="", extra="").get(loss)
        if members:
            cells = [cell(members, MEASURES[name]) for name in ("accuracy", "intra", "inter", "eer")]
            rows.append({"dim": dim, "n": len(members), "cells": cells, "epochs": span(
                f["epochs"] for f in members.values())})  # fmt: skip
    return rows


def compared(groups: dict, controls: list[dict]) -> list[dict]:
    """A row a loss: its accuracy differences to softmax, and to NSL at the same scale."""
    rows = differences(groups, controls, MEASURES["accuracy"])
    return [{"loss": loss, "title": LOSSES[loss].title, **rows[loss]} for loss in LOSSES if loss in rows]


def controls_of(runs: list[Run], dataset: str) -> list[dict]:
    """Groups of norm-softmax runs at scales beyond the recipe's, made to be compared with margin losses at the same."""
    names = sorted({run.extra for run in runs if re.fullmatch(r"scale=[\d.]+", run.extra)})
    found = [group(runs, dataset=dataset, dim=DIM, held_out="", extra=name).get("norm-softmax") for name in names]
    return [members for members in found if members]


def by_scale(groups: dict, controls: list[dict]) -> list[dict]:
    """NSL at every scale it was run at, beside AdaCos and ArcFace; with EER less ArcFace's, accuracy less softmax's.

    Empty without a control: the main tables then say as much.
    """
    arcface, softmax = groups.get("arcface"), groups.get("softmax")
    if not controls or not arcface:
        return []
    own, adacos = ([groups[loss]] if loss in groups else [] for loss in ("norm-softmax", "adacos"))
    plain = sorted(own + controls, key=lambda members: next(iter(members.values()))["scale"])
    rows = []
    for members in (*plain, *adacos, arcface):
        first = next(iter(members.values()))
        rows.append({"title": LOSSES[first["loss"]].title, "settings": settings_text(first), "n": len(members),
                     "cells": [cell(members, MEASURES[name]) for name in TABLES["low"]],
                     "eer": paired(members, arcface, MEASURES["eer"], digits=3) if members is not arcface else None,
                     "softmax": paired(members, softmax, MEASURES["accuracy"]) if softmax else None})  # fmt: skip
    return rows


def open_verdicts(groups: dict, base: str, measure: str) -> dict[str, list[str]]:
    """Titles of the losses by how they stand to `base` on held-out classes, in one of MEASURES."""
    found: dict[str, list[str]] = {"lower": [], "higher": [], "undecided": [], "single": []}
    for loss, row in differences(groups, [], MEASURES[measure]).items():
        if row[base]:
            found[row[base]["verdict"]].append(LOSSES[loss].title)
    return found


def collapse(groups: dict) -> dict | None:
    """Whether losses that draw the trained classes tighter tell unseen ones apart worse.

    Spearman's rank correlation over the losses of mean Intra with mean EER on held-out classes; None with fewer than
    four losses that have both, or where one of the two is the same for all.
    """
    from scipy.stats import spearmanr

    both = [[values_of(members, MEASURES[name]) for name in ("intra", "eer")] for members in groups.values()]
    means = [[fmean(values.values()) for values in pair] for pair in both if all(pair)]
    if len(means) < 4 or any(len(set(values)) == 1 for values in zip(*means, strict=True)):
        return None  # too few, or nothing to rank
    found = spearmanr(means)
    return {"correlation": number(float(found.statistic), 2, signed=True), "p": significance(float(found.pvalue)),
            "losses": len(means)}  # fmt: skip


def significance(p: float) -> str:
    """'p = 0.07', or 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def benchmark(results: Path) -> dict | None:
    """What benchmark.py measured, as text: training speed beside the user's pick, heads by number of classes."""
    path = results / "benchmark.json"
    if not path.exists():
        return None
    found = read_json(path)
    machine = next(iter(found.values()))["machine"]
    speed = [
        {"data": data_title(one | {"dataset": name}), "ratio": number(one["images_per_second"]["ours"]["ratio"], 2),
         "float32": number(one["images_per_second"]["ours, float32"]["ratio"], 2),
         "images": f"{one['images_per_second']['ours']['median']:,.0f}"}
        for name, one in found.get("throughput", {}).items() if name != "machine"
    ]  # fmt: skip
    by_classes = found.get("head", {}).get("classes", {})
    names = list(next(iter(by_classes.values()), {}))
    rows = [{"name": name, "ratios": [number(heads[name]["ratio"], 2) for heads in by_classes.values()],
             "memory": next((f"{heads[name]['peak_mb']:,.0f}" for heads in by_classes.values()
                             if "peak_mb" in heads[name]), None)} for name in names]  # fmt: skip
    return {"machine": f"{machine['processor']}, {machine['cores']} cores", "speed": speed, "heads": rows,
            "classes": [f"{int(c):,}" for c in by_classes], "batch": found.get("head", {}).get("batch")}  # fmt: skip


def by_dataset(runs: list[Run], name: str) -> dict[str, Any]:
    """The main tables and comparisons of one data set."""
    groups, controls = group(runs, dataset=name, dim=DIM, held_out="", extra=""), controls_of(runs, name)
    return {
        "accuracy": table(groups, TABLES["accuracy"]), "embedding": table(groups, TABLES["embedding"]),
        "compared": compared(groups, controls),
        "verdicts": margin_verdicts(groups, controls, MEASURES["accuracy"]),
        "verdicts_eer": margin_verdicts(groups, controls, MEASURES["eer"]), "by_scale": by_scale(groups, controls),
    }  # fmt: skip


def content(results: Path) -> dict[str, Any]:
    """Everything that the text says about the runs stored in `results`."""
    runs, failed = stored_runs(results)
    main = {name: group(runs, dataset=name, dim=DIM, held_out="", extra="") for name in DATASETS}
    plain = [run for run in runs if run.dim == DIM and not run.held_out and not run.extra]
    flat = {name: {dim: drawn(runs, name, dim).get("arcface") for dim in (2, 3)} for name in DATASETS}
    splits = sorted({run.held_out for run in runs if run.held_out})
    held_out = {name: {s: group(runs, dataset=name, dim=DIM, held_out=s, extra="") for s in splits}
                for name in DATASETS}  # fmt: skip
    open_tables = [
        {"dataset": name, "classes": split, **table(groups, TABLES["open"]),
         "verdicts": {measure: {base: open_verdicts(groups, base, measure) for base in ("softmax", "norm-softmax")}
                      for measure in ("eer", "rank_1")},
         "collapse": collapse(groups)}
        for name, by_split in held_out.items()
        for split, groups in by_split.items()
        if groups
    ]  # fmt: skip
    quoted = papers()
    loss, measure = OVERVIEW
    return {
        "level": f"{LEVEL:.0%}".replace("%", " %"), "dim": DIM, "runs": len(runs), "failed": failed,
        "aside": set_aside(runs),
        "losses": len(LOSSES), "sources": sources(runs),
        "protocol": {name: protocol([run for run in plain if run.dataset == name]) for name in DATASETS},
        "main": {name: by_dataset(runs, name) for name in DATASETS},
        "overview": {name: cell(g.get(loss, {}), MEASURES[measure]) for name, g in main.items()},
        "flat": {name: {dim: cell(g or {}, MEASURES["accuracy"]) for dim, g in dims.items()}
                 for name, dims in flat.items()},
        "low": {name: low_tables(runs, name) for name in DATASETS},
        "dimension": {name: dimension_table(runs, name) for name in DATASETS},
        "open": open_tables, "claims": claims(main, held_out), "papers": quoted,
        "paper_angles": paper_angles(quoted), "benchmark": benchmark(results),
        "sensitivity": sensitivity(results), "plane": plane(results),
        "crowded_warmup": f"{100 * CROWDED['margin_warmup']:g} %",
    }  # fmt: skip

"""All of the study's numbers in one value for the report's text: tables, differences, claims, protocol."""

import statistics
from pathlib import Path
from typing import Any

from losses import LOSSES
from report.claims import claims, paper_angles, papers
from report.facts import (
    DATASETS,
    DIM,
    LEVEL,
    MEASURES,
    TABLES,
    Run,
    cell,
    differences,
    group,
    margin_verdicts,
    number,
    sources,
    span,
    stored_runs,
    table,
)

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
        "lr": span(f["lr"] for f in facts), "widths": "/".join(str(w) for w in first["widths"]),
        "parameters": span_of_thousands([f["parameters"] for f in facts]),
        "head": f"{len(first['classes']) * first['embedding_dim']:,}",
        "seconds": number(statistics.median(f["train_seconds"] for f in facts), 0),
        "devices": "; ".join(sorted({f["device"] for f in facts})),
        "precision": " and ".join(sorted({f["precision"] for f in facts})),
        "torch": ", ".join(sorted({f["torch"].split("+")[0] for f in facts})),
        "shift": first["shift"], "flip": first["flip"], "warmup": span(f["margin_warmup"] for f in facts),
        "pairs": f"{first['verification'].get('pairs', 0):,}", "scale": span(
            f["scale"] for f in facts if f["loss"] not in ("softmax", "adacos")),
        "runs": len(facts), "seeds": span({run.loss: sum(r.loss == run.loss for r in runs) for run in runs}.values()),
    }  # fmt: skip


def span_of_thousands(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def low_tables(runs: list[Run], dataset: str) -> list[dict]:
    """The tables of a data set in two and three dimensions, those with a run."""
    tables = []
    for dim in (2, 3):
        groups = group(runs, dataset=dataset, dim=dim, held_out="")
        if groups:
            tables.append({"dim": dim, **table(groups, TABLES["low"])})
    return tables


def dimension_table(runs: list[Run], dataset: str, loss: str = "arcface") -> list[dict]:
    """Accuracy and angles of one loss against the embedding's size, as far as measured."""
    rows = []
    for dim in DIMENSIONS:
        members = group(runs, dataset=dataset, dim=dim, held_out="").get(loss)
        if members:
            cells = [cell(members, MEASURES[name]) for name in ("accuracy", "intra", "inter", "eer")]
            rows.append({"dim": dim, "n": len(members), "cells": cells, "epochs": span(
                f["epochs"] for f in members.values())})  # fmt: skip
    return rows


def compared(groups: dict) -> list[dict]:
    """A row a loss: its accuracy differences to softmax, and to NSL at the same scale."""
    rows = differences(groups, MEASURES["accuracy"])
    return [{"loss": loss, "title": LOSSES[loss].title, **rows[loss]} for loss in LOSSES if loss in rows]


def study(results: Path) -> dict[str, Any]:
    """Everything that the text says about the runs stored in `results`."""
    runs, failed = stored_runs(results)
    main = {name: group(runs, dataset=name, dim=DIM, held_out="") for name in DATASETS}
    splits = sorted({run.held_out for run in runs if run.held_out})
    held_out = {name: {s: group(runs, dataset=name, dim=DIM, held_out=s) for s in splits} for name in DATASETS}
    open_tables = [
        {"dataset": name, "classes": split, **table(groups, TABLES["open"])}
        for name, by_split in held_out.items()
        for split, groups in by_split.items()
        if groups
    ]
    first_split = {name: next((g for g in by_split.values() if g), {}) for name, by_split in held_out.items()}
    quoted = papers()
    loss, measure = OVERVIEW
    return {
        "level": f"{LEVEL:.0%}".replace("%", " %"), "dim": DIM, "runs": len(runs), "failed": failed,
        "losses": len(LOSSES), "sources": sources(runs),
        "protocol": {name: protocol([r for r in runs if r.dataset == name and r.dim == DIM and not r.held_out])
                     for name in DATASETS},
        "main": {name: {"accuracy": table(g, TABLES["accuracy"]), "embedding": table(g, TABLES["embedding"]),
                        "compared": compared(g), "verdicts": margin_verdicts(g, MEASURES["accuracy"]),
                        "verdicts_eer": margin_verdicts(g, MEASURES["eer"])} for name, g in main.items()},
        "overview": {name: cell(g[loss], MEASURES[measure]) if loss in g else None for name, g in main.items()},
        "flat": {name: {dim: cell(g["arcface"], MEASURES["accuracy"]) if "arcface" in (
            g := group(runs, dataset=name, dim=dim, held_out="")) else None for dim in (2, 3)} for name in DATASETS},
        "low": {name: low_tables(runs, name) for name in DATASETS},
        "dimension": {name: dimension_table(runs, name) for name in DATASETS},
        "open": open_tables, "claims": claims(main, first_split), "papers": quoted,
        "paper_angles": paper_angles(quoted),
    }  # fmt: skip

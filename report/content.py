"""All of the study's numbers in one value for the report's text: tables, differences, claims, protocol."""

import contextlib
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import binomtest

from choices import LOSSES, Margins
from plot_data import LEVEL, NotStored, Study, head_accuracy, margins_in
from plot_style import channels, data_title
from recipes import CROWDED, Settings
from report.by_measure import by_measure, error_floor, related
from report.claims import claims, paper_angles, papers, scale_share
from report.controls import (
    by_scale,
    controls_of,
    elsewhere,
    larger,
    longer,
    margins_kept,
    margins_of,
    variants,
    variants_of,
)
from report.facts import (
    DATASETS,
    DIM,
    Run,
    cell,
    devices_text,
    differences,
    extent,
    group,
    margin_verdicts,
    margins_and_plain,
    mean_settings,
    number,
    paired,
    pairs_of,
    set_aside,
    sources,
    span,
    stored_runs,
    table,
)
from report.inference import kept
from report.measures import MEASURES, TABLES
from report.open_set import corrected, open_tables
from report.plane import plane
from report.recipe import network_search, read_stored, recipe, scale_search
from report.scales import along_scale, scales_of
from report.sensitivity import sensitivity
from study import DIMENSIONS

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
        "devices": devices_text({f["device"] for f in facts}), "on_gpu": any("cpu" not in f["device"] for f in facts),
        "precision": " and ".join(sorted({f["precision"] for f in facts})),
        "torch": ", ".join(sorted({f["torch"].split("+")[0] for f in facts})),
        "depth": first.get("depth", Settings.depth), "momentum": first.get("momentum", Settings.momentum),
        "averaging": first.get("averaging", Settings.averaging), "shift": first["shift"], "flip": first["flip"],
        "warmup": span(100 * f["margin_warmup"] for f in facts) + " %",
        "pairs": f"{first['verification'].get('pairs', 0):,}", "scale": span(
            f["scale"] for f in facts if f["loss"] not in ("softmax", "adacos")),
    }  # fmt: skip


def span_of_thousands(values: list[int]) -> str:
    """'1,234', or '1,234 to 5,678' where they differ."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def drawn(runs: list[Run], dataset: str, dim: int) -> dict:
    """The groups of a low dimension; their runs may be shorter than the recipe's, and say so in their names."""
    short = [run._replace(extra="") if run.extra.startswith("epochs=") else run for run in runs]
    return group(short, dataset, dim=dim)


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


def dimension_table(runs: list[Run], dataset: str) -> list[dict]:
    """ArcFace's accuracy and angles against the embedding's size, as far as measured."""
    rows = []
    for dim in DIMENSIONS:
        members = group(runs, dataset, dim=dim).get("arcface")
        if members:
            cells = [cell(members, MEASURES[name]) for name in ("accuracy", "intra", "inter", "eer")]
            rows.append({"dim": dim, "n": len(members), "cells": cells, "epochs": span(
                f["epochs"] for f in members.values())})  # fmt: skip
    return rows


def compared(groups: dict, controls: list[dict]) -> list[dict]:
    """A row a loss: its accuracy differences to softmax, and to NSL at the same scale."""
    rows = differences(groups, controls, MEASURES["accuracy"])
    return [{"loss": loss, "title": LOSSES[loss].title, **rows[loss]} for loss in LOSSES if loss in rows]


def ten_fold(groups: dict) -> dict | None:
    """ArcFace minus NSL at the same scale in the papers' own measure; None where they cannot be compared."""
    if "arcface" not in groups or "norm-softmax" not in groups:
        return None
    return paired(groups["arcface"], groups["norm-softmax"], MEASURES["ten_fold"], same_scale=True)


def extras_of(runs: list[Run], dataset: str, groups: dict, controls: list[dict]) -> dict[str, dict[int, dict]]:
    """{title: {seed: metrics}} of what was run in the table's dimension beside the table, where the table was: the
    controls' scales, margins there, the variants and the runs along the scale."""
    preset = variants_of(runs, dataset)
    found = {"CM2": preset.pop("cm2")} if "cm2" in preset else {}
    for members in (*controls, *preset.values(), *margins_of(runs, dataset)):
        loss = next(iter(members.values()))["loss"]
        found[f"{LOSSES[loss].title} at {mean_settings(members)}"] = members
    found |= scales_of(runs, dataset)
    tabled: dict[int, dict] = next(iter(groups.values()), {})
    return {title: members for title, members in found.items() if not elsewhere(members, tabled)}


def families(groups: dict, extras: dict[str, dict]) -> dict[str, dict]:
    """What Holm's correction leaves of the comparisons behind each question, over the table's losses and `extras_of`:
    accuracy against softmax's; accuracy and EER with a margin against NSL's at the recipe's scale; EER without one
    against ArcFace's."""
    own = groups.get("norm-softmax")
    tabled = {LOSSES[loss].title: members for loss, members in groups.items()}
    bare = {f"Norm-softmax at {mean_settings(own)}": own} if own else {}
    bare |= {"AdaCos": groups["adacos"]} if "adacos" in groups else {}
    with_margin = {measure: margins_and_plain(groups, measure) for measure in ("accuracy", "eer")}
    for title, members in extras.items():
        if margins_in(next(iter(members.values()))) == Margins():
            bare[title] = members
        elif own:
            for measure, family in with_margin.items():
                family[title] = pairs_of(members, own, MEASURES[measure], same_scale=True)

    def against(base: str, measure: str, family: dict[str, dict]) -> dict:
        rest = {title: members for title, members in family.items() if base in groups and title != LOSSES[base].title}
        return kept({title: pairs_of(m, groups[base], MEASURES[measure]) for title, m in rest.items()})

    return {
        "softmax": against("softmax", "accuracy", tabled | extras),
        "nsl": kept(with_margin["accuracy"]), "nsl_eer": kept(with_margin["eer"]),
        "arcface_eer": against("arcface", "eer", bare),
    }  # fmt: skip


def beyond_the_table(groups: dict, some: dict[str, dict]) -> list[dict]:
    """What of {title: members} is ahead of the table's softmax in accuracy, with its mean difference."""
    plain = groups.get("softmax")
    found = {title: paired(members, plain, MEASURES["accuracy"]) if plain else None for title, members in some.items()}
    return [{"title": title, "mean": one["mean"]} for title, one in found.items() if one and one["verdict"] == "higher"]


def machine_text(part: dict | None) -> str:
    """'AMD EPYC, 2 cores': where a part of benchmark.json was measured; nothing of a part that is not there."""
    return f"{part['machine']['processor']}, {part['machine']['cores']} cores" if part else ""


def benchmark_text(found: dict) -> dict:
    """What benchmark.py measured, as text: training speed beside the user's pick, heads by number of classes."""
    speed = [
        {"data": data_title(one | {"dataset": name}), "ratio": number(one["images_per_second"]["ours"]["ratio"], 2),
         "float32": number(one["images_per_second"]["ours, float32"]["ratio"], 2),
         "images": f"{one['images_per_second']['ours']['median']:,.0f}"}
        for name, one in found.get("throughput", {}).items() if name != "machine"
    ]  # fmt: skip
    by_classes = found.get("head", {}).get("classes", {})
    names, memory = list(next(iter(by_classes.values()), {})), found.get("memory", {}).get("classes", {})
    rows = [
        {"name": LOSSES[name].title if name in LOSSES else name,
         "ratios": [number(heads[name]["ratio"], 2) for heads in by_classes.values()],
         "ranges": [{end: number(heads[name][f"ratio_{end}"], 2) for end in ("low", "high")}
                    for heads in by_classes.values()],
         "memory": [f"{memory[count][name]:,.{0 if memory[count][name] >= 100 else 1}f}"
                    if name in memory.get(count, {}) else None for count in by_classes]}
        for name in names
    ]  # fmt: skip
    shares = found.get("head", {}).get("share_of_step", {})
    return {
        "machine": machine_text(found.get("throughput")), "head_machine": machine_text(found.get("head")),
        "share": {name: number(100 * heads["arcface"], 1) for name, heads in shares.items() if "arcface" in heads},
        "speed": speed, "heads": rows, "classes": [f"{int(c):,}" for c in by_classes],
        "batch": found.get("head", {}).get("batch"),
    }  # fmt: skip


def train_error(groups: dict) -> dict | None:
    """Lowest and highest mean training error of the losses' last epoch, without margin, in per cent, as text."""
    errors = [100 * (1 - fmean(f["train_accuracy"] for f in members.values())) for members in groups.values()
              if all("train_accuracy" in f for f in members.values())]  # fmt: skip
    return extent(errors, 2)


def most_confused(members: dict[int, dict]) -> dict | None:
    """The two classes taken for each other most often, over seeds, and their share of all mistakes in per cent."""
    found = [np.array(f["confusion"]) for f in members.values() if "confusion" in f]
    counts = np.sum(found, axis=0) if found else np.zeros((2, 2))
    if not (wrong := counts.sum() - counts.trace()):
        return None
    both = np.triu(counts + counts.T, 1)
    names = next(iter(members.values()))["classes"]
    pair = [names[i] for i in np.unravel_index(both.argmax(), both.shape)]
    return {"classes": " and ".join(pair), "share": number(100 * both.max() / wrong, 0)}


def budgets(results: Path) -> dict[str, list[dict]]:
    """What the number of epochs buys: ArcFace's runs of several lengths, by data set, as text, and their errors."""
    study, found = Study(results), {}
    for name in DATASETS:
        with contextlib.suppress(NotStored):
            found[name] = [
                {"epochs": f["epochs"], "accuracy": number(head_accuracy(f), 2), "seconds": f"{f['train_seconds']:.0f}",
                 "device": f["device"], "errors": f["test_images"] - f["test_correct"]}
                for f in study.budgets(name)
            ]  # fmt: skip
    return found


def largest_p(first: int, last: int) -> str:
    """The most that McNemar's exact two-sided p can be for two networks with so many errors on the same images, as
    text: it is largest where they share none, for the shared ones say nothing of a difference."""
    p = binomtest(first, first + last).pvalue if first + last else 1.0
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def by_dataset(runs: list[Run], name: str) -> dict[str, Any]:
    """The main tables and comparisons of one data set."""
    groups, controls = group(runs, name), controls_of(runs, name)
    extras = extras_of(runs, name, groups, controls)
    return {
        "accuracy": table(groups, TABLES["accuracy"]), "embedding": table(groups, TABLES["embedding"]),
        "eer_minus_nsl": {loss: row["norm-softmax"] for loss, row in
                          differences(groups, controls, MEASURES["eer"]).items()},
        "compared": compared(groups, controls),
        "verdicts": margin_verdicts(groups, controls, MEASURES["accuracy"]),
        "verdicts_eer": margin_verdicts(groups, controls, MEASURES["eer"]),
        "verdicts_tar": margin_verdicts(groups, controls, MEASURES["tar"]),
        "verdicts_map": margin_verdicts(groups, controls, MEASURES["map"]),
        "train_error": train_error(groups), "ten_fold": ten_fold(groups),
        "by_scale": by_scale(groups, controls, margins_of(runs, name)),
        "variants": variants(runs, name, groups), "beyond": beyond_the_table(groups, extras),
        "corrected": families(groups, extras), "confused": most_confused(groups.get("arcface", {})),
        "longer": longer(runs, name), "larger": larger(runs, name), "floor": error_floor(runs, name),
        "by_measure": by_measure(runs, name), "related": related(groups),
        "verdicts_auc": margin_verdicts(groups, controls, MEASURES["auc"]),
        "verdicts_strict": margin_verdicts(groups, controls, MEASURES["tar_4"]),
    }  # fmt: skip


def content(results: Path) -> dict[str, Any]:
    """Everything that the text says about the runs stored in `results`."""
    runs, failed = stored_runs(results)
    main = {name: group(runs, name) for name in DATASETS}
    plain = [run for run in runs if run.dim == DIM and not run.held_out and not run.extra]
    splits = sorted({run.held_out for run in runs if run.held_out})
    held_out = {name: {s: group(runs, name, held_out=s) for s in splits}
                for name in DATASETS}  # fmt: skip
    quoted, found_budgets = papers(), budgets(results)
    loss, measure = OVERVIEW
    return {
        "level": f"{LEVEL:.0%}".replace("%", " %"), "dim": DIM, "failed": failed,
        "aside": set_aside(runs),
        "losses": len(LOSSES), "sources": sources(runs),
        "protocol": {name: protocol([run for run in plain if run.dataset == name]) for name in DATASETS},
        "main": {name: by_dataset(runs, name) for name in DATASETS},
        "overview": {name: cell(g.get(loss, {}), MEASURES[measure]) for name, g in main.items()},
        "flat": cell(drawn(runs, "mnist", 2).get("arcface", {}), MEASURES["accuracy"]),
        "low": {name: low_tables(runs, name) for name in DATASETS},
        "dimension": {name: dimension_table(runs, name) for name in DATASETS},
        "margins_kept": margins_kept(runs), "along": along_scale(results, "mnist"),
        "open": open_tables(held_out), "open_corrected": corrected(held_out), "claims": claims(main, held_out),
        "papers": quoted, "paper_angles": paper_angles(quoted), "scale_share": scale_share(quoted),
        "benchmark": read_stored(results / "benchmark.json", benchmark_text, "delete it and run benchmark.py"),
        "budgets": found_budgets,
        "budget_p": {name: largest_p(rows[0]["errors"], rows[-1]["errors"]) for name, rows in found_budgets.items()},
        "sensitivity": sensitivity(results), "plane": plane(results), "recipe": recipe(results),
        "scale_search": scale_search(results), "network_search": network_search(results),
        "crowded_warmup": f"{100 * CROWDED['margin_warmup']:g} %",
    }  # fmt: skip

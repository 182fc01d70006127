"""Classes that were never trained on, for the report's text: how the losses compare on them, split by split."""

from statistics import fmean
from typing import Any

from choices import LOSSES
from plot_data import minus
from report.facts import by_verdict, differences, margins_and_plain, number, paired, table, values_of
from report.inference import collapse, kept
from report.measures import MEASURES, TABLES


def open_verdicts(groups: dict, base: str, measure: str) -> dict[str, list[str]]:
    """Titles of the losses by how they stand to `base` on held-out classes, in one of MEASURES."""
    rows = differences(groups, [], MEASURES[measure])
    return by_verdict({loss: row[base] for loss, row in rows.items()})


def minus_plain(groups: dict) -> list[dict[str, Any]]:
    """A row for every margin loss: its EER and rank-1 minus normalised softmax's at the same scale, in percentage
    points, None where not stored."""
    plain = groups.get("norm-softmax")
    return [
        {"title": entry.title,
         **{name: paired(groups[loss], plain, MEASURES[name], same_scale=True) if plain and loss in groups else None
            for name in ("eer", "rank_1")}}
        for loss, entry in LOSSES.items()
        if entry.own_margin
    ]  # fmt: skip


def by_seed(groups: dict) -> list[str]:
    """EER of the margin losses, averaged over them, minus normalised softmax's, seed by seed, in percentage points.

    Empty unless all of them have the same number of seeds, at least two.
    """
    found = [minus(pairs) for pairs in margins_and_plain(groups, "eer").values() if pairs]
    if len({len(values) for values in found}) != 1 or len(found[0]) < 2:
        return []
    return [number(fmean(seed), 1, signed=True) for seed in zip(*found, strict=True)]


def with_margin(groups: dict) -> dict:
    """Those of the losses with a margin."""
    return {loss: members for loss, members in groups.items() if LOSSES[loss].own_margin}


def extremes(groups: dict) -> dict[str, dict[str, str]] | None:
    """The loss with the lowest mean EER on the trained classes and the one with the highest on the unseen ones, with
    that rate in per cent."""
    trained, unseen = {}, {}
    for loss, members in groups.items():
        of_trained = [facts.get("verification_trained_classes", {}).get("eer") for facts in members.values()]
        of_unseen = values_of(members, MEASURES["eer"])
        if of_unseen and None not in of_trained:
            trained[loss], unseen[loss] = 100 * fmean(of_trained), fmean(of_unseen.values())
    if len(trained) < 2:
        return None
    lowest, highest = min(trained, key=lambda loss: trained[loss]), max(unseen, key=lambda loss: unseen[loss])
    return {"lowest_trained": {"title": LOSSES[lowest].title, "eer": number(trained[lowest], 2)},
            "highest_unseen": {"title": LOSSES[highest].title, "eer": number(unseen[highest], 2)}}  # fmt: skip


def open_tables(held_out: dict[str, dict[str, dict]]) -> list[dict[str, Any]]:
    """A table and its verdicts for each split that has runs; held_out: {data set: {held-out classes: groups}}."""
    return [
        {"dataset": name, "classes": split, **table(groups, TABLES["open"]),
         "verdicts": {measure: {base: open_verdicts(groups, base, measure) for base in ("softmax", "norm-softmax")}
                      for measure in ("eer", "rank_1")},
         "collapse": collapse(groups, "eer"), "collapse_rank_1": collapse(groups, "rank_1"),
         "collapse_margins": collapse(with_margin(groups), "eer"),
         "collapse_margins_rank_1": collapse(with_margin(groups), "rank_1"),
         "minus_plain": minus_plain(groups), "by_seed": by_seed(groups), "extremes": extremes(groups)}
        for name, by_split in held_out.items()
        for split, groups in by_split.items()
        if groups
    ]  # fmt: skip


def corrected(held_out: dict[str, dict[str, dict]]) -> dict[str, dict]:
    """What is left, after Holm's correction over losses and splits, of the margin losses' differences to NSL."""
    return {
        measure: kept({
            f"{title} without {split}": found
            for by_split in held_out.values()
            for split, groups in by_split.items()
            for title, found in margins_and_plain(groups, measure).items()
        })
        for measure in ("eer", "rank_1")
    }  # fmt: skip

"""What the papers claim beside what the study measured: one row a claim, its verdict computed from stored results."""

import json
from pathlib import Path

from report.facts import number, paired
from report.measures import MEASURES

PAPERS = Path(__file__).with_name("papers.json")


def papers() -> dict:
    """Figures quoted from the papers, each with its place in them."""
    return json.loads(PAPERS.read_text(encoding="utf-8"))


def claim(groups: dict, loss: str, base: str, measure: str, expected: str, same_scale: bool = False) -> dict:
    """Whether `loss` stands to `base` as expected ('higher' or 'lower'): 'yes', 'no', 'open', 'single' (one seed) or
    'unmeasured'."""
    if loss not in groups or base not in groups:
        return {"verdict": "unmeasured", "difference": None}
    digits = 3 if measure == "eer" and same_scale else None  # such differences are a tenth of the others
    difference = paired(groups[loss], groups[base], MEASURES[measure], same_scale, digits)
    if difference is None:
        return {"verdict": "unmeasured", "difference": None}
    verdict = {"undecided": "open", "single": "single", expected: "yes"}.get(difference["verdict"], "no")
    return {"verdict": verdict, "difference": difference}


def paper_angles(quoted: dict) -> dict:
    """Differences ArcFace - NSL in degrees in the ArcFace paper's Table 3, as text."""
    table = quoted["arcface_table_3"]["degrees"]
    return {name: number(values[1] - values[0], 2, signed=True) for name, values in table.items()}


def scale_share(quoted: dict) -> tuple[str, str]:
    """Least and largest share, over the ArcFace paper's test sets, of ArcFace's lead over NSL at s = 64 that NSL has at
    s = 20, in whole per cent."""
    rows = {row[0]: [float(value) for value in row[1:]] for row in quoted["arcface_table_2"]["rows"]}
    large, small, arcface = (rows[name] for name in ("Norm-softmax (s = 64)", "Norm-softmax (s = 20)", "ArcFace (0.5)"))
    shares = [100 * (b - a) / (c - a) for a, b, c in zip(large, small, arcface, strict=True)]
    return number(min(shares), 0), number(max(shares), 0)


def claims(main: dict[str, dict], open_set: dict[str, dict[str, dict]]) -> list[dict]:
    """The rows: key, held-out classes or None, and a verdict a data set.

    main: {data set: groups}; open_set: {data set: {held-out classes: groups}}, each of which has a row of its own.
    """
    splits = sorted({split for by_split in open_set.values() for split, groups in by_split.items() if groups}) or [""]
    wanted = (
        ("intra", "arcface", "norm-softmax", "intra", "lower", True),
        ("inter", "arcface", "norm-softmax", "inter", "higher", True),
        ("w_ec", "arcface", "norm-softmax", "w_ec", "lower", True),
        ("w_inter", "arcface", "norm-softmax", "w_inter", "higher", True),
        ("margin", "arcface", "norm-softmax", "eer", "lower", True),
        ("normalising", "norm-softmax", "softmax", "eer", "lower", False),
        ("verification", "arcface", "softmax", "eer", "lower", False),
        ("order", "arcface", "cosface", "eer", "lower", True),
        ("sphereface", "arcface", "sphereface", "eer", "lower", True),
    )
    rows = []
    for key, loss, base, measure, expected, same_scale in wanted:
        found = {name: claim(groups, loss, base, measure, expected, same_scale) for name, groups in main.items()}
        rows.append({"key": key, "split": None, "found": found})
    for split in splits:
        held = {name: open_set.get(name, {}).get(split, {}) for name in main}
        found = {name: claim(groups, "arcface", "softmax", "eer", "lower") for name, groups in held.items()}
        rows.append({"key": "unseen", "split": split, "found": found})
    return rows

"""How much accuracy hangs on the settings, for the report's text: the study's grids and its paired repetitions."""

from pathlib import Path

from bounds import maximum_margin
from choices import LOSSES
from plot_compare import equal_error
from plot_data import Study, accuracy_or_chance, head_accuracy, minus, seed_pairs
from recipes import SCALE
from report.facts import difference_text, extent, number

# Loss, and the flags of its grid.
GRIDS = (("arcface", ("scale", "margin")), ("cosface", ("scale", "margin")), ("arcface", ("batch-size", "lr")))
# Loss, flag, setting, and the two values whose difference is of interest.
CONTRASTS = (
    ("arcface", "margin-warmup", "margin_warmup", 0.5, 0.0),
    ("cosface", "margin-warmup", "margin_warmup", 0.5, 0.0),
    ("arcface", "schedule", "schedule", "linear", "constant"),
    ("arcface", "schedule", "schedule", "linear", "cosine"),
)


def grid_text(study: Study, loss: str, flags: tuple[str, ...]) -> dict | None:
    """What one grid shows: its size, best and worst cell, how many failed; None if not run."""
    runs = study.grid(loss, flags)
    fine = [f for f in runs if "failed" not in f]
    if not fine:
        return None
    best = max(fine, key=head_accuracy)
    return {
        "title": LOSSES[loss].title, "flags": list(flags), "count": len(runs), "failed": len(runs) - len(fine),
        "best": number(head_accuracy(best), 2), "epochs": best["epochs"],
        "worst": number(min(map(head_accuracy, fine)), 2),
        **(by_scale(study, loss, fine) if "scale" in flags else {"errors": [], "plain": [], "beyond": None}),
    }  # fmt: skip


def by_scale(study: Study, loss: str, runs: list[dict]) -> dict:
    """Equal error rates over the margins and without one at each scale, and how margins beyond the bound fare."""
    first = runs[0]
    name, bound = LOSSES[loss].own_margin or "", maximum_margin(loss, len(first["classes"]), first["embedding_dim"])
    beyond = [f for f in runs if f[name] >= bound]
    plain = [f for f in study.margin_grid(loss) if f["loss"] == "norm-softmax" and "failed" not in f]
    return {
        "errors": errors_by_scale(runs), "plain": errors_by_scale(plain), "by_margin": errors_by_margin(runs, name),
        "beyond": {"margin": f"{min(f[name] for f in beyond):g}", "bound": number(float(bound), 2),
                   "worst": number(min(map(head_accuracy, beyond)), 2)} if beyond else None,
    }  # fmt: skip


def errors_by_scale(runs: list[dict]) -> list[dict]:
    """Each scale with the least and the largest equal error rate over its margins, in per cent, by ascending scale."""
    found = {s: [equal_error(f) for f in runs if f["scale"] == s] for s in sorted({f["scale"] for f in runs})}
    return [{"scale": f"{s:g}", **(extent(v, 2) or {})} for s, v in found.items()]


def errors_by_margin(runs: list[dict], name: str) -> dict:
    """{margin: equal error rate in per cent} at the recipe's scale, by ascending margin, and that scale."""
    found = {f[name]: number(equal_error(f), 2) for f in runs if f["scale"] == SCALE}
    return {"scale": f"{SCALE:g}", "errors": {f"{margin:g}": found[margin] for margin in sorted(found)}}


def contrast_text(study: Study, loss: str, flag: str, name: str, one: object, other: object) -> dict | None:
    """Accuracy with one value of a setting minus that with another, paired by seed; None without two shared seeds."""
    runs = study.grid(loss, (flag,))
    left, right = ({f["seed"]: accuracy_or_chance(f) for f in runs if f[name] == value} for value in (one, other))
    differences = minus(seed_pairs(left, right))
    if len(differences) < 2:
        return None
    names = {"title": LOSSES[loss].title, "flag": flag, "one": one, "other": other}
    return names | difference_text(differences, 2) | {"same": not any(differences)}  # no interval says that better


def sensitivity(results: Path) -> dict:
    """The grids and the contrasts that are stored, those of MNIST."""
    study = Study(results)
    grids = [grid_text(study, *grid) for grid in GRIDS]
    contrasts = [contrast_text(study, *contrast) for contrast in CONTRASTS]
    return {"grids": [g for g in grids if g], "contrasts": [c for c in contrasts if c]}

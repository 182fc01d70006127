"""Accuracy tables as PNG and JSON: one row a data set, loss and dimension, over all seeds at hand."""

from collections.abc import Sequence
from dataclasses import fields
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from choices import FOLDER_SIZE, LOSSES, NATIVE_SIZE, WITHOUT_SCALE, Margins
from plot_style import channels, data_title, loss_title, save
from recipes import BASE, Settings
from runs import BAD_CONTENT, RunError, write_json

# Figures of a row after the head's accuracy: the column's title, its name in the JSON, digits after the point.
FIGURES = (
    ("class mean, %", "nearest_mean", 2),
    ("5-NN, %", "5_nearest_neighbours", 2),
    ("Intra, °", "intra", 1),
    ("Inter, °", "inter", 1),
    ("EER, %", "eer", 2),
    ("TAR@1e-3, %", "tar_at_far_0.001", 2),
    ("MAP@R, %", "map_at_r", 2),
)
TIES = 9  # digits kept before rounding to a table's: the sum of a mean ends a little above or below its tie
COLUMNS = ("Loss", "d", "epochs", "seeds", "head, %", *(title for title, _, _ in FIGURES))
# Points of a table's text, note and title, and inches beside a column's: the study's tables fit A4 across.
POINTS, SMALL, LARGE, PAD = 7.5, 6.5, 9.0, 0.06
MOST_NAMED = 10  # held-out classes in a row's title; of more it gives the number
NOTE = (
    "Last epoch, no margin when predicting. ±: standard deviation over seeds; [ ]: 95 % interval of one run. d: "
    "embedding dimensions. Correct by the trained head, the nearest class mean and the five nearest\ntraining images "
    "(5-NN). Intra: mean angle to the class mean; Inter: of a class mean to the nearest other; EER: equal error rate; "
    "TAR@1e-3: true accepts at a false accept rate of 0.001; MAP@R: retrieval."
)


def key_of(facts: dict) -> tuple:
    """What makes runs the same but for their seed and precision, which follows the machine; in the tables' order."""
    order = list(LOSSES).index(facts["loss"])
    own_scale = 0.0 if facts["loss"] in WITHOUT_SCALE else facts["scale"]  # AdaCos's scale is an outcome
    settings = [facts.get(f.name) for f in fields(Settings) if f.name not in ("seed", "scale", "precision")]
    data = str([facts["source"], facts["fingerprint"], *settings])
    return (facts["embedding_dim"], order, own_scale, facts["epochs"], data)


def checked(facts: dict, path: Path, remedy: str) -> dict:
    """Return a measured run's metrics if a table can show them; RunError naming their file and the remedy if not."""
    try:
        table_rows([facts])
        training_times([facts])
        data_title(facts)
    except BAD_CONTENT:
        raise RunError(f"{path} lacks figures or is damaged: {remedy}") from None
    return facts


def spread(values: list[float | None]) -> dict:
    """Mean, sample standard deviation (None for one value) and n of the values that are there."""
    there = [v for v in values if v is not None]
    if not there:
        return {"mean": None, "std": None, "n": 0}
    return {
        "mean": float(np.mean(there)),
        "std": float(np.std(there, ddof=1)) if len(there) > 1 else None,
        "n": len(there),
    }


def table_rows(runs: list[dict]) -> list[dict]:
    """One entry a group of runs that differ only in their seed: its title, its figures, each with std and n.

    A title says what its row does not share with the others: held-out classes, whose pairs are then what is verified
    and retrieved, images cut from the training set, another copy of the pixels, another net; failing these, whatever
    setting tells rows apart.
    """
    copies = {data_title(facts) for facts in runs}
    groups = [with_mean_scale(members) for members in _by_settings(runs)]
    alike: dict[tuple, list[dict]] = {}
    for first, *_ in groups:
        alike.setdefault((_title(first, copies), first["embedding_dim"], first["epochs"]), []).append(first)
    rows = []
    for members in groups:
        first = members[0]
        title = _title(first, copies)
        title += _told_apart(first, alike[title, first["embedding_dim"], first["epochs"]])
        picks = {
            "head": [100 * f["accuracy"]["head"]["value"] for f in members],
            "nearest_mean": [100 * f["accuracy"]["nearest_mean"]["value"] for f in members],
            "5_nearest_neighbours": [100 * f["accuracy"]["5_nearest_neighbours"]["value"] for f in members],
            "intra": [f["angles"]["test"]["intra"] if f["angles"]["test"] else None for f in members],
            "inter": [f["angles"]["test"]["inter"] if f["angles"]["test"] else None for f in members],
            "eer": [_percent(f["verification"].get("eer")) for f in members],
            "tar_at_far_0.001": [_percent(f["verification"].get("tar_at_far", {}).get("0.001")) for f in members],
            "map_at_r": [_percent(f["retrieval"].get("map_at_r")) for f in members],
        }
        interval = [100 * first["accuracy"]["head"][end] for end in ("low", "high")] if len(members) == 1 else None
        rows.append({
            "title": title, "loss": first["loss"],
            "embedding_dim": first["embedding_dim"], "epochs": first["epochs"],
            "seeds": sorted(f["seed"] for f in members), "head_interval": interval, "source": first["source"],
            "test_images": first["test_images"], **{name: spread(values) for name, values in picks.items()},
        })  # fmt: skip
    return rows


def _by_settings(runs: list[dict]) -> list[list[dict]]:
    """Runs alike but for their seed, in the tables' order. Of one seed twice, the same training under two names or
    bf16 beside fp32, each precision is a group of its own and the first run counts."""
    groups: dict[tuple, list[dict]] = {}
    for facts in runs:
        groups.setdefault(key_of(facts), []).append(facts)
    found = []
    for key in sorted(groups):
        members = groups[key]
        split = [members]
        if len({f["seed"] for f in members}) < len(members):
            split = [[f for f in members if f["precision"] == p] for p in sorted({f["precision"] for f in members})]
        found += [list({f["seed"]: f for f in reversed(group)}.values()) for group in split]
    return found


def with_mean_scale(members: list[dict]) -> list[dict]:
    """Runs alike but for their seed, each with the mean of their scales: AdaCos's is an outcome."""
    if members[0]["scale"] is None:
        return members
    scale = float(np.mean([facts["scale"] for facts in members]))
    return [facts | {"scale": scale} for facts in members]


def _title(first: dict, copies: set[str]) -> str:
    """A row's loss with its settings, and what makes its images or its net others than a table's usual ones."""
    unseen = first["unseen_classes"]
    named = ", ".join(unseen) if len(unseen) <= MOST_NAMED else f"{len(unseen)} classes"
    marks = f", without {named}" if unseen else ""
    marks += " (pairs of these)" if marks and not first.get("validation") else ""
    marks += f", {first['test_images']:,} validation images" if first.get("validation") else ""
    marks += f", {data_title(first)}" if len(copies) > 1 else ""
    return loss_title(first) + marks + other_net(first) + other_weights(first)


def _told_apart(first: dict, alike: list[dict]) -> str:
    """', lr 0.05': the settings in which rows of one title differ, or their data; nothing where there is one row."""
    names = [f.name for f in fields(Settings) if f.name not in ("seed", "scale", *Margins._fields)]
    differing = [n for n in names if len({str(f.get(n)) for f in alike}) > 1]
    usual = {"image_size": NATIVE_SIZE.get(first["dataset"].removesuffix("-5k"), FOLDER_SIZE)}
    shown = {name: usual.get(name, "none") if first.get(name) is None else first[name] for name in differing}
    marks = [f"{name.replace('_', ' ')} {value}" for name, value in shown.items()]
    if len({f["fingerprint"] for f in alike}) > 1:
        marks.append(f"data {first['fingerprint'][:6]}")
    return "".join(f", {mark}" for mark in marks)


def other_net(facts: dict) -> str:
    """', net 32/64/128' and ', 2 convolutions a block' of a run whose network is not its data set's usual one."""
    usual = BASE[facts["dataset"].removesuffix("-5k")]
    other = "" if list(facts.get("widths", usual["widths"])) == list(usual["widths"]) else f", net {channels(facts)}"
    depth = usual.get("depth", Settings.depth)
    return other if facts.get("depth", depth) == depth else f"{other}, {facts['depth']} convolutions a block"


def other_weights(facts: dict) -> str:
    """', mean of the weights' or ', last weights' of a run that ends with other ones than its data set's usual run."""
    usual = BASE[facts["dataset"].removesuffix("-5k")].get("averaging", Settings.averaging)
    own = facts.get("averaging", usual)
    return "" if bool(own) == bool(usual) else ", mean of the weights" if own else ", last weights"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def rounded(value: float, digits: int, sign: str = "") -> str:
    """A number as text, ties away from zero as on paper, 89.175 as '89.18' (binary floats have it below the tie);
    sign '+': of what is not negative, too."""
    if not np.isfinite(value):
        return str(value)
    exact = Decimal(repr(round(float(value), TIES)))
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):{sign}f}"


def cell_text(value: dict, digits: int) -> str:
    """A `spread` as text: '6.4 ± 0.1', '6.4' of one value, '–' of none."""
    if value["mean"] is None:
        return "–"
    spread = "" if value["std"] is None else f" ± {rounded(value['std'], digits)}"
    return rounded(value["mean"], digits) + spread


def head_cell(row: dict) -> str:
    """The head's accuracy: with its standard deviation over seeds, or the 95 % interval of a single run."""
    text = cell_text(row["head"], 2)
    return text + (f" [{row['head_interval'][0]:.2f}, {row['head_interval'][1]:.2f}]" if row["head_interval"] else "")


def text_width(text: str, weight: str = "normal") -> float:
    """Inches that a line of a table takes."""
    font = FontProperties(weight=weight, size=POINTS)
    return text_to_path.get_text_width_height_descent(text, font, False)[0] / 72


def draw_table(rows: list[dict], title: str, folder: Path, name: str, kind: str) -> Path:
    """Draw rows of `table_rows` as folder/name.kind."""
    lines = [list(COLUMNS)]
    for row in rows:
        numbers = (row["embedding_dim"], row["epochs"], len(row["seeds"]))
        figures = (cell_text(row[name], digits) for _, name, digits in FIGURES)
        lines.append([row["title"], *map(str, numbers), head_cell(row), *figures])
    parted = [i for i, (row, above) in enumerate(pairwise(rows), 1) if row["embedding_dim"] != above["embedding_dim"]]
    return save(text_table(lines, title, NOTE, parted=parted), folder, name, kind)


def text_table(
    lines: list[list[str]], title: str, note: str, heads: Sequence[int] = (0,), parted: Sequence[int] = ()
) -> Figure:
    """A plain table as a figure: title above and note below it, the lines `heads` in bold between rules, as in print,
    and a hair line below each of the lines `parted`. The first column is set left, the others right."""
    widths = np.array([
        max(text_width(line[j], "bold" if i in heads else "normal") for i, line in enumerate(lines)) + 2 * PAD
        for j in range(len(lines[0]))
    ])  # fmt: skip
    beside = (max(map(text_width, note.split("\n"))) * SMALL / POINTS, text_width(title, "bold") * LARGE / POINTS)
    widths[0] += max(0.0, max(beside) + 2 * PAD - widths.sum())
    count, ends = len(lines) - 1, widths.cumsum()
    figure = plt.figure(figsize=(widths.sum() + 2 * PAD, 0.75 + 0.2 * len(lines)))
    edge = PAD / figure.get_figwidth()
    axes = figure.add_axes((edge, 0.0, 1 - 2 * edge, 1.0))
    axes.axis("off")
    axes.set(xlim=(0, widths.sum()), ylim=(-count - 2.4, 2.2))
    for i, line in enumerate(lines):
        for j, text in enumerate(line):
            x, place = (PAD, "left") if j == 0 else (ends[j] - PAD, "right")
            axes.text(x, -i, text, ha=place, va="center", weight="bold" if i in heads else "normal", fontsize=POINTS)
    rules = [(0.55, 1.0), *((at - i, 0.6) for i in heads for at in (0.5, -0.5) if i or at < 0), (-count - 0.5, 1.0)]
    for y, width in (*rules, *((-i - 0.5, 0.3) for i in parted)):
        axes.axhline(y, color="black", linewidth=width)
    axes.text(PAD, 1.3, title, weight="bold", fontsize=LARGE)
    axes.text(PAD, -count - 1.5, note, fontsize=SMALL, va="center", color="#444444")
    return figure


def accuracy_tables(runs: list[dict], folder: Path, name: str = "accuracy", kind: str = "png") -> list[Path]:
    """Write NAME_DATASET.kind and .json into `folder` for each data set among measured runs; returns the paths."""
    written = []
    for dataset in sorted({facts["dataset"] for facts in runs}):
        chosen = [facts for facts in runs if facts["dataset"] == dataset]
        rows = table_rows(chosen)
        title = f"{copies_of(chosen)}: accuracy, angles, verification and retrieval on {images_of(chosen)}"
        written.append(draw_table(rows, title, folder, f"{name}_{dataset}", kind))
        write_json(folder / f"{name}_{dataset}.json", {"dataset": dataset, "rows": rows})
        written.append(folder / f"{name}_{dataset}.json")
    return written


def caption(runs: list[dict]) -> str:
    """What the study's table of these runs shows, for figures/captions.json."""
    more = ", with more training (mean of the weights: of those after each step)"
    net = "; where a row names channels, with another net"
    also = (more if any(map(other_weights, runs)) else "") + (net if any(map(other_net, runs)) else "")
    return (
        f"{copies_of(runs)}: every loss in two, three and 512 dimensions, with other scales and margins{also}; means "
        f"over seeds. {NOTE}"
    ).replace("\n", " ")


def copies_of(runs: list[dict]) -> str:
    """The copies of a data set behind some runs, for a heading: 'CIFAR-10 and CIFAR-10 (JPEG copy)'."""
    return " and ".join(sorted({data_title(facts) for facts in runs}))


def images_of(runs: list[dict]) -> str:
    """How many test images some runs were measured on, for a heading: '6,989 to 10,000 test images'.

    Validation images are named in their rows, and here where there is nothing else.
    """
    tested = [facts["test_images"] for facts in runs if not facts.get("validation")]
    counts = tested or [facts["test_images"] for facts in runs]
    low, high = min(counts), max(counts)
    return f"{low:,}{f' to {high:,}' if low != high else ''} {'test' if tested else 'validation'} images"


def markdown(runs: list[dict]) -> str:
    """The accuracy tables of measured runs of one dimension as Markdown: for each data set, with its source of pixels,
    the study's main part and then what it varies."""
    parts = []
    for dataset in sorted({facts["dataset"] for facts in runs}, reverse=True):
        chosen = [facts for facts in runs if facts["dataset"] == dataset]
        sources = "; ".join(sorted({facts["source"] for facts in chosen}))
        parts.append(f"**{copies_of(chosen)}** ({sources}), {images_of(chosen)}:")
        main = [facts for facts in chosen if facts.get("part", "main") == "main"]
        varied = [facts for facts in chosen if facts.get("part", "main") != "main"]
        parts.append(markdown_table(main or varied))
        if main and varied:
            parts += ["The same with other scales, other margins or more training:", markdown_table(varied)]
        parts.append(training_times(chosen))
    return "\n\n".join(parts)


def markdown_table(runs: list[dict]) -> str:
    """One table of `markdown`, a row for runs that differ only in their seed."""
    titles = ["loss", "epochs", "seeds", "accuracy, %", *(title for title, _, _ in FIGURES)]
    lines = ["| " + " | ".join(titles) + " |", "| --- " + "| ---: " * (len(titles) - 1) + "|"]
    for row in table_rows(runs):
        cells = [row["title"], str(row["epochs"]), str(len(row["seeds"])), head_cell(row)]
        cells += [cell_text(row[name], digits) for _, name, digits in FIGURES]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def training_times(runs: list[dict]) -> str:
    """How long the runs in the most dimensions trained, by number of epochs and device, as a sentence."""
    most = max(facts["embedding_dim"] for facts in runs)
    found: dict[int, dict[str, list[float]]] = {}
    for facts in runs:
        if facts["embedding_dim"] == most:
            by_device = found.setdefault(facts["epochs"], {})
            by_device.setdefault(f"{facts['device']}, {facts['precision']}", []).append(facts["train_seconds"])
    said = []
    for epochs, by_device in sorted(found.items()):
        spans = [f"{span_of_times(times)} on {device}" for device, times in sorted(by_device.items())]
        said.append(f"{epochs} epochs took {', or '.join(spans)}")
    return f"In {most} dimensions {'; '.join(said)}."


def span_of_times(seconds: list[float]) -> str:
    """'98 s', '2.8 to 3.6 min' or '21 to 38 min'."""
    low, high = min(seconds), max(seconds)
    unit, factor = ("s", 1) if high < 120 else ("min", 60)
    digits = 1 if 120 <= high < 600 else 0
    first, last = (f"{t / factor:.{digits}f}" for t in (low, high))
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"

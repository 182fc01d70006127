"""How training went and what it led to: curves, target angles, ROC, pair angles, confusion matrices."""

import contextlib

import matplotlib.pyplot as plt
import numpy as np

from choices import LOSSES
from plot_data import Drawn, NotStored, Study, head_accuracy, seeds_of
from plot_style import CLASS_COLOURS, data_title, log_ticks, loss_style
from plot_tables import rounded

BLUE, ORANGE = CLASS_COLOURS[:2]
DEGREES = np.arange(180) + 0.5
LEAST_FAR = 1e-6  # where ROC curves begin
SHOWN_TO, LEAST_REFUSED = 0.2, 0.01  # and where they end: at that FAR, at so many per cent


def per_cent(counts: np.ndarray) -> np.ndarray:
    """Counts as shares in per cent. In float64 from the start: a stored count times 100 may not fit its own type."""
    return 100 * (counts.astype(np.float64) / counts.sum(dtype=np.int64))


def training_curves(study: Study, dataset: str) -> Drawn:
    """Training loss and accuracy of the main table's runs by epoch, mean and range over seeds."""
    groups = study.main(dataset)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6))
    for loss, members in groups.items():
        rows = min(len(f["history"]) for f in members)
        if rows == 0:
            continue
        epochs = np.arange(1, rows + 1)
        for axes, name, pick in ((left, "loss", float), (right, "train_accuracy", lambda a: 100 * (1 - a))):
            values = np.array([[pick(row[name]) for row in f["history"][:rows]] for f in members])
            values = np.maximum(values, 1e-3)
            axes.plot(epochs, values.mean(0), label=LOSSES[loss].title, **loss_style(loss))
            axes.fill_between(epochs, values.min(0), values.max(0), color=loss_style(loss)["color"], alpha=0.15, lw=0)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(xlabel="epoch", ylabel="training error, %", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        log_ticks(axes.yaxis, (1, 2, 3, 5, 7))
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    first = next(iter(groups.values()))[0]
    figure.suptitle(f"{data_title(first)}, 512 dimensions", fontsize=10)
    figure.subplots_adjust(left=0.1, right=0.79, bottom=0.18, top=0.89, wspace=0.36)
    grown = f"{100 * first['margin_warmup']:g} %"
    ramp = f"; the margin grows over the first {grown}, so a rise is no divergence" if first["margin_warmup"] else ""
    return Drawn(
        figure,
        f"{data_title(first)}, 512 dimensions: training loss (left) and training error of the head without its margin "
        f"(right) on the augmented batches of each epoch; lines: mean, bands: range over {seeds_of(groups)}. Losses "
        f"with a margin or another scale are not comparable in height{ramp}. AdaCos changes its own scale."
        f"{' The curves are of the weights in training, not of their running mean.' if first.get('averaging') else ''}",
    )


def time_to_accuracy(study: Study) -> Drawn:
    """Test error against training time: whole runs of several lengths, each with a schedule of its own."""
    found: list[list[dict]] = []
    for dataset in ("mnist", "cifar10"):
        with contextlib.suppress(NotStored):
            found.append(study.budgets(dataset))
    if not found:
        raise NotStored("ArcFace runs with several numbers of epochs")
    figure, panels = plt.subplots(1, len(found), figsize=(4.3 * len(found), 3.4), squeeze=False)
    for axes, runs in zip(panels.flat, found, strict=True):
        seconds = [f["train_seconds"] for f in runs]
        errors = [100 - head_accuracy(f) for f in runs]
        bounds = np.array([[f["accuracy"]["head"][end] for f in runs] for end in ("high", "low")])
        spread = np.abs(100 * (1 - bounds) - errors)
        axes.errorbar(seconds, errors, yerr=spread, color=BLUE, marker="o", markersize=5, capsize=3)
        for x, top, f in zip(seconds, 100 * (1 - bounds[1]), runs, strict=True):
            label = f"{f['epochs']} epoch{'s' * (f['epochs'] != 1)}\n{head_accuracy(f):.2f} %"
            axes.annotate(label, (x, top), (-8, 3), textcoords="offset points", fontsize=9)  # right of the line
        axes.set(xscale="log", yscale="log", xlabel="training time, seconds", title=data_title(runs[0]))
        axes.set(xlim=(min(seconds) / 1.6, max(seconds) * 1.9), ylim=(None, 100 * (1 - bounds[1].min()) * 1.35))
        log_ticks(axes.xaxis)
        log_ticks(axes.yaxis, (1, 1.5, 2, 3, 5, 7))
        axes.grid(alpha=0.3)
    for axes in panels.flat:
        axes.set_ylabel("test error, %")
    figure.tight_layout()
    machines = {data_title(runs[0]): f"{runs[0]['device']}, {runs[0]['precision']}" for runs in found}
    if len(set(machines.values())) == 1:
        times = f": {next(iter(machines.values()))}"
    else:
        times = f": {'; '.join(f'{title}, {machine}' for title, machine in machines.items())}"
    return Drawn(
        figure,
        f"ArcFace on {' and '.join(data_title(runs[0]) for runs in found)}, 512 dimensions, one seed: test error "
        "against training time for several numbers of epochs, each "
        f"point a whole run with a schedule of its own (bars: 95 % interval of {runs[0]['test_images']:,} test images; "
        f"labels: epochs and test accuracy). Both axes are logarithmic. Time is that of training alone{times}.",
    )


def target_angles(study: Study, dataset: str) -> Drawn:
    """ArcFace Fig. 4a: the distribution of the target angle on training images at start, middle and end."""
    found: dict[str, tuple[dict, np.ndarray]] = {}
    for loss, members in study.main(dataset).items():
        for facts in members:
            arrays = study.arrays(facts)
            if "train_angles" in arrays:
                found.setdefault(loss, (facts, arrays["train_angles"]))
    if not found:
        raise NotStored(f"runs on {dataset} at 512 dimensions with snapshots")
    columns = min(4, len(found))
    lines = -(-len(found) // columns)
    shape = (1.65 * max(columns, 2), 1.4 * lines + 0.4)
    figure, panels = plt.subplots(lines, columns, figsize=shape, sharex=True, squeeze=False)
    for axes in list(panels.flat)[len(found) :]:
        axes.axis("off")
    total = 0
    for axes, (loss, (_, counts)) in zip(panels.flat, found.items(), strict=False):
        total, highest = int(counts[0].sum()), 0.0
        for epoch, colour, line, name in ((0, "#7F7F7F", ":", "start"), (len(counts) // 2, ORANGE, "--", "middle"),
                                          (len(counts) - 1, BLUE, "-", "end")):  # fmt: skip
            share = per_cent(counts[epoch])
            highest = max(highest, share.max()) if epoch else 0.0
            axes.plot(DEGREES, share, color=colour, linestyle=line, linewidth=1.3, label=name)
            axes.fill_between(DEGREES, share, color=colour, alpha=0.15, lw=0)
        axes.set(xlim=(0, 120), ylim=(0, 1.1 * highest), xticks=(0, 60, 120))
        axes.set_title(LOSSES[loss].title, fontsize=9)
    figure.supxlabel("target angle, degrees", fontsize=9)
    facts = next(iter(found.values()))[0]
    figure.suptitle(f"{data_title(facts)}, 512 dimensions", fontsize=10)
    for axes in panels[:, 0]:
        axes.set_ylabel("% per degree")
    figure.tight_layout()
    figure.legend(*panels.flat[0].get_legend_handles_labels(), fontsize=8, loc="lower right", ncols=3, handlelength=1.5)
    return Drawn(
        figure,
        f"{data_title(facts)}, 512 dimensions: angle between an embedding and its own class weight, for the same "
        f"{total:,} training images (not augmented, no margin) before training, after half of the epochs and at the "
        "end; one run a loss. Each panel has its own height, that of its middle and end: a higher peak before training "
        "is cut off.",
    )


def roc(study: Study, dataset: str) -> Drawn:
    """ROC with logarithmic FAR and 1 - TAR over all pairs: test images of the trained classes, and of held-out ones.

    1 - TAR, for on MNIST's trained classes all that differs lies within three hundredths of TAR = 1.
    """
    groups_of = [("all ten classes trained", study.main(dataset), "test")]
    with contextlib.suppress(NotStored):
        opened = study.open_set() if dataset == "mnist" else {}
        groups_of += [(f"held-out classes {', '.join(split)}", groups, "unseen") for split, groups in opened.items()]
    sets = []
    for title, groups, part in groups_of:
        measured = {loss: [f for f in runs if f"{part}_tar" in study.arrays(f)] for loss, runs in groups.items()}
        if measured := {loss: runs for loss, runs in measured.items() if runs}:
            sets.append((title, measured, part))
    if not sets:
        raise NotStored(f"ROC points of runs on {dataset}")
    shape = (2.4 * len(sets) + 0.3, 3.2) if len(sets) > 1 else (5.4, 4.2)
    figure, panels = plt.subplots(1, len(sets), figsize=shape, squeeze=False)
    pairs, few = [], []
    for axes, (title, groups, part) in zip(panels.flat, sets, strict=True):
        least = 1.0
        for loss, members in groups.items():
            curves = [study.arrays(f) for f in members]
            far, refused = curves[0][f"{part}_far"], np.mean([100 * (1 - a[f"{part}_tar"]) for a in curves], axis=0)
            axes.plot(far, refused, label=LOSSES[loss].title, **loss_style(loss))
            least = min(least, *refused[far <= SHOWN_TO])
        count = curves[0][f"{part}_impostor"].sum()
        pairs.append(f"{int(count):,}")
        few.append(10 / count > LEAST_FAR)
        if few[-1]:
            axes.axvline(10 / count, color="black", linewidth=0.7, linestyle=":")
        axes.set(xscale="log", xlim=(LEAST_FAR, 1), xlabel="false accept rate, a share")
        log_ticks(axes.xaxis)
        axes.set(yscale="log", ylim=(10 ** np.floor(np.log10(max(least, LEAST_REFUSED))), 100))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
        axes.set_ylabel("100 − true accept rate, %")
    names, texts = panels.flat[0].get_legend_handles_labels()
    figure.legend(names, texts, fontsize=8, loc="lower center", ncols=4, handlelength=3)
    figure.suptitle(f"{data_title(next(iter(sets[0][1].values()))[0])}, 512 dimensions", fontsize=10)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    told = [f"{title}: {count} different-class pairs, {seeds_of(groups)}"
            for (title, groups, _), count in zip(sets, pairs, strict=True)]  # fmt: skip
    notes = " Left of a dotted line fewer than ten pairs decide." if any(few) else ""
    return Drawn(
        figure,
        f"{data_title(next(iter(sets[0][1].values()))[0])}, 512 dimensions: verification by cosine over all pairs of "
        f"test images ({'; '.join(told)}). "
        "Share of same-class pairs that a threshold refuses, mean over seeds, against the share of others that it "
        f"accepts, both on logarithmic axes{', the first from a lower one' if len(sets) > 1 else ''}; lower is better."
        f"{notes}",
    )


def pair_angles(study: Study, dataset: str) -> Drawn:
    """ArcFace Fig. 6: angles of same-class and different-class pairs, trained and held-out classes."""
    rows = [("trained", study.main(dataset), "test")]
    try:
        split, groups = next(iter(study.open_set().items())) if dataset == "mnist" else ((), {})
        if groups:
            rows.append((f"held-out {', '.join(split)}", groups, "unseen"))
    except NotStored:
        pass
    losses = [loss for loss, f in rows[0][1].items() if "test_genuine" in study.arrays(f[0])]
    if not losses:
        raise NotStored(f"pair angles of runs on {dataset}")
    columns = min(4, len(losses))
    lines = -(-len(losses) // columns)
    shape = (1.75 * columns + 0.5, 1.2 * len(rows) * lines + 0.6)
    figure, panels = plt.subplots(len(rows) * lines, columns, figsize=shape, sharex=True, squeeze=False)
    for block, (name, groups, part) in enumerate(rows):
        own = panels[block * lines : (block + 1) * lines]
        for axes in own.flat[len(losses) :]:
            axes.set_visible(False)
        for axes, loss in zip(own.flat, losses, strict=False):
            arrays = study.arrays(groups[loss][0]) if loss in groups else {}
            for kind, colour, edge, label in (("genuine", BLUE, "-", "same class"),
                                              ("impostor", ORANGE, "--", "different classes")):  # fmt: skip
                if f"{part}_{kind}" in arrays:
                    share = per_cent(arrays[f"{part}_{kind}"])
                    axes.fill_between(DEGREES, share, color=colour, alpha=0.45, lw=0)
                    axes.plot(DEGREES, share, color=colour, linestyle=edge, linewidth=0.9, label=label)
            axes.set(xlim=(0, 150), xticks=(0, 60, 120), ylim=(0, None))
            axes.set_title(LOSSES[loss].title, fontsize=9.5)
        for axes in own[:, 0]:
            axes.set_ylabel(f"{name}\n% per degree", fontsize=9)
    figure.supxlabel("angle between two test images, degrees", fontsize=9)
    facts = rows[0][1][losses[0]][0]
    figure.suptitle(f"{data_title(facts)}, 512 dimensions", fontsize=10)
    figure.tight_layout()
    figure.align_ylabels(panels[:, 0])
    figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=8, loc="lower right", handlelength=1, ncols=2)
    below = (
        f" Lower half: runs without classes {', '.join(split)}, pairs of those classes alone." if len(rows) > 1 else ""
    )
    return Drawn(
        figure,
        f"{data_title(facts)}, 512 dimensions: angles of all same-class and all different-class pairs of test images, "
        f"one run (seed {facts['seed']}) a loss; each histogram sums to 100 %, heights differ between panels.{below}",
    )


def confusion(study: Study, dataset: str) -> Drawn:
    """Confusion matrices, mean counts over seeds: softmax, norm-softmax and ArcFace, or what there is of them."""
    groups = study.main(dataset)
    shown = [loss for loss in ("softmax", "norm-softmax", "arcface") if loss in groups] or list(groups)[:3]
    long = max(len(name) for name in groups[shown[0]][0]["classes"]) > 2
    shape = (2.6 * len(shown) + 0.8, 4.0 if long else 3.4)
    figure, panels = plt.subplots(1, len(shown), figsize=shape, squeeze=False, sharey=True)
    for axes, loss in zip(panels.flat, shown, strict=True):
        counts = np.mean([f["confusion"] for f in groups[loss]], axis=0)
        wrong = counts * (1 - np.eye(len(counts)))
        axes.imshow(np.sqrt(wrong), cmap="Blues")
        for (i, j), value in np.ndenumerate(counts):
            if value >= 0.5:
                dark = i != j and wrong[i, j] > 0.4 * wrong.max()
                axes.text(j, i, rounded(value, 0), ha="center", va="center", fontsize=7.2,
                          color="white" if dark else "black", weight="bold" if i == j else "normal")  # fmt: skip
        names = groups[loss][0]["classes"]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90 if long else 0)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel="predicted", title=LOSSES[loss].title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    panels[0, 0].set_ylabel("true class")
    facts = groups[shown[0]][0]
    figure.suptitle(f"{data_title(facts)}, 512 dimensions", fontsize=10)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return Drawn(
        figure,
        f"{data_title(facts)}, 512 dimensions: how often test images of a class (row) were predicted as another "
        f"(column), mean over {seeds_of({k: groups[k] for k in shown})}, rounded; no number where it is below a half; "
        "colour: square root of the mistakes, each panel on its own scale. Those of the other losses are in "
        "report/results/.",
    )

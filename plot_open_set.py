"""Classes that were never trained on: how well they are verified, and what compactness has to do with it."""

import matplotlib.pyplot as plt

from choices import LOSSES
from plot_data import Drawn, Study, seeds_of
from plot_style import data_title, loss_style
from plot_tables import cell_text, spread, text_table

MARKERS = "oXsDPv^*"  # a loss each: colours alone do not tell eight apart


def open_set_table(study: Study) -> Drawn:
    """Verification and retrieval on classes that were never trained on."""
    splits = study.open_set()
    rows: list[list[str]] = []
    counts: dict[str, list[dict]] = {}
    heads = []
    for split, groups in splits.items():
        heads.append(len(rows))
        rows.append(
            [f"without {', '.join(split)}", "AUC, %", "EER, %", "TAR@1e-2, %", "TAR@1e-3, %", "rank-1, %", "MAP@R, %"]
        )
        for loss, members in groups.items():
            pairs = [f["verification"] for f in members]
            figures = [[v["auc"] for v in pairs], [v["eer"] for v in pairs], [v["tar_at_far"]["0.01"] for v in pairs],
                       [v["tar_at_far"]["0.001"] for v in pairs], [f["retrieval"]["rank_1"] for f in members],
                       [f["retrieval"]["map_at_r"] for f in members]]  # fmt: skip
            rows.append([LOSSES[loss].title, *(cell_text(spread([100 * v for v in values]), 2) for values in figures)])
            counts[f"{split} {loss}"] = members
    first = next(iter(counts.values()))[0]
    title = f"{data_title(first)}, 512 dimensions: verification and retrieval on classes never trained on"
    note = f"Mean ± standard deviation over {seeds_of(counts)}."
    return Drawn(
        text_table(rows, title, note, heads=heads),
        f"{data_title(first)}, 512 dimensions, {seeds_of(counts)}: the networks never saw the classes of each block; "
        "verification over all pairs and retrieval of their test images alone. AUC: area under the ROC curve; EER: "
        "equal error rate; TAR@1e-2 and TAR@1e-3: same-class pairs accepted where one in a hundred or a thousand of "
        "others is; rank-1: how often the nearest image is of the class; MAP@R: how many of the first R are, R being "
        "all others of the class, those further in front counting more. "
        "Three classes make an easy set: compare losses within a block, not with face benchmarks.",
    )


def unseen_classes(study: Study) -> Drawn:
    """Equal error rate on held-out classes against the compactness of the classes trained on, a point a run."""
    splits = study.open_set()
    figure, panels = plt.subplots(
        1, len(splits), figsize=(3.0 * len(splits) + 1.3, 2.9), squeeze=False, sharex=True, sharey=True
    )
    counts: dict[str, list[dict]] = {}
    for axes, (split, groups) in zip(panels.flat, splits.items(), strict=True):
        for loss, members in groups.items():
            marker = MARKERS[list(LOSSES).index(loss)]
            size = 9 if marker == "*" else 6  # a star's points make it look small
            look = {
                "color": loss_style(loss)["color"],
                "markersize": size,
                "markerfacecolor": "none",
                "markeredgewidth": 1.4,
            }  # hollow: runs may lie on each other
            axes.plot(
                [f["angles"]["test"]["intra"] for f in members], [100 * f["verification"]["eer"] for f in members],
                marker, label=LOSSES[loss].title, **look,
            )  # fmt: skip
            counts[f"{split} {loss}"] = members
        axes.set_title(f"without {', '.join(split)}")
        axes.set_xlabel("Intra of trained classes, degrees")
        axes.grid(alpha=0.3)
    panels[0, 0].margins(0.08)
    panels[0, 0].set(xlim=(0, None), ylim=(0, None))
    panels[0, 0].set_ylabel("equal error rate\non unseen classes, %")
    handles = {h.get_label(): h for axes in panels.flat for h in axes.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
    figure.tight_layout(rect=(0, 0, 1 - 1.35 / figure.get_figwidth(), 1))
    first = next(iter(counts.values()))[0]
    return Drawn(
        figure,
        f"{data_title(first)}, 512 dimensions, {seeds_of(counts)}: equal error rate on classes that the network never "
        "saw, against Intra, the mean angle of a test embedding to its class centre, on the classes it was trained on. "
        "A mark is a run. Lower is better on unseen classes; further left is tighter on trained ones.",
    )

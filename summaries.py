"""A measured run's figures as lines for the terminal."""

from choices import LOSSES, WITHOUT_SCALE, Margins

PAPER_MARGIN = LOSSES["arcface"].margins.m2
WIDEST_MATRIX = 20  # classes; a wider confusion matrix does not fit a terminal


def margin_texts(margins: dict, signs: dict[str, str] | None = None) -> list[str]:
    """['m2 = 0.3', 'm3 = 0.2']: those of m1, m2 and m3 in `margins` that are a margin, by other names if given."""
    names = signs or {}
    none = Margins()._asdict()
    return [f"{names.get(name, name)} = {margins[name]:.3g}" for name in none if margins[name] != none[name]]


def training_line(facts: dict) -> str:
    """What a run is trained with: 's = 16, m2 = 0.5, growing over the first 50 %; 8 epochs, batch 256, lr 0.025'.

    facts: its settings, or metrics.json. AdaCos's scale is an outcome: it is named once there is one.
    """
    head, loss = [], facts["loss"]
    if loss != "softmax" and facts["scale"] is not None:
        grows = facts["scale_start"] is not None and loss not in WITHOUT_SCALE
        head.append(f"s = {facts['scale']:.3g}" + (f" (from {facts['scale_start']:g})" if grows else ""))
    margins = margin_texts(facts)
    if margins and facts["margin_warmup"]:
        margins[-1] += f", growing over the first {100 * facts['margin_warmup']:g} %"
    head += margins or (["no margin"] if LOSSES[loss].own_margin else [])
    many = "s" * (facts["epochs"] != 1)
    steps = f"{facts['epochs']} epoch{many}, batch {facts['batch_size']}, lr {facts['lr']:g}"
    return "; ".join([", ".join(head), steps] if head else [steps])


def summary(facts: dict) -> str:
    """A run's figures as lines for the terminal."""
    accuracy, angles = facts["accuracy"], facts["angles"]
    kind = "validation" if facts.get("validation") else "test"
    measured_on = f"{facts['test_images']:,} {kind} images"
    lines = [f"{facts['dataset']} {facts['loss']} {facts['embedding_dim']}-d, on {measured_on}",
             f"  data: {facts['source']}", f"  trained: {training_line(facts)}"]  # fmt: skip
    names = {"head": "head, no margin", "nearest_mean": "nearest class mean"}
    for name, entry in accuracy.items():
        label = names.get(name, "5 nearest by cosine")
        interval = f"95 % interval {entry['low']:.2%} to {entry['high']:.2%}"
        lines.append(f"  accuracy, {label:<20} {entry['value']:.2%}  ({interval})")
    for split, values in angles.items():
        if values:
            lines.append(f"  angles, {split:<5} W-EC {values['w_ec']:.1f}  W-Inter {values['w_inter']:.1f}  "
                         f"Intra {values['intra']:.1f}  Inter {values['inter']:.1f} degrees")  # fmt: skip
    for split, values in facts.get("margins_kept", {}).items():
        own = f"kept by {values['own']:.2%}, ArcFace's {PAPER_MARGIN}"
        if facts["m1"] == 1 and not facts["m2"] and not facts["m3"]:
            own = f"ArcFace's {PAPER_MARGIN} kept"
        lines.append(f"  margin, {split:<5} {own} by {values['arcface']:.2%}; "
                     f"lead over the next class, median {values['lead']['0.5']:.1f} degrees")  # fmt: skip
    fisher = facts["angular_fisher_score"]
    fisher = "infinite" if fisher is None else f"{fisher:.4f}"
    lines.append(f"  angular Fisher score {fisher} (train; scatter within over between classes)")
    pairs, folds, found = facts["verification"], facts["verification_10_fold"], facts["retrieval"]
    if "auc" in pairs:
        tar = "  ".join(f"TAR {value:.2%} at FAR {far}" for far, value in pairs["tar_at_far"].items())
        lines.append(f"  verification, {pairs['pairs']:,} pairs of {facts['pairs_from']}: AUC {pairs['auc']:.5f}  "
                     f"EER {pairs['eer']:.2%}")  # fmt: skip
        lines.append(f"  verification, the same pairs: {tar}")
    if "mean" in folds:
        lines.append(f"  verification, 10 folds of {folds['pairs']:,} pairs: {folds['mean']:.2%} ± {folds['std']:.2%}")
    if way := facts.get("unseen_to_weight"):
        lines.append(f"  held-out images to the nearest class weight: median {way['median']:.1f} degrees")
    for name, figures in (("verification", pairs), ("retrieval", found)):
        if why := figures.get("impossible"):
            lines.append(f"  {name}: not measured ({why})")
    if "rank_1" in found:
        lines.append(f"  retrieval: rank-1 {found['rank_1']:.2%}  R-precision {found['r_precision']:.2%}  "
                     f"MAP@R {found['map_at_r']:.2%}")  # fmt: skip
    return "\n".join(lines + class_lines(facts))


def class_lines(facts: dict) -> list[str]:
    """Per-class accuracy beside the confusion matrix, for the terminal: rows are true classes, columns predicted."""
    if len(facts["classes"]) > WIDEST_MATRIX:
        return [f"  per class: {len(facts['classes'])} classes, in metrics.json"]
    width = max(len(name) for name in facts["classes"])
    lines = ["  per class: accuracy, and how often each class (columns, in the same order) was predicted"]
    for name, share, row in zip(facts["classes"], facts["per_class_accuracy"], facts["confusion"], strict=True):
        accuracy = "   none" if share is None else f"{share:7.2%}"
        lines.append(f"    {name:<{width}} {accuracy} " + "".join(f"{count:6}" for count in row))
    return lines

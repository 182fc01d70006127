"""What README says of the losses, the defaults and the measures, against the program and the stored results."""

import re
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F

from losses import build_head, margin_cosine
from readme_helpers import ROOT, TEXT, paired_interval, values
from recipes import recipe

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_three_lines_are_arcface():
    lines = re.findall(r"^    ((?:cosine|logits|loss) = [^#\n]*)", README, re.MULTILINE)
    assert len(lines) == 3
    rng = torch.Generator().manual_seed(0)
    head = build_head("arcface", 8, 5, scale=16.0, m2=0.5)
    embeddings = torch.randn(32, 8, generator=rng, requires_grad=True)
    labels = torch.randint(0, 5, (32,), generator=rng)
    named = {"F": F, "margin_cosine": margin_cosine, "embeddings": embeddings, "weight": head.weight, "labels": labels,
             "s": 16.0}  # fmt: skip
    exec("\n".join(lines), named)
    expected = F.cross_entropy(head(embeddings, labels), labels)
    assert named["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(
        *(torch.autograd.grad(loss, (embeddings, head.weight)) for loss in (named["loss"], expected))
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("said", "dataset", "dim"), [
    ("MNIST, 512", "mnist", 512), ("MNIST, 2", "mnist", 2), ("the 5,000 digits, 512", "mnist-5k", 512),
    ("CIFAR-10, 512", "cifar10", 512), ("CIFAR-10, 2", "cifar10", 2),
])  # fmt: skip
def test_the_defaults_are_the_recipes(said, dataset, dim):
    found = recipe(dataset, "arcface", dim, 10)
    start = found["scale_start"]
    scale = f"{start:g}, growing to {found['scale']:g}" if start else f"{found['scale']:g}"
    row = (said, found["epochs"], found["batch_size"], found["lr"], scale, f"{found['m2']:.3g}")
    assert f"| {' | '.join(map(str, row))} |" in TEXT


def test_what_a_margin_does_depends_on_the_measure():
    def step(ours: str, base: str, name: str, *keys: str, dataset: str = "mnist") -> tuple[float, float, float]:
        a, b = (values(loss, name, *keys, dataset=dataset) for loss in (ours, base))
        return (fmean(a.values()) - fmean(b.values()), *paired_interval(a, b))

    longer = "-epochs=14-averaging=0.995"
    eer, tar, auc, rank = (step("arcface", "norm-softmax", longer, *keys) for keys in (
        ("verification", "eer"), ("verification", "tar_at_far", "0.001"), ("verification", "auc"),
        ("retrieval", "rank_1")))  # fmt: skip
    assert eer[2] < 0 < tar[1] and auc[2] < 0 and rank[1] <= 0 <= rank[2]
    assert (
        f"lowers the EER by {-eer[0]:.2f} points and raises the TAR at FAR 0.001 by {tar[0]:.2f}, changes nothing "
        f"clear by rank-1, and lowers the AUC by {-auc[0]:.2f}"
    ) in TEXT
    (far, before), (near, after) = (
        [fmean(values(loss, "", *key, dataset="cifar10").values())
         for key in (("verification", "eer"), ("retrieval", "rank_1"))]
        for loss in ("softmax", "norm-softmax")
    )  # fmt: skip
    assert step("norm-softmax", "softmax", "", "retrieval", "rank_1", dataset="cifar10")[2] < 0
    assert f"takes the EER from {far:.2f} to {near:.2f} %, but rank-1 from {before:.2f} to {after:.2f} %." in TEXT

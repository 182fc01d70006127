"""Heads against pytorch-metric-learning and slow loops, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, NormalizedSoftmaxLoss, SphereFaceLoss
from torch.func import functional_call

import losses
from loss_helpers import CM1, CM2, a_batch
from losses import LOSSES, build_head


@pytest.mark.parametrize("loss", LOSSES)
def test_head_gradcheck(loss):
    head, x, labels = a_batch(loss)
    head = head.double().eval()  # eval: a moving AdaCos scale would be differenced too
    weight = head.weight.detach().clone().requires_grad_()

    def logits(x, weight):
        return functional_call(head, {"weight": weight}, (x, labels))

    torch.autograd.gradcheck(logits, (x.double().requires_grad_(), weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_everywhere(loss, dtype):
    head, _, _ = a_batch(loss)
    head.weight.data[0] = 2 * torch.eye(4)[0]  # its cosine with itself is exactly 1
    w = head.weight.detach()
    rows = [w[0], -w[0], 7 * w[0], -1e-2 * w[0], w[1], -w[1], w[0] + 1e-4 * w[1], 1e3 * w[2]]
    if dtype != torch.float16:  # 1 / |x| is in the gradient, and beyond what float16 can hold
        rows += [0 * w[0], 1e-30 * w[0], 1e-7 * w[0], -1e12 * w[0], 1e30 * w[1]]
    x = torch.stack(rows).to(dtype).requires_grad_()
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 0, 2] + [0] * (len(rows) - 8))
    logits = head(x, labels)
    assert logits.dtype == torch.promote_types(dtype, torch.float32) and logits.isfinite().all()
    F.cross_entropy(logits, labels).backward()
    assert x.grad.isfinite().all() and head.weight.grad.isfinite().all()
    half = build_head(loss, 4, 5).to(dtype)  # and with the weights in that precision too
    F.cross_entropy(half(x.detach()[:8], labels[:8]), labels[:8]).backward()
    assert half.weight.grad.isfinite().all()


def their_loss(make, head, **options):
    classes, dim = head.weight.shape
    theirs = make(num_classes=classes, embedding_size=dim, **options).to(head.weight.dtype)
    theirs.W.data = head.weight.detach().T.clone()
    return theirs


@pytest.mark.parametrize(
    "loss, margin, make, options",
    [
        ("arcface", {"m2": 0.5}, ArcFaceLoss, {"margin": math.degrees(0.5), "scale": 30}),
        ("arcface", {"m2": 0.2}, ArcFaceLoss, {"margin": math.degrees(0.2), "scale": 30}),
        ("cosface", {"m3": 0.35}, CosFaceLoss, {"margin": 0.35, "scale": 30}),
        ("cosface", {"m3": 0.1}, CosFaceLoss, {"margin": 0.1, "scale": 30}),
        ("norm-softmax", {}, NormalizedSoftmaxLoss, {"temperature": 1 / 30}),
        ("sphereface", {"m1": 2}, SphereFaceLoss, {"margin": 2, "scale": 30}),
        ("sphereface", {"m1": 3}, SphereFaceLoss, {"margin": 3, "scale": 30}),
        ("sphereface", {"m1": 4}, SphereFaceLoss, {"margin": 4, "scale": 30}),
    ],
)
def test_agrees_with_pytorch_metric_learning(loss, margin, make, options):
    """Theirs differs past theta + m = pi; its SphereFace takes whole m only and multiplies by |x|, here 1."""
    head, x, labels = a_batch(loss, batch=40, **margin)
    head, x = head.double(), x.double()
    cosine = F.cosine_similarity(x, head.weight[labels].detach())
    assert (cosine < -0.5).any() and (cosine > 0.5).any()
    keep = cosine.arccos() + head.margins.m2 <= math.pi
    x, labels = x[keep], labels[keep]
    if loss == "sphereface":
        x = F.normalize(x)
    ours, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    theirs = their_loss(make, head, **options)
    one, two = F.cross_entropy(head(ours, labels), labels), theirs(other, labels)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    if loss != "sphereface":
        one.backward()
        two.backward()
        torch.testing.assert_close(ours.grad, other.grad, atol=1e-7, rtol=1e-7)
        torch.testing.assert_close(head.weight.grad, theirs.W.grad.T, atol=1e-7, rtol=1e-7)


def slow_loss(loss, margins, scale, x, weight, labels):
    """Mean cross entropy in Python loops, straight from the formulas of the papers."""
    total, (m1, m2, m3) = 0.0, margins
    for row, y in zip(x, labels, strict=True):
        logits = []
        for j, w in enumerate(weight):
            dot = sum(a * b for a, b in zip(row, w, strict=True))
            theta = math.acos(dot / math.sqrt(sum(a * a for a in row) * sum(b * b for b in w)))
            if loss == "softmax":
                logits.append(dot)
            elif loss == "li-arcface":
                logits.append(scale * (math.pi - 2 * (theta + (m2 if j == y else 0))) / math.pi)
            elif j == y:
                k = (m1 * theta + m2) // math.pi
                logits.append(scale * ((-1) ** k * math.cos(m1 * theta + m2) - 2 * k - m3))
            else:
                logits.append(scale * math.cos(theta))
        total += math.log(sum(math.exp(z - logits[y]) for z in logits))
    return total / len(labels)


@pytest.mark.parametrize(
    "loss, options, margins",
    [
        ("softmax", {}, (1, 0, 0)),
        ("norm-softmax", {}, (1, 0, 0)),
        ("adacos", {}, (1, 0, 0)),
        ("sphereface", {}, (1.35, 0, 0)),
        ("sphereface", {"m1": 4.0}, (4, 0, 0)),
        ("cosface", {}, (1, 0, 0.35)),
        ("arcface", {}, (1, 0.5, 0)),
        ("combined", {}, CM1),
        ("combined", {"m1": 0.9, "m2": 0.4, "m3": 0.15}, CM2),
        ("combined", {"m1": 3.0, "m2": 2.0, "m3": 0.5}, (3, 2, 0.5)),
        ("li-arcface", {}, (1, 0.4, 0)),
    ],
)
def test_whole_loss_matches_a_slow_loop(loss, options, margins):
    head, x, labels = a_batch(loss, batch=23, **options)
    head, x = head.double(), x.double()
    got = F.cross_entropy(head(x, labels), labels).item()
    scale = 30.0 if loss not in ("softmax", "adacos") else float(head.scale)
    expected = slow_loss(loss, margins, scale, x.tolist(), head.weight.tolist(), labels.tolist())
    assert got == pytest.approx(expected, rel=1e-9)
    bare = slow_loss(loss, (1, 0, 0), scale, x.tolist(), head.weight.tolist(), labels.tolist())
    assert F.cross_entropy(head(x), labels).item() == pytest.approx(bare, rel=1e-9)  # labels=None: no margin


@pytest.mark.parametrize("loss", LOSSES)
def test_heads_leave_autocast(loss):
    head, x, labels = a_batch(loss)
    head.eval()
    for args in ((x,), (x, labels), (x.bfloat16(), labels)):
        with torch.autocast("cpu", torch.bfloat16):
            inside = head(*args)
        assert inside.dtype == torch.float32 and torch.equal(inside, head(*args))


@pytest.mark.parametrize("entries", [1, 5, 1000])
def test_the_angle_made_in_parts_is_autograd_s(monkeypatch, entries):
    monkeypatch.setattr(losses, "ENTRIES", entries)
    torch.manual_seed(0)
    start, upstream = torch.rand(9, 7, dtype=torch.float64) * 2 - 1, torch.randn(7, 9, dtype=torch.float64)
    found = []
    for by_hand in (True, False):
        cosine = start.clone().requires_grad_()
        turned = cosine.T  # not contiguous
        logits = losses.AngleLogits.apply(turned, 5.0) if by_hand else 5 * (1 - 2 / math.pi * turned.acos())
        logits.backward(upstream)
        found.append((logits.detach(), cosine.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    ends = torch.tensor([-1.0, 1.0, 1.0 + 1e-6], dtype=torch.float32, requires_grad=True)
    logits = losses.AngleLogits.apply(ends, 5.0)
    torch.testing.assert_close(logits.detach(), torch.tensor([-5.0, 5.0, 5.0]), rtol=0, atol=2e-3)
    logits.sum().backward()
    assert torch.equal(ends.grad, torch.zeros(3))


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
@pytest.mark.parametrize("needed", ["both", "embeddings", "weights"])
def test_the_gradient_made_in_parts_is_autograd_s(monkeypatch, rows, needed):
    monkeypatch.setattr(losses, "ROWS", rows)
    torch.manual_seed(0)
    x, w = torch.randn(9, 4, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    labels, upstream = torch.tensor([0, 6, 6, 3, 6, 2, 3, 0, 1]), torch.randn(9, 7, dtype=torch.float64)
    found = []
    for by_hand in (True, False):
        e, v = x.clone().requires_grad_(needed != "weights"), w.clone().requires_grad_(needed != "embeddings")
        if by_hand:
            logits = losses.CosineLogits.apply(e, v, labels, 5.0, losses.Margins(1.2, 0.3, 0.1))
        else:
            cosine = F.normalize(e) @ F.normalize(v).T
            logits = 5.0 * losses.margin_cosine(cosine, labels, 1.2, 0.3, 0.1)
        logits.backward(upstream)
        found.append([t.grad for t in (e, v) if t.requires_grad])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)

"""Margins and heads against mpmath, pytorch-metric-learning and slow loops; their invariances and errors."""

import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, NormalizedSoftmaxLoss, SphereFaceLoss
from torch.func import functional_call

from losses import LOSSES, PRESETS, Margins, build_head, margin_cosine

COSINE_LOSSES = [name for name in LOSSES if name != "softmax"]
MARGIN_LOSSES = ["sphereface", "cosface", "arcface", "combined", "li-arcface"]
CM1, CM2 = (1.0, 0.3, 0.2), (0.9, 0.4, 0.15)
# 24 settings; the last ones carry m1 theta + m2 past pi, 2 pi, 3 pi and 4 pi.
SETTINGS = [
    (1, 0, 0), (1.35, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (1, 0.5, 0), (1, 1.0, 0), (1, 3.0, 0),
    (1, 0.1, 0), (1, 0, 0.35), (1, 0, 1.0), (1, 0, 2.0), CM1, CM2, (0.9, 0, 0), (0.1, 0, 0), (0.5, 1.0, 0.1),
    (0.1, 3.1, 0.5), (1, 2.0, 0.4), (1.35, 0.5, 0.35), (2, 1.5, 0.2), (2.5, 3.1, 1.0), (3, 2.2, 0.7),
    (4, 3.1, 2.0),
]  # fmt: skip
quick = settings(max_examples=60, deadline=None, derandomize=True)


def oracle_psi(cosine, m1, m2, m3):
    """psi of the angle whose cosine is exactly this float, to 50 digits."""
    with mpmath.workdps(50):
        phase = mpmath.mpf(m1) * mpmath.acos(mpmath.mpf(cosine)) + mpmath.mpf(m2)
        k = int(mpmath.floor(phase / mpmath.pi))
        return (-1) ** k * mpmath.cos(phase) - 2 * k - mpmath.mpf(m3)


def psi_of(cosines, m1, m2, m3):
    """margin_cosine's answer for a column of target cosines."""
    return margin_cosine(cosines[:, None], torch.zeros(len(cosines), dtype=torch.int64), m1, m2, m3)[:, 0]


def a_batch(loss, batch=7, classes=5, dim=4, seed=0, **margins):
    """A head with unequal weight norms, embeddings and labels; all random but repeatable."""
    generator = torch.Generator().manual_seed(seed)
    head = build_head(loss, dim, classes, **margins)
    lengths = torch.linspace(0.5, 2, classes)[:, None]
    head.weight.data = F.normalize(torch.randn(classes, dim, generator=generator)) * lengths
    x = 3 * torch.randn(batch, dim, generator=generator)
    return head, x, torch.arange(batch) % classes


@pytest.mark.parametrize("m1, m2, m3", SETTINGS)
@pytest.mark.parametrize("dtype, interior, ends", [(torch.float32, 1e-5, 5e-3), (torch.float64, 1e-10, 1e-6)])
def test_margin_matches_mpmath(m1, m2, m3, dtype, interior, ends):
    theta = torch.linspace(0.01, math.pi - 0.01, 97, dtype=torch.float64)
    for cosines, tolerance in (
        (theta.cos().to(dtype), interior),
        (torch.tensor([1.0, -1.0], dtype=dtype), ends),
    ):
        got = psi_of(cosines, m1, m2, m3)
        assert got.dtype == dtype
        exact = [oracle_psi(c, m1, m2, m3) for c in cosines.tolist()]
        assert max(abs(g - e) for g, e in zip(got.tolist(), exact, strict=True)) <= tolerance


@pytest.mark.parametrize("m1, m2, m3", SETTINGS)
def test_only_the_target_entry_changes(m1, m2, m3):
    cosine = 2 * torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) - 1
    labels, before = torch.tensor([0, 3, 1, 2, 3, 0]), cosine.clone()
    got = margin_cosine(cosine, labels, m1, m2, m3)
    assert torch.equal(cosine, before)  # the input stays as it was
    others = F.one_hot(labels, 4) == 0
    assert torch.equal(got[others], before[others])
    expected = [float(oracle_psi(before[i, y].item(), m1, m2, m3)) for i, y in enumerate(labels)]
    np.testing.assert_allclose(got[~others], expected, atol=1e-5)


@pytest.mark.parametrize("margins", [(0, 0, 0), (-1, 0, 0), (1, -0.1, 0), (math.nan, 0, 0), (1, 0, math.inf)])
def test_margin_cosine_refuses_what_has_no_meaning(margins):
    with pytest.raises(ValueError, match="need finite numbers"):
        margin_cosine(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), *margins)


@quick
@given(st.floats(0.1, 4), st.floats(0, 3.1), st.floats(0, 2))
def test_psi_is_continuous_and_decreasing(m1, m2, m3):
    theta = np.linspace(0, np.pi, 1501)
    joints = (np.arange(1, 6) * np.pi - m2) / m1
    joints = np.concatenate([joints + step for step in (-1e-4, -1e-6, 0, 1e-6, 1e-4)])
    theta = np.sort(np.concatenate([theta, joints[(joints >= 0) & (joints <= np.pi)]]))
    psi = psi_of(torch.from_numpy(theta).cos(), m1, m2, m3).numpy()
    # |psi'| <= m1, so more is a jump; 1e-6, as a cosine near -1 or 1 fixes its angle only to about 1e-8.
    assert (np.abs(np.diff(psi)) <= m1 * np.diff(theta) + 1e-6).all()
    assert (np.diff(psi) <= 1e-13).all()
    assert (psi[20:] < psi[:-20]).all()
    single = psi_of(torch.from_numpy(theta).cos().float(), m1, m2, m3).double().numpy()
    assert (np.diff(single) <= 5e-6).all() and np.abs(single - psi).max() <= 5e-3


@pytest.mark.parametrize("m1, m2, m3", SETTINGS)
def test_margin_gradcheck(m1, m2, m3):
    theta = torch.linspace(0.05, math.pi - 0.05, 40, dtype=torch.float64)
    phase = (m1 * theta + m2) / math.pi
    cosines = theta[(phase - phase.round()).abs() > 0.005].cos().requires_grad_()
    assert len(cosines) > 30
    torch.autograd.gradcheck(lambda c: psi_of(c, m1, m2, m3), cosines)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m1, m2, m3", SETTINGS)
def test_margin_gradient_is_finite_at_and_beyond_the_ends(m1, m2, m3, dtype):
    beyond = 1 + 2 * torch.finfo(dtype).eps
    cosines = torch.tensor([1, -1, beyond, -beyond, 1 / beyond, 0], dtype=dtype, requires_grad=True)
    psi = psi_of(cosines, m1, m2, m3)
    psi.sum().backward()
    assert psi.isfinite().all() and cosines.grad.isfinite().all()


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
def test_without_labels_there_is_no_margin(loss):
    head, x, labels = a_batch(loss)
    cosine = F.cosine_similarity(x[:, None], head.weight[None].detach(), dim=2)
    expected = {"softmax": x @ head.weight.T, "li-arcface": 30 * (1 - 2 / math.pi * cosine.arccos())}
    expected = expected.get(loss, float(head.scale) * cosine).detach()
    for mode in (True, False):
        torch.testing.assert_close(head.train(mode)(x).detach(), expected, atol=1e-4, rtol=1e-5)
    if loss in MARGIN_LOSSES:
        with_margin = head(x, labels).detach()  # the margin applies in eval mode too when labels are given
        own = F.one_hot(labels, 5) == 1
        assert (with_margin[own] < expected[own] - 1).all()
        torch.testing.assert_close(with_margin[~own], expected[~own], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("loss", MARGIN_LOSSES)
def test_zero_margin_is_nsl_exactly(loss):
    zero = {"m1": 1.0, "m2": 0.0, "m3": 0.0}
    head, x, labels = a_batch(loss, **zero)
    assert torch.equal(head(x, labels), head(x))
    if loss != "li-arcface":
        plain, _, _ = a_batch("norm-softmax")
        assert torch.equal(head(x, labels), plain(x, labels)) and torch.equal(head(x), plain(x))


@quick
@given(
    st.sampled_from(COSINE_LOSSES),
    st.integers(0, 99),
    st.lists(st.floats(-6, 15), min_size=7, max_size=7),
    st.lists(st.floats(-6, 15), min_size=5, max_size=5),
)
def test_logits_ignore_the_norms_of_x_and_w(loss, seed, x_powers, w_powers):
    head, x, labels = a_batch(loss, seed=seed)
    head.eval()
    before = head(x, labels).detach()
    x = F.normalize(x) * 10 ** torch.tensor(x_powers)[:, None]
    head.weight.data = F.normalize(head.weight.data) * 10 ** torch.tensor(w_powers)[:, None]
    torch.testing.assert_close(head(x, labels).detach(), before, atol=2e-3, rtol=0)


@quick
@given(st.sampled_from(list(LOSSES)), st.integers(0, 99), st.permutations(range(5)))
def test_permuting_classes_permutes_logits(loss, seed, order):
    head, x, labels = a_batch(loss, seed=seed)
    before, order = head.eval()(x, labels), torch.tensor(order)
    head.weight.data = head.weight.data[order]  # new class i is old class order[i]
    torch.testing.assert_close(head(x, order.argsort()[labels]), before[:, order], atol=1e-4, rtol=1e-5)


@quick
@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(0.01, 100))
def test_plain_softmax_s_logits_grow_with_both_norms(seed, a, b):
    head, x, labels = a_batch("softmax", seed=seed)
    before = head(x, labels).detach()
    head.weight.data *= b
    torch.testing.assert_close(head(a * x, labels).detach(), a * b * before, rtol=1e-5, atol=1e-6 * a * b)


@quick
@given(st.sampled_from(["sphereface", "cosface", "arcface", "combined"]), st.integers(0, 999), st.floats(0.1, 100))
def test_zero_margin_is_nsl_for_any_batch_and_scale(loss, seed, scale):
    head, x, labels = a_batch(loss, seed=seed, scale=scale, m1=1.0, m2=0.0, m3=0.0)
    plain, _, _ = a_batch("norm-softmax", seed=seed, scale=scale)
    assert torch.equal(head(x, labels), plain(x, labels))


OWN_MARGINS = {"sphereface": ["m1"], "cosface": ["m3"], "arcface": ["m2"], "li-arcface": ["m2"]}
OWN_MARGINS["combined"] = ["m1", "m2", "m3"]


@quick
@given(st.sampled_from(COSINE_LOSSES), st.floats(0.1, 4), st.floats(0, 3), st.floats(0, 2), st.floats(1, 99))
def test_target_logit_falls_with_the_angle(loss, m1, m2, m3, scale):
    every = {"m1": m1 if loss == "combined" else max(m1, 1), "m2": m2, "m3": m3}
    options = {name: every[name] for name in OWN_MARGINS.get(loss, [])}
    options |= {"scale": scale} if loss != "adacos" else {}
    head = build_head(loss, 3, 4, **options).double().eval()
    theta = torch.linspace(0, math.pi, 200, dtype=torch.float64)[:, None]
    across = torch.linalg.cross(head.weight[0], head.weight[1])
    x = theta.cos() * F.normalize(head.weight[:1]) + theta.sin() * F.normalize(across, dim=0)
    target = head(x, torch.zeros(200, dtype=torch.int64))[:, 0]
    assert (target[2:] < target[:-2]).all() and (target.diff() <= 1e-12 * float(head.scale)).all()


@pytest.mark.parametrize("loss", MARGIN_LOSSES)
def test_margin_fraction_goes_from_nsl_to_the_full_margin(loss):
    head, x, labels = a_batch(loss)
    assert head.margin_fraction == 1
    full, bare, (m1, m2, m3) = head(x, labels), head(x), head.margins
    head.margin_fraction = 0.0
    assert torch.equal(head(x, labels), bare)
    head.margin_fraction = 0.5
    expected, _, _ = a_batch(loss, m1=(1 + m1) / 2, m2=m2 / 2, m3=m3 / 2)
    half, own = head(x, labels), F.one_hot(labels, 5) == 1
    torch.testing.assert_close(half, expected(x, labels))
    assert (half[own] < bare[own]).all() and (half[own] > full[own]).all()
    head.margin_fraction = 1.0
    assert torch.equal(head(x, labels), full)


def naive_scale(x, weight, labels, scale):
    """AdaCos Eq. 14 and 15 as printed; exp overflows for large scales."""
    norms = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(weight, axis=1))
    cosine = x @ weight.T / norms
    rows = np.arange(len(labels))
    others = np.exp(scale * cosine)
    others[rows, labels] = 0
    median = np.median(np.arccos(cosine[rows, labels]))
    return np.log(others.sum(1).mean()) / np.cos(min(np.pi / 4, median)), median


@pytest.mark.parametrize("spread, clipped", [(0.3, False), (3.0, True)])
def test_adacos_scale_matches_numpy(spread, clipped):
    head, noise, labels = a_batch("adacos", batch=21, classes=9)
    assert float(head.scale) == pytest.approx(math.sqrt(2) * math.log(8))
    for _ in range(3):
        x = F.normalize(head.weight[labels].detach()) + spread * noise / 3
        arrays = (x.double().numpy(), head.weight.detach().double().numpy(), labels.numpy())
        expected, median = naive_scale(*arrays, float(head.scale))
        assert (median > math.pi / 4) == clipped
        logits = head(x, labels)
        assert float(head.scale) == pytest.approx(min(expected, head.ceiling), rel=1e-5)
        cosine = F.cosine_similarity(x[:, None], head.weight[None], dim=2)
        # The new scale is used at once.
        torch.testing.assert_close(logits, head.scale * cosine, atol=1e-4, rtol=1e-5)


def test_adacos_does_not_overflow():
    head = build_head("adacos", 3, 6)
    head.weight.data = torch.ones(6, 3)
    head.scale.fill_(1000.0)
    head.ceiling = math.inf
    assert head(torch.ones(4, 3), torch.arange(4)).isfinite().all()
    assert float(head.scale) == pytest.approx(1000 + math.log(5), rel=1e-5)


def test_adacos_scale_does_not_run_away_where_every_sample_is_in_a_wrong_place():
    head = build_head("adacos", 2, 10)
    labels = torch.arange(10)
    for _ in range(100):
        head(head.weight[labels.roll(1)].detach(), labels)
    assert float(head.scale) == pytest.approx(2 * math.sqrt(2) * math.log(9))


def test_adacos_scale_is_frozen_when_predicting_and_kept_in_the_state():
    head, x, labels = a_batch("adacos")
    start = float(head.scale)
    head(x)
    head.eval()(x, labels)
    assert float(head.scale) == start
    head.train()(x, labels)
    assert float(head.scale) != start and not head.scale.requires_grad
    other = build_head("adacos", 4, 5)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.scale, head.scale) and torch.equal(other.eval()(x), head.eval()(x))


def test_adacos_scale_takes_no_gradient():
    head, x, labels = a_batch("adacos")
    F.cross_entropy(head(x, labels), labels).backward()
    fixed, _, _ = a_batch("norm-softmax", scale=float(head.scale))
    F.cross_entropy(fixed(x, labels), labels).backward()
    torch.testing.assert_close(head.weight.grad, fixed.weight.grad)


def test_defaults_are_the_papers():
    margins = {"sphereface": (1.35, 0, 0), "cosface": (1, 0, 0.35), "arcface": (1, 0.5, 0), "combined": CM1}
    margins["li-arcface"] = (1, 0.4, 0)
    for loss in LOSSES:
        head = build_head(loss, 4, 5)
        assert head.margins == Margins(*margins.get(loss, (1, 0, 0)))
        assert [(name, tuple(p.shape)) for name, p in head.named_parameters()] == [("weight", (5, 4))]
        if loss not in ("softmax", "adacos"):
            assert head.scale == 30
    assert PRESETS == {"cm1": CM1, "cm2": CM2}
    assert build_head("arcface", 4, 5, scale=7.5, m2=0.1).scale == 7.5


BAD_OPTIONS = [
    *[("arcface", {"scale": v}) for v in (0.0, -1.0, math.nan, math.inf)],
    *[(loss, {"scale": 30.0}) for loss in ("softmax", "adacos")],
    *[("arcface", {"m1": v}) for v in (1.35, 0.5, math.nan)],
    *[("sphereface", {"m1": v}) for v in (0.5, 0.99, 4.1, -1.0, math.nan, math.inf)],
    *[("combined", {"m1": v}) for v in (0.0, 0.05, 4.5, math.nan)],
    *[("arcface", {"m2": v}) for v in (-0.1, 3.2, math.pi, math.nan, math.inf)],
    *[("cosface", {"m3": v}) for v in (-0.1, 2.1, math.nan, -math.inf)],
    *[("combined", {"m2": -0.2}), ("combined", {"m3": 2.5}), ("li-arcface", {"m2": 4.0})],
    *[("arcface", {"m3": 0.25}), ("cosface", {"m2": 0.25}), ("li-arcface", {"m3": 0.25})],
    *[("sphereface", {name: 0.25}) for name in ("m2", "m3")],
    *[(loss, {name: 1.25}) for loss in ("softmax", "norm-softmax", "adacos") for name in ("m1", "m2", "m3")],
]


@pytest.mark.parametrize("loss, options", BAD_OPTIONS)
def test_build_head_refuses_an_option_in_one_line(loss, options):
    with pytest.raises(ValueError) as caught:
        build_head(loss, 4, 5, **options)
    message, ((name, value),) = str(caught.value), options.items()
    assert message.startswith((f"{name} = {value:g}: ", f"{name} {value:g}: ")) and "\n" not in message
    assert loss in message or name != "m1"


@pytest.mark.parametrize("loss, dim, classes, named", [
    ("arcfase", 4, 5, ["'arcfase'", *LOSSES]), ("arcface", 0, 5, ["dimension 0"]),
    ("arcface", -3, 5, ["dimension -3"]), ("arcface", 4, 1, ["1 classes"]),
    ("adacos", 4, 2, ["adacos", "2 classes"]),
])  # fmt: skip
def test_build_head_refuses_a_name_or_size_in_one_line(loss, dim, classes, named):
    with pytest.raises(ValueError) as caught:
        build_head(loss, dim, classes)
    assert "\n" not in str(caught.value) and all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("loss, name, low, high", [
    ("sphereface", "m1", 1, 4), ("combined", "m1", 0.1, 4), ("arcface", "m2", 0, 3.14),
    ("cosface", "m3", 0, 2),
])  # fmt: skip
def test_the_limits_themselves_are_allowed(loss, name, low, high):
    for value in (low, high):
        assert getattr(build_head(loss, 4, 5, **{name: value}).margins, name) == value


@pytest.mark.parametrize("loss", LOSSES)
def test_heads_leave_autocast(loss):
    head, x, labels = a_batch(loss)
    head.eval()
    for args in ((x,), (x, labels), (x.bfloat16(), labels)):
        with torch.autocast("cpu", torch.bfloat16):
            inside = head(*args)
        assert inside.dtype == torch.float32 and torch.equal(inside, head(*args))

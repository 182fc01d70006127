"""What heads ignore and what they follow: no labels, no margin, norms, the order of classes, the angle."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from loss_helpers import COSINE_LOSSES, MARGIN_LOSSES, a_batch, quick
from losses import LOSSES, build_head


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

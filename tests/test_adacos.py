"""AdaCos's scale: the paper's formula, and when it moves."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from loss_helpers import a_batch
from losses import build_head


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


def test_adacos_scale_never_turns_the_order_of_the_classes_round():
    """Three classes, two weights alike, all samples opposite them: the formula alone gives -0.40, 1.54, -1.19."""
    head = build_head("adacos", 2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 1e-3]]))
    labels = torch.zeros(6, dtype=torch.int64)
    for _ in range(3):
        head(torch.tensor([[-1.0, 0.02]]).expand(6, 2), labels + 2)
        assert float(head.scale) >= 0.1


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

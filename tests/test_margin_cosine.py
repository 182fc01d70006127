"""The margin on a cosine against mpmath: its values, its continuity and its gradients."""

import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from loss_helpers import CM1, CM2, quick
from losses import margin_cosine

# 24 settings; the last ones carry m1 theta + m2 past pi, 2 pi, 3 pi and 4 pi.
SETTINGS = [
    (1, 0, 0), (1.35, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (1, 0.5, 0), (1, 1.0, 0), (1, 3.0, 0),
    (1, 0.1, 0), (1, 0, 0.35), (1, 0, 1.0), (1, 0, 2.0), CM1, CM2, (0.9, 0, 0), (0.1, 0, 0), (0.5, 1.0, 0.1),
    (0.1, 3.1, 0.5), (1, 2.0, 0.4), (1.35, 0.5, 0.35), (2, 1.5, 0.2), (2.5, 3.1, 1.0), (3, 2.2, 0.7),
    (4, 3.1, 2.0),
]  # fmt: skip


def oracle_psi(cosine, m1, m2, m3):
    """psi of the angle whose cosine is exactly this float, to 50 digits."""
    with mpmath.workdps(50):
        phase = mpmath.mpf(m1) * mpmath.acos(mpmath.mpf(cosine)) + mpmath.mpf(m2)
        k = int(mpmath.floor(phase / mpmath.pi))
        return (-1) ** k * mpmath.cos(phase) - 2 * k - mpmath.mpf(m3)


def psi_of(cosines, m1, m2, m3):
    """margin_cosine's answer for a column of target cosines."""
    return margin_cosine(cosines[:, None], torch.zeros(len(cosines), dtype=torch.int64), m1, m2, m3)[:, 0]


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("margins", [(1, 0.5, 0), (1, 0, 0.35), (1, 0, 0)])
def test_half_precision_is_refused_with_its_remedy(dtype, margins):
    with pytest.raises(ValueError, match=r"torch\.b?float16: compute them in float32"):
        margin_cosine(torch.zeros(1, 2, dtype=dtype), torch.zeros(1, dtype=torch.int64), *margins)


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

"""Heads and batches for the tests of losses.py, and the losses by kind."""

import torch
import torch.nn.functional as F
from hypothesis import settings

from losses import LOSSES, build_head

COSINE_LOSSES = [name for name in LOSSES if name != "softmax"]
MARGIN_LOSSES = ["sphereface", "cosface", "arcface", "combined", "li-arcface"]
CM1, CM2 = (1.0, 0.3, 0.2), (0.9, 0.4, 0.15)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def a_batch(loss, batch=7, classes=5, dim=4, seed=0, **margins):
    """A head with unequal weight norms, embeddings and labels; all random but repeatable."""
    generator = torch.Generator().manual_seed(seed)
    head = build_head(loss, dim, classes, **margins)
    lengths = torch.linspace(0.5, 2, classes)[:, None]
    head.weight.data = F.normalize(torch.randn(classes, dim, generator=generator)) * lengths
    x = 3 * torch.randn(batch, dim, generator=generator)
    return head, x, torch.arange(batch) % classes

"""Arrangements of class weights for the tests of bounds.py, and the posteriors at their centres."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def simplex(classes):
    """C unit vectors with equal angles, in the C - 1 dimensions orthogonal to (1, ..., 1)."""
    centred = np.eye(classes) - 1 / classes
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def circle(classes):
    angles = 2 * np.pi * np.arange(classes) / classes
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def icosahedron():
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    corners = np.array([np.roll(corner, turn) for corner in corners for turn in range(3)])
    return corners / np.linalg.norm(corners, axis=1, keepdims=True)


def smallest_angle(points):
    cosine = np.clip(points @ points.T, -1, 1)
    return math.acos(cosine[~np.eye(len(points), dtype=bool)].max())


def packing(classes, dim, tries=60, steps=400):
    """The best of some random arrangements, each pushed apart by gradient steps on ever sharper repulsion."""
    generator = torch.Generator().manual_seed(classes * 100 + dim)
    points = torch.randn(tries, classes, dim, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)
    itself = torch.eye(classes, dtype=torch.bool)
    for step in range(steps):
        sharpness = 4 * 10000 ** (step / steps)
        optimizer.param_groups[0]["lr"] = 0.2 / sharpness**0.75
        unit = F.normalize(points, dim=2)
        cosine = (unit @ unit.mT).masked_fill(itself, -math.inf)
        loss = torch.logsumexp(sharpness * cosine.flatten(1), 1).sum() / sharpness
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = F.normalize(points.detach(), dim=2).numpy()
    return max(found, key=smallest_angle)


def posterior_at_centres(points, scale):
    """Smallest probability that any centre, used as an embedding, gives its own class."""
    logits = scale * points @ points.T
    odds = np.exp(logits - logits.diagonal()[:, None])
    return (1 / odds.sum(axis=1)).min()

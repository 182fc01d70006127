"""All pairs of samples, scored by their cosine: how they are told apart by a threshold. For metrics.py."""

from bisect import bisect_left
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unit_vectors import Array, Ints, chunks, in_threads


def by_class(labels: Ints) -> tuple[Ints, Ints, Ints]:
    """The samples ordered by class, and for each place how many later ones share its class, how many do not.

    Place i is in genuine pairs with the places right after it, in impostor pairs with the rest: plain slices.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    ends = np.cumsum(np.bincount(codes))[np.sort(codes)]
    own, others = ends - np.arange(len(ends)) - 1, len(ends) - ends
    if not own.any() or not others.any():
        raise ValueError(f"{own.sum()} same-class and {others.sum()} other pairs: need at least one of each")
    return np.argsort(codes, kind="stable"), own, others


def pair_scores(points: Array, own: Ints, others: Ints, chunk: int) -> tuple[Array, Array]:
    """Sorted float32 cosines of all genuine and all impostor pairs; arguments in the order of `by_class`."""
    genuine, impostor = np.empty(own.sum(), np.float32), np.empty(others.sum(), np.float32)
    g = i = 0
    for rows in chunks(len(points), chunk):
        block = points[rows] @ points[rows.start :].T
        for at, (same, other) in enumerate(zip(own[rows], others[rows], strict=True)):
            genuine[g : g + same] = block[at, at + 1 : at + 1 + same]
            impostor[i : i + other] = block[at, at + 1 + same :]
            g, i = g + same, i + other
    for scores in (genuine, impostor):
        middle = len(scores) // 2
        scores.partition(middle)  # so that two threads can sort a half each
        in_threads(np.ndarray.sort, (scores[:middle], scores[middle:]))
    return genuine, impostor


def tar_at(genuine: Array, impostor: Array, far: ArrayLike) -> Array:
    """Largest TAR of a threshold with at most the given FAR, from sorted scores."""
    # The tiny factor: 0.29 of 100 must allow 29 although the float product is 28.999999999999996.
    allowed = np.floor(np.asarray(far) * len(impostor) * (1 + 1e-12)).astype(np.int64)
    barred = impostor[np.maximum(len(impostor) - 1 - allowed, 0)]  # the highest impostor that must stay out
    accepted = len(genuine) - np.searchsorted(genuine, barred, side="right")
    return np.where(allowed < len(impostor), accepted / len(genuine), 1.0)


def equal_error(genuine: Array, impostor: Array) -> tuple[float, float]:
    """Equal error rate and its threshold as `verification` defines them, from sorted scores."""

    def rates(k: int, side: Literal["left", "right"]) -> tuple[float, float]:
        """FAR - FRR, and FRR, of accepting scores >= (left) or > (right) genuine[k]."""
        frr = int(np.searchsorted(genuine, genuine[k], side)) / len(genuine)
        accepted = len(impostor) - int(np.searchsorted(impostor, genuine[k], side))
        return accepted / len(impostor) - frr, frr

    # FAR - FRR falls as the threshold rises. It crosses 0 between accepting and rejecting the last genuine
    # score where it is not negative, or further up, among impostors alone, where FRR stands still.
    last = bisect_left(range(len(genuine)), True, key=lambda k: rates(k, "left")[0] < 0) - 1
    excess, frr = zip(rates(last, "right"), rates(last, "left"), strict=True)
    return float(np.interp(0, excess, frr)), float(genuine[last])


def angle_counts(scores: Array) -> list[int]:
    """How many sorted cosines lie in each whole degree from 0 to 180; one on an edge belongs to the larger angles."""
    edges = np.cos(np.radians(np.arange(179, 0, -1))).astype(np.float32)
    return np.diff([0, *np.searchsorted(scores, edges, side="right"), len(scores)])[::-1].tolist()


def best_threshold(scores: Array, same: NDArray[np.bool_]) -> float:
    """The t whose "score >= t" is right most often: half-way between two scores, the lowest where tied."""
    values, index = np.unique(scores, return_inverse=True)
    gains = np.bincount(index, weights=np.where(same, -1, 1))  # what raising t past each value wins
    between = np.concatenate([[-np.inf], (values[:-1] + values[1:]) / 2, [np.inf]])
    return float(between[np.concatenate([[0], np.cumsum(gains)]).argmax()])

"""How good embeddings are, arrays in, numbers out: accuracy, angles, verification and retrieval.

Embeddings are float arrays [N, d], labels integers [N]. Only directions count: rows are first scaled to length 1; an
all-zero row has none and is perpendicular to everything. Every function raises ValueError for empty, NaN or infinite
embeddings and mismatched lengths; the docstrings name what else it rejects.
"""

import math
from typing import NamedTuple

import numpy as np

from pair_scores import angle_counts, best_threshold, by_class, equal_error, pair_scores, tar_at
from unit_vectors import Array, Ints, as_ids, as_matrix, chunks, grid_unit, in_threads, unit

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point
FAR_TARGETS = ("0.01", "0.001", "0.0001")
ROC_FAR = np.logspace(-6, 0, 193)  # 32 points a decade, so each power of ten is among them


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927). ValueError unless 0 <= successes <= n, n > 0."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: need n >= 1 and successes from 0 to n")
    rate, z2 = successes / n, Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Where none or all succeed the ends are exactly 0 and 1, which rounding would miss.
    return (centre - half if successes else 0.0), (centre + half if successes < n else 1.0)


def near_chance(accuracy: float, counts: Ints) -> bool:
    """Whether an accuracy (0 to 1) is about what always naming the commonest class gets.

    counts [C]: samples of each class. About: up to twice as much, and up to a tenth of what is missing to 1. Of one
    class alone: never, for naming the commonest is then right.
    """
    chance = counts.max() / counts.sum()
    return bool(chance < 1 and accuracy <= min(2 * chance, chance + 0.1 * (1 - chance)))


def confusion(labels: Ints, predictions: Ints, num_classes: int) -> Ints:
    """Counts [C, C], row = true class, column = predicted. ValueError for a class outside 0 to C - 1."""
    true = as_ids(labels, "labels")
    predicted = as_ids(predictions, "predictions", len(true))
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"classes from {low} to {high}: need 0 to {num_classes - 1}, or another num_classes")
    counts = np.bincount(true.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def per_class_accuracy(confusion: Ints) -> Array:
    """Share [C] of each true class predicted right, from counts [C, C]; NaN for a class without samples."""
    counts = as_matrix(confusion, "confusion matrix", len(np.atleast_1d(confusion)))
    totals = counts.sum(axis=1)
    return np.where(totals > 0, counts.diagonal() / np.maximum(totals, 1), np.nan)


def class_centres(embeddings: Array, labels: Ints, classes: Ints) -> Array:
    """Unit mean direction [len(classes), d] of each class, in float64. ValueError for one without samples."""
    x = as_matrix(embeddings, "embeddings")
    y, wanted = as_ids(labels, "labels", len(x)), as_ids(classes, "classes")
    missing = wanted[~np.isin(wanted, y)]
    if missing.size:
        raise ValueError(f"class {missing[0]} has no samples, so no centre: leave it out of the classes")
    return unit(np.stack(in_threads(lambda c: unit(x[y == c].astype(np.float64)).mean(axis=0), wanted)))


def nearest_centre(embeddings: Array, centres: Array, classes: Ints) -> Ints:
    """Class id [N] of the centre [len(classes), d] with the largest cosine, the first where tied."""
    x = unit(embeddings)
    directions = unit(as_matrix(centres, "centres", x.shape[1]))
    return as_ids(classes, "classes", len(directions))[(x @ directions.T).argmax(axis=1)]


def nearest_neighbours(
    train_embeddings: Array, train_labels: Ints, test_embeddings: Array, k: int = 5, chunk: int = 1000
) -> Ints:
    """Predicted class id [N_test]: majority vote of the k training samples with the largest cosine.

    A tied vote goes to the tied class with the largest sum of cosines; equally near samples count in training order.
    Cosines are float32: differences of 1e-7 can go either way. Memory: 4 chunk N_train bytes and the embeddings again.
    ValueError unless 1 <= k <= N_train.
    """
    train = unit(train_embeddings).astype(np.float32, copy=False)
    test = unit(as_matrix(test_embeddings, "test embeddings", train.shape[1])).astype(np.float32, copy=False)
    classes, codes = np.unique(as_ids(train_labels, "train labels", len(train)), return_inverse=True)
    if not 1 <= k <= len(train):
        raise ValueError(f"k is {k} with {len(train)} training samples: need 1 to {len(train)}")

    def vote(cosines: Array) -> Ints:
        every = np.arange(len(cosines))
        votes = np.zeros((len(cosines), len(classes)))
        for _ in range(k):  # for the small k in use, faster than one argpartition, and ties fall by order
            best = cosines.argmax(axis=1)
            # All cosines together move a count by a quarter at most: they decide between equal counts only.
            votes[every, codes[best]] += 1 + cosines[every, best].astype(np.float64) / (4 * k)
            cosines[every, best] = -np.inf
        return classes[votes.argmax(axis=1)]

    predicted = np.empty(len(test), dtype=classes.dtype)
    for rows in chunks(len(test), chunk):
        predicted[rows] = np.concatenate(in_threads(vote, np.array_split(test[rows] @ train.T, 2)))
    return predicted


def _angle(a: Array, b: Array) -> Array:
    """Radians between unit (or zero) vectors along the last axis; Kahan's form, accurate near 0 and pi."""
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def _mean_nearest(directions: Array) -> float:
    """Mean over the rows [C, d] of the smallest angle to another row, in degrees."""
    return math.degrees(np.mean([_angle(w, np.delete(directions, i, 0)).min() for i, w in enumerate(directions)]))


class Centred(NamedTuple):
    """Samples seen from the centre of their class, all in float64: see `centred`."""

    angles: Array  # [N] radians to the centre of its own class
    centres: Array  # [C, d]
    own: Ints  # [N] the row of its own centre
    mean: Array  # [1, d] direction of the mean of all unit embeddings


def centred(embeddings: Array, labels: Ints, classes: Ints, chunk: int = 500) -> Centred:
    """Samples [N, d] seen from the centres of their classes, row i for classes[i], `chunk` samples at a time: as a
    whole they would take 20 bytes an entry. ValueError for fewer than two classes, one named twice or without samples,
    a label not among them."""
    x = as_matrix(embeddings, "embeddings")
    y, ids = as_ids(labels, "labels", len(x)), as_ids(classes, "classes")
    if len(np.unique(ids)) < max(len(ids), 2):
        raise ValueError(f"classes {ids.tolist()}: need at least two, each once")
    strange = np.setdiff1d(y, ids)
    if strange.size:
        raise ValueError(f"label {strange[0]} is not among the classes: add it or leave its samples out")
    centres, own = class_centres(x, y, ids), (y[:, None] == ids).argmax(axis=1)

    def of(rows: slice) -> tuple[Array, Array]:
        part = unit(x[rows].astype(np.float64))
        return _angle(part, centres[own[rows]]), part.sum(axis=0)

    angles, sums = zip(*in_threads(of, chunks(len(x), chunk)), strict=True)
    return Centred(np.concatenate(angles), centres, own, unit(np.sum(sums, axis=0)[None]))


def angle_statistics(seen: Centred, weights: Array | None = None) -> dict:
    """Angles in degrees as in ArcFace (arXiv:1801.07698) Table 3, in float64.

    `intra`: mean over samples of the angle to their class centre. `inter`: mean over classes of the smallest angle
    between their centre and another's. With weights [C, d], row i for the i-th class: `w_ec`, mean angle of a weight to
    its class's centre, and `w_inter`, `inter` of the weights. ValueError for weights of another shape.
    """
    result = {"intra": math.degrees(seen.angles.mean()), "inter": _mean_nearest(seen.centres)}
    if weights is not None:
        w = unit(as_matrix(weights, "weights", seen.centres.shape[1])).astype(np.float64)
        if len(w) != len(seen.centres):
            raise ValueError(f"{len(w)} weights for {len(seen.centres)} classes: need a row for each")
        result |= {"w_ec": math.degrees(_angle(w, seen.centres).mean()), "w_inter": _mean_nearest(w)}
    return result


def angles_to_weights(embeddings: Array, labels: Ints, weights: Array, chunk: int = 500) -> tuple[Array, Array]:
    """Radians [N] from each embedding [N, d] to its class's weight, a row of weights [C, d], and to the nearest other.

    labels [N]: rows of weights. In float64. ValueError for fewer than two weights or a label that is no row of them.
    """
    x = as_matrix(embeddings, "embeddings")
    w = unit(as_matrix(weights, "weights", x.shape[1]).astype(np.float64))
    y = as_ids(labels, "labels", len(x))
    if len(w) < 2 or y.min() < 0 or y.max() >= len(w):
        raise ValueError(f"labels from {y.min()} to {y.max()} with {len(w)} weights: need two and a row for each label")

    def of(rows: slice) -> tuple[Array, Array]:
        part, true = unit(x[rows].astype(np.float64)), y[rows]
        cosines = part @ w.T
        cosines[np.arange(len(part)), true] = -np.inf
        return _angle(part, w[true]), _angle(part, w[cosines.argmax(axis=1)])

    own, other = zip(*in_threads(of, chunks(len(x), chunk)), strict=True)
    return np.concatenate(own), np.concatenate(other)


def margin_kept(own: Array, other: Array, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> float:
    """Share of samples, `own` and `other` radians [N] from their class's weight and the nearest other, that have what
    margins ask of them in training: psi(own) > cos(other), psi as in losses.py."""
    phase = m1 * own + m2
    k = np.floor(phase / math.pi)
    return float(np.mean((-1) ** k * np.cos(phase) - 2 * k - m3 > np.cos(other)))


def to_nearest(embeddings: Array, directions: Array) -> dict:
    """How near embeddings [N, d] come to the nearest of some directions [C, d]: quartiles in degrees.

    Of samples whose classes were never trained on, and class weights: whether they are taken for trained classes.
    """
    x = unit(embeddings).astype(np.float64, copy=False)
    towards = unit(as_matrix(directions, "directions", x.shape[1])).astype(np.float64, copy=False)
    nearest = towards[(x @ towards.T).argmax(axis=1)]
    low, median, high = np.degrees(np.quantile(_angle(x, nearest), (0.25, 0.5, 0.75))).tolist()
    return {"lower_quartile": low, "median": median, "upper_quartile": high}


def angular_fisher_score(seen: Centred) -> float:
    """Scatter within over scatter between classes, lower is better: SphereFace (arXiv:1704.08063), appendix.

    S_w / S_b, S_w = sum over samples of 1 - cos(x, m_i), S_b = sum over classes of n_i (1 - cos(m_i, m)); m_i: class
    centre, m: mean direction of all. Infinite where all centres coincide.
    """
    angles, centres, own, mean = seen
    # 1 - cos t = 2 sin^2(t / 2) keeps the digits that the subtraction loses in tight classes; the 2 cancels.
    within = np.sum(np.sin(angles / 2) ** 2)
    to_mean = _angle(centres, mean)[own]  # [own]: each class n_i times
    between = np.sum(np.sin(to_mean / 2) ** 2)
    # Centres that coincide still differ by rounding: about 1e-16 rad, 1e-33 here a sample.
    return float(within / between) if between > 1e-30 * len(own) else math.inf


def verification(embeddings: Array, labels: Ints, chunk: int = 2000) -> dict:
    """Telling same-class pairs from others by their cosine alone, over all N(N-1)/2 pairs, none left out.

    A threshold t accepts "score >= t", so equal scores stand or fall together. Returns `pairs`, `genuine_pairs`; `auc`,
    a genuine score equal to an impostor's counting half; `eer`, where FAR meets FRR = 1 - TAR on the ROC, straight
    between thresholds, and `eer_threshold`, the largest genuine score with FAR >= FRR; `tar_at_far` {"0.01": ...}, the
    largest TAR of a threshold with at most that FAR, impostors tied at the limit all out; `roc`, that TAR as `tar` for
    193 log-spaced `far` from 1e-6 to 1; `angles`, how many `genuine` and `impostor` pairs lie in each whole degree from
    0 to 180. Scores are float32; `chunk`, the rows of cosines held at a time, changes no bit (see `grid_unit`). Memory
    in bytes: 2 N^2 for the scores, 8 N chunk, and 8 a genuine pair for the AUC. ValueError without a pair of each kind.
    """
    x = as_matrix(embeddings, "embeddings")
    order, own, others = by_class(as_ids(labels, "labels", len(x)))
    genuine, impostor = pair_scores(grid_unit(x[order]), own, others, chunk)
    # Mann-Whitney: for each genuine score the impostors below it and half of those equal to it.
    below, not_above = (int(np.searchsorted(impostor, genuine, side).sum()) for side in ("left", "right"))
    eer, threshold = equal_error(genuine, impostor)
    return {
        "pairs": len(genuine) + len(impostor), "genuine_pairs": len(genuine), "eer": eer, "eer_threshold": threshold,
        "auc": (below + not_above) / (2 * len(genuine) * len(impostor)),
        "tar_at_far": {far: float(tar_at(genuine, impostor, float(far))) for far in FAR_TARGETS},
        "roc": {"far": ROC_FAR.tolist(), "tar": tar_at(genuine, impostor, ROC_FAR).tolist()},
        "angles": {"genuine": angle_counts(genuine), "impostor": angle_counts(impostor)},
    }  # fmt: skip


def verification_accuracy(embeddings: Array, labels: Ints, pairs: int = 6000, folds: int = 10, seed: int = 0) -> dict:
    """Accuracy by LFW's protocol (Huang et al. 2007): random pairs, half of each kind, no pair twice.

    The threshold on the cosine is chosen on all folds but one and tested on that one. Returns `mean` and sample `std`
    over folds, 0 to 1, and `pairs`, the number used: fewer than asked where a kind runs short, and then in fewer folds
    if there is not a pair for each. ValueError for fewer than two folds.
    """
    x = as_matrix(embeddings, "embeddings")
    order, own, others = by_class(as_ids(labels, "labels", len(x)))
    half = min(pairs // 2, int(own.sum()), int(others.sum()))
    if (folds := min(folds, half)) < 2:
        raise ValueError(f"{folds} folds for {half} pairs of each kind: need at least two of both")
    rng = np.random.default_rng(seed)

    def draw(counts: Ints) -> tuple[Ints, Ints]:
        """`half` different pairs (place, k in range(counts[place])), all equally likely."""
        ends = np.cumsum(counts)
        number = rng.choice(ends[-1], half, replace=False)
        place = np.searchsorted(ends, number, side="right")
        return place, number - (ends - counts)[place]

    (a, k), (b, m) = draw(own), draw(others)
    points = grid_unit(x[order])
    partners = points[np.concatenate([a + 1 + k, b + 1 + own[b] + m])]
    scores = np.einsum("nd,nd->n", points[np.concatenate([a, b])], partners)
    same, fold = np.arange(2 * half) < half, np.arange(2 * half) % half % folds
    held = [fold == tested for tested in range(folds)]
    right = [np.mean((scores[h] >= best_threshold(scores[~h], same[~h])) == same[h]) for h in held]
    return {"mean": float(np.mean(right)), "std": float(np.std(right, ddof=1)), "pairs": 2 * half}


def _found(keys: Array, others: Ints) -> Array:
    """Sums over queries of rank-1, R-precision and MAP@R; keys as in `retrieval`, reordered here, others: each's R."""
    keys.partition(others.max() - 1, axis=1)
    nearest = np.sort(keys[:, : others.max()], axis=1)
    r, rank = others[:, None], np.arange(1, others.max() + 1)
    hit = (nearest.astype(np.int64) & 1 == 0) & (rank <= r)
    return np.array([hit[:, 0].sum(), (hit / r).sum(), (hit.cumsum(axis=1) / rank * hit / r).sum()])


def retrieval(embeddings: Array, labels: Ints, chunk: int = 500) -> dict:
    """Every sample queries all others by cosine: Musgrave et al., arXiv:2003.08505 Sec. 3.2.

    R: how many other samples the query's class has. `rank_1`: share of queries whose nearest is of their class;
    `r_precision`: mean share of the class among the R nearest; `map_at_r`: mean of 1/R times the sum over i <= R of
    precision at i where the i-th nearest is of the class. Queries with R = 0 are left out, `queries` counts the rest.
    Cosines equal on a grid of 2^-30 rank by index. Memory: about 20 N chunk bytes. ValueError without any R > 0.
    """
    x = as_matrix(embeddings, "embeddings")
    _, codes, counts = np.unique(as_ids(labels, "labels", len(x)), return_inverse=True, return_counts=True)
    others = counts[codes] - 1
    queries = np.flatnonzero(others)
    if not queries.size:
        raise ValueError(f"{len(x)} classes of one sample each: retrieval needs two samples of some class")
    points, totals = grid_unit(x), np.zeros(3)
    candidates, places = points.T * -(2.0**30), 2.0 ** (2 * len(x) - 1).bit_length()
    for rows in chunks(len(queries), chunk):
        block = queries[rows]
        # One number a candidate, exact up to 4 million of them: distance, index, "other class" bit. So none are tied.
        keys = points[block] @ candidates
        np.rint(keys, out=keys)
        keys *= places
        keys += np.arange(len(x)) * 2.0
        keys += codes[block][:, None] != codes
        keys[np.arange(len(block)), block] = np.inf  # no query finds itself
        halves = (np.array_split(rows_of, min(2, len(block))) for rows_of in (keys, others[block]))
        totals += sum(in_threads(_found, *halves))
    rank_1, r_precision, map_at_r = (totals / len(queries)).tolist()
    return {"rank_1": rank_1, "r_precision": r_precision, "map_at_r": map_at_r, "queries": len(queries)}

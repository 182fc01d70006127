"""What the report reads from a run's metrics: each measure with its unit and digits, and which of them a table has."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """A column: how it is read from a run's metrics, its digits, and whether more or less of it is better (0: no)."""

    read: Callable[[dict], float | None]
    digits: int
    better: int
    title: str


def _path(*keys: str, factor: float = 1.0) -> Callable[[dict], float | None]:
    """Reads facts[key][key]..., times `factor`; None where a part of the way is missing."""

    def read(facts: dict) -> float | None:
        value: Any = facts
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return None if value is None else factor * value

    return read


MEASURES = {
    "accuracy": Measure(_path("accuracy", "head", "value", factor=100), 2, 1, "Accuracy, %"),
    "nearest_mean": Measure(_path("accuracy", "nearest_mean", "value", factor=100), 2, 1, "Class mean, %"),
    "neighbours": Measure(_path("accuracy", "5_nearest_neighbours", "value", factor=100), 2, 1, "5-NN, %"),
    "intra": Measure(_path("angles", "test", "intra"), 1, -1, "Intra, °"),
    "inter": Measure(_path("angles", "test", "inter"), 1, 1, "Inter, °"),
    "w_ec": Measure(_path("angles", "train", "w_ec"), 1, 0, "W-EC, °"),
    "w_inter": Measure(_path("angles", "train", "w_inter"), 1, 0, "W-Inter, °"),
    "eer": Measure(_path("verification", "eer", factor=100), 2, -1, "EER, %"),
    "auc": Measure(_path("verification", "auc", factor=100), 3, 1, "AUC, %"),
    "tar_2": Measure(_path("verification", "tar_at_far", "0.01", factor=100), 2, 1, "TAR at FAR 10⁻², %"),
    "tar": Measure(_path("verification", "tar_at_far", "0.001", factor=100), 2, 1, "TAR, %"),
    "tar_4": Measure(_path("verification", "tar_at_far", "0.0001", factor=100), 2, 1, "TAR at FAR 10⁻⁴, %"),
    "own_train": Measure(_path("margins_kept", "train", "own", factor=100), 2, 0, "own, training"),
    "own_test": Measure(_path("margins_kept", "test", "own", factor=100), 2, 0, "own, test"),
    "arcface_train": Measure(_path("margins_kept", "train", "arcface", factor=100), 2, 0, "ArcFace's, training"),
    "arcface_test": Measure(_path("margins_kept", "test", "arcface", factor=100), 2, 0, "ArcFace's, test"),
    "lead_train": Measure(_path("margins_kept", "train", "lead", "0.5"), 1, 0, "lead, training"),
    "lead_test": Measure(_path("margins_kept", "test", "lead", "0.5"), 1, 0, "lead, test"),
    "to_weight": Measure(_path("unseen_to_weight", "median"), 1, 0, "To weight, °"),
    "ten_fold": Measure(_path("verification_10_fold", "mean", factor=100), 2, 1, "10-fold, %"),
    "map": Measure(_path("retrieval", "map_at_r", factor=100), 2, 1, "MAP@R, %"),
    "rank_1": Measure(_path("retrieval", "rank_1", factor=100), 2, 1, "Rank-1, %"),
}
TABLES = {
    "accuracy": ("accuracy", "nearest_mean", "neighbours"),
    "embedding": ("intra", "inter", "w_ec", "w_inter", "eer", "tar", "map"),
    "kept": ("own_train", "own_test", "arcface_train", "arcface_test", "lead_train", "lead_test"),
    "low": ("accuracy", "intra", "inter", "eer"),
    "open": ("to_weight", "w_ec", "eer", "rank_1", "map"),
}

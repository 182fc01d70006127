"""Metrics of made-up runs as far as the report reads them."""

from results_helpers import facts_of


def run(loss: str = "arcface", seed: int = 0, accuracy: float = 0.99, **changes) -> dict:
    """A run's metrics as far as the report reads them."""
    values = {
        "dataset": "mnist", "loss": loss, "embedding_dim": 512, "seed": seed, "epochs": 7, "batch_size": 256,
        "lr": 0.05, "scale": None if loss == "softmax" else 16.0, "scale_start": None, "m1": 1.0, "m2": 0.0, "m3": 0.0,
        "margin_warmup": 0.5, "precision": "bf16", "widths": [1, 2, 3], "shift": 2, "flip": False, "hold_out": [],
        "image_size": None, "validation": 0.0, "source": "MNIST", "fingerprint": "f", "unseen_classes": [],
        "classes": list("0123456789"), "parameters": 1000, "device": "cpu", "torch": "2", "test_images": 10000,
        "train_images": 60000, "verification": {"eer": 0.01, "tar_at_far": {"0.001": 0.9}, "pairs": 10},
        "accuracy": {"head": {"value": accuracy}}, "angles": {"train": {"w_ec": 1.0}, "test": {"intra": 5.0}},
    }  # fmt: skip
    # With what figures read beside it.
    return merged(facts_of(loss, 512, seed, accuracy=accuracy), values) | changes


def merged(whole: dict, part: dict) -> dict:
    """`whole` with the values of `part` in place of its own, at every depth."""
    new = {k: merged(whole[k], v) if isinstance(v, dict) and k in whole else v for k, v in part.items()}
    return whole | new


def groups_of(**by_loss: list[float]) -> dict:
    """{loss: {seed: metrics}} with the given accuracies, a seed each; '_' in a name stands for '-'."""
    named = {name.replace("_", "-"): values for name, values in by_loss.items()}
    return {name: {i: run(name, i, v) for i, v in enumerate(values)} for name, values in named.items()}

"""README's sentences on margin and scale against the stored results."""

import math

from readme_helpers import TEXT, mean, paired_interval, values

ERROR, INTRA, INTER = ("verification", "eer"), ("angles", "test", "intra"), ("angles", "test", "inter")
NAMES = {
    "norm-softmax": {4: "-scale=4", 8: "-scale=8", 16: "", 64: "-scale=64"},
    "arcface": {4: "-scale=4", 16: "", 64: "-scale=64"},
    "cosface": {4: "-scale=4", 16: "", 64: "-scale=64"},
    "li-arcface": {4: "-scale=4-margin=0", 16: "-margin=0", 64: "-scale=64-margin=0"},
}


def errors(loss: str) -> dict[int, dict[int, float]]:
    """{scale: {seed: equal error rate}}, of five seeds each."""
    found = {scale: values(loss, name, *ERROR) for scale, name in NAMES[loss].items()}
    assert all(sorted(of_seed) == list(range(5)) for of_seed in found.values())
    return found


def shown(loss: str, *keys: str) -> dict[int, float]:
    return {scale: mean(loss, name, *keys) for scale, name in NAMES[loss].items()}


def test_with_a_margin_the_scale_hardly_matters():
    bare, arced = errors("norm-softmax"), errors("arcface")
    plain, with_margin = shown("norm-softmax", *ERROR), shown("arcface", *ERROR)
    cosed, cosface = errors("cosface"), shown("cosface", *ERROR)
    assert "**On MNIST a margin makes the EER depend far less on the scale.**" in TEXT
    assert (
        f"At s = 4, 16 and 64 it is {with_margin[4]:.2f}, {with_margin[16]:.2f} and {with_margin[64]:.2f} % with "
        f"ArcFace's, {cosface[4]:.2f}, {cosface[16]:.2f} and {cosface[64]:.2f} % with CosFace's and {plain[4]:.2f}, "
        f"{plain[16]:.2f} and {plain[64]:.1f} % without one."
    ) in TEXT
    for scale in (16, 64):
        assert paired_interval(arced[scale], bare[scale])[1] < 0 > paired_interval(cosed[scale], bare[scale])[1]
    low, high = paired_interval(arced[16], bare[8])
    assert low <= 0 <= high
    tight = shown("arcface", *INTRA)[16] / 100, shown("norm-softmax", *INTRA)[8] / 100
    said = f"(Intra {tight[0]:.1f} and {tight[1]:.1f}°, no clear difference in EER)"
    assert f"ArcFace at s = 16 resembles normalised softmax at s = 8 {said}." in TEXT


def test_at_a_large_scale_a_loss_without_a_margin_asks_for_little():
    leads = [math.log(9 * 0.9 / 0.1) / scale for scale in (4, 64)]
    assert f"takes a cosine that is ahead by {leads[0]:.2f} at s = 4 and by {leads[1]:.2f} at s = 64." in TEXT
    apart = [shown(loss, *INTER)[64] / 100 for loss in ("norm-softmax", "arcface")]
    right = mean("norm-softmax", "-scale=64", "accuracy", "head", "value")
    assert f"class means end {apart[0]:.0f}° from the nearest other ({apart[1]:.0f}° with ArcFace's margin)" in TEXT
    assert f"though {right:.1f} % of the images are classified correctly." in TEXT

"""README's sentences on margin and scale against the stored results."""

from readme_helpers import TEXT, mean, paired_interval, values

ERROR = ("verification", "eer")
NAMES = {
    "norm-softmax": {4: "-scale=4", 16: "", 64: "-scale=64"},
    "arcface": {4: "-scale=4", 16: "", 64: "-scale=64"},
    "cosface": {4: "-scale=4", 16: "", 64: "-scale=64"},
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
        f"{plain[16]:.2f} and {plain[64]:.1f} % without one: as s grows, a loss without a margin asks for less."
    ) in TEXT
    for scale in (16, 64):
        assert paired_interval(arced[scale], bare[scale])[1] < 0 > paired_interval(cosed[scale], bare[scale])[1]

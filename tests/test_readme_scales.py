"""README's sentences on margin and scale against the stored results."""

import math

from readme_helpers import TEXT, mean, paired_interval, values

ERROR, INTRA, INTER = ("verification", "eer"), ("angles", "test", "intra"), ("angles", "test", "inter")
NAMES = {
    "norm-softmax": {4: "-scale=4", 8: "-scale=8", 16: "", 64: "-scale=64"},
    "arcface": {4: "-scale=4", 16: "", 64: "-scale=64"},
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
    assert "**On MNIST a margin makes the errors depend far less on the scale.**" in TEXT
    listed = [f"{plain[s]:.2f}" for s in (4, 8, 16)]
    assert (
        f"The equal error rate is {listed[0]}, {listed[1]}, {listed[2]} and {plain[64]:.1f} % at s = 4, 8, 16 and 64 "
        f"without a margin; with ArcFace's it is {with_margin[4]:.2f}, {with_margin[16]:.2f} and {with_margin[64]:.2f} "
        "% at 4, 16 and 64, a small rise "
    ) in TEXT
    low, high = paired_interval(arced[64], arced[4])
    rise = with_margin[64] - with_margin[4]
    angles = [shown("arcface", *INTRA)[s] / 100 for s in (4, 64)]
    assert f"a small rise ({rise:.2f} [{low:.2f}, {high:.2f}])" in TEXT and low > 0
    assert f"though images lie {angles[0]:.1f}° to {angles[1]:.1f}° from their class mean." in TEXT
    for scale in (16, 64):
        assert paired_interval(arced[scale], bare[scale])[1] < 0
    low, high = paired_interval(arced[4], bare[4])
    assert low <= 0 <= high and "At s = 4 the margin adds nothing that can be told" in TEXT
    low, high = paired_interval(arced[16], bare[8])
    assert low <= 0 <= high
    tight = {loss: shown(loss, *INTRA) for loss in ("arcface", "norm-softmax")}
    assert (
        f"by this measure it is at s = 16 like half the scale without it ({tight['arcface'][16] / 100:.1f}° from the "
        f"class mean, {tight['norm-softmax'][8] / 100:.1f}° there, and error rates that cannot be told apart)."
    ) in TEXT


def test_at_a_large_scale_a_loss_without_a_margin_asks_for_little():
    leads = [math.log(9 * 0.9 / 0.1) / scale for scale in (4, 64)]
    assert f"takes a cosine that is ahead by {leads[0]:.2f} at s = 4 and by {leads[1]:.2f} at s = 64" in TEXT
    apart = [shown(loss, *INTER)[64] / 100 for loss in ("norm-softmax", "arcface")]
    right = mean("norm-softmax", "-scale=64", "accuracy", "head", "value")
    assert f"class means end {apart[0]:.0f}° from the nearest other ({apart[1]:.0f}° with ArcFace's margin)" in TEXT
    assert f"though {right:.1f} % of the images are classified correctly." in TEXT
    line = shown("li-arcface", *ERROR)
    assert f"straight line without a margin does not prevent it ({line[64]:.1f} %)" in TEXT
    assert paired_interval(errors("li-arcface")[64], errors("norm-softmax")[64])[1] < 0
    kept = mean("norm-softmax", "-scale=64", "margins_kept", "test", "arcface")
    assert f"at s = 64 without a margin {kept:.1f} %" in TEXT

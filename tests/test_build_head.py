"""Options of a head: the papers' defaults, the limits, and what is refused in one line."""

import math

import pytest

from loss_helpers import CM1, CM2
from losses import LOSSES, PRESETS, Margins, build_head


def test_defaults_are_the_papers():
    margins = {"sphereface": (1.35, 0, 0), "cosface": (1, 0, 0.35), "arcface": (1, 0.5, 0), "combined": CM1}
    margins["li-arcface"] = (1, 0.4, 0)
    for loss in LOSSES:
        head = build_head(loss, 4, 5)
        assert head.margins == Margins(*margins.get(loss, (1, 0, 0)))
        assert [(name, tuple(p.shape)) for name, p in head.named_parameters()] == [("weight", (5, 4))]
        if loss not in ("softmax", "adacos"):
            assert head.scale == 30
    assert PRESETS == {"cm1": CM1, "cm2": CM2}
    assert build_head("arcface", 4, 5, scale=7.5, m2=0.1).scale == 7.5


BAD_OPTIONS = [
    *[("arcface", {"scale": v}) for v in (0.0, -1.0, math.nan, math.inf)],
    *[(loss, {"scale": 30.0}) for loss in ("softmax", "adacos")],
    *[("arcface", {"m1": v}) for v in (1.35, 0.5, math.nan)],
    *[("sphereface", {"m1": v}) for v in (0.5, 0.99, 4.1, -1.0, math.nan, math.inf)],
    *[("combined", {"m1": v}) for v in (0.0, 0.05, 4.5, math.nan)],
    *[("arcface", {"m2": v}) for v in (-0.1, 3.2, math.pi, math.nan, math.inf)],
    *[("cosface", {"m3": v}) for v in (-0.1, 2.1, math.nan, -math.inf)],
    *[("combined", {"m2": -0.2}), ("combined", {"m3": 2.5}), ("li-arcface", {"m2": 4.0})],
    *[("arcface", {"m3": 0.25}), ("cosface", {"m2": 0.25}), ("li-arcface", {"m3": 0.25})],
    *[("sphereface", {name: 0.25}) for name in ("m2", "m3")],
    *[(loss, {name: 1.25}) for loss in ("softmax", "norm-softmax", "adacos") for name in ("m1", "m2", "m3")],
]


@pytest.mark.parametrize("loss, options", BAD_OPTIONS)
def test_build_head_refuses_an_option_in_one_line(loss, options):
    with pytest.raises(ValueError) as caught:
        build_head(loss, 4, 5, **options)
    message, ((name, value),) = str(caught.value), options.items()
    assert message.startswith((f"{name} = {value:g}: ", f"{name} {value:g}: ")) and "\n" not in message
    assert loss in message or name != "m1"


@pytest.mark.parametrize("loss, dim, classes, named", [
    ("arcfase", 4, 5, ["'arcfase'", *LOSSES]), ("arcface", 0, 5, ["dimension 0"]),
    ("arcface", -3, 5, ["dimension -3"]), ("arcface", 4, 1, ["1 classes"]),
    ("adacos", 4, 2, ["adacos", "2 classes"]),
])  # fmt: skip
def test_build_head_refuses_a_name_or_size_in_one_line(loss, dim, classes, named):
    with pytest.raises(ValueError) as caught:
        build_head(loss, dim, classes)
    assert "\n" not in str(caught.value) and all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("loss, name, low, high", [
    ("sphereface", "m1", 1, 4), ("combined", "m1", 0.1, 4), ("arcface", "m2", 0, 3.14),
    ("cosface", "m3", 0, 2),
])  # fmt: skip
def test_the_limits_themselves_are_allowed(loss, name, low, high):
    for value in (low, high):
        assert getattr(build_head(loss, 4, 5, **{name: value}).margins, name) == value

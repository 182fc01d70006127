"""Colours that colour-blind readers can tell apart: by their distance as such eyes see them."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from choices import LOSSES
from plot_style import CLASS_COLOURS, dark, loss_style

# Machado, Oliveira and Fernandes 2009, Table 1, severity 1.0, on linear RGB.
EYES = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))


def seen(colour: str, eye: str) -> np.ndarray:
    """CIE L*a*b* of a colour as an eye sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(EYES[eye] @ linear, 0, 1) / np.array((0.95047, 1, 1.08883))
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array((116 * y - 16, 500 * (x - y), 200 * (y - z)))


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("colours", [CLASS_COLOURS, tuple(loss_style(loss)["color"] for loss in LOSSES)])
def test_no_two_colours_look_alike(colours, eye):
    """2.3 is a just noticeable difference; two of Okabe and Ito's own come as near as 16, in tritanopia."""
    nearest = min(np.linalg.norm(seen(a, eye) - seen(b, eye)) for a, b in itertools.combinations(colours, 2))
    assert nearest > 16
    assert max(seen(colour, eye)[0] for colour in colours) < 75  # on white paper


@pytest.mark.parametrize("colour", ["#FFFFFF", *CLASS_COLOURS])
def test_names_in_small_print_stand_out_from_white(colour):
    """WCAG's contrast of 4.5 is a lightness of 49.9; a colour of it or darker stays, another keeps its hue."""
    before, after = seen(colour, "all cones")[0], seen(dark(colour), "all cones")[0]
    assert after == before if before <= 49.9 else 48 < after <= 49.9
    parts = np.array(to_rgb(dark(colour))) / np.maximum(to_rgb(colour), 1e-9)
    assert np.ptp(parts[np.array(to_rgb(colour)) > 0.05]) < 0.02 if colour != "#000000" else True

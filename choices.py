"""What there is to choose from: losses with the margins of their papers and what each can take, data sets, sizes.

Needs no PyTorch, so that flags are read, and bad ones refused, before it is loaded.
"""

import math
from typing import NamedTuple


class Margins(NamedTuple):
    """m1 multiplies the target angle, m2 (radians) is added to it, m3 is taken from its cosine."""

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0


class Loss(NamedTuple):
    """What a loss is before a recipe touches it: its paper's margins, the one `--margin` sets, and who proposed it."""

    margins: Margins
    own_margin: str | None
    title: str
    paper: str


LOSSES = {
    "softmax": Loss(Margins(), None, "Softmax", "CosFace Eq. 1 without bias, arXiv:1801.09414"),
    "norm-softmax": Loss(Margins(), None, "Norm-softmax", "NSL, CosFace Eq. 3, arXiv:1801.09414"),
    "sphereface": Loss(Margins(m1=1.35), "m1", "SphereFace", "arXiv:1704.08063, m1 as in ArcFace Table 2"),
    "cosface": Loss(Margins(m3=0.35), "m3", "CosFace", "LMCL, arXiv:1801.09414 Eq. 4"),
    "arcface": Loss(Margins(m2=0.5), "m2", "ArcFace", "arXiv:1801.07698 Eq. 3"),
    "combined": Loss(Margins(1.0, 0.3, 0.2), "preset", "Combined", "arXiv:1801.07698 Eq. 4"),
    "li-arcface": Loss(Margins(m2=0.4), "m2", "Li-ArcFace", "AirFace, arXiv:1907.12256 Eq. 5"),  # m2: ours
    "adacos": Loss(Margins(), None, "AdaCos", "arXiv:1905.00292 Eq. 14 and 15"),
}
PRESETS = {"cm1": Margins(1.0, 0.3, 0.2), "cm2": Margins(0.9, 0.4, 0.15)}  # ArcFace, Table 2
DEFAULT_SCALE = 30.0
M1_LIMITS = {"sphereface": (1.0, 4.0), "combined": (0.1, 4.0)}
WITHOUT_SCALE = ("softmax", "adacos")  # softmax does not scale its logits, AdaCos finds its own scale

DATASETS = ("mnist", "fashion-mnist", "cifar10", "folder")
NATIVE_SIZE = {"mnist": 28, "fashion-mnist": 28, "cifar10": 32}  # pixels; 'folder' takes whatever is asked
FOLDER_SIZE = 32  # --image-size when unset
DIGITS = tuple("0123456789")
# fmt: off
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                   "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: on

SMALLEST_IMAGE = 16  # pixels: what the network's three halvings still leave a pixel of
LARGEST_IMAGE = 512
DEEPEST = 9  # convolutions in each of its blocks


def check_margins(loss: str, margins: Margins) -> Margins:
    """Return the margins if `loss` can take them; ValueError, naming the value and the valid range, if not."""
    m1, m2, m3 = margins
    low, high = M1_LIMITS.get(loss, (1.0, 1.0))
    own = LOSSES[loss].own_margin
    if not low <= m1 <= high:
        hint = f"needs m1 from {low:g} to {high:g}" if low < high else "has no m1; --loss combined takes all three"
        raise ValueError(f"m1 = {m1:g}: {loss} {hint}")
    if not 0 <= m2 < math.pi:
        raise ValueError(f"m2 = {m2:g}: an angular margin is in radians, from 0 to under pi = 3.1416")
    if not 0 <= m3 <= 2:
        raise ValueError(f"m3 = {m3:g}: a cosine margin lies from 0 to 2")
    for name, value in (("m2", m2), ("m3", m3)):
        if value and own not in (name, "preset"):
            raise ValueError(f"{name} = {value:g}: {loss} has no {name}; --loss combined takes all three")
    return margins


def checked_head(
    loss: str, num_classes: int, scale: float | None, margins: tuple[float | None, float | None, float | None]
) -> tuple[float, Margins]:
    """Scale and margins (m1, m2, m3) of a head, those left None from LOSSES and DEFAULT_SCALE; 1 for a loss without a
    scale of its own to set.

    Raises ValueError, in one line that names the value and the remedy, for an unknown loss, fewer than two classes, or
    a scale or margin the loss cannot take.
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss '{loss}': choose from {', '.join(LOSSES)}")
    if num_classes < 2:
        raise ValueError(f"{num_classes} classes: need at least 2")
    given = zip(margins, LOSSES[loss].margins, strict=True)
    checked = check_margins(loss, Margins(*(usual if value is None else value for value, usual in given)))
    if loss in WITHOUT_SCALE:
        if scale is not None:
            why = "does not scale its logits" if loss == "softmax" else "finds its own scale"
            raise ValueError(f"scale {scale:g}: {loss} {why}; leave it out")
        if loss == "adacos" and num_classes < 3:
            raise ValueError("adacos with 2 classes: its scale would be ln(1) = 0; use norm-softmax")
        return 1.0, checked
    scale = DEFAULT_SCALE if scale is None else scale
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale {scale:g}: need a finite number above 0")
    return scale, checked

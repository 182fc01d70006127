"""What there is to choose from: losses with the margins of their papers, data sets, sizes. Needs no PyTorch, so that
flags are read, and refused, at once."""

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
WITHOUT_SCALE = ("softmax", "adacos")  # softmax does not scale its logits, AdaCos finds its own scale

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

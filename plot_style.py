"""What all figures share: colours that colour-blind readers can tell apart, fonts, and saving that repeats exactly."""

import io
import math
import re
import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
warnings.filterwarnings("ignore", "Glyph .* missing from")  # `save` says it once

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

import summaries
from choices import LOSSES
from runs import make_folder, write_whole

# Okabe and Ito's (jfly.uni-koeln.de/color) without their yellow, too light on paper, and three that none of these is
# taken for by colour-blind eyes: a moss, a violet and a brown. Every class is also labelled in the picture.
CLASS_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#98B867",
    "#000000",
    "#8A2BE2",
    "#7A3512",
)
SIGNS = {"m1": "m₁", "m2": "m₂", "m3": "m₃"}  # of the margins, in titles and captions
HALO = [withStroke(linewidth=1.5, foreground="white")]  # names that overlap others stay readable
DPI = 200
DATA_TITLES = {
    "mnist": "MNIST",
    "mnist-5k": "MNIST-5k (embedded sample)",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "folder": "own images",
}

plt.rcParams.update({
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False,
    "text.parse_math": False,  # a class may be called $x$
    "savefig.dpi": DPI, "figure.dpi": DPI, "svg.hashsalt": "angular margins",
})  # fmt: skip


def class_colour(index: int) -> str:
    """The colour of class `index`; they repeat after ten."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def dark(colour: str) -> str:
    """A colour mixed with black where it is too light for small print on white: W3C's contrast of 4.5 at least."""
    rgb = np.array(to_rgb(colour))
    while 1.05 / (luminance(rgb) + 0.05) < 4.5:
        rgb *= 0.97
    red, green, blue = rgb
    return to_hex((red, green, blue))


def luminance(rgb: np.ndarray) -> float:
    """Relative luminance, from 0 to 1, of sRGB values from 0 to 1 (w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def loss_style(loss: str) -> dict:
    """Colour and line of a loss, the same in every figure; lines differ too, for print in black."""
    index = list(LOSSES).index(loss)
    dashes = ((), (5, 1), (1, 1), (3, 1, 1, 1), (), (7, 1, 1, 1), (5, 1, 1, 1, 1, 1), (2, 1))
    line = (0, dashes[index]) if dashes[index] else "-"
    colours = ("#7A3512", "#000000", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00")
    return {"color": colours[index], "linestyle": line, "linewidth": 2.3 if loss == "arcface" else 1.5}


def log_ticks(axis, subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """Label a logarithmic axis once its limits are known: over less than two decades `subs` times each power of ten as
    plain numbers, over less than three 1, 2 and 5 times, over more the powers alone, as 10⁻³ without mathtext."""
    low, high = axis.get_view_interval()
    if high < 1000 * low:
        axis.set_major_locator(LogLocator(subs=subs if high < 100 * low else (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
        return
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"10{str(round(math.log10(value))).translate(raised)}"))
    axis.set_minor_formatter(NullFormatter())


def data_title(facts: dict) -> str:
    """The data set's name for a title, with a word when its pixels are a JPEG copy."""
    title = DATA_TITLES[facts["dataset"]]
    return f"{title} (JPEG copy)" if re.search(r"\bJPEG\b.* copy\b", facts["source"]) else title


def channels(facts: dict) -> str:
    """The network by the channels of its blocks: '32/64/128'."""
    return "/".join(map(str, facts["widths"]))


def margin_texts(margins: dict) -> list[str]:
    """['m₂ = 0.3', 'm₃ = 0.2']: `summaries.margin_texts` for titles and captions."""
    return summaries.margin_texts(margins, SIGNS)


def settings_text(facts: dict) -> str:
    """'s = 16, m₂ = 0.5', the settings of a run's head; nothing for softmax."""
    scale = [f"s = {facts['scale']:.3g}"] if facts["loss"] != "softmax" else []
    margins = margin_texts(facts) or (["no margin"] if LOSSES[facts["loss"]].own_margin else [])
    return ", ".join(scale + margins)


def loss_title(facts: dict) -> str:
    """The loss and what it was trained with: 'ArcFace (s = 16, m₂ = 0.5)'."""
    settings = settings_text(facts)
    return LOSSES[facts["loss"]].title + (f" ({settings})" if settings else "")


def save(figure: Figure, folder: Path, name: str, kind: str = "png") -> Path:
    """Write the figure as folder/name.kind, whole or not at all, the same bytes for the same picture; close it."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    letters = {c for text in figure.findobj(Text) for c in text.get_text() if c.isprintable()}
    if lacking := "".join(sorted(c for c in letters if not font.get_char_index(ord(c)))):
        print(f"warning: {name}: the font has no {lacking}: boxes stand for them", file=sys.stderr)
    plt.close(figure)
    make_folder(folder, "--figures-dir")
    write_whole(folder / f"{name}.{kind}", buffer.getvalue())
    return folder / f"{name}.{kind}"


def name_size(name: str) -> float:
    """Points in which a class's name is written: less for words than for digits."""
    return 9.5 if len(name) <= 2 else 8.5

"""Take the report's terminal screenshots: python report/screenshots.py

Runs the program in a pseudo-terminal on the MNIST and CIFAR-10 of data/ and draws what the terminal showed, word for
word, into figures/terminal_*.png; only the colours are added. Needs a Unix-like system; takes a quarter of an hour on
two cores.
"""

import io
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # where Python put report/

from errors import command_line
from options import Parser, place
from runs import RunError, make_folder, write_whole

COLUMNS = 112  # most lines fit, and are still readable on the page
PROMPT = "$ "
RUN = "runs/mnist-arcface-512d-seed0"
PICTURES = {
    "three.png": (3, 0),
    "another-three.png": (3, 1),
    "eight.png": (8, 0),
}  # name: class, which test image of it
SHOTS = {  # name: commands, each with the exit status that belongs to what it is to show
    "terminal_training": [("train.py --dataset mnist --loss arcface", 0)],
    "terminal_evaluation": [(f"evaluate.py {RUN} --images {' '.join(PICTURES)}", 0)],
    "terminal_cifar10": [("train.py --dataset cifar10 --loss arcface --epochs 2", 0)],
    "terminal_warning": [
        ("train.py --dataset mnist --loss cosface --margin 0.35 --embedding-dim 2 --epochs 1", 0),
        ("train.py --dataset mnist --loss adacos --margin 0.5", 2),
    ],
}
# A port where nothing listens: what is not at hand must fail, not be fetched.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
OFFLINE |= {"no_proxy": "", "NO_PROXY": ""}


def write_pictures(folder: Path) -> None:
    """Test digits of MNIST as PNG files, for evaluate.py --images."""
    from PIL import Image

    from data import load_dataset

    dataset = load_dataset("mnist", folder / "data", download=False, log=lambda line: None)
    for name, (label, which) in PICTURES.items():
        index = (dataset.test_labels == label).nonzero().flatten().tolist()[which]
        Image.fromarray(dataset.test_images[index, 0].numpy()).save(folder / name)


def terminal_output(command: str, status: int, folder: Path) -> str:
    """What a terminal COLUMNS wide shows of `python COMMAND` run in `folder`, with each progress bar as it ended.

    The command finds no internet. RunError where it ends with another exit status, and where there are no terminals.
    """
    try:
        import fcntl
        import pty
        import termios
    except ImportError:
        raise RunError("no pseudo-terminals here: take the screenshots on a Unix-like system") from None
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 40, COLUMNS, 0, 0))
    script, *arguments = command.split()
    line = [sys.executable, str(ROOT / script), *arguments]
    process = subprocess.Popen(line, cwd=folder, stdin=child, stdout=child, stderr=child, env=os.environ | OFFLINE)
    os.close(child)
    received = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # Linux: the other end has been closed
            break
        if not part:
            break
        received += part
    os.close(parent)
    shown = screen(received.decode())
    if process.wait() != status:
        last = shown.rpartition("\n")[2]
        raise RunError(f"'{command}' ended with status {process.returncode}, not {status} ({last}): mend it or SHOTS")
    return shown


def screen(text: str) -> str:
    """Terminal text with its control characters carried out: carriage returns overwrite, colours are dropped."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return "\n".join(lines).rstrip("\n")


def wrapped(text: str) -> list[str]:
    """Lines cut at COLUMNS, as a terminal cuts them."""
    return [line[i : i + COLUMNS] for line in text.split("\n") for i in range(0, max(len(line), 1), COLUMNS)]


def draw(text: str, path: Path) -> None:
    """Draw terminal text, light on dark, as a PNG; lines that start with the prompt are commands."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    size, margin = 26, 34
    fonts = [ImageFont.truetype(font_manager.findfont(font_manager.FontProperties(
        family="DejaVu Sans Mono", weight=weight)), size) for weight in ("normal", "bold")]  # fmt: skip
    width, height = round(fonts[0].getlength("m")), round(1.32 * size)
    lines = wrapped(text)
    picture = Image.new("RGB", (COLUMNS * width + 2 * margin, len(lines) * height + 2 * margin), "#1d232a")
    pen = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        colour = "#f4d58d" if "warning:" in line or "error:" in line else "#e6e9ec"
        command = line.startswith(PROMPT)
        pen.text((margin, margin + i * height), line, fill="#9fd8b4" if command else colour, font=fonts[command])
    buffer = io.BytesIO()
    picture.quantize(32).save(buffer, "PNG", optimize=True)
    write_whole(path, buffer.getvalue())


@command_line("screenshots.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="screenshots.py", description="Run the program and draw what the terminal showed.")
    default = ROOT / "figures"
    parser.add_argument("--figures-dir", type=place, default=default, help="where the PNGs go (default: figures)")
    flags = parser.parse_args()
    make_folder(flags.figures_dir, "--figures-dir")  # better said before the runs
    if not (ROOT / "data").is_dir():
        raise RunError(f"{ROOT / 'data'} is not there: the pictures are of MNIST and CIFAR-10, see README, Data")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "data").symlink_to(ROOT / "data")
        write_pictures(Path(scratch))
        shots = {
            name: "\n".join(f"{PROMPT}python {line}\n{terminal_output(line, status, Path(scratch))}"
                            for line, status in commands)
            for name, commands in SHOTS.items()
        }  # fmt: skip
    for name, shown in shots.items():  # only now: one that fails leaves the old pictures together
        path = flags.figures_dir / f"{name}.png"
        draw(shown, path)
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

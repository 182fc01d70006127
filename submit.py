"""Pack the course submission: python submit.py --last-name doe --first-name jane --id 0123456

Typesets the report with the author's name on it, packs doe_jane_0123456_Project1.zip, opens it again and checks every
file before it takes its name. Unzipped into an empty folder, the README's commands work.
"""

import io
import re
import sys
import unicodedata
import zipfile
from pathlib import Path

from errors import command_line
from options import Parser, place
from report.build import author_of, compile_report, missing_figures
from runs import RunError, json_bytes, write_whole

ROOT = Path(__file__).resolve().parent
AUTHOR, PDF = "report/author.json", "report/report.pdf"  # what submitting makes anew
# What the assignment asks for, and the files that answer it.
CHECKLIST = {
    "a. all Python files": ("*.py", "report/*.py", "tests/*.py"),
    "b. all generated figures as PNG": ("figures/*.png",),
    "c. PDF report with code, results, screenshots and conclusion": (PDF,),
    "to run it": ("README.md", "requirements.txt", "pyproject.toml"),
    "to typeset the report again": ("report/*.typ", "report/*.bib", "report/*.json", "report/results/*.json",
                                    "report/results/*.npz", "figures/captions.json"),
}  # fmt: skip
NEEDED = ("README.md", "requirements.txt", "pyproject.toml", "models.py", "losses.py", "train.py", "evaluate.py",
          "plot_embeddings.py", "report/report.typ")  # fmt: skip
LARGEST = 30_000_000  # bytes of the zip
LONGEST = 180  # bytes of the name in the zip's: file systems take 255, and while it is written it is longer


def file_name(last: str, first: str, number: str) -> str:
    """'doe_jane_0123456_Project1.zip'. RunError for a name or number that is empty or no part of a file name."""
    for value, what in ((last, "--last-name"), (first, "--first-name")):
        words = re.split(r"\. |[ '’-]", value.removesuffix("."))
        # Letters, and the marks without which some scripts write no word.
        if not all(word[:1].isalpha() and {unicodedata.category(c)[0] for c in word} <= {"L", "M"} for word in words):
            also = "single spaces, hyphens or apostrophes between, and a full stop after a word"
            raise RunError(f"{what} '{value}': give letters, with {also} at most")
    if not re.fullmatch(r"[A-Za-z0-9-]+", number):
        raise RunError(f"--id '{number}': give letters, digits and hyphens only")
    if len(f"{last}{first}{number}".encode()) > LONGEST:
        raise RunError(f"--last-name, --first-name and --id have more than {LONGEST} bytes together: shorten one")
    parts = [re.sub(r"\. |[ '’]", "-", value.removesuffix(".")) for value in (last, first)]
    return "_".join([*parts, number, "Project1.zip"])


def chosen_files(root: Path, incomplete: bool = False) -> dict[str, list[str]]:
    """{item of CHECKLIST: its files, relative to root, sorted}. RunError naming a needed file that is missing.

    incomplete: whether a figure that the report shows may be missing, as where no run of the study's is stored for it.

    The PDF is among them whether or not it is there.
    """
    found = {}
    for item, patterns in CHECKLIST.items():
        paths = [path for pattern in patterns for path in root.glob(pattern)]
        names = [p.relative_to(root).as_posix() for p in paths if p.is_file() and not p.name.startswith(".")]
        found[item] = [PDF] if PDF in patterns else sorted(names)
    present = {name for names in found.values() for name in names}
    for name in NEEDED:
        if name not in present:
            raise RunError(f"{name} is missing: put it back before submitting")
    if (absent := missing_figures(root)) and not incomplete:
        more = f" and {len(absent) - 1} more PNGs that the report shows are" if len(absent) > 1 else " is"
        way = "report/screenshots.py" if absent[0].startswith("terminal_") else "plot_embeddings.py"
        raise RunError(f"figures/{absent[0]}.png{more} missing: run {way}, or pass --incomplete to do without")
    return found


def pack(files: dict[str, bytes]) -> bytes:
    """A zip of files by name; no dates, so that the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def check(content: bytes, root: Path, names: list[str], fresh: dict[str, bytes]) -> None:
    """Open a packed zip again: RunError unless it holds the named files, valid Python, and not too much.

    They are to be as they are in the tree, those of `fresh` as they are there.
    """
    if len(content) > LARGEST:
        raise RunError(f"the zip has {len(content):,} bytes, more than {LARGEST:,}: remove figures or stored results")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if archive.namelist() != names:
            raise RunError("the zip does not hold the files that were packed: try again")
        for name in names:
            packed = archive.read(name)
            if packed != (fresh[name] if name in fresh else (root / name).read_bytes()):
                raise RunError(f"{name} changed while it was packed: try again")
            if name.endswith(".py"):
                try:
                    compile(packed, name, "exec")
                except (SyntaxError, ValueError) as error:
                    raise RunError(f"{name} is not valid Python ({error}): mend it before submitting") from None


def submit(
    root: Path, folder: Path, last: str, first: str, number: str, incomplete: bool = False
) -> tuple[Path, dict[str, list[str]]]:
    """Typeset, pack and check; returns the zip's path and the files by item.

    RunError if anything is not in order; no file is written before all has been checked.
    """
    last, first = (unicodedata.normalize("NFC", name) for name in (last, first))  # an accent and its letter are one
    path = folder / file_name(last, first, number)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder: make it or choose another --output-dir")
    found = chosen_files(root, incomplete)
    names = sorted(name for files in found.values() for name in files)
    author = author_of(root, first_name=first, last_name=last, id=number)
    fresh = {PDF: compile_report(root, author)}
    if author != author_of(root):
        fresh[AUTHOR] = json_bytes(author)  # so that the report typeset again keeps the name
    content = pack({name: fresh[name] if name in fresh else (root / name).read_bytes() for name in names})
    check(content, root, names, fresh)
    write_whole(path, content)  # first: where that cannot be, the tree stays as it is
    for name, new in fresh.items():
        write_whole(root / name, new)
    return path, found


@command_line("submit.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="submit.py", description="Pack the course submission as LAST_FIRST_ID_Project1.zip.")
    parser.add_argument("--last-name", required=True)
    parser.add_argument("--first-name", required=True)
    parser.add_argument("--id", required=True, help="student number")
    parser.add_argument("--output-dir", type=place, default=".", help="where the zip goes (default: here)")
    parser.add_argument("--incomplete", action="store_true", help="leave out figures whose runs are not stored")
    flags = parser.parse_args()
    path, found = submit(ROOT, flags.output_dir, flags.last_name, flags.first_name, flags.id, flags.incomplete)
    for item, names in found.items():
        shown = names if len(names) <= 3 else [*names[:2], f"... {len(names)} files"]
        print(f"[x] {item}: {', '.join(shown)}")
    print(f"{path}: {sum(map(len, found.values()))} files, {path.stat().st_size / 1e6:.1f} MB, checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())

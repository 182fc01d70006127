"""Typeset the report: python report/build.py     (--first-name, --last-name and --id put an author on it)

Everything the text shows besides its words comes from here: numbers from report/results/, theory from the program's own
functions, code excerpts from the files themselves. The same inputs give the same bytes: the fonts are the compiler's
own and the date is fixed.
"""

import ast
import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # where Python put report/

from errors import command_line
from options import Parser
from report.shrink import shrink
from runs import BAD_CONTENT, STORE_ANEW, RunError, read_json, write_whole

PDF = ROOT / "report" / "report.pdf"
NOBODY = {"first_name": "", "last_name": "", "id": "", "course": ""}  # report/author.json before it is filled in
# PNGs in figures/ that the report does not show, each with the reason.
TYPESET = "the report typesets this table itself"
TEST_ANGLES = "for length: the report typesets the angles of test images and of weights"
SHORT = "for length: its counterpart on the other data set is shown"
LONG = "for length: the worst mistakes are shown instead"
TOLD = "for length: a table has its numbers for ten classes"
LEFT_OUT = {
    "accuracy_mnist": TYPESET, "accuracy_cifar10": TYPESET, "angles_mnist": TEST_ANGLES, "angles_cifar10": TEST_ANGLES,
    "open_set_table": TYPESET, "head_cost": TYPESET, "training_curves_cifar10": SHORT, "target_angles_cifar10": SHORT,
    "pair_angles_cifar10": SHORT, "roc_cifar10": SHORT, "filmstrip_cifar10": SHORT, "embeddings_3d_cifar10": SHORT,
    "scale_or_margin_mnist": TYPESET,
    "scale_or_margin_cifar10": TYPESET, "embedding_size": TYPESET,
    "mistakes_cifar10": SHORT, "confusion_mnist": LONG, "images_mnist": LONG,
    "images_cifar10": LONG, "scale_bound": TOLD,
    "schedules": "for length: the text has its differences with their intervals",
}  # fmt: skip
# name in the text: file, and the functions shown from it, without their docstrings.
EXCERPTS = {
    "network": ("models.py", ("Block.forward", "Backbone.forward")),
    "psi": ("losses.py", ("sine_of", "target_psi")),
    "logits": ("losses.py", ("CosineLogits.forward",)),
    "margins": ("losses.py", ("CosineHead.active_margins", "CosineHead.forward")),
    "step": ("trainer.py", ("Trainer.step",)),
}


def excerpt(path: Path, name: str) -> str:
    """Source of the function or class `name` (dotted for methods) in a Python file, without docstring, dedented.

    Raises RunError when the file has no such name.
    """
    source = path.read_text(encoding="utf-8")
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = [n for n in getattr(node, "body", []) if isinstance(n, kinds) and n.name == part]
        if not found:
            raise RunError(f"{path.name} has no {name}, which the report quotes: change EXCERPTS in report/build.py")
        node = found[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    lines = source.splitlines()
    kept = range(node.lineno - 1, node.end_lineno or node.lineno)
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        dropped = range(docstring.lineno - 1, docstring.end_lineno or docstring.lineno)
        return textwrap.dedent("\n".join(lines[i] for i in kept if i not in dropped))
    return textwrap.dedent("\n".join(lines[i] for i in kept))


def figures_named(folder: Path) -> list[str]:
    """The figures that the text shows, by the name of their PNG in figures/, in the order of the sections."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.typ")))
    return list(dict.fromkeys(re.findall(r'\bpic\(\s*"([\w-]+)"', text)))


def captions(root: Path) -> dict[str, str]:
    """{figure: caption} as plot_embeddings.py left them in figures/captions.json; empty without that file.

    RunError where it is damaged.
    """
    path, remedy = root / "figures" / "captions.json", "delete it and run plot_embeddings.py"
    try:
        found = {name: entry["caption"] for name, entry in read_json(path, remedy).items()} if path.exists() else {}
        if not all(isinstance(caption, str) for caption in found.values()):
            raise ValueError("a caption is no text")
        return found
    except BAD_CONTENT as error:
        raise RunError(f"{path} is damaged ({error}): {remedy}") from None


def missing_figures(root: Path) -> list[str]:
    """Figures that the text shows and figures/ lacks."""
    return [name for name in figures_named(root / "report") if not (root / "figures" / f"{name}.png").exists()]


def author_of(root: Path, **given: str | None) -> dict:
    """report/author.json with the values given, if any, in place of its own. RunError where it cannot be read."""
    own = read_json(root / "report" / "author.json", f"write into it {json.dumps(NOBODY)}")
    whole = NOBODY | own | {name: value for name, value in given.items() if value}
    if wrong := [name for name, value in whole.items() if not isinstance(value, str)]:
        raise RunError(f"{root / 'report' / 'author.json'}: {wrong[0]} is no text: write into it {json.dumps(NOBODY)}")
    return whole


def inputs(root: Path, author: dict) -> dict:
    """Everything that the text takes its numbers, excerpts and figures from. RunError when results are unusable."""
    from report.content import content
    from report.theory import theory

    results = root / "report" / "results"
    try:
        study = content(results)
    except BAD_CONTENT as error:
        raise RunError(f"a result in {results} is damaged ({error!r}): {STORE_ANEW}") from None
    there = [name for name in figures_named(root / "report") if (root / "figures" / f"{name}.png").exists()]
    known = captions(root)
    return {
        "author": author, "theory": theory(), "study": study,
        "code": {name: {"file": file, "source": "\n\n".join(excerpt(root / file, part) for part in parts)}
                 for name, (file, parts) in EXCERPTS.items()},
        "left_out": [name for name in LEFT_OUT if name in known and (root / "figures" / f"{name}.png").exists()],
        "figures": {name: known.get(name, "").replace("'", "’") for name in there},
    }  # fmt: skip


def compile_report(root: Path, author: dict) -> bytes:
    """The report as PDF. RunError with the compiler's first line when it cannot be typeset, or without its packages."""
    try:
        import pikepdf  # noqa: F401 - for shrink
        import typst
    except ImportError as error:
        raise RunError(f"the package {error.name} is missing: pip install -r requirements.txt") from None
    facts = json.dumps(inputs(root, author), ensure_ascii=False)
    try:
        pdf = typst.compile(
            str(root / "report" / "report.typ"), root=str(root), sys_inputs={"facts": facts},
            ignore_system_fonts=True, timestamp=0,
        )  # fmt: skip
    except typst.TypstError as error:
        raise RunError(f"report.typ does not compile: {error}") from None
    return shrink(pdf)


def build(root: Path = ROOT, author: dict | None = None) -> bool:
    """Write report/report.pdf if it is not what the inputs give now; returns whether it was written."""
    pdf = compile_report(root, author or author_of(root))
    path = root / "report" / "report.pdf"
    if path.exists() and path.read_bytes() == pdf:
        return False
    write_whole(path, pdf)
    return True


@command_line("build.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="build.py", description="Typeset report/report.pdf from the stored results.")
    for name in ("first-name", "last-name", "id"):
        parser.add_argument(f"--{name}", help="the author's, in place of report/author.json")
    flags = parser.parse_args()
    author = author_of(ROOT, first_name=flags.first_name, last_name=flags.last_name, id=flags.id)
    written = build(ROOT, author)
    missing = missing_figures(ROOT)
    if missing:
        print(f"warning: left out for lack of a PNG: {', '.join(missing)}; run plot_embeddings.py", file=sys.stderr)
    print(f"{'wrote' if written else 'up to date:'} {PDF}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

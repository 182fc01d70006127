"""Nothing of the report's text is lost between its source and its pages."""

import io
import re
import shutil
from itertools import groupby
from pathlib import Path

from pypdf import PdfReader

from report import build

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "report"
# Typst 0.15 drops lines of a list that a floating figure pushes to the next page: its text had been lost so.
INLINE = (
    (r"placement: (auto|top)", "placement: none"),
    (r"place\(top, float: true, clearance: [\d.]+em, ", "block("),
    (r"#place\.flush\(\)", ""),
    (r'region: "gb"\)', 'region: "gb", hyphenate: false)'),
)


def words(pdf: bytes) -> list[str]:
    """A PDF's words in order, without hyphens."""
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    return re.sub(r"-\s*|[\u00ad\u2010]\s*", "", text).split()


def lost(source: list[str], pages: str) -> list[str]:
    """Stretches of `source` longer than a page break explains that `pages`, words without spaces, does not have."""
    missing = ["".join(source[i : i + 4]) not in pages for i in range(len(source) - 3)]
    found = []
    for gone, places in groupby(range(len(missing)), key=missing.__getitem__):
        stretch = list(places)
        if gone and len(stretch) > 8:
            found.append(" ".join(source[stretch[0] : stretch[-1] + 4]))
    return found


def test_the_pages_have_all_of_the_text(tmp_path, monkeypatch):
    """Against the same text with every figure in its place, where no float can push a line away."""
    shutil.copytree(REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    shutil.copytree(ROOT / "figures", tmp_path / "figures")
    for file, _ in build.EXCERPTS.values():
        shutil.copy(ROOT / file, tmp_path)
    changed = 0
    for path in (tmp_path / "report").glob("*.typ"):
        text = path.read_text()
        for pattern, instead in INLINE:
            text, count = re.subn(pattern, instead, text)
            changed += count
        path.write_text(text)
    assert changed >= 6
    monkeypatch.setattr(build, "shrink", lambda pdf: pdf)  # takes seconds and leaves the text alone
    inline = words(build.compile_report(tmp_path, build.author_of(ROOT)))
    pages = words((REPORT / "report.pdf").read_bytes())
    assert len(inline) > 10_000 and lost(inline, "".join(pages)) == []
    at = inline.index("arccos.")
    assert lost(inline, "".join(pages[: pages.index("arccos.")] + pages[pages.index("arccos.") + 25 :])), inline[at]

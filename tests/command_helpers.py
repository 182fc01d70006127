"""What a command did: refused in one line, and left a folder as it was."""

from pathlib import Path


def assert_refused(done, *named):
    """Exit status 2 and a single printable line on stderr that holds the given words."""
    assert done.status == 2, done
    assert done.err.count("\n") == 1 and done.err.endswith("\n") and done.err[:-1].isprintable(), done.err
    assert "Traceback" not in done.err
    for word in named:
        assert str(word) in done.err


def content(folder: Path) -> dict:
    """Every file below the folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def content_and_times(folder: Path) -> dict:
    """Every file below the folder with its bytes and the time of its last change."""
    return {name: (raw, (folder / name).stat().st_mtime_ns) for name, raw in content(folder).items()}


class Touch:
    """Pickles as a call that makes a file: the proof that code was run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)

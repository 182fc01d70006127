"""The terminal pictures: taken without internet, of commands that ended as they should, all of them or none."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from command_helpers import assert_refused
from report import screenshots

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")


@pytest.fixture
def shoot(command, monkeypatch, tmp_path):
    """shoot({name: [(script's source, status expected)]}): screenshots.py of such scripts, into tmp_path/figures."""
    monkeypatch.setattr(screenshots, "ROOT", tmp_path)
    monkeypatch.setattr(screenshots, "write_pictures", lambda folder: None)
    (tmp_path / "figures").mkdir()
    (tmp_path / "data").mkdir()

    def go(shots):
        planned = {}
        for name, scripts in shots.items():
            for i, (source, _) in enumerate(scripts):
                (tmp_path / f"{name}{i}.py").write_text(source)
            planned[name] = [(f"{name}{i}.py", status) for i, (_, status) in enumerate(scripts)]
        monkeypatch.setattr(screenshots, "SHOTS", planned)
        return command(screenshots.main, "--figures-dir", tmp_path / "figures")

    return go


def test_a_command_that_ends_otherwise_than_planned_is_named_and_no_picture_changes(shoot, tmp_path):
    refusal = "import sys; sys.exit('script: error: no such run')"
    done = shoot({"one": [("print(1)", 0)], "two": [("print(2)", 0), (refusal, 0)]})
    assert_refused(done, "two1.py", "status 1, not 0", "no such run")
    assert list((tmp_path / "figures").iterdir()) == []
    done = shoot({"one": [("print(1)", 0)], "two": [("print(2)", 0), (refusal, 1)]})
    assert done.status == 0 and {path.name for path in (tmp_path / "figures").iterdir()} == {"one.png", "two.png"}


def test_without_data_no_command_is_begun(shoot, tmp_path):
    (tmp_path / "data").rmdir()
    begun = tmp_path / "begun"
    assert_refused(shoot({"one": [(f"open({str(begun)!r}, 'w')", 0)]}), tmp_path / "data", "MNIST")
    assert not begun.exists()


def test_a_file_in_the_way_of_the_pictures_is_named_before_any_command(shoot, tmp_path):
    (tmp_path / "figures").rmdir()
    (tmp_path / "figures").write_text("mine")
    begun = tmp_path / "begun"
    assert_refused(shoot({"one": [(f"open({str(begun)!r}, 'w')", 0)]}), tmp_path / "figures", "--figures-dir")
    assert not begun.exists() and (tmp_path / "figures").read_text() == "mine"


@pytest.mark.parametrize("kind", ["http", "https"])
def test_the_commands_find_no_internet(shoot, monkeypatch, kind):
    """A server that every process may ask is out of reach, whatever the user's own proxy settings."""
    monkeypatch.setenv("no_proxy", "*")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self):
            asked.append(self.client_address)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        url = f"{kind}://127.0.0.1:{server.server_address[1]}/"
        source = f"import urllib.request\ntry: urllib.request.urlopen({url!r}, timeout=5)\nexcept OSError: pass"
        assert shoot({"ask": [(source, 0)]}).status == 0 and not asked
        subprocess.run([sys.executable, "-c", source], check=False)
        assert asked  # it is the setting that keeps them apart
    finally:
        server.shutdown()
        server.server_close()


def test_without_pseudo_terminals_help_is_given_and_the_rest_is_one_line(shoot, monkeypatch, tmp_path):
    missing = "import sys; sys.modules.update(dict.fromkeys(['fcntl', 'pty', 'termios'])); sys.argv[0] = 'x'; "
    code = missing + "import report.screenshots as s; s.main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--figures-dir" in done.stdout, done.stderr
    monkeypatch.setitem(sys.modules, "pty", None)
    assert_refused(shoot({"one": [("print(1)", 0)]}), "Unix-like")
    assert list((tmp_path / "figures").iterdir()) == []

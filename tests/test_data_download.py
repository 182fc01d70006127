"""Downloading: it lands whole or not at all, from a server that answers; needs no network."""

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

import data_files
from data import load_dataset
from data_helpers import IMAGES, LABELS, idx_bytes, names_in, write_mnist

pytestmark = pytest.mark.usefixtures("no_network")
REAL_DOWNLOAD = data_files._download


@pytest.fixture
def real_download(monkeypatch):
    """The real _download, with torchvision's MNIST replaced by one that writes tiny files."""
    from torchvision import datasets

    class MNIST:
        mirrors = ("http://dead/", "http://alive/")
        resources = (("first.gz", "md5"),)
        fail = False

        def __init__(self, root, download):
            print("noise")
            print("noise", file=sys.stderr)
            MNIST.used, MNIST.timeout = self.mirrors, socket.getdefaulttimeout()
            write_mnist(Path(root, "MNIST/raw"))
            if self.fail:
                (Path(root, "MNIST/raw") / IMAGES).write_bytes(b"half")
                raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "MNIST", MNIST)
    monkeypatch.setattr(data_files, "_answering", lambda urls: [url for url in urls if "alive" in url])
    monkeypatch.setattr(data_files, "_download", REAL_DOWNLOAD)
    return MNIST


def test_download_lands_whole_and_quietly(tmp_path, real_download, capsys):
    lines = []
    before = socket.getdefaulttimeout()
    dataset = load_dataset("mnist", tmp_path / "new", log=lines.append)
    assert dataset.name == "mnist" and len(lines) == 1 and "downloading mnist" in lines[0]
    assert names_in(tmp_path / "new") == ["MNIST"]
    assert names_in(tmp_path / "new/MNIST/raw") == sorted(data_files.IDX_FILES)
    assert capsys.readouterr() == ("", "") and socket.getdefaulttimeout() == before
    assert real_download.used == ["http://alive/"] and real_download.timeout == data_files.STALL_SECONDS


def test_interrupted_download_leaves_nothing(tmp_path, real_download):
    real_download.fail = True
    before = socket.getdefaulttimeout()
    with pytest.raises(KeyboardInterrupt):
        load_dataset("mnist", tmp_path, log=str)
    assert names_in(tmp_path) == [] and socket.getdefaulttimeout() == before


def test_download_keeps_the_files_at_hand(tmp_path, real_download):
    arrays = write_mnist(tmp_path / "MNIST/raw")
    own = tmp_path / "MNIST/raw" / IMAGES
    own.write_bytes(idx_bytes(255 - arrays[IMAGES]))
    (tmp_path / "MNIST/raw" / LABELS).unlink()
    dataset = load_dataset("mnist", tmp_path, log=str)
    np.testing.assert_array_equal(dataset.train_images[:, 0].numpy(), 255 - arrays[IMAGES])


def test_two_that_download_cifar_together_both_go_on(tmp_path, monkeypatch):
    from torchvision import datasets

    class CIFAR10:
        url = "http://alive/"

        def __init__(self, root, download):
            for folder, content in ((root, "mine"), (tmp_path, "the other's")):  # who was done just before
                Path(folder, data_files.CIFAR_BATCHES).mkdir()
                Path(folder, data_files.CIFAR_BATCHES, "batch").write_text(content)

    monkeypatch.setattr(datasets, "CIFAR10", CIFAR10)
    monkeypatch.setattr(data_files, "_answering", list)
    monkeypatch.setattr(data_files, "_download", REAL_DOWNLOAD)
    assert data_files.try_download("cifar10", tmp_path, True, str) is None
    assert names_in(tmp_path) == [data_files.CIFAR_BATCHES]
    assert (tmp_path / data_files.CIFAR_BATCHES / "batch").read_text() == "the other's"


def test_a_download_that_cannot_be_put_in_its_place_is_no_success(tmp_path):
    (tmp_path / data_files.CIFAR_BATCHES).write_text("a file in the way")
    (tmp_path / "made").mkdir()
    with pytest.raises(OSError):
        data_files._move_in(tmp_path / "made", tmp_path / data_files.CIFAR_BATCHES)


def test_answering_servers_are_found_without_waiting_for_dead_ones(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(data_files, "PROBE_SECONDS", 1.0)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/here" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    server, silent = HTTPServer(("127.0.0.1", 0), Handler), socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        base, dumb = (f"http://127.0.0.1:{s.getsockname()[1]}" for s in (server.socket, silent))
        start = time.monotonic()
        assert data_files._answering([f"{dumb}/x", f"{base}/gone", f"{base}/here"]) == [f"{base}/here"]
        with pytest.raises(OSError, match=r"127\.0\.0\.1.*Not Found"):
            data_files._answering([f"{base}/gone"])
        with pytest.raises(OSError, match=r"no answer|timed out"):
            data_files._answering([f"{dumb}/x"])
        assert time.monotonic() - start < 10
    finally:
        server.shutdown()
        server.server_close()
        silent.close()

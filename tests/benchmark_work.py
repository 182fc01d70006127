"""Work for a process of its own, in a module that is loaded at once: the process imports it."""

import os
import signal


def work_of_100_mb() -> None:
    bytearray(100_000_000)[::4096] = b"x" * -(-100_000_000 // 4096)  # every page is touched


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

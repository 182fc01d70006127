"""What a user sees when something goes wrong in a script's main(): one line on standard error and an exit status, never
a traceback."""

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable

NO_MEMORY = "OutOfMemoryError|ALLOC_FAILED|can't allocate memory|not enough memory|out of memory|Invalid buffer size"


def one_line(text: str) -> str:
    """`text` on one line; what a terminal cannot show or would obey is escaped, for a file's name may hold anything."""
    flat = re.sub(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*", " ", text).strip()
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat)


class UserError(Exception):
    """What a user can mend: str() is one line that names the bad value or file and the remedy."""

    def __init__(self, message: str):
        super().__init__(one_line(str(message)))


def lacks_memory(error: Exception) -> bool:
    """Whether an error tells of too little memory: PyTorch has kinds of its own for that, without a common name."""
    return isinstance(error, MemoryError) or bool(re.search(NO_MEMORY, f"{type(error).__name__} {error}"))


def command_line(
    name: str, less: str = "close other programs, or run it where there is more"
) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Decorator of script `name`'s main(), which returns its exit status.

    A UserError, and a system call that fails where nobody expected it (a full disk under the log), end it with one line
    and status 2; so does a lack of memory, with `less`, how to need less of it, as the remedy; Ctrl-C with 130.
    """

    def decorate(main: Callable[[], int]) -> Callable[[], int]:
        @functools.wraps(main)
        def run() -> int:
            for channel in ("stdout", "stderr"):
                if getattr(sys, channel) is None:  # closed before the start, as by >&-
                    setattr(sys, channel, open(os.devnull, "w"))  # noqa: SIM115
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):  # a name that is no UTF-8 is no reason to stop
                    stream.reconfigure(errors="backslashreplace")
            try:
                status = main()
                sys.stdout.flush()
                return status
            except UserError as error:
                problem = str(error)
            except OSError as error:
                problem = one_line(f"{error.filename or 'the output'}: {error.strerror or error}")
                _drop_output()
            except (MemoryError, RuntimeError) as error:
                if not lacks_memory(error):
                    raise
                problem = one_line(f"out of memory: {less} ({error})")
            except KeyboardInterrupt:
                print(f"\n{name}: stopped", file=sys.stderr)
                return 130
            print(f"{name}: error: {problem}", file=sys.stderr)
            return 2

        return run

    return decorate


def _drop_output() -> None:
    """Send what standard output still holds nowhere if it cannot be written: Python would complain again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

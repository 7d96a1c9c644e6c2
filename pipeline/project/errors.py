"""The one error that a user can cause, and how a command ends on it."""

import gc
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.project import deadline


class PipelineError(Exception):
    """Something outside the code is wrong. The message is a sentence: what, where, and what would be right."""


def missing(path: Path) -> PipelineError:
    """What to say of a file that a stage should have made."""
    return PipelineError(f"{path} is missing; `dvc repro` makes it, or `dvc pull` where a remote has it.")


def reason(error: Exception) -> str:
    """Why something was not to be had from outside, in few words."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else f"exit status {error.returncode}"
    return str(getattr(error, "reason", error)).split("; ")[0]


def printable(text: Path | str) -> str:
    """A path, or a sentence with one, as JSON can hold it, which has no bytes that are no text."""
    return str(text).encode(errors="backslashreplace").decode()


def check_name(path: Path | str) -> None:
    """Raises PipelineError: the name is no UTF-8 text, as of an old archive unpacked."""
    if printable(path) != str(path):
        raise PipelineError(f"{printable(path)} has a name that is no UTF-8 text, which DVC needs; rename it.")


def run(command: Callable[..., None]) -> None:
    """Call `command` with the command line's words; a PipelineError becomes a sentence on stderr and exit status 1."""
    try:
        _check(command, sys.argv[1:])
        command(*sys.argv[1:])
        sys.stdout.flush()
        gc.freeze()  # the collection at exit would walk every imported library for over a second and free nothing
        deadline.leave(0)
    except PipelineError as error:
        _fail(str(error))
    except BrokenPipeError:  # who reads what is printed has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own flush would fail too
        deadline.leave(1)
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"The operating system refused: {error.strerror or error}{where}.")
    except KeyboardInterrupt:
        _fail("Interrupted; what was half done goes on from its last checkpoint next time.")


def _check(command: Callable[..., None], words: list[str]) -> None:
    signature = inspect.signature(command)
    try:
        signature.bind(*words)
    except TypeError:
        taken = " ".join(signature.parameters).upper() or "no words"
        raise PipelineError(f"This command takes {taken}; it was given `{' '.join(words)}`.") from None


def _fail(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    deadline.leave(1)
    sys.exit(1)

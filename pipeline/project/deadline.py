"""A call that may hang for ever, and a process that ends all the same."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Answer = TypeVar("Answer")

_failed: list[Future] = []


def within(seconds: float, call: Callable[..., Answer], *arguments: Any) -> Answer:
    """What the call returns or raises; one that takes longer is left behind in a thread that ends with the process.

    Raises:
        TimeoutError: it took longer.
    """
    answer = Future()

    def work() -> None:
        try:
            answer.set_result(call(*arguments))
        except BaseException as error:
            answer.set_exception(error)

    _failed.append(answer)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer.done():
        raise TimeoutError(f"it did not answer within {seconds:.0f} s")
    value = answer.result()
    _failed.remove(answer)
    return value


def leave(status: int) -> None:
    """End the process at once if a call failed or was left behind; otherwise do nothing.

    Python waits at its end for the threads of every pool, such as those in which MLflow moves artifacts, and so for a
    server that never answers.
    """
    if _failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

"""Servers of the venv on a free port of this machine, ended with every process that they have started."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PATIENCE = 90  # seconds that a server may take to start


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serving(words: list[str], ping: str, cwd: Path, **environment: str) -> Iterator[str]:
    """Start the command with a port appended, wait until `ping` answers, and yield the address."""
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = cwd / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen([*words, str(port)], cwd=cwd, env=os.environ | {"PATH": path} | environment,
                                   stdout=output, stderr=output, start_new_session=True)  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/{ping}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):  # where it did not even start
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """A real MLflow server with SQLite and artifacts in that folder."""
    words = ["mlflow", "server", "--host", "127.0.0.1", "--workers", "2", "--backend-store-uri",
             f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "artifacts"), "--port"]  # fmt: skip
    with serving(words, "health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as address:
        yield address


def _wait(url: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")

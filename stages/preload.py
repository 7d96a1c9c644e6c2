"""Processes that start with their libraries loaded: importing torch and MLflow takes longer than most stages work.

`stages.parallel` starts one process that imports them, and the stages are forks of it. It only saves time: the
commands, their results and what they print are the same without it. Elsewhere than on Linux it is left out.
"""

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

FIRST = ("torch", "timm.optim", "pydantic", "ruamel.yaml")  # without which no stage trains
LATER = (  # what stages import at their end, and those after them, loaded while the first ones work
    *("pandas", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.artifact.local_artifact_repo"),
    *("onnx", "onnxscript.function_libs.torch_lib.ops", "onnxruntime.quantization"),
    *("networkx", "scipy.optimize", "scipy.stats", "dvc.scm"),
    *("sklearn.linear_model", "sklearn.model_selection", "matplotlib.pyplot", "dvc.repo"),
)
ADDRESS = "STAGES_PRELOADED"  # of the process that has them; its commands find it in their environment
MESSAGE = 2**20  # bytes, more than an environment has
FORWARDED = (signal.SIGINT, signal.SIGTERM)


class Preloaded(NamedTuple):
    """The process that has the libraries, from outside."""

    address: Path
    process: subprocess.Popen

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to be forked from it."""
        return {ADDRESS: str(self.address)}

    def wait(self, *, idle: bool = False) -> None:
        """Until it can be forked, or until it has nothing more to import, beside which no time can be measured."""
        awaited = _all_loaded(self.address) if idle else self.address
        while self.process.poll() is None and not awaited.exists():
            time.sleep(0.1)


@contextlib.contextmanager
def start() -> Iterator[Preloaded | None]:
    """None where the operating system can't fork so. What has been forked ends with it."""
    if sys.platform != "linux":
        yield None
        return
    with TemporaryDirectory() as folder:
        address = Path(folder) / "socket"
        command = [sys.executable, "-m", "stages.preload", address]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True) as process:
            try:
                yield Preloaded(address, process)
            finally:
                process.kill()


def run(words: list[str]) -> None:
    """Let a fork run the module with its words, and end as it does; return if there is no process to fork."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(os.environ[ADDRESS])
        except OSError:  # it is still importing, or has ended
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # the request must come first
        for number in FORWARDED:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
        request = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        status = connection.recv(1)
        os._exit(status[0] if status else 1)


def serve(address: str) -> None:
    """Import, then fork for every request, until the process that started this one ends."""
    for name in FIRST:
        importlib.import_module(name)
    later = list(LATER)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who keep the forks
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            gc.collect()
            gc.freeze()  # a collection in a fork would copy every page
            ready = select.select([listener, sys.stdin], [], [], 0 if later else None)[0]
            if sys.stdin in ready:
                return
            if ready:
                _fork(listener)
            else:
                importlib.import_module(later.pop(0))
                if not later:
                    _all_loaded(Path(address)).touch()


def _all_loaded(address: Path) -> Path:
    return address.with_name(f"{address.name}.loaded")


def _fork(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        if not os.fork():
            listener.close()
            _keep(connection)
            os._exit(0)


def _keep(connection: socket.socket) -> None:
    """Run what is asked for in a fork, pass signals on to it and its status back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, MESSAGE, 3)
    if not message:  # the command was killed before it asked
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # a signal that comes while Python forks would be lost
    process = multiprocessing.get_context("fork").Process(target=_work, args=(json.loads(message), streams))
    process.start()
    os.setpgid(process.pid, process.pid)  # here too: a signal may come before the fork has done it
    while process.sentinel not in (ready := select.select([connection, process.sentinel, sys.stdin], [], [])[0]):
        number = b"" if sys.stdin in ready else connection.recv(1)
        os.killpg(process.pid, number[0] if number else signal.SIGKILL)  # nothing to come: somebody was killed
    process.join()
    with contextlib.suppress(OSError):
        connection.send(bytes([process.exitcode if process.exitcode >= 0 else 128 - process.exitcode]))


def _work(request: dict, streams: list[int]) -> None:
    """Take the place of the process that asked, in a group of processes of its own."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0], sys.argv = request["folder"], request["words"]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])

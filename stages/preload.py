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

LIBRARIES = {  # in the order in which they are imported, and what can be forked from then on
    "prepare": (
        *("pydantic", "ruamel.yaml", "mlflow", "mlflow.store.tracking.sqlalchemy_workspace_store"),
        *("sqlalchemy.dialects.sqlite", "alembic.command"),
    ),
    "train": ("torch", "timm.optim"),
    "time": (  # nothing more is imported, beside which no time can be measured
        *("pandas", "tabulate", "mlflow.store.artifact.local_artifact_repo", "onnxruntime.quantization"),
        *("onnx", "onnxscript.function_libs.torch_lib.ops", "onnxscript.rewriter.onnx_fusions._onnx_fusions"),
        *("torch.export._trace", "torch.onnx._internal.exporter._compat", "sympy.combinatorics"),
        *("scipy.optimize", "scipy.stats", "networkx", "jinja2"),
        *("sklearn.linear_model", "sklearn.model_selection", "matplotlib.pyplot", "matplotlib.backends.backend_agg"),
        *("dvc.scm", "dvc.repo.index"),
    ),
}
ADDRESS = "STAGES_PRELOADED"  # of the process that has them; its commands find it in their environment
SOON = 1  # second, in which who has waited for a kind asks for a fork; the next import takes longer
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

    def wait(self, kind: str) -> None:
        """Until it has what this kind of stage needs, one of LIBRARIES."""
        while self.process.poll() is None and not _marker(self.address, kind).exists():
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
        except OSError:  # it has not begun, or has ended
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
    """Import, and fork for every request, between two imports too, until the process that started this one ends."""
    waiting = [(kind, name) for kind, names in LIBRARIES.items() for name in names]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who keep the forks
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        patience = 0
        while True:
            gc.collect()
            gc.freeze()  # a collection in a fork would copy every page
            ready = select.select([listener, sys.stdin], [], [], patience if waiting else None)[0]
            patience = 0
            if sys.stdin in ready:
                return
            if ready:
                _fork(listener)
                continue
            kind, name = waiting.pop(0)
            importlib.import_module(name)
            if kind not in dict(waiting):
                _marker(Path(address), kind).touch()
                patience = SOON


def _marker(address: Path, kind: str) -> Path:
    return address.with_name(f"{address.name}.{kind}")


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
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # while it imported; whoever interrupts says so
        sys.exit(1)


if __name__ == "__main__":
    serve(*sys.argv[1:])

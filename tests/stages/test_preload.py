"""Commands whose work a fork does: the way in which the checkout's stages start, and commands made up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere stages are not forked")
SERVER = """\
import sys
from stages import preload
preload.LIBRARIES = {"prepare": ("colorsys",), "time": ("imghdr",)}
preload.serve(sys.argv[1])
"""
TELL = """\
import json, os, sys
told = {"argv": sys.argv[1:], "name": __name__, "main": sys.modules["__main__"].__spec__.name, "cwd": os.getcwd(),
        "said": os.environ.get("SAID"), "loaded": "colorsys" in sys.modules}
print(json.dumps(told))
print("and this", file=sys.stderr)
sys.exit(7)
"""
SLEEP = """\
import os, time
with open("pids", "a") as pids:
    pids.write(f"{os.getpid()}\\n")
try:
    print(os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(5)
"""


@pytest.fixture(autouse=True)
def _interruptible():
    """Commands inherit that an interrupt is ignored, as it is in the background jobs of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "stages").mkdir()
    for name in ("__init__.py", "preload.py"):
        shutil.copy(CHECKOUT / "stages" / name, tmp_path / "stages")
    (tmp_path / "stages/tell.py").write_text(TELL)
    (tmp_path / "stages/sleep.py").write_text(SLEEP)
    (tmp_path / "stages/fail.py").write_text("raise ValueError('of its own')\n")
    return tmp_path


@pytest.fixture
def address(root):
    """Of a process that is ready to be forked."""
    address = root / "socket"
    words = [sys.executable, "-c", SERVER, address]
    with (root / "errors").open("w") as errors:
        server = subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE, stderr=errors)
    while not (root / "socket.time").exists():
        time.sleep(0.01)
    yield address
    server.stdin.close()
    assert server.wait(10) == 0
    assert (root / "errors").read_text() == ""


def command(root, address, name, *words):
    environment = os.environ | {"STAGES_PRELOADED": str(address), "SAID": "yes"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-m", f"stages.{name}", *words], cwd=root, env=environment, text=True,
                            start_new_session=True, **pipes)  # fmt: skip


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def started(root):
    file = root / "pids"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def test_a_fork_works_as_the_command_itself_would_and_has_the_libraries(root, address):
    told = {}
    for socket in (address, root / "nobody"):
        process = command(root, socket, "tell", "a b", "--flag")
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 7 and errors == "and this\n"
        told[socket] = json.loads(out)
    assert told[address].pop("loaded") and not told[root / "nobody"].pop("loaded")
    assert told[address] == told[root / "nobody"] == {
        "argv": ["a b", "--flag"], "name": "__main__", "main": "stages.tell", "cwd": str(root), "said": "yes",
    }  # fmt: skip


def test_an_error_shows_where_it_was_raised(root, address):
    process = command(root, address, "fail")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "ValueError: of its own" in errors and "fail.py" in errors


def test_an_interrupt_reaches_the_fork(root, address):
    process = command(root, address, "sleep")
    pid = int(process.stdout.readline())
    assert pid != process.pid
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "interrupted\n" and process.returncode == 5
    assert gone(pid)


def test_a_command_that_is_killed_leaves_no_fork_behind(root, address):
    process = command(root, address, "sleep")
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(pid)


def test_a_fork_ends_with_the_process_for_which_it_works(root):
    words = [sys.executable, "-c", SERVER, str(root / "socket")]
    with subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE) as server:
        while not (root / "socket.time").exists():
            time.sleep(0.01)
        process = command(root, root / "socket", "sleep")
        pid = int(process.stdout.readline())
        server.stdin.close()  # as when the process that has the other end is killed
        assert process.wait(60) == 128 + signal.SIGKILL and server.wait(60) == 0
    assert gone(pid)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_command_may_end_at_any_moment(root, address, signal_):
    moment = 0
    while moment < 20 or not started(root):  # a busy machine takes longer to start one
        process = command(root, address, "sleep")
        time.sleep(moment / 100)
        moment += 1
        process.send_signal(signal_)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:  # Python loses an interrupt that comes in a callback of its imports
            process.send_signal(signal_)
            process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while not all(map(gone, started(root))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started(root) and all(map(gone, started(root)))


def test_a_fork_that_is_killed_says_by_which_signal(root, address):
    process = command(root, address, "sleep")
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert process.wait(60) == 128 + signal.SIGKILL

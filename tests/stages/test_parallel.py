"""Stages at the same time in a real DVC project of shell commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from ruamel.yaml import YAML

from stages import parallel
from tests.conftest import CHECKOUT, run

GRAPH = """\
stages:
  left: {cmd: echo left > left.txt, deps: [start.txt], outs: [left.txt]}
  right: {cmd: echo right > right.txt, deps: [start.txt], outs: [right.txt]}
  both: {cmd: cat left.txt right.txt > both.txt, deps: [left.txt, right.txt], outs: [both.txt]}
"""
OTHER = "  other: {cmd: echo other > other.txt, outs: [other.txt]}\n"
FOLDER = """\
stages:
  folder: {cmd: mkdir folder && echo first > folder/first && echo second > folder/second, outs: [folder]}
  file: {cmd: echo file > file.txt, outs: [file.txt]}
"""


@pytest.fixture
def toy(tmp_path):
    """A project with the checkout's code and params, and a graph of three quick stages."""
    for package in ("pipeline", "stages"):
        (tmp_path / package).symlink_to(CHECKOUT / package)
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "start.txt").write_text("start\n")
    assert run("dvc", "init", "-q", "--no-scm", cwd=tmp_path).returncode == 0
    return tmp_path


def parallel_repro(root, jobs="2"):
    return run(sys.executable, "-m", "stages.parallel", jobs, cwd=root)


def outs(root):
    stages = YAML(typ="safe").load((root / "dvc.lock").read_text())["stages"]
    return {name: stage["outs"] for name, stage in stages.items()}


def test_the_results_are_those_of_dvc_repro_and_each_line_says_its_stage(toy):
    result = parallel_repro(toy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {"left ", "right", "both "} <= {line.split(" | ")[0] for line in result.stdout.splitlines()}
    together = outs(toy)
    for name in ("dvc.lock", "left.txt", "right.txt", "both.txt"):
        (toy / name).unlink()
    shutil.rmtree(toy / ".dvc/cache")
    assert run("dvc", "repro", cwd=toy).returncode == 0
    assert outs(toy) == together


def test_nothing_runs_when_nothing_changed(toy):
    parallel_repro(toy)
    result = parallel_repro(toy)
    assert result.returncode == 0 and "Running" not in result.stdout
    assert "3 stages are up to date" in result.stdout


def test_what_the_graph_no_longer_has_leaves_dvc_lock_and_the_rest_runs_no_more(toy):
    parallel_repro(toy)
    (toy / "dvc.yaml").write_text("".join(GRAPH.splitlines(keepends=True)[:2]))
    result = parallel_repro(toy)
    assert result.returncode == 0 and "Running" not in result.stdout, result.stderr
    assert set(outs(toy)) == {"left"}


def test_it_tells_which_stages_ran_and_not_which_were_restored(toy):
    parallel_repro(toy)
    (toy / "left.txt").unlink()
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo right", "echo other"))
    told = run(sys.executable, "-c", "from stages import parallel; print(parallel.repro('2'))", cwd=toy)
    assert told.returncode == 0 and (toy / "left.txt").exists(), told.stderr
    assert told.stdout.splitlines()[-1] == "['right', 'both']"


def test_missing_outputs_are_restored_without_a_stage_being_looked_at(toy):
    parallel_repro(toy)
    for name in ("left.txt", "right.txt", "both.txt"):
        (toy / name).unlink()
    result = parallel_repro(toy)
    assert result.returncode == 0 and "from DVC's cache: 3\n" in result.stdout and " | " not in result.stdout
    assert (toy / "both.txt").read_text() == "left\nright\n"


def test_what_dvcs_cache_has_in_part_is_made_again_and_what_is_not_asked_for_stays_away(toy):
    (toy / "dvc.yaml").write_text(FOLDER)
    parallel_repro(toy)
    shutil.rmtree(toy / "folder")
    (toy / "file.txt").unlink()
    cached = (path for path in (toy / ".dvc/cache/files").rglob("*") if path.is_file())
    next(path for path in cached if path.read_text() == "second\n").unlink()
    result = run(sys.executable, "-m", "stages.parallel", "2", "folder", cwd=toy)
    assert result.returncode == 0 and "restored" not in result.stdout and not (toy / "file.txt").exists()
    assert (toy / "folder/second").read_text() == "second\n"


def test_a_stage_knows_the_checksums_of_what_it_reads_and_of_nothing_else(toy):
    sums = "echo $STAGE_INPUTS > both.txt"
    (toy / "dvc.yaml").write_text(GRAPH.replace("cat left.txt right.txt > both.txt", sums) + OTHER)
    for left in ("left", "other"):  # the second time right.txt is not made again
        (toy / "dvc.yaml").write_text((toy / "dvc.yaml").read_text().replace("echo left", f"echo {left}"))
        result = parallel_repro(toy)
        assert result.returncode == 0, result.stdout + result.stderr
        made = {out["path"]: out["md5"] for name in ("left", "right") for out in outs(toy)[name]}
        assert json.loads((toy / "both.txt").read_text()) == made


def test_several_commands_run_in_turn_until_one_fails(toy):
    words = "[echo 1 > left.txt, echo 2 >> left.txt, exit 3, echo 4 >> left.txt]"
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left > left.txt", words))
    result = parallel_repro(toy)
    assert result.returncode == 1 and "`exit 3` ended with exit status 3" in result.stdout
    assert (toy / "left.txt").read_text() == "1\n2\n"


def test_a_stage_that_is_killed_says_by_which_signal(toy):
    for words in ("kill -KILL $$", "exit 137"):  # and as the command of a fork that was killed ends
        (toy / "dvc.yaml").write_text(GRAPH.replace("echo left > left.txt", words))
        result = parallel_repro(toy)
        assert result.returncode == 1
        assert f"`{words}` was killed by SIGKILL; is there enough memory?" in result.stdout


def test_a_missing_output_fails_its_stage_with_a_sentence(toy):
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left > left.txt", "exit 0"))
    result = parallel_repro(toy)
    assert result.returncode == 1 and "left.txt' does not exist" in result.stdout and "Traceback" not in result.stderr
    assert (toy / "right.txt").exists() and set(outs(toy)) == {"right"}


@pytest.mark.parametrize(("edit", "said"), [("echo 'seed: 1' > settings.yaml", "settings.yaml (seed)"),
                                            ("echo other > start.txt", "start.txt")])  # fmt: skip
def test_what_is_edited_while_a_stage_runs_fails_it_and_is_no_result_of_the_new_one(toy, edit, said):
    (toy / "settings.yaml").write_text("seed: 0\n")
    (toy / "work.sh").write_text(f"echo left > left.txt\ntest -e once || {edit}\ntouch once\n")
    (toy / "dvc.yaml").write_text(
        "stages: {left: {cmd: sh work.sh, deps: [start.txt], params: [settings.yaml: [seed]], outs: [left.txt]}}"
    )
    result = parallel_repro(toy)
    assert result.returncode == 1 and f"error: {said} changed while it ran" in result.stdout
    assert not (toy / "dvc.lock").exists() or "left" not in outs(toy)
    assert "Running stage 'left'" in (again := parallel_repro(toy)).stdout and again.returncode == 0
    assert parallel_repro(toy).stdout.startswith("1 stages are up to date")


def test_images_that_dvc_tracks_are_brought_up_to_date_by_it(toy):
    assert run("dvc", "add", "-q", "start.txt", cwd=toy).returncode == 0
    assert parallel_repro(toy).returncode == 0
    before = (toy / "start.txt.dvc").read_text()
    (toy / "start.txt").write_text("other\n")
    result = parallel_repro(toy)
    assert result.returncode == 0 and "Running stage 'both'" not in result.stdout, result.stdout + result.stderr
    assert "Running stage 'left'" in result.stdout and (toy / "start.txt.dvc").read_text() != before
    assert run("dvc", "status", "-q", cwd=toy).returncode == 0


def test_what_dvcs_run_cache_has_does_not_run_again(toy):
    parallel_repro(toy)
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left", "echo other"))
    parallel_repro(toy)
    (toy / "dvc.yaml").write_text(GRAPH)
    result = parallel_repro(toy)
    assert result.returncode == 0 and "Running" not in result.stdout
    assert (toy / "both.txt").read_text() == "left\nright\n" and run("dvc", "status", "-q", cwd=toy).returncode == 0


def test_it_waits_for_another_process_of_dvc(toy):
    holder = (
        "import sys; from dvc.repo import Repo, lock_repo\nwith lock_repo(Repo()): print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", holder], cwd=toy, text=True, **pipes) as other:
        other.stdout.readline()
        waits = subprocess.Popen([sys.executable, "-m", "stages.parallel"], cwd=toy, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            waits.communicate(timeout=6)
        other.stdin.close()
        assert waits.communicate(timeout=60)[0].endswith("2 at a time\n") and waits.returncode == 0


def test_a_failed_stage_stops_what_depends_on_it_and_nothing_else(toy):
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left >", "false >"))
    result = parallel_repro(toy)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "left failed" in result.stderr and "did not run: both" in result.stderr
    assert (toy / "right.txt").exists() and not (toy / "both.txt").exists()


@pytest.mark.parametrize("sent", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGTERM, signal.SIGINT, signal.SIGINT]])
def test_an_interrupt_leaves_no_process_behind(toy, sent):
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left", "sleep 600; echo left").replace("echo right", "sleep 601"))
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"  # noqa: PTH120
    runner = subprocess.Popen([sys.executable, "-m", "stages.parallel"], cwd=toy, env=os.environ | {"PATH": path},
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    running = 0
    while running < 2:
        running += runner.stdout.readline().count("> sleep")
    descendants = []
    while [each.name() for each in descendants].count("sleep") < 2:
        descendants = psutil.Process(runner.pid).children(recursive=True)
    for each in sent:
        runner.send_signal(each)
        time.sleep(0.05)
    _, errors = runner.communicate(timeout=60)
    assert runner.returncode == 1 and "Interrupted" in errors and "Traceback" not in errors
    assert not psutil.wait_procs(descendants, timeout=5)[1]


def test_a_second_one_in_the_same_checkout_says_that_the_first_is_running(toy):
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left", "sleep 30; echo left"))
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"  # noqa: PTH120
    first = subprocess.Popen([sys.executable, "-m", "stages.parallel"], cwd=toy, env=os.environ | {"PATH": path},
                             text=True, stdout=subprocess.PIPE)  # fmt: skip
    while "> sleep" not in first.stdout.readline():
        pass
    second, plain = parallel_repro(toy), run("dvc", "repro", cwd=toy)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert second.returncode == 1 and second.stderr.startswith("error: Another `make repro` is running")
    assert plain.returncode != 0 and "is busy" in plain.stderr + plain.stdout and "Traceback" not in plain.stderr


def test_a_stage_that_is_left_behind_keeps_the_next_one_from_starting_until_it_ends(toy):
    (toy / "dvc.yaml").write_text(GRAPH.replace("echo left", "touch begun; sleep 8; echo left"))
    words = [sys.executable, "-m", "stages.parallel"]
    with subprocess.Popen(words, cwd=toy, text=True, stdout=subprocess.PIPE) as first:
        while not (toy / "begun").exists():
            time.sleep(0.01)
        first.kill()
    second = parallel_repro(toy)
    assert second.returncode == 1 and "or a stage that it left" in second.stderr
    while (third := parallel_repro(toy)).returncode:
        time.sleep(0.5)
    assert third.stdout.endswith("2 at a time\n") and (toy / "both.txt").read_text() == "left\nright\n"


def test_only_what_is_asked_for_and_what_it_needs_runs(toy):
    result = run(sys.executable, "-m", "stages.parallel", "2", "left", cwd=toy)
    assert result.returncode == 0 and (toy / "left.txt").exists() and not (toy / "right.txt").exists()


def test_jobs_that_are_no_number_are_refused(toy):
    result = parallel_repro(toy, "many")
    assert result.returncode == 1 and "JOBS is many" in result.stderr


def test_a_graph_that_dvc_refuses_is_a_sentence(toy):
    (toy / "dvc.yaml").write_text("stages: {left: {comand: x}}\n")
    result = parallel_repro(toy)
    assert result.returncode == 1 and "DVC refused" in result.stderr and "Traceback" not in result.stderr


def test_no_more_threads_than_cores_run_at_once():
    cores = len(os.sched_getaffinity(0))
    settings = parallel.params.load(CHECKOUT / "params.yaml").compute
    assert parallel._lanes(10 * cores, [], settings.model_copy(update={"threads": 1})) == cores
    assert parallel._lanes(2, [], settings.model_copy(update={"threads": 10 * cores})) == 1
    assert parallel._lanes(10 * cores, ["0"], settings) == 10 * cores


def test_gpus_are_those_that_the_user_has_chosen(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert parallel._gpus() == ["2", "3"]


def test_a_missing_params_yaml_is_told_as_such(toy):
    (toy / "params.yaml").unlink()
    result = parallel_repro(toy)
    assert result.returncode == 1 and result.stderr.startswith("error: params.yaml is missing; `git checkout")

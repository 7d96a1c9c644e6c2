"""Two clones on real servers of this machine: `python -m tests.shared_storage`, ten minutes on two cores.

MLflow on PostgreSQL (Debian's package postgresql) with its artifacts in an S3-compatible store (moto), which is DVC's
remote too. The first clone runs the smoke profile and pushes; the second pulls, and must run nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from pipeline.project import errors
from pipeline.project.errors import PipelineError
from tests.conftest import commit, of_digits, run
from tests.servers import free_port, serving

EXTRAS = ("dvc-s3==3.3.0", "moto[server]==5.2.5", "psycopg[binary]==3.3.9")
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "distillation"
PATIENCE = 60  # seconds that PostgreSQL may take to start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        extras = {"PYTHONPATH": str(_extras(folder))} | KEYS
        moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
        with serving(moto, "moto-api/", folder, **extras) as s3, _postgres(folder / "postgres") as database:
            shared = extras | {"AWS_ENDPOINT_URL": s3, "MLFLOW_S3_ENDPOINT_URL": s3}
            make = f"import boto3; boto3.client('s3', endpoint_url='{s3}').create_bucket(Bucket='{BUCKET}')"
            _done(sys.executable, "-c", make, cwd=folder, **shared)
            server = ["mlflow", "server", "--host", "127.0.0.1", "--workers", "2", "--backend-store-uri", database,
                      "--artifacts-destination", f"s3://{BUCKET}/mlflow", "--port"]  # fmt: skip
            with serving(server, "health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **shared) as mlflow:
                _share(folder, s3, shared | {"MLFLOW_TRACKING_URI": mlflow})


def _share(folder: Path, s3: str, environment: dict[str, str]) -> None:
    one, two = of_digits(folder / "one"), folder / "two"
    for words in ("remote add -d shared", "remote modify shared endpointurl"):
        _done("dvc", *words.split(), s3 if "modify" in words else f"s3://{BUCKET}/dvc", cwd=one, **environment)
    print("the first clone runs the pipeline", flush=True)
    ran = _done("dvc", "repro", cwd=one, **environment).count("Running stage")
    _done("dvc", "push", "-q", cwd=one, **environment)
    commit(one)
    _done("git", "clone", "-q", str(one), str(two), cwd=folder)
    print("the second clone pulls", flush=True)
    _done("dvc", "pull", "-q", cwd=two, **environment)
    again = _done("dvc", "repro", cwd=two, **environment).count("Running stage")
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    (version,) = client.search_runs([client.get_experiment_by_name("distillation").experiment_id])
    artifacts = [artifact.path for artifact in client.list_artifacts(version.info.run_id)]
    if again or version.info.status != "FINISHED" or "report.html" not in artifacts:
        raise PipelineError(f"The second clone ran {again} stages; MLflow's version is {version.info.status} "
                            f"with {artifacts}.")  # fmt: skip
    print(f"the first clone ran {ran} stages, the second none; MLflow has the version with {len(artifacts)} artifacts")


def _extras(folder: Path) -> Path:
    """The site-packages that hold what the servers need beyond requirements.txt."""
    venv.create(folder / "venv", with_pip=True)
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    (packages / "ours.pth").write_text(f"{Path(os.__file__).parent}\n" + "\n".join(map(str, _installed())))
    pins = _done(sys.executable, "-m", "pip", "freeze", cwd=folder)
    (folder / "pins.txt").write_text("\n".join(line for line in pins.splitlines() if " @ " not in line))
    _done(str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", "-c", "pins.txt", *EXTRAS, cwd=folder)
    return packages


def _installed() -> list[Path]:
    return [Path(name) for name in sys.path if name.endswith("site-packages")]


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """The address of an empty database."""
    programs = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if programs is None:
        raise PipelineError("There is no PostgreSQL here; `apt-get install postgresql` brings it.")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # it refuses to run as root
    folder.mkdir()
    if as_user:
        shutil.chown(folder, "postgres")
    bin_folder, port = Path(programs).resolve().parent, str(free_port())
    _done(*as_user, programs, "-D", str(folder / "data"), "-A", "trust", "-U", "mlflow", cwd=folder)
    words = [*as_user, str(bin_folder / "postgres"), "-D", str(folder / "data"), "-p", port, "-k", ""]
    server = subprocess.Popen(words,
                              cwd=folder, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE
        while run(str(bin_folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", port, cwd=folder).returncode:
            if server.poll() is not None or time.monotonic() > until:
                raise PipelineError(f"PostgreSQL did not start within {PATIENCE} seconds.")
            time.sleep(0.2)
        yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()


def _done(*words: str, cwd: Path, **environment: str) -> str:
    done = run(*words, cwd=cwd, **environment)
    if done.returncode:
        raise PipelineError(f"`{' '.join(words)[:200]}` failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    errors.run(main)

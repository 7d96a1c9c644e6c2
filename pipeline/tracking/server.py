"""MLflow's store: where it is, how it is asked so that nobody waits for it, and how it is named without its secrets.

mlflow is imported only where it is used: that takes seconds, which a command that fails early need not spend.
"""

import hashlib
import logging
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from filelock import FileLock

from pipeline.project import deadline, files
from pipeline.project.deadline import Answer
from pipeline.project.errors import PipelineError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Seconds for sending one run, however often and wherever the server hangs; large models on a slow line want more.
DEADLINE = float(os.environ.get("TRACKING_SECONDS", 20))
SQLITE = "sqlite:///"
USER = re.compile(r"(?<=://)\S*@")  # and password, also where a slash in it should have been %2F
QUERY = re.compile(r"(?<=[?&])([^=&\s]+=)[^&\s'\")]+")
SHORTEST_SECRET = 4  # characters of what is hidden outside of an address: fewer are part of any word


def uri() -> str:
    """MLFLOW_TRACKING_URI, or SQLite in the project. It may hold a password: show `masked(uri())` and no more."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{_project_root() / 'mlflow.db'}"


def site() -> str:
    """The address of MLflow's pages, without user and query; nothing where there is no server."""
    address = masked(uri()).replace("***@", "") if uri().startswith("http") else ""
    return re.split("[?#]", address)[0].rstrip("/")


def masked(text: str) -> str:
    """The text without secrets: user, password and query of any address, and those of MLflow's also on their own.

    Whatever comes from an exception or names the server goes through here before anybody sees it.
    """
    for secret in _secrets():
        text = text.replace(secret, "***")
    return QUERY.sub(r"\1***", USER.sub("***@", text))


def _secrets() -> list[str]:
    """What MLflow's variables hold that nobody may read: whole and in pieces, as it stands there and decoded."""
    secrets = [os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("PASSWORD", "TOKEN")]
    for name in ("TRACKING", "REGISTRY"):
        address = os.environ.get(f"MLFLOW_{name}_URI", "").split("://", 1)[-1]
        user, _, password = address.rpartition("@")[0].partition(":")
        secrets += [password or user, *re.split("[:/?#@]", password or user), *re.findall("=([^&#]+)", address)]
    forms = {form for secret in secrets for form in (secret, unquote(secret)) if len(form) >= SHORTEST_SECRET}
    return sorted(forms, key=len, reverse=True)


def reason(error: Exception) -> str:
    """The first line of what was raised, without secrets."""
    return (masked(str(error)).strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def answering(problem: str, advice: str = "") -> Iterator[None]:
    """Turn whatever MLflow raises into a PipelineError: "PROBLEM MLflow at ADDRESS: the reason. ADVICE"."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(f"{problem} MLflow at {masked(uri())}: {reason(error)}. {advice}".strip()) from None


def promptly(call: Callable[..., Answer], *arguments: Any) -> Answer:
    """What the call, which asks MLflow, returns or raises; a TimeoutError after DEADLINE."""
    _prepare()  # seconds of a busy machine, which are not the server's
    return deadline.within(DEADLINE, call, *arguments)


def connect() -> "MlflowClient":
    """A client of the store that `uri` names, one that gives up on a dead server after seconds and not minutes."""
    _prepare()
    from mlflow import MlflowClient

    with lock():
        return MlflowClient(uri())


def _prepare() -> None:
    """Load mlflow, and make the SQLite file if it is not there: whole or not at all, as MLflow mends no cut tables."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it prints the password with it
    from mlflow import MlflowClient

    for chatty in ("mlflow", "alembic", "urllib3.connectionpool"):  # addresses, and tracebacks of what is raised anyway
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    path = Path(uri().removeprefix(SQLITE))
    if not uri().startswith(SQLITE) or str(path).startswith("file:") or path.exists():
        return
    with lock():
        if not path.exists():
            with files.atomic_write(path) as temporary:
                for left in path.parent.glob(f"{temporary.name}*"):  # by a killed process, with SQLite's journal
                    left.unlink()
                MlflowClient(f"{SQLITE}{temporary}")


def lock() -> FileLock:
    """One process at a time: two that create one SQLite file break it, two of a checkout that send lose count."""
    local = uri().removeprefix(SQLITE) if uri().startswith(SQLITE) else _project_root() / ".mlflow"
    return FileLock(f"{local}.lock")


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The experiment of that name, which is created if there is none."""
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    folder = str(_project_root() / "mlartifacts") if uri().startswith("sqlite:") else None
    # the tag opens the UI on training runs, not on traces
    return client.create_experiment(name, folder, {"mlflow.experimentKind": "custom_model_development"})


def checkout() -> str:
    """What tells this checkout from others that share the server, without showing its path."""
    return hashlib.sha256(f"{platform.node()}:{_project_root()}".encode()).hexdigest()[:12]


def _project_root() -> Path:
    """The user's checkout, also for an experiment that DVC runs in a copy below `.dvc/tmp/exps`."""
    return Path(re.split(r"[/\\]\.dvc[/\\]tmp[/\\]exps[/\\]", str(Path.cwd()))[0])

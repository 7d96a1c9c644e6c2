"""The registered model in MLflow: each published version is `challenger`, and `champion` once it has earned it.

`python -m pipeline.tracking.registry` lists the versions; with `rollback [VERSION]` it gives the alias `champion` back to
the version that had it before, or to that one.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import params
from pipeline.project import errors
from pipeline.project.errors import PipelineError
from pipeline.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
SERVED_WITH = ("mlflow", "onnx", "onnxruntime", "numpy", "pandas")


@contextmanager
def answering() -> Iterator[None]:
    """Turn what MLflow refuses into a sentence.

    Raises:
        PipelineError: the registry can't be reached, hangs, or says no.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, TimeoutError) as error:
        reason = store.first_line(error)
        raise PipelineError(f"MLflow's registry at {store.uri()} does not do it: {reason}") from None


def register(
    client: "MlflowClient", name: str, onnx_file: Path, images: np.ndarray, run_id: str, tags: dict[str, Any]
) -> str:
    """The version under which the file now is `challenger`; a run registers its model once.

    Args:
        images: (samples, height, width, channels) uint8, an example of what the model is asked. tags: its lineage.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if not _versions(client, run_id):
        with tempfile.TemporaryDirectory() as folder:
            _save(onnx_file, images, run_id, Path(folder) / "model")
            client.log_artifacts(run_id, f"{folder}/model", "model")
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        client.create_model_version(name, source, run_id, tags={key: str(value) for key, value in tags.items()})
    number, *again = _versions(client, run_id)
    for other in again:  # a request whose answer was lost is sent again
        client.delete_model_version(name, str(other))
    client.set_registered_model_alias(name, CHALLENGER, str(number))
    return str(number)


def _versions(client: "MlflowClient", run_id: str) -> list[int]:
    """The versions that a run has registered, the oldest first."""
    return sorted(int(found.version) for found in client.search_model_versions(f"run_id = '{run_id}'"))


def _save(onnx_file: Path, images: np.ndarray, run_id: str, folder: Path) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import infer_signature

    from pipeline.deployment.latency import onnx_logits

    model = onnx.load(onnx_file)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, properties | {"mlflow_run_id": run_id})
    signature = infer_signature({"images": images}, {"logits": onnx_logits(onnx_file, images)})
    requirements = [f"{package}=={version(package)}" for package in SERVED_WITH]
    mlflow.onnx.save_model(
        model, folder, signature=signature, input_example={"images": images[:1]}, pip_requirements=requirements,
        save_as_external_data=False,
    )  # fmt: skip


def holder(client: "MlflowClient", name: str, alias: str) -> str | None:
    """The version that has the alias, if any. Raises MlflowException: the model is not registered, or no answer."""
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else str(number)


def download(client: "MlflowClient", name: str, number: str, folder: Path) -> Path:
    """The ONNX file of a version."""
    from mlflow.artifacts import download_artifacts

    source = client.get_model_version(name, number).source
    return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=store.uri())) / "model.onnx"


def crown(client: "MlflowClient", name: str, number: str) -> None:
    """Make the version champion, and remember who was."""
    before = holder(client, name, CHAMPION)
    if before and before != number:
        client.set_registered_model_alias(name, PREVIOUS, before)
    client.set_registered_model_alias(name, CHAMPION, number)


def main(command: str = "list", number: str | None = None) -> None:
    name = params.load().deploy.name
    with answering():
        store.promptly(lambda: _command(store.connect(), name, command, number))


def _command(client: "MlflowClient", name: str, command: str, number: str | None) -> None:
    if command == "list":
        for found in sorted(client.search_model_versions(f"name = '{name}'"), key=lambda each: int(each.version)):
            aliases = client.get_model_version(name, found.version).aliases
            print(f"{name} {found.version}  {', '.join(aliases)}  {found.tags.get('row', '')}  run {found.run_id}")
        return
    if command != "rollback":
        raise PipelineError(f"`{command}` is no command of the registry; there are `list` and `rollback [VERSION]`.")
    target = number or holder(client, name, PREVIOUS)
    if target is None:
        raise PipelineError(f"{name} has had no champion before the present one; name the version to go back to.")
    if target not in {str(found.version) for found in client.search_model_versions(f"name = '{name}'")}:
        raise PipelineError(f"{name} has no version {target}; `python -m pipeline.tracking.registry` lists them.")
    crown(client, name, target)
    print(f"{name}@{CHAMPION} is version {target}")


if __name__ == "__main__":
    errors.run(main)

"""The registered model in MLflow: each published version is `challenger`, and `champion` once it has earned it.

`python -m pipeline.tracking.registry` lists the versions; with `rollback [VERSION]` it gives the alias `champion` back
to the version that had it before, or to that one.
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import params
from pipeline.project import errors
from pipeline.project.errors import PipelineError
from pipeline.tracking import server

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
BEST = "best"  # the most accurate champion so far, which no later one may fall behind
PROBLEM = "The model registry can't be used in"  # for server.answering
SERVED_WITH = ("mlflow", "onnx", "onnxruntime", "numpy", "pandas")


def register(
    client: "MlflowClient",
    name: str,
    onnx_file: Path,
    example: dict[str, np.ndarray],
    run_id: str,
    tags: dict[str, Any],
) -> str:
    """The version under which the file now is `challenger`; a run registers its model once.

    Args:
        example: what the model is asked and answers: `images` (samples, height, width, channels) uint8 and `logits`
            (samples, classes). run_id: of the summary run. tags: the lineage.
    """
    import mlflow.onnx
    import onnx
    from mlflow.entities import LoggedModelOutput

    if not _versions(client, run_id):
        # Made here and not by log_model, which would put it into MLflow's default experiment, tag it with the address
        # of git's remote and the path of this checkout, and ask the server for each of the run's metrics in turn.
        run, own = client.get_run(run_id), f"source_run_id = '{run_id}'"
        experiment = run.info.experiment_id
        if not client.search_logged_models([experiment], own):
            client.create_logged_model(experiment, "model", run_id)
        logged, *again = client.search_logged_models([experiment], own)
        for other in again:  # a request whose answer was lost is sent again
            client.delete_logged_model(other.model_id)
        if not run.outputs.model_outputs:  # MLflow refuses to say it twice
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        model = onnx.load(onnx_file)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, properties | {"mlflow_run_id": run_id})
        mlflow.set_tracking_uri(server.uri())
        mlflow.onnx.log_model(
            model,
            model_id=logged.model_id,
            registered_model_name=name,
            signature=mlflow.models.infer_signature({"images": example["images"]}, {"logits": example["logits"]}),
            input_example={"images": example["images"][:1]},
            pip_requirements=[f"{package}=={version(package)}" for package in SERVED_WITH],
            tags={key: str(value) for key, value in tags.items()},
            save_as_external_data=False,
            onnx_execution_providers=["CPUExecutionProvider"],
        )
    number, *again = _versions(client, run_id)
    for other in again:
        client.delete_model_version(name, str(other))
    client.set_registered_model_alias(name, CHALLENGER, str(number))
    return str(number)


def _versions(client: "MlflowClient", run_id: str) -> list[int]:
    """The versions that a run has registered, the oldest first."""
    return sorted(int(each.version) for each in client.search_model_versions(f"run_id = '{run_id}'"))


def holder(client: "MlflowClient", name: str, alias: str) -> str | None:
    """The version that has the alias, if any. Raises MlflowException: the model is not registered, or no answer."""
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else str(number)


def download(name: str, number: str, folder: Path) -> Path:
    """The ONNX file of a version."""
    from mlflow.artifacts import download_artifacts

    model = download_artifacts(f"models:/{name}/{number}", dst_path=str(folder), tracking_uri=server.uri())
    return Path(model) / "model.onnx"


def crown(client: "MlflowClient", name: str, number: str, best: str | None = None) -> None:
    """Make the version champion, and remember who was, and which champion is the best so far; None: this one."""
    before = holder(client, name, CHAMPION)
    if before and before != number:
        client.set_registered_model_alias(name, PREVIOUS, before)
    client.set_registered_model_alias(name, CHAMPION, number)
    client.set_registered_model_alias(name, BEST, best or number)


def main(command: str = "list", number: str | None = None) -> None:
    name = params.load().deploy.name
    with server.answering(PROBLEM):
        server.promptly(lambda: _command(server.connect(), name, command, number))


def _command(client: "MlflowClient", name: str, command: str, number: str | None) -> None:
    versions = {str(each.version): each for each in client.search_model_versions(f"name = '{name}'")}
    if command == "list":
        for known in sorted(versions, key=int):
            aliases = ", ".join(client.get_model_version(name, known).aliases)
            print(f"{name} {known}  {aliases}  {versions[known].tags.get('row', '')}  run {versions[known].run_id}")
        return
    if command != "rollback":
        raise PipelineError(f"`{command}` is no command of the registry; there are `list` and `rollback [VERSION]`.")
    target = number or holder(client, name, PREVIOUS)
    if target is None:
        raise PipelineError(f"{name} has had no champion before the present one; name the version to go back to.")
    if target not in versions:
        raise PipelineError(f"{name} has no version {target}; `python -m pipeline.tracking.registry` lists them.")
    crown(client, name, target)
    print(f"{name}@{CHAMPION} is version {target}")


if __name__ == "__main__":
    errors.run(main)

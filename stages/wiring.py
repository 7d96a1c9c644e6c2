"""Rewrite the lists in dvc.yaml that follow from params.yaml and from the code: `python -m stages.wiring`.

DVC can't fill a list of deps from params, and a stage that gathers must name each file. So after a teacher, a source or
a seed was added or removed, or an import has changed, this writes the lists anew. `--profile FILE` first writes the
settings of that file into params.yaml. `--check` writes nothing and refuses a dvc.yaml that it would change.
"""

import argparse
import ast
import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from pipeline import params
from pipeline.params import Params
from pipeline.project import errors, files, paths
from pipeline.project.errors import PipelineError

CODE = ("pipeline", "stages")
NULL = "tag:yaml.org,2002:null"
SPENDING = ("train_teacher", "cache_logits", "train_baseline", "distill")  # stages whose time is a training cost
KEPT = ("${data.", *(f"{folder}/" for folder in paths.WRITTEN))  # deps that stages write or params name
REPLACED_WHOLE = {"teachers", "kwargs", "calls"}  # a profile's block of that name replaces the old one


def main(*words: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.wiring", description=__doc__.splitlines()[0])
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--profile", type=Path, metavar="FILE", help="settings to write into params.yaml first")
    either.add_argument("--check", action="store_true", help="write nothing; fail if there is something to write")
    asked = parser.parse_args(words)
    if profile := asked.profile:
        if not profile.is_file():
            raise PipelineError(f"{profile} is no file; the profiles are in profiles/.")
        _write_if_valid(merge(_read(paths.PARAMS), _read(profile)))
    settings = params.load()
    wired = _dump(wire(_read(paths.DVC_YAML), settings))
    if asked.check:
        if wired != paths.DVC_YAML.read_text(encoding="utf-8"):
            raise PipelineError(f"{paths.DVC_YAML} does not follow from params and code; `make wire` writes its lists.")
        return
    files.write_text(paths.DVC_YAML, wired)
    print(f"{paths.DVC_YAML}: {len(settings.members())} teachers, {len(settings.models())} models")


def wire(document: dict[str, Any], settings: Params) -> dict[str, Any]:
    """dvc.yaml with the code of each stage, the files that it gathers and backbones on this machine as deps.

    Every other dep that a stage writes or params name stays as it is.
    """
    gathered = gathers(settings)
    patterns = gathers(None)
    for name, stage in document["stages"].items():
        stage = stage.get("do", stage)
        kept = [dep for dep in stage["deps"] if dep.startswith(KEPT)]
        kept = [dep for dep in kept if not any(Path(dep).match(pattern) for pattern in patterns.get(name, []))]
        stage["deps"] = CommentedSeq([*code(f"stages/{name}.py"), *kept, *gathered.get(name, [])])
    fits = document["stages"]["fit_ensemble"]
    others = [out for out in fits["outs"] if not out.startswith(paths.TARGETS.as_posix())]
    fits["outs"] = CommentedSeq([*(paths.targets(source).as_posix() for source in settings.sources()), *others])
    trained = settings.trained_teachers()
    teachers = document["stages"]["train_teacher"]
    local = {name: each.local for name, each in settings.teachers.items()}
    teachers["foreach"] = {name: {"teacher": block} for name, block in trained.items()}
    if any(local.values()):
        teachers["do"]["deps"].append("${item.backbone}")
        for item in teachers["foreach"].values():  # whoever has none needs what it needs anyway
            item["backbone"] = local[item["teacher"]] or (paths.PREPARED / "dataset.json").as_posix()
    document["stages"]["cache_logits"]["matrix"]["name"] = CommentedSeq(settings.members())
    document["stages"]["export"]["matrix"]["model"] = CommentedSeq(settings.models())
    return document


def gathers(settings: Params | None) -> dict[str, list[str]]:
    """The files that stages gather over teachers and models; without settings, patterns for the files of any."""
    members = list(settings.members()) if settings else ["*"]
    trained = list(settings.trained_teachers()) if settings else ["*"]
    models = settings.models() if settings else ["*"]
    records = paths.records(trained, members, settings.student_arms()) if settings else [paths.record("*")]
    weights = [paths.weights(name) for name in trained]

    def cached(*names: str) -> list[Path]:
        return [paths.logits(member) / name for member in members for name in names]

    students = [name for name in models if name not in members] if settings else ["*"]
    made = (paths.onnx, paths.int8, paths.model_metrics, paths.export_metrics)
    spent = [path for path in records if path.name.startswith(SPENDING)] if settings else records
    student = [Path(settings.student.local)] if settings and settings.student.local else []
    backbones = [Path(each.local) for each in settings.teachers.values() if each.local] + student if settings else []
    of_folds = settings.fold_teachers("${item.name}") if settings else ["${item.name}-fold*"]
    found = {
        "train_baseline": student,
        "distill": student,
        "time_torch": list(dict.fromkeys(backbones)),
        "cache_logits": [paths.weights(name) for name in of_folds],
        "time_members": [paths.onnx(name) for name in members],
        "fit_ensemble": [*weights, *cached("manifest.json", "train.npy", "val.npy")],
        "time_models": [
            *[file(name) for file in (paths.onnx, paths.int8, paths.model_metrics) for name in models],
            paths.ENSEMBLE_ONNX,
        ],
        "choose": [*[file(name) for file in made for name in models], paths.ENSEMBLE_ONNX],
        "benchmark": [
            *[path for path in weights if path.stem not in models],
            *cached("manifest.json", "test.npy"),
            *[file(name) for file in (paths.weights, *made) for name in models],
            paths.ENSEMBLE_ONNX,
            *spent,
        ],
        "export_ensemble": [paths.onnx(name) for name in members],
        "score_students": [paths.model_metrics(name) for name in students],
        "publish": records,
    }
    return {stage: [path.as_posix() for path in deps] for stage, deps in found.items()}


def code(module: str) -> list[str]:
    """The first-party files that a module needs, itself included, found by following its imports."""
    found, waiting = set(), [module]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(Path(path))
    return sorted(found)


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    modules = [name.replace(".", "/") + ".py" for name in names if name.split(".")[0] in CODE]
    return [module for module in modules if Path(module).is_file()]


def merge(base: dict[str, Any], profile: dict[str, Any]) -> dict[str, Any]:
    """`base` with the profile's values; comments of `base` stay."""
    for key, value in profile.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict) and key not in REPLACED_WHOLE:
            merge(base[key], value)
        else:
            base[key] = value
    return base


def _write_if_valid(document: dict[str, Any]) -> None:
    with files.replacing(paths.PARAMS) as temporary:
        temporary.write_text(_dump(document), encoding="utf-8")
        try:
            params.load(temporary)
        except PipelineError as error:
            raise PipelineError(str(error).replace(str(temporary), str(paths.PARAMS))) from None


def _yaml() -> YAML:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    return yaml


def _read(path: Path) -> dict[str, Any]:
    document = params.read(path, _yaml())
    if not isinstance(document, dict):
        raise PipelineError(f"{path} must be a block of `key: value` lines.")
    return document


def _dump(document: dict[str, Any]) -> str:
    text = io.StringIO()
    _yaml().dump(document, text)
    return text.getvalue()


if __name__ == "__main__":
    errors.run(main)

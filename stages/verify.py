"""Run the pipeline again from nothing, beside this checkout, and name every output that comes out otherwise.

`python -m stages.verify [JOBS]` uses no cache and leaves its copy in `.verify`. Outputs that measured times go into are
not made again.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import params
from pipeline.project import errors, paths
from pipeline.project.errors import PipelineError

SCRATCH = Path(".verify")
UNTIMED = (
    "score_students",
    "export_ensemble",
    "export_teacher",
    "export_baseline",
    "export_student",
)  # with all that they need
TIMED = ("time_members", "time_models", "choose", "benchmark", "report")
TIMES = ("runs/", "reports/subsets")  # what holds measured times among the outputs of the other stages


def main(jobs: str = "2") -> None:
    if not paths.DVC_LOCK.exists():
        raise PipelineError(f"{paths.DVC_LOCK} is missing: there is no run to verify; `make repro` makes one.")
    before = outs(Path())
    _copy()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    for words in (["git", "init", "-q"], ["dvc", "config", "--local", "cache.dir", ".dvc/cache"],
                  [sys.executable, "-m", "stages.parallel", jobs, *UNTIMED]):  # fmt: skip
        if subprocess.run(words, cwd=SCRATCH, env=environment).returncode:
            raise PipelineError(f"`{' '.join(words)}` failed in {SCRATCH}; the reason stands above.")
    after = outs(SCRATCH)
    different = [path for path in after if before.get(path) != after[path]]
    if different:
        raise PipelineError(
            f"{len(different)} of {len(after)} outputs differ from dvc.lock: {', '.join(different)}. The reason may be "
            "another processor, `compute.threads`, package or code; the tags of the runs in MLflow say what they had."
        )
    print(f"{len(after)} outputs, made again from nothing: the same bytes, every one")


def outs(root: Path) -> dict[str, str]:
    """The checksum in dvc.lock of each output that no measured time goes into."""
    stages = YAML(typ="safe").load((root / paths.DVC_LOCK).read_text(encoding="utf-8"))["stages"]
    checksums = {out["path"]: out["md5"] for name, stage in stages.items() if name.partition("@")[0] not in TIMED
             for out in stage.get("outs", [])}  # fmt: skip
    return {path: md5 for path, md5 in checksums.items() if not path.startswith(TIMES)}


def _copy() -> None:
    """What git tracks or would track, without dvc.lock, and links to the images that it does not, nor DVC there."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if Path(name).is_file() and Path(name) != paths.DVC_LOCK and Path(name).suffix != ".dvc":
            (SCRATCH / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, SCRATCH / name)
    data = params.load().data
    for folder in filter(None, (paths.RAW, data.path, data.unlabelled)):
        if Path(folder).exists() and not (SCRATCH / folder).exists():
            (SCRATCH / folder).parent.mkdir(parents=True, exist_ok=True)
            (SCRATCH / folder).symlink_to(Path(folder).resolve())


if __name__ == "__main__":
    errors.run(main)

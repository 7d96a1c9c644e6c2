"""Models of families that no test knows are tried before anything is trained: exported, they may turn out unusable."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from pipeline.deployment import families
from pipeline.params import Architecture, Params
from pipeline.project import files
from pipeline.project.errors import PipelineError

TRIED = Path(".dvc/tmp/tried.json")  # digests of the settings of what went through


def check(settings: Params) -> None:
    """Try what is neither of a known family nor tried before.

    Raises:
        PipelineError: one of them can't be trained, exported or made INT8; the reason is printed.
    """
    models = {**settings.teachers, "student": settings.student}
    digests = {name: _digest(model, settings) for name, model in models.items() if not families.known(model)}
    done = files.read_json(TRIED) if TRIED.exists() else []
    new = [name for name, digest in digests.items() if digest not in done]
    if not new:
        return
    print(f"trying {', '.join(new)} before anything is trained, as no test knows such models", flush=True)
    if subprocess.run([sys.executable, "-m", "pipeline.deployment.tryout", *new]).returncode:
        raise PipelineError(f"{', '.join(new)} can't be used, or one of them; the reason stands above.")
    files.write_json(TRIED, sorted({*done, *digests.values()}))


def _digest(model: Architecture, settings: Params) -> str:
    asked = {**model.model_dump(include=set(Architecture.model_fields)), "image_size": settings.data.image_size}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

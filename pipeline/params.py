"""params.yaml as typed values. The only reader of that file: a value that gets past this module is usable.

`python -m pipeline.params` checks the file and prints nothing when all is well.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import errors, folds, paths
from pipeline.errors import PipelineError

STUDENT_ARMS = ("baseline", "single", "ensemble")  # a student's name is ARM-SEED

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
CombinationMethod = Literal["mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"]
Source = Annotated[str, Field(pattern=r"^(single|ensemble|from_[a-z][a-z0-9_]{0,31}(-\d{1,10})?)$")]
Temperature = Annotated[float, Field(gt=0, le=1000)]
OBJECTIVE_WEIGHTS = {"dkd": {"target": 1.0, "others": 8.0}, "dist": {"inter": 1.0, "intra": 1.0}}  # and their defaults
TeacherName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("has the same entry twice")
    return values


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Data(Block):
    source: Literal["fashion_mnist", "digits", "image_folder"]
    path: Annotated[str, Field(min_length=1)]
    unlabelled: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    val_fraction: Fraction
    test_fraction: Fraction
    train_samples: Count | None


class Augmentation(Block):
    shift: Annotated[int, Field(ge=0, le=64)]
    flip: bool
    erase: Probability
    mixup: Annotated[float, Field(ge=0, le=100)]
    cutmix: Annotated[float, Field(ge=0, le=100)]

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0


class Views(Augmentation):
    """Augmentation, and how many looks of it are cached."""

    count: Count


class Compute(Block):
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    threads: Annotated[int, Field(ge=1, le=1024)]
    compile: bool


class Logits(Block):
    top_k: Count | None


class Architecture(Block):
    """A timm model by name; see pipeline.models.build."""

    model: Annotated[str, Field(min_length=1)]
    kwargs: dict[str, Any] = {}
    stem_stride: Annotated[int, Field(ge=1, le=4)] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "fp32"


class Training(Block):
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Model(Architecture, Training):
    """An architecture and how it is trained."""


class Teacher(Model):
    """With `seeds`, a deep ensemble: a member NAME-SEED for each of them (Lakshminarayanan et al. 2017)."""

    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)] | None = None


class Student(Model):
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]


class Baseline(Block):
    """What the control arm has of its own, so that it is as good as it can be without a teacher."""

    lr: Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


class Ensemble(Block):
    """How members are combined; see pipeline.fitting."""

    methods: Annotated[list[CombinationMethod], AfterValidator(_distinct)]
    calibrate: Annotated[list[Literal["members", "result"]], AfterValidator(_distinct)]
    folds: Annotated[int, Field(ge=2, le=100)]
    select: Literal["auto", "simple", CombinationMethod]
    metric: Literal["nll", "accuracy"]
    budget_ms: Positive | None

    @model_validator(mode="after")
    def _selects_what_it_fits(self) -> "Ensemble":
        if self.select not in ("auto", "simple", *self.methods):
            raise ValueError(f"`select` is {self.select}, which `methods` does not list")
        return self


class Distill(Block):
    """How students are taught; see pipeline.objectives.

    sources: the best single teacher on val, the ensemble, or from_NAME: the teacher of that name.
    cross_fit: in how many folds teachers label what they did not learn from; 1: each labels what it has seen.
    weights: of the objective's own terms. alpha_end, temperature_end: what they change to in the course of training.
    """

    sources: Annotated[list[Source], Field(min_length=1), AfterValidator(_distinct)]
    objective: Literal["kd", "standardised_kd", "dkd", "dist", "mse", "soft_ce"]
    cross_fit: Annotated[int, Field(ge=1, le=20)]
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    alpha: Probability
    temperature: Temperature
    alpha_end: Probability | None = None
    temperature_end: Temperature | None = None

    @property
    def teaches(self) -> bool:
        return self.alpha > 0 or bool(self.alpha_end)

    def at(self, progress: float) -> tuple[float, float]:
        """alpha and temperature when that share of training, from 0 to 1, is done."""
        alpha = self.alpha if self.alpha_end is None else self.alpha_end
        temperature = self.temperature if self.temperature_end is None else self.temperature_end
        return (
            self.alpha + progress * (alpha - self.alpha),
            self.temperature + progress * (temperature - self.temperature),
        )

    @model_validator(mode="after")
    def _weighs_its_own_terms(self) -> "Distill":
        known = OBJECTIVE_WEIGHTS.get(self.objective, {})
        for name in self.weights.keys() - known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise ValueError(f"`weights.{name}` is no weight of {self.objective}, which {has}")
        return self


class Benchmark(Block):
    threads: Annotated[int, Field(ge=1, le=1024)]
    calls: dict[Count, Count]
    warmup: Count
    bootstrap: Annotated[int, Field(ge=100, le=10_000_000)]

    @model_validator(mode="after")
    def _needs_the_two_batches_of_the_table(self) -> "Benchmark":
        if missing := {1, 128} - set(self.calls):
            raise ValueError(f"`calls` needs an entry for batch {sorted(missing)[0]}, which the table shows")
        return self


class Constraints(Block):
    """What the model that ships must keep; None: whatever it is. accuracy: at least, on val; the others: at most."""

    p95_ms: Positive | None
    size_mb: Positive | None
    memory_mb: Positive | None
    accuracy: Probability | None


class Deploy(Block):
    """tolerance: how far below the best that keeps the constraints a faster one may be, as a fraction."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    constraints: Constraints
    tolerance: Probability


class Tracking(Block):
    experiment: Annotated[str, Field(min_length=1, max_length=200)]
    strict: bool


class Ci(Block):
    """max_regression: how far below the base an accuracy may be, as a fraction; see pipeline.review."""

    max_regression: Probability


class Params(Block):
    seed: Seed
    data: Data
    views: Views
    logits: Logits
    compute: Compute
    teachers: Annotated[dict[TeacherName, Teacher], Field(min_length=1)]
    ensemble: Ensemble
    student: Student
    baseline: Baseline
    distill: Distill
    benchmark: Benchmark
    deploy: Deploy
    tracking: Tracking
    ci: Ci

    @model_validator(mode="after")
    def _names_are_free(self) -> "Params":
        if taken := sorted(set(self.teachers) & set(STUDENT_ARMS)):
            raise ValueError(f"`teachers.{taken[0]}` has the name of a kind of student; choose another name")
        return self

    @property
    def augmentation(self) -> Augmentation:
        """What teachers train with: ever new looks, none mixed, as whoever learns from soft labels teaches worse."""
        return Augmentation(**self.views.model_dump(include={"shift", "flip", "erase"}), mixup=0, cutmix=0)

    @model_validator(mode="after")
    def _sources_exist(self) -> "Params":
        members = self.members()
        for source in self.distill.sources:
            name = source.removeprefix("from_")
            if name != source and name not in members:
                raise ValueError(f"`distill.sources` has {source}, but the teachers are {', '.join(members)}")
        return self

    @model_validator(mode="after")
    def _objective_fits_its_targets(self) -> "Params":
        if self.logits.top_k and self.distill.temperature_end is not None:
            raise ValueError("`distill.temperature_end` needs all logits; set `logits.top_k` to null")
        return self

    def members(self) -> dict[str, str]:
        """The name of every model that is trained as a teacher, and the block under `teachers` that it follows."""
        return {
            name if seed is None else f"{name}-{seed}": name
            for name, teacher in self.teachers.items()
            for seed in teacher.seeds or [None]
        }

    def fold_teachers(self, member: str) -> list[str]:
        """The names of those that label the training images in that member's place; none without cross-fitting."""
        count = self.distill.cross_fit
        return [folds.name_of(member, fold, count) for fold in range(count)] if count > 1 else []

    def with_fold_teachers(self, member: str) -> list[str]:
        """The names of the member and of its fold teachers."""
        return [member, *self.fold_teachers(member)]

    def trained_teachers(self) -> dict[str, str]:
        """The members and their fold teachers, with the block under `teachers` that each follows."""
        return {name: block for member, block in self.members().items() for name in self.with_fold_teachers(member)}

    def teacher(self, member: str) -> Teacher:
        if member not in (members := self.members()):
            raise PipelineError(f"{paths.PARAMS} has no teacher `{member}`; it has {', '.join(members)}.")
        return self.teachers[members[member]]

    def control(self) -> Student:
        """The student of the control arm."""
        return self.student.model_copy(update=self.baseline.model_dump())

    def sources(self) -> list[str]:
        return list(self.distill.sources)

    def student_arms(self) -> dict[str, list[str]]:
        """Each arm's models, one a seed: the control arm `baseline`, then the sources of distillation."""
        return {arm: [f"{arm}-{seed}" for seed in self.student.seeds] for arm in ("baseline", *self.distill.sources)}

    def models(self) -> list[str]:
        """The name of every model that is trained."""
        return [*self.members(), *(model for models in self.student_arms().values() for model in models)]


def load(path: Path = paths.PARAMS) -> Params:
    """Read and validate the file; every mistake in it is a sentence of one PipelineError."""
    raw = read(path, YAML(typ="safe", pure=True))
    try:
        return Params.model_validate(raw)
    except ValidationError as invalid:
        mistakes = invalid.errors()
        misspelt = [mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"]  # explains what is missing
        sentences = [_sentence(mistake) for mistake in misspelt or mistakes]
        raise PipelineError("\n       ".join(f"{path}: {sentence}" for sentence in sentences)) from None


def read(path: Path, yaml: YAML) -> Any:
    """The file's content by that reader; what is no YAML is a PipelineError."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; `git checkout {path}` brings the default back.") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise PipelineError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}.") from None
    except (ValueError, TypeError, RecursionError) as error:  # of a date or a number that is none, or a monstrous key
        raise PipelineError(f"{path}: not valid YAML: {error}.") from None


def _sentence(error: dict[str, Any]) -> str:
    keys = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(keys) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}."
        return f"`{key}` is not a setting; {hint}"
    if error["type"] == "missing":
        return f"`{key}` is missing."
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return f"`{key}` {message}." if keys else f"{message}."
    if error["type"] in ("model_type", "dict_type"):
        return f"`{key}` must be a block of `key: value` lines."
    message = re.sub(r"^\w+ should ", "", error["msg"]).replace(" after validation", "")
    value = repr(error["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"`{key}` should {message}; it is {value}."


def _known_keys(parents: list[str]) -> list[str]:
    block: Any = Params
    for parent in parents:
        block = Teacher if block is Params and parent == "teachers" else block
        if parent in getattr(block, "model_fields", {}) and block is not Teacher:
            block = block.model_fields[parent].annotation
    return sorted(block.model_fields)


if __name__ == "__main__":
    errors.run(lambda: load() and None)

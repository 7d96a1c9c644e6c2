"""Every path that dvc.yaml names, relative to the project's root, where DVC starts each stage."""

from pathlib import Path

PARAMS = Path("params.yaml")
DEFAULTS = Path("pipeline/defaults.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
RAW = Path("data/raw")
CHECKPOINTS = Path("data/.checkpoints")  # on the disk of the large outputs
PREPARED = Path("data/prepared")
TARGETS = Path("data/targets")
DEPLOYED = Path("models/deployed.onnx")
ENSEMBLE_ONNX = Path("models/exported/ensemble/model.onnx")
ENSEMBLE_EXPORT = Path("models/exported/ensemble/scores.json")
ENSEMBLES = Path("models/ensembles.json")
TEACHERS = Path("models/teachers")
STUDENTS = Path("models/students")
EXPORTED = Path("models/exported")
LOGITS = Path("data/logits")
RUNS = Path("runs")
ENSEMBLE_METRICS = Path("metrics/ensemble.json")
CHOSEN = Path("metrics/deployed.json")
DECISION = Path("reports/decision.md")
LATENCY = Path("metrics/latency.json")
TORCH_LATENCY = Path("metrics/torch_latency.json")
MEMBER_LATENCY = Path("metrics/member_latency.json")
SUBSETS = Path("reports/subsets.csv")
SUBSETS_PICTURE = Path("reports/subsets.png")
DIVERSITY = Path("reports/diversity.csv")
CALIBRATION_CURVES = Path("metrics/calibration.json")
CALIBRATION = Path("reports/calibration.png")
STUDENT_SCORES = Path("metrics/students.json")
SUMMARY = Path("metrics/summary.json")
BENCHMARK = Path("metrics/benchmark.json")
VAL_ANSWERS = Path("reports/val_answers.csv")
VAL_PREDICTIONS = Path("reports/val_predictions.csv")
VAL_SUMMARY = Path("metrics/val_summary.json")
TEST_READS = Path("reports/test_reads.csv")
PREDICTIONS = Path("reports/predictions.csv")
DATA_REPORT = Path("metrics/data.json")
CURVES = Path("reports/curves")
BENCHMARK_CSV = Path("reports/benchmark.csv")
BENCHMARK_MARKDOWN = Path("reports/benchmark.md")
PAIRS = Path("reports/pairs.csv")
TRADE_OFF = Path("reports/accuracy_latency.png")
RELIABILITY = Path("reports/reliability.png")
CONFUSION = Path("reports/confusion.png")
REPORT_HTML = Path("reports/report.html")
OVERVIEW = Path("reports/overview.md")
WRITTEN = ("data/prepared", "data/logits", "data/targets", "models", "metrics", "reports", "runs")  # by stages


def _trained(model: str) -> Path:
    """The folder of a teacher NAME, which holds its fold teachers NAME-fold0of3 too, or of a student ARM-SEED."""
    name, dash, rest = model.partition("-")
    return STUDENTS / name / rest if dash and not rest.startswith("fold") else TEACHERS / name


def weights(model: str) -> Path:
    name = model.partition("-")[2] if "-fold" in model else "model"
    return _trained(model) / f"{name}.safetensors"


def model_scores(model: str) -> Path:
    return _trained(model) / "scores.json"


def model_answers(model: str) -> Path:
    """The class that the model answers for each image of val."""
    return _trained(model) / "val.npy"


def curve(model: str) -> Path:
    return CURVES / f"{model}.csv"


def exported(model: str) -> Path:
    """The folder of a model's exported files."""
    return EXPORTED / _trained(model).relative_to("models")


def onnx(model: str) -> Path:
    return exported(model) / "model.onnx"


def int8(model: str) -> Path:
    return exported(model) / "int8.onnx"


def export_scores(model: str) -> Path:
    return exported(model) / "scores.json"


def logits(teacher: str) -> Path:
    return LOGITS / teacher


def targets(source: str) -> Path:
    return TARGETS / f"{source}.npy"


def checkpoint(output: Path) -> Path:
    """Where a stage that makes that output keeps what it goes on from after an interruption.

    Not beside the output: DVC removes the folders that a stage is to make before it starts the stage.
    """
    return CHECKPOINTS / f"{'-'.join(output.parts)}.checkpoint"


def growing(output: Path) -> Path:
    """The part of an output that is there already, beside its checkpoint."""
    return CHECKPOINTS / f"{'-'.join(output.parts)}.part"


def record(stage: str, item: str = "") -> Path:
    return RUNS / stage / f"{item}.json" if item else RUNS / f"{stage}.json"

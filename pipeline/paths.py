"""Every path that dvc.yaml names, relative to the project's root, where DVC starts each stage."""

from collections.abc import Iterable
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
RAW = Path("data/raw")
PREPARED = Path("data/prepared")
TARGETS = Path("data/targets")
ENSEMBLES = Path("models/ensembles.json")
ENSEMBLE_METRICS = Path("metrics/ensemble.json")
SUMMARY = Path("metrics/summary.json")
DATA_REPORT = Path("metrics/data.json")
BENCHMARK_CSV = Path("reports/benchmark.csv")
BENCHMARK_MARKDOWN = Path("reports/benchmark.md")
TRADE_OFF = Path("reports/accuracy_latency.png")
RELIABILITY = Path("reports/reliability.png")
CONFUSION = Path("reports/confusion.png")


def weights(model: str) -> Path:
    return Path(f"models/{model}.safetensors")


def onnx(model: str) -> Path:
    return Path(f"models/{model}.onnx")


def curve(model: str) -> Path:
    return Path(f"reports/curves/{model}.csv")


def model_metrics(model: str) -> Path:
    return Path(f"metrics/models/{model}.json")


def parity_metrics(model: str) -> Path:
    return Path(f"metrics/export/{model}.json")


def logits(teacher: str) -> Path:
    return Path(f"data/logits/{teacher}")


def targets(source: str) -> Path:
    return TARGETS / f"{source}.npy"


def record(stage: str, item: str = "") -> Path:
    return Path(f"runs/{stage}-{item}.json" if item else f"runs/{stage}.json")


def records(teachers: Iterable[str], arms: dict[str, list[str]]) -> list[Path]:
    """The record of every execution whose run the summary links to. arms: pipeline.params.Params.student_arms."""
    students = [model for models in arms.values() for model in models]
    stages = {
        "train_teacher": teachers,
        "cache_logits": teachers,
        "train_baseline": [model.removeprefix("baseline-") for model in arms["baseline"]],
        "distill": [model for model in students if model not in arms["baseline"]],
        "export": [*teachers, *students],
    }
    matrix = [record(stage, item) for stage, items in stages.items() for item in items]
    return [record("prepare"), *matrix, record("fit_ensemble"), record("benchmark")]

"""Every path that dvc.yaml names, relative to the project's root, where DVC starts each stage."""

from collections.abc import Iterable
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
RAW = Path("data/raw")
PREPARED = Path("data/prepared")
TARGETS = Path("data/targets")
DEPLOYED = Path("models/deployed.onnx")
ENSEMBLE_ONNX = Path("models/ensemble.onnx")
ENSEMBLES = Path("models/ensembles.json")
ENSEMBLE_METRICS = Path("metrics/ensemble.json")
CHOSEN = Path("metrics/deployed.json")
DECISION = Path("reports/decision.md")
LATENCY = Path("metrics/latency.json")
TORCH_LATENCY = Path("metrics/torch_latency.json")
MEMBER_LATENCY = Path("metrics/member_latency.json")
SUBSETS = Path("reports/subsets.csv")
SUBSETS_PICTURE = Path("reports/subsets.png")
DIVERSITY = Path("reports/diversity.csv")
CALIBRATION = Path("reports/calibration.png")
STUDENTS = Path("metrics/students.json")
SUMMARY = Path("metrics/summary.json")
BENCHMARK = Path("metrics/benchmark.json")
PREDICTIONS = Path("reports/predictions.csv")
DATA_REPORT = Path("metrics/data.json")
BENCHMARK_CSV = Path("reports/benchmark.csv")
BENCHMARK_MARKDOWN = Path("reports/benchmark.md")
PAIRS = Path("reports/pairs.csv")
TRADE_OFF = Path("reports/accuracy_latency.png")
RELIABILITY = Path("reports/reliability.png")
CONFUSION = Path("reports/confusion.png")
REPORT_HTML = Path("reports/report.html")
WRITTEN = ("data/prepared", "data/logits", "data/targets", "models", "metrics", "reports", "runs")  # by stages


def weights(model: str) -> Path:
    return Path(f"models/{model}.safetensors")


def onnx(model: str) -> Path:
    return Path(f"models/{model}.onnx")


def int8(model: str) -> Path:
    return Path(f"models/{model}.int8.onnx")


def curve(model: str) -> Path:
    return Path(f"reports/curves/{model}.csv")


def model_metrics(model: str) -> Path:
    return Path(f"metrics/models/{model}.json")


def export_metrics(model: str) -> Path:
    return Path(f"metrics/export/{model}.json")


def logits(member: str) -> Path:
    return Path(f"data/logits/{member}")


def checkpoint(output: Path) -> Path:
    """Beside an output, what its stage goes on from after an interruption."""
    return output.with_name(f".{output.name}.checkpoint")


def growing(output: Path) -> Path:
    """Beside an output, the part of it that is there already."""
    return output.with_name(f".{output.name}.part")


def targets(source: str) -> Path:
    return TARGETS / f"{source}.npy"


def record(stage: str, item: str = "") -> Path:
    return Path(f"runs/{stage}-{item}.json" if item else f"runs/{stage}.json")


def records(trained: Iterable[str], members: Iterable[str], arms: dict[str, list[str]]) -> list[Path]:
    """The record of every execution whose run the summary links to.

    Args:
        trained, members, arms: trained_teachers, members and student_arms of pipeline.params.Params.
    """
    students = [model for models in arms.values() for model in models]
    stages = {
        "train_teacher": trained,
        "cache_logits": members,
        "train_baseline": [model.removeprefix("baseline-") for model in arms["baseline"]],
        "distill": [model for model in students if model not in arms["baseline"]],
        "export": [*members, *students],
    }
    matrix = [record(stage, item) for stage, items in stages.items() for item in items]
    single = [
        record(stage)
        for stage in (
            "time_members",
            "fit_ensemble",
            "score_students",
            "export_ensemble",
            "time_models",
            "time_torch",
            "choose",
            "benchmark",
            "report",
        )
    ]
    return [record("prepare"), *matrix, *single]

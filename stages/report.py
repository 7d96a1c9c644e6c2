"""One page for people: what ships, the tables, the pictures, and where the student goes wrong, with the test images."""

from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from pipeline import params
from pipeline.params import Params
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Info, Split
from pipeline.reporting import comparison, diagram, graph, mistakes, page, report
from pipeline.tracking import store
from stages.beginning import begin

CLASSES = 30  # rows of the table by class
PAIRS, OF_A_PAIR = 5, 8  # confused pairs, and images of each
IMAGES = 24  # of what the student gets wrong and the ensemble right
GRAPH = (
    "A line leads down to a stage that reads what the upper one writes, unless other lines say so already; × is how "
    "often a stage runs. A dashed line leads up to a stage that needs only the first of those runs."
)


def main() -> None:
    record, settings = begin("report")
    rows, made = pd.read_csv(paths.BENCHMARK_CSV), files.read_json(paths.BENCHMARK)
    info, test = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "test")
    ships = rows.set_index("method", drop=False).loc[files.read_json(paths.CHOSEN)["row"]]
    machine = files.read_json(paths.LATENCY)["machine"]
    parts = report.comparison(rows, pd.read_csv(paths.PAIRS), made["over_alone_by_seed"], len(test), machine)
    seeds = f" A mean over {ships['seeds']} seeds, of which the best on val ships." if ships["seeds"] > 1 else ""
    # DVC refuses dvc.yaml as a dep. A stage that is new has its record in pipeline/paths.py, which is one.
    stages = params.read(paths.DVC_YAML, YAML(typ="safe", pure=True))["stages"]
    flat = store.flatten(settings.model_dump())
    sections = [
        page.section("What ships", page.facts(report.headline(ships)),
                     page.paragraph(f"On {len(test):,} test images, in brackets 95 % intervals.{seeds}")),
        page.section("Comparison", *(page.paragraph(part) if isinstance(part, str) else page.table(part)
                                     for part in parts)),
        page.section("Accuracy, latency, calibration",
                     _picture(paths.TRADE_OFF, "test accuracy against the latency of one image, for every method"),
                     _picture(paths.RELIABILITY, "accuracy against confidence on test"),
                     _picture(paths.CALIBRATION, "accuracy against confidence before and after calibration")),
        *_mistakes(settings, made, info, test),
        page.section("Stages", page.paragraph(GRAPH), diagram.svg(graph.of(stages, settings.model_dump()))),
        page.section("Params", page.table(pd.DataFrame({"key": flat.keys(), "value": flat.values()}))),
    ]  # fmt: skip
    files.write_text(paths.REPORT_HTML, page.document("Distillation report", sections))
    store.log(record, paths.record("report"), settings.tracking, artifacts=[paths.REPORT_HTML])


def _mistakes(settings: Params, made: dict, info: Info, test: Split) -> list[str]:
    """The sections on who gets which test images wrong."""
    predictions, arms = pd.read_csv(paths.PREDICTIONS), settings.student_arms()
    taught = list(arms)[-1]
    shown = {("teacher", made["best_single"]): 1, ("ensemble", made["chosen_ensemble"]): 1,
             **{("student", arm): len(arms[arm]) for arm in (comparison.CONTROL, taught)}}  # fmt: skip
    answers = {report.title(kind, name): predictions[comparison.answer_columns(name, seeds)].to_numpy().T
               for (kind, name), seeds in shown.items()}  # fmt: skip
    _, (ensemble, of_ensemble), _, (student, of_students) = answers.items()
    model = made["shipped"][taught]
    of_student = of_students[arms[taught].index(model)]
    return [
        page.section("Class by class", *_by_class(answers, info.classes, test.labels)),
        page.section("What is taken for what", page.paragraph(f"By the {student}, {model}, the seed that ships."),
                     _picture(paths.CONFUSION, "how often each class is taken for each other"),
                     *_confused(of_student, info.classes, test)),
        page.section("What the ensemble knows and the student does not",
                     *_lost({ensemble: of_ensemble[0], model: of_student}, info.classes, test)),
    ]  # fmt: skip


def _by_class(answers: dict[str, np.ndarray], classes: list[str], labels: np.ndarray) -> list[str]:
    shares = {who: mistakes.accuracy_by_class(each, labels, len(classes)) for who, each in answers.items()}
    counts = np.bincount(labels, minlength=len(classes))
    which = f"the {CLASSES} of {len(classes):,} classes" if len(classes) > CLASSES else "those"
    return [page.paragraph(f"Test accuracy, of students the mean over seeds; first {which} that are hardest for the "
                           f"{list(answers)[-1]}."),
            page.table(report.by_class(shares, counts, classes, CLASSES))]  # fmt: skip


def _confused(student: np.ndarray, classes: list[str], test: Split) -> list[str]:
    found = []
    for label, answer, samples in mistakes.confused(student, test.labels, PAIRS):
        count = f"{len(samples):,} image{'' if len(samples) == 1 else 's'}"
        found += [page.heading(f"{classes[label]}, taken for {classes[answer]}: {count}"),
                  page.gallery(test.images[mistakes.spread(samples, OF_A_PAIR)])]  # fmt: skip
    return found


def _lost(answers: dict[str, np.ndarray], classes: list[str], test: Split) -> list[str]:
    """What the first of two, the ensemble, has right and the second, the student, has not."""
    (name, ensemble), (model, student) = answers.items()
    lost, won = mistakes.only_right(ensemble, student, test.labels), mistakes.only_right(student, ensemble, test.labels)
    chosen = mistakes.spread(lost, IMAGES)
    captions = [{"label": classes[test.labels[n]], "ensemble": classes[ensemble[n]], "student": classes[student[n]]}
                for n in chosen]  # fmt: skip
    return [page.paragraph(f"The ensemble ({name}) is right and the student ({model}) wrong on {len(lost):,} of "
                           f"{len(test):,} test images; the reverse holds for {len(won):,}."),
            page.gallery(test.images[chosen], captions)]  # fmt: skip


def _picture(path: Path, description: str) -> str:
    return page.picture(path.read_bytes(), description)


if __name__ == "__main__":
    errors.run(main)

"""One page for people, with tables, pictures and the student's mistakes, and one screen: six rows and what ships."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from pipeline.deployment.wording import title
from pipeline.params import BASELINE, Params, flatten
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Info, Split
from pipeline.reporting import comparison, figures, graph, mistakes, names, page, reads, tables
from pipeline.reporting.page import Gallery, Picture, Section, Sheet
from pipeline.scoring import metrics
from pipeline.tracking import store
from stages.starting import start_stage

CLASSES = 30  # rows of the table by class
PAIRS, OF_A_PAIR = 5, 8  # confused pairs, and images of each
IMAGES = 24  # of what the student gets wrong and the ensemble right
SHEET, OF_A_CLASS = 12, 6  # classes of the sheet of prepared images, and images of each
SEEN, VIEWS = 6, 5  # images of the sheet of views, and views of each
NEXT = (
    f"Next: {paths.REPORT_HTML} has every table and picture, {paths.DECISION} why this one ships; `make ui` compares "
    "runs. Change params.yaml and run again: only what depends on the change runs."
)


def main() -> None:
    record, settings = start_stage("report")
    figures.subsets(pd.read_csv(paths.SUBSETS), paths.SUBSETS_PICTURE)
    figures.reliability(files.read_json(paths.CALIBRATION_CURVES), paths.CALIBRATION)
    info, test = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "test")
    notes = files.read_json(paths.DATA_REPORT)["notes"]
    rows, by_seed = pd.read_csv(paths.BENCHMARK_CSV), files.read_json(paths.BENCHMARK)["over_alone_by_seed"]
    ships = tables.what_ships(rows, files.read_json(paths.CHOSEN)["row"], len(test))
    read = reads.sentence(paths.TEST_READS, info.sha256["test_images.npy"])
    flat = flatten(settings.model_dump())
    sections = [
        *([Section("Notes on the data", notes)] if notes else []),
        *_comparison(rows, by_seed, f"{ships} {read}", len(test)),
        Section("Subsets of the teachers", [
            "Every subset as a mean of calibrated probabilities, on val. The line is the Pareto front: nothing is both "
            "better and faster.",
            _picture(paths.SUBSETS_PICTURE, "accuracy on val against latency, for every subset of the teachers"),
        ], folded=True),
        _data(settings, info),
        *_mistakes(settings, info, test),
        Section("Stages", [
            "A line leads down to a stage that needs the upper one, unless other lines say so already; × is how often "
            "a stage runs.",
            _graph(),
        ]),
        Section("Params", [pd.DataFrame({"key": flat.keys(), "value": flat.values()})], folded=True),
    ]  # fmt: skip
    files.write_text(paths.REPORT_HTML, page.render("Distillation report", sections))
    overview = [*notes, tables.pipes(tables.overview(rows)), *tables.over_alone(rows, by_seed), ships, read, NEXT]
    files.write_text(paths.OVERVIEW, "\n\n".join(overview) + "\n")
    artifacts = [paths.REPORT_HTML, paths.OVERVIEW, paths.SUBSETS_PICTURE, paths.CALIBRATION]
    store.log(record, paths.record("report"), settings.tracking, artifacts=artifacts)


def _comparison(rows: pd.DataFrame, by_seed: dict[str, dict[str, float]], ships: str, samples: int) -> list[Section]:
    """What ships and the short table, then the other tables in folds. samples: of test."""
    measured = files.read_json(paths.LATENCY)
    parts = tables.comparison(rows, pd.read_csv(paths.PAIRS), by_seed, samples, measured)
    (heading, short), *others = parts.items()
    trade_off = _picture(paths.TRADE_OFF, "test accuracy against the latency of one image, for every method")
    pictures = [_picture(paths.RELIABILITY, "accuracy against confidence on test"),
                _picture(paths.CALIBRATION, "accuracy against confidence before and after calibration")]  # fmt: skip
    return [
        Section(heading, [ships, trade_off, *short]),
        *(Section(other, parts, folded=True) for other, parts in others),
        Section("Calibration", pictures, folded=True),
    ]


def _data(settings: Params, info: Info) -> Section:
    """What `prepare` made, and what views do to it."""
    from pipeline.training import views  # seconds to import

    train, classes = data.open_split(paths.PREPARED, "train"), len(info.classes)
    of_class = {number: np.flatnonzero(train.labels == number) for number in mistakes.spread(np.arange(classes), SHEET)}
    of_class = {number: ids[:OF_A_CLASS] for number, ids in of_class.items() if len(ids)}
    made = [(info.classes[number], list(views.clean(train, ids, info.image_size))) for number, ids in of_class.items()]
    first = np.array([ids[0] for ids in of_class.values()])[:SEEN]
    seen = views.Views.replayed(settings.views, settings.student_views, settings.seed)
    shown = [views.render(train, first, view, seen, info.image_size).numpy() for view in range(min(VIEWS, seen.count))]
    rows = [(name, [images[0], *(view[n] for view in shown)]) for n, (name, images) in enumerate(made[:SEEN])]
    unlabelled = len(train) - len(train.labelled)
    return Section("The data", [
        f"Images as `prepare` made them, of {len(made)} of {classes:,} classes: {len(train.labelled):,} for training"
        f"{f' and {unlabelled:,} without a label' if unlabelled else ''}, {info.image_size} pixels a side.",
        Sheet(made),
        f"Views of such images: the first as `prepare` made it, then {len(shown)} of its {seen.count:,} views that "
        "students see again and again. Teachers see new ones each epoch.",
        Sheet(rows),
    ])  # fmt: skip


def _mistakes(settings: Params, info: Info, test: Split) -> list[Section]:
    """Who gets which test images wrong."""
    predictions, made, arms = pd.read_csv(paths.PREDICTIONS), files.read_json(paths.BENCHMARK), settings.student_arms()
    taught = list(arms)[-1]
    shown = {("teacher", made["best_single"]): 1, ("ensemble", made["chosen_ensemble"]): 1,
             **{("student", arm): len(arms[arm]) for arm in (BASELINE, taught)}}  # fmt: skip
    answers = {title(kind, name): predictions[comparison.answer_columns(name, seeds)].to_numpy().T
               for (kind, name), seeds in shown.items()}  # fmt: skip
    _, (ensemble, of_ensemble), _, (student, of_students) = answers.items()
    model = made["shipped"][taught]
    of_student = of_students[arms[taught].index(model)]
    counts = metrics.confusion(of_student, test.labels, len(info.classes))
    key = names.key(info.classes, mistakes.most_confused(counts, figures.CONFUSED))
    confusion = _picture(paths.CONFUSION, "how often each class is taken for each other")
    return [
        Section("Class by class", _by_class(answers, info.classes, test.labels), folded=True),
        Section("What is taken for what", [f"By the {student}, {model}, the seed that ships.", confusion,
                                           *([key] if key else []), *_confused(of_student, info.classes, test)]),
        Section("What the ensemble knows and the student does not",
                _lost({ensemble: of_ensemble[0], model: of_student}, info.classes, test)),
    ]  # fmt: skip


def _by_class(answers: dict[str, np.ndarray], classes: list[str], labels: np.ndarray) -> list[str | pd.DataFrame]:
    shares = {who: mistakes.accuracy_by_class(each, labels, len(classes)) for who, each in answers.items()}
    counts = np.bincount(labels, minlength=len(classes))
    which = f"the {CLASSES} of {len(classes):,} classes" if len(classes) > CLASSES else "those"
    return [f"Test accuracy, of students the mean over seeds; first {which} that are hardest for the "
            f"{list(answers)[-1]}.", tables.by_class(shares, counts, classes, CLASSES)]  # fmt: skip


def _confused(student: np.ndarray, classes: list[str], test: Split) -> list[str | Gallery]:
    parts = []
    for label, answer, samples in mistakes.confused(student, test.labels, PAIRS):
        count = f"{len(samples):,} image{'' if len(samples) == 1 else 's'}"
        parts += [f"{classes[label]}, taken for {classes[answer]}: {count}",
                  Gallery(test.images[mistakes.spread(samples, OF_A_PAIR)])]  # fmt: skip
    return parts


def _lost(answers: dict[str, np.ndarray], classes: list[str], test: Split) -> list[str | Gallery]:
    """What the first of two, the ensemble, has right and the second, the student, has not."""
    (name, ensemble), (model, student) = answers.items()
    lost, won = mistakes.only_right(ensemble, student, test.labels), mistakes.only_right(student, ensemble, test.labels)
    chosen = mistakes.spread(lost, IMAGES)
    captions = [{"label": classes[test.labels[n]], "ensemble": classes[ensemble[n]], "student": classes[student[n]]}
                for n in chosen]  # fmt: skip
    return [f"The ensemble ({name}) is right and the student ({model}) wrong on {len(lost):,} of {len(test):,} test "
            f"images; the reverse holds for {len(won):,}.", Gallery(test.images[chosen], captions)]  # fmt: skip


def _picture(path: Path, description: str) -> Picture:
    return Picture(path.read_bytes(), description)


def _graph() -> Picture:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.png"
        graph.draw(graph.load(), path)
        return _picture(path, "the graph of the stages")


if __name__ == "__main__":
    errors.run(main)

"""What users should know of their images before anything learns from them: duplicates, contradictions, constants."""

import hashlib

import numpy as np

from pipeline.images.sources import Source
from pipeline.project.data import UNLABELLED, in_chunks
from pipeline.project.errors import PipelineError

PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))
WORTH_SAYING = 0.01  # of a split


def digests(images: np.ndarray) -> np.ndarray:
    """(samples,) uint64 of each image's pixels. images: (samples, height, width, channels) uint8."""
    every = in_chunks(images, np.arange(len(images)))
    return np.fromiter((_digest(image) for chunk in every for image in chunk), np.uint64, len(images))


def _digest(image: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image), digest_size=8).digest(), "little")


def duplicates(digests: np.ndarray, splits: dict[str, np.ndarray]) -> dict[str, int]:
    """How many images of the later split are, pixel for pixel, also in the earlier one."""
    return {
        f"{later}_in_{earlier}": int(np.isin(digests[splits[later]], digests[splits[earlier]]).sum())
        for earlier, later in PAIRS
    }


def notes(source: Source, digests: np.ndarray, splits: dict[str, np.ndarray]) -> list[str]:
    """A sentence for each thing that makes the results mean less than they seem to.

    Raises:
        PipelineError: all images are alike.
    """
    if len(digests) > 1 and (digests == digests[0]).all():
        raise PipelineError(
            f"All {len(digests):,} images have the same pixels, as {source.names[0]} has; where their form is in their "
            "transparency, set `data.background` to another colour than theirs."
        )
    return [*_of_duplicates(digests, splits), *_of_contradictions(source, digests), *_of_constants(source),
            *_of_missing(source, splits), *_of_groups(source, splits), *_of_skipped(source), *source.notes]  # fmt: skip


def _of_duplicates(digests: np.ndarray, splits: dict[str, np.ndarray]) -> list[str]:
    said, counts = [], duplicates(digests, splits)
    for earlier, later in PAIRS:
        share = counts[f"{later}_in_{earlier}"] / max(1, len(splits[later]))
        if share > WORTH_SAYING:
            said.append(f"{100 * share:.0f} % of the {len(splits[later]):,} images of {later} are, pixel for pixel, "
                        f"also in {earlier}: accuracy on {later} is flattered.")  # fmt: skip
    return said


def _of_contradictions(source: Source, digests: np.ndarray) -> list[str]:
    """Images with the same pixels under two labels, of which one at least is wrong."""
    ids = np.flatnonzero(source.labels != UNLABELLED)
    ids = ids[np.lexsort((source.labels[ids], digests[ids]))]
    alike = digests[ids[1:]] == digests[ids[:-1]]
    clashes = np.flatnonzero(alike & (source.labels[ids[1:]] != source.labels[ids[:-1]]))
    if not len(clashes):
        return []
    count = int(np.isin(digests[ids], digests[ids[clashes]]).sum())
    pair = ids[clashes[0]], ids[clashes[0] + 1]
    one, other = (f"{source.names[at]} is `{source.classes[source.labels[at]]}`" for at in pair)
    return [f"{count:,} images have the same pixels as one of another class: {one}, {other}."]


def _of_constants(source: Source) -> list[str]:
    """Classes of which every image has one colour alone, and single images of that kind."""
    chunks = in_chunks(source.images, np.arange(len(source.images)))
    flat = np.concatenate([(chunk == chunk[:, :1, :1]).all(axis=(1, 2, 3)) for chunk in chunks])
    said, counts = [], np.bincount(source.labels[source.labels >= 0], minlength=len(source.classes))
    constant = np.bincount(source.labels[flat & (source.labels >= 0)], minlength=len(source.classes))
    for number in np.flatnonzero((constant == counts) & (counts > 0)):
        said.append(f"Every image of the class `{source.classes[number]}` has one colour alone.")
    others = np.flatnonzero(flat & ~np.isin(source.labels, np.flatnonzero(constant == counts)))
    if len(others):
        said.append(f"{len(others):,} image{'s have' if len(others) > 1 else ' has'} one colour alone, such as "
                    f"{source.names[others[0]]}.")  # fmt: skip
    return said


def _of_missing(source: Source, splits: dict[str, np.ndarray]) -> list[str]:
    """Classes that a ready-made test split lacks."""
    counts = np.bincount(source.labels[splits["test"]], minlength=len(source.classes))
    missing = [source.classes[number] for number in np.flatnonzero(counts == 0)]
    if not missing:
        return []
    return [f"test has no image of {len(missing)} of {len(source.classes)} classes, such as `{missing[0]}`: no "
            "accuracy on test speaks of them."]  # fmt: skip


def _of_groups(source: Source, splits: dict[str, np.ndarray]) -> list[str]:
    """Groups that ready-made splits have torn apart."""
    if source.groups is None:
        return []
    of_split = {name: set(source.groups[ids]) - {""} for name, ids in splits.items()}
    torn = {pair: of_split[pair[0]] & of_split[pair[1]] for pair in PAIRS}
    return [f"{len(names):,} groups are in {earlier} and in {later}, such as `{min(names)}`: accuracy on {later} is "
            "flattered." for (earlier, later), names in torn.items() if names]  # fmt: skip


def _of_skipped(source: Source) -> list[str]:
    if not source.skipped:
        return []
    return [f"{len(source.skipped):,} files were left out, the first because {source.skipped[0]}"]

"""Bring your own images into the project: copied, checked as `prepare` checks them, tracked by DVC, with a profile.

    python -m stages.import_images FROM [--csv NAME] [--unlabelled FOLDER] [--replace]

FROM is a folder of class folders, one with splits, one with a csv, or a .zip of any of them. If something is wrong with
it, nothing of it stays. `make import FROM=~/flowers` is the same.
"""

import argparse
import contextlib
import logging
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError
from tqdm import tqdm

from pipeline import params
from pipeline.images import checks, decoding, proposal, sources, splits
from pipeline.images.proposal import Facts
from pipeline.images.sources import Source
from pipeline.params import Data, Params
from pipeline.project import data, errors, files, paths
from pipeline.project.errors import PipelineError
from stages import arrival
from stages.arrival import Arrived

IMAGES, UNLABELLED = Path("data/images"), Path("data/unlabelled")
STAGING = Path("data/.import.tmp")
PROFILE, OTHER_PROFILE = Path("profiles/own.yaml"), Path("profiles/own-new.yaml")
TABLE = "labels.csv"  # what makes a folder one with a csv
SHOWN = 20  # classes, and files that can't be read, at most


@dataclass(frozen=True)
class Checked:
    """Images as prepare will find them. sides: (files, 2) pixels, the shorter one first."""

    source: Source
    sides: np.ndarray
    facts: Facts
    positions: dict[str, np.ndarray]
    notes: list[str]


def main(*words: str) -> None:
    asked = _asked(words)
    origin, more = (Path(name).expanduser() if name else None for name in (asked.origin, asked.unlabelled))
    _check_places(origin, more, asked.replace)
    with _staging() as staging:
        images = arrival.bring(origin, staging / "images")
        unlabelled = arrival.bring(more, staging / "unlabelled") if more else None
        try:
            checked = _check(images, unlabelled, asked.csv, origin.resolve().name.removesuffix(".zip"))
        except PipelineError as error:
            raise images.said_of(unlabelled.said_of(error) if unlabelled else error) from None
        arrived = {IMAGES: images, **({UNLABELLED: unlabelled} if unlabelled else {})}
        with _placed({place: each.root for place, each in arrived.items()}, staging):
            _track(list(arrived))
        written = _write(proposal.profile(checked.facts))
    _stage([*map(_tracked, arrived), written])
    print("\n".join(_report(checked, arrived, written)))


def _asked(words: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.import_images", description=__doc__.splitlines()[0])
    parser.add_argument("origin", metavar="FROM", help="a folder of images, or a .zip of one")
    parser.add_argument("--csv", default="", metavar="NAME", help=f"the table in it; {TABLE} where there is one")
    parser.add_argument("--unlabelled", default="", metavar="FOLDER", help="images without labels, or a .zip of them")
    parser.add_argument("--replace", action="store_true", help=f"in place of what {IMAGES} holds")
    asked = parser.parse_args(words)
    if not asked.origin:
        raise PipelineError("FROM=~/flowers, a folder of images or a .zip of one, says what to import.")
    return asked


def _check_places(origin: Path, more: Path | None, replace: bool) -> None:
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode:
        raise PipelineError("This project is no git repository, which DVC needs to track images; `git init` makes one.")
    if more and _overlap(origin, more):
        raise PipelineError(f"{more} and {origin} hold the same images; name folders that are beside each other.")
    for place, wanted in ((IMAGES, origin), *([(UNLABELLED, more)] if more else [])):
        if not replace and (_tracked(place).exists() or (place.is_dir() and any(place.iterdir()))):
            raise PipelineError(f"{place} has images already, here or in DVC; REPLACE=1 puts others in their place.")
        if _overlap(place, wanted):
            raise PipelineError(f"{wanted} is where images are imported to; name the folder that they come from.")


def _overlap(one: Path, other: Path) -> bool:
    first, second = one.resolve(), other.resolve()
    return first.is_relative_to(second) or second.is_relative_to(first)


@contextlib.contextmanager
def _staging() -> Iterator[Path]:
    """A folder on the disk of `data` that is gone afterwards, whatever happens."""
    shutil.rmtree(STAGING, ignore_errors=True)
    try:
        yield STAGING
    finally:
        shutil.rmtree(STAGING, ignore_errors=True)


def _check(images: Arrived, unlabelled: Arrived | None, csv: str, name: str) -> Checked:
    """Read every image as prepare does, with the settings that are proposed for them."""
    import torch

    gpu, sides = torch.cuda.is_available(), _sides(images.root)
    csv = csv or (TABLE if (images.root / TABLE).is_file() else "")
    side = int(np.median(sides[:, 0])) if len(sides) else proposal.SMALL_SIDE
    source = sources.load(_data(images, unlabelled, csv, proposal.image_size(side, gpu)), paths.RAW)
    facts = Facts(
        name=name,
        csv=csv,
        left=tuple(np.add(_counts(source, ""), _counts(source, "train")).tolist()),
        val=_counts(source, "val"),
        test=_counts(source, "test"),
        side=side,
        gray=_gray(source.images),
        unlabelled=int((source.labels == data.UNLABELLED).sum()),
        unreadable=len(source.skipped),
        gpu=gpu,
    )
    settings = _loaded(proposal.profile(facts))
    positions, _ = splits.split(source, settings.data, settings.seed)
    return Checked(source, sides, facts, positions, checks.notes(source, checks.digests(source.images), positions))


def _counts(source: Source, split: str) -> tuple[int, ...]:
    """Labelled images of each class that the source has in that split."""
    chosen = source.labels[(source.fixed == split) & (source.labels != data.UNLABELLED)]
    return tuple(np.bincount(chosen, minlength=len(source.classes)).tolist())


def _data(images: Arrived, unlabelled: Arrived | None, csv: str, image_size: int) -> Data:
    """What prepare would be asked for. Raises PipelineError: no file can have the table's name."""
    asked = {"source": "csv" if csv else "image_folder", "path": str(images.root), "csv": csv or TABLE,
             "unlabelled": str(unlabelled.root if unlabelled else proposal.NONE), "image_size": image_size,
             "on_error": "skip"}  # fmt: skip
    try:
        return Data(**params.read(params.DEFAULTS)["data"] | asked)
    except ValidationError:
        raise PipelineError(f"CSV is {csv!r}; it should be the name of a table in FROM, such as {TABLE}.") from None


def _sides(folder: Path) -> np.ndarray:
    """(files, 2) pixels, the shorter side first, of every file that is an image; its pixels are not read."""
    sides = []
    for path in tqdm(decoding.files_below(folder), "measuring images", disable=None, leave=False):
        with warnings.catch_warnings(), contextlib.suppress(Exception):  # whatever a broken file does: `load` names it
            warnings.simplefilter("ignore")
            with Image.open(path, formats=decoding.FORMATS) as image:
                sides.append(sorted(image.size))
    return np.array(sides, np.int64).reshape(-1, 2)


def _gray(images: np.ndarray) -> bool:
    """Whether no pixel has a colour. images: (samples, height, width, 3) uint8."""
    return all((chunk == chunk[..., :1]).all() for chunk in data.in_chunks(images, np.arange(len(images))))


def _loaded(profile: str) -> Params:
    """The profile as `make repro` will read it."""
    path = STAGING / PROFILE.name
    files.write_text(path, profile)
    return params.load_for_dvc(path)


@contextlib.contextmanager
def _placed(roots: dict[Path, Path], staging: Path) -> Iterator[None]:
    """Move each folder to its place, and what was there out of it; all is as before if what follows fails."""
    before = {place: staging / f"before-{place.name}" for place in roots}
    tracked = {path: path.read_bytes() if path.exists() else None for path in map(_tracked, roots)}
    try:
        for place, root in roots.items():
            if place.exists():
                place.rename(before[place])
            root.rename(place)
        yield
    except BaseException:
        for place, root in roots.items():
            if not root.exists():
                shutil.rmtree(place)
            if before[place].exists():
                before[place].rename(place)
        for path, content in tracked.items():
            path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        raise


def _tracked(folder: Path) -> Path:
    """The file in which DVC says what the folder holds."""
    return folder.with_suffix(".dvc")


def _track(folders: list[Path]) -> None:
    """`dvc add`."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # it would say what to `git add`, which is done here
    try:
        with Repo() as repo:
            repo.add([str(folder) for folder in folders])
    except DvcException as error:
        raise PipelineError(f"DVC can't track {', '.join(map(str, folders))}: {error}.") from None


def _write(profile: str) -> Path:
    """Write the profile, beside one that is there and says something else, as somebody may have edited it."""
    if PROFILE.exists() and PROFILE.read_text(encoding="utf-8") != profile:
        files.write_text(OTHER_PROFILE, profile)
        return OTHER_PROFILE
    files.write_text(PROFILE, profile)
    return PROFILE


def _stage(written: list[Path]) -> None:
    """`git add`, so that queued experiments and the next commit have them."""
    done = subprocess.run(["git", "add", "--", *map(str, written)], capture_output=True, text=True)
    if done.returncode:
        raise PipelineError(f"`git add` refused {', '.join(map(str, written))}: {done.stderr.strip()}")


def _report(checked: Checked, arrived: dict[Path, Arrived], written: Path) -> Iterator[str]:
    """What was found, what is proposed and why, and the next command."""
    facts, skipped = checked.facts, checked.source.skipped
    counts = dict(
        zip(checked.source.classes, np.sum([facts.left, facts.val, facts.test], axis=0).tolist(), strict=True)
    )
    yield f"{facts.images:,} images of {len(counts)} classes, fewest first: {_classes(counts)}"
    if len(checked.sides):
        low, high, median = checked.sides.min(), checked.sides.max(), np.median(checked.sides, axis=0).astype(int)
        yield f"sides from {low:,} to {high:,} pixels, the median image {median[0]:,} by {median[1]:,}"
    sizes = ", ".join(f"{name} {len(ids):,}" for name, ids in checked.positions.items())
    own = " and ".join(name for name in ("val", "test") if (checked.source.fixed == name).any())
    yield f"splits: {sizes}; {f'{own} as they came, the rest drawn' if own else 'drawn at random'}"
    if facts.unlabelled:
        yield f"{facts.unlabelled:,} of train have no label"
    for note in checked.notes:
        yield f"note: {arrived[IMAGES].said_of(PipelineError(note))}"
    for each in arrived.values():
        if each.clutter:
            yield f"{each.clutter:,} files or folders of {each.shown} are hidden or a system's own and were left out"
    if skipped:
        yield f"{len(skipped):,} files can't be read and are left out:"
        yield from (f"  {arrived[IMAGES].said_of(PipelineError(sentence))}" for sentence in skipped[:SHOWN])
        if len(skipped) > SHOWN:
            yield f"  and {len(skipped) - SHOWN:,} more, which metrics/data.json lists after `prepare`"
    yield f"\nProposed in {written}:"
    yield from (f"  {reason}" for reason in proposal.reasons(facts))
    if written != PROFILE:
        yield f"{PROFILE} was there, says something else and stays."
    tracked = " and ".join(str(_tracked(place)) for place in arrived)
    yield f"\nDVC tracks the images; {tracked} and {written} are staged for git. Read {written}, then:"
    yield f"  make repro PROFILE={written}"


def _classes(counts: dict[str, int]) -> str:
    """Each with its number of images, the rarest first."""
    rarest = sorted(counts.items(), key=lambda each: each[1])
    more = f" and {len(rarest) - SHOWN:,} more, up to {rarest[-1][1]:,}" if len(rarest) > SHOWN else ""
    return ", ".join(f"{name} {count:,}" for name, count in rarest[:SHOWN]) + more


if __name__ == "__main__":
    errors.run(main)

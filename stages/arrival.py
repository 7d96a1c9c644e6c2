"""Images from wherever a user has them, a folder or a .zip, as plain files in a folder of the project."""

import os
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from pipeline.images.decoding import is_clutter
from pipeline.project import errors
from pipeline.project.errors import PipelineError


@dataclass(frozen=True)
class Arrived:
    """root: the folder in which the images are now. shown: the user's own name for it. clutter: how many entries of
    systems stayed behind, a folder counted once."""

    root: Path
    shown: str
    clutter: int

    def said_of(self, error: PipelineError) -> PipelineError:
        """The error with the names that the user knows."""
        return PipelineError(str(error).replace(str(self.root), self.shown))


def bring(origin: Path, target: Path) -> Arrived:
    """Copy what the folder holds, or unpack the .zip, into `target`, which is made.

    Links are followed, so what arrives is files alone. A single top folder of a .zip is taken for the whole.

    Raises:
        PipelineError: `origin` is neither; it holds what can't become a file here; a .zip has a name that leads out of
            it, a link or a password, or is damaged.
    """
    target.mkdir(parents=True)
    if origin.is_dir():
        return Arrived(target, str(origin), _copy(origin, target))
    if not origin.is_file() or not zipfile.is_zipfile(origin):
        there = "is neither a folder nor a .zip" if origin.exists() else "does not exist"
        raise PipelineError(f"{origin} {there}; name a folder of images or a .zip of one.")
    clutter = _unpack(origin, target)
    inside = list(target.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        return Arrived(inside[0], f"{origin}/{inside[0].name}", clutter)
    return Arrived(target, str(origin), clutter)


def _copy(origin: Path, target: Path) -> int:
    """Copy the files below `origin`; how many entries of systems were left out."""
    found, clutter = _files(origin)
    for path in tqdm(found, "copying images", disable=None, leave=False):
        copy = target / path.relative_to(origin)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)  # its bytes alone: a file that may only be read would stay so here
    return clutter


def _files(origin: Path) -> tuple[list[Path], int]:
    """Every file below a folder, links followed, and how many entries of systems are beside them."""
    found, clutter, above = [], 0, {str(origin): {os.path.realpath(origin)}}
    for place, folders, names in os.walk(origin, onerror=_raise, followlinks=True):
        kept = [name for name in folders if not is_clutter(name)]
        clutter += len(folders) - len(kept)
        for name in kept:
            folder, real = os.path.join(place, name), os.path.realpath(os.path.join(place, name))  # noqa: PTH118
            if real in above[place]:
                raise PipelineError(f"{errors.printable(folder)} is a link to a folder that it is in; take it out.")
            above[folder] = above[place] | {real}
        folders[:] = kept
        for path in (Path(place, name) for name in names):
            if is_clutter(path.name):
                clutter += 1
                continue
            if not path.is_file():
                raise PipelineError(f"{errors.printable(path)} is no file, or a link to none; take it out.")
            errors.check_name(path)
            found.append(path)
    return found, clutter


def _unpack(archive: Path, target: Path) -> int:
    """Unpack every file of the .zip; how many entries of systems were left out."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = {}
            for member in packed.infolist():
                path = _inside(archive, member)
                if path in members:
                    raise PipelineError(f"{archive} has {path} twice; pack it anew.")
                if not member.filename.endswith(("/", "\\")):
                    members[path] = member
            kept = {path: member for path, member in members.items() if not any(map(is_clutter, path.parts))}
            needed, free = sum(member.file_size for member in kept.values()), shutil.disk_usage(target).free
            if needed > free:
                raise PipelineError(f"{archive} holds {needed:,} bytes, but the disk has only {free:,} left.")
            for path, member in tqdm(kept.items(), "unpacking images", disable=None, leave=False):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as file, (target / path).open("wb") as unpacked:
                    shutil.copyfileobj(file, unpacked)
    except (PipelineError, OSError):
        raise
    except Exception as error:  # zipfile and its decompressors trip over whatever a damaged archive holds
        raise PipelineError(f"{archive} can't be unpacked ({error}); pack it anew.") from None
    return len(members) - len(kept)


def _inside(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    """Where in the archive it is. Raises PipelineError: it would lead out of there, or can't be read."""
    name = member.filename.replace("\\", "/")  # as some packers on Windows write them
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or not path.parts:
        raise PipelineError(f"{archive} has an entry {member.filename!r}, which leads out of it; pack it anew.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise PipelineError(f"{archive} has a link, {path}; pack the file that it leads to.")
    if member.flag_bits & 1:
        raise PipelineError(f"{archive} has a password; unpack it and name the folder.")
    return path


def _raise(error: OSError) -> None:
    raise error

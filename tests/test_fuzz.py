"""Random params.yaml files and random folders of images: each is used, or refused in a sentence.

200 examples of each, the same ones every time; `FUZZ_EXAMPLES=2000 python -m pytest tests/test_fuzz.py` tries more.
"""

import contextlib
import copy
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from dvc.parsing import DataResolver
from dvc.repo import Repo
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline import params
from pipeline.images import decoding, sources
from pipeline.project.errors import PipelineError
from tests import toys
from tests.conftest import CHECKOUT, copy_checkout, run

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
COMMANDS = 2  # accepted params.yaml files that the real commands are run on, which takes seconds
many = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PRESENT = params.overlay(toys.DEFAULTS, YAML(typ="safe").load((CHECKOUT / "params.yaml").read_text()))
LAUGHS = "[&a [x, x, x, x, x, x, x, x], " + ", ".join(
    f"&{name} [{', '.join([f'*{before}'] * 8)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "]"  # fmt: skip
MERGES = "[&m {x: 1}, " + ", ".join(
    f"&{name} {{<<: [{', '.join([f'*{before}'] * 8)}]}}" for before, name in zip("mnopqrst", "nopqrstu", strict=True)
) + "]"  # fmt: skip


class Raw(str):
    """Text that is written into the YAML as it is."""


RAW = [
    *(".nan", "-.inf", "1e999", "~", "no", "2024-02-30", "2024-02-03", "2024-01-01T25:00:00", "1:30", "1_000", "-0"),
    *("!!bool x", '!!int ""', '!!float ""', "!!timestamp x", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]"),
    *("!!python/object/apply:os.system [true]", "!unknown x", "*nowhere", "&r [*r]", "&r {x: *r}", LAUGHS, MERGES),
    *("0x" + "f" * 5000, "9" * 5000, "[" * 60 + "]" * 60, "{a: " * 40 + "1" + "}" * 40, "{? [1, 2] : 3}", "{1: 2}"),
    *(
        '"\\ud800"',
        '"\\0"',
        '"\\U00110000"',
        "'''",
        "[1, 2",
        "}",
        "\t",
        "%",
        "`",
        "a: b",
        "- 1",
        "# ",
        "|",
        "&x",
        "=",
        "<<",
    ),
    "[" + "1, " * 3000 + "1]",
]
TEXTS = [
    *("", " ", "auto", "kd", "dkd", "digits", "image_folder", "data/images", "data/prepared", "..", "s3://a/b"),
    *("from_resnet", "single", "${seed}", "$(true)", "../x", "-x", "a b;c", "ünï", "cuda:1", "x" * 300, "test_resnet"),
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 20),
    st.integers(),
    st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**30, -1]),
    st.floats(0, 1),
    st.floats(),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
    st.sampled_from(RAW).map(Raw),
)
keys = st.one_of(st.sampled_from(["seed", "x", "lr", "../x", "a b", "é", "kwargs", "weights"]), scalars)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)


def places(block: dict, above: tuple = ()) -> list[tuple]:
    """The path to every key."""
    keys = []
    for key, value in block.items():
        keys.append((*above, key))
        if isinstance(value, dict):
            keys += places(value, (*above, key))
    return keys


PLACES = places(PRESENT)
CHANGES = ["set", "set", "set", "nudge", "nudge", "drop", "rename", "repeat", "add"]
changes = st.lists(st.tuples(st.sampled_from(CHANGES), st.sampled_from(PLACES), keys, values), min_size=1, max_size=3)


def changed(wanted: list[tuple]) -> str:
    """params.yaml with the changes made, in flow style."""
    document, repeated = copy.deepcopy(PRESENT), set()
    for change, place, key, value in wanted:
        block: Any = document
        for part in place[:-1]:
            block = block.get(part) if isinstance(block, dict) else None
        if not isinstance(block, dict) or place[-1] not in block:
            continue
        old = block[place[-1]]
        if change == "set":
            block[place[-1]] = value
        elif change == "nudge":  # which is often accepted
            block[place[-1]] = old * 2 if isinstance(old, int | float) and not isinstance(old, bool) else old
        elif change == "drop":
            del block[place[-1]]
        elif change == "rename":
            block[key] = block.pop(place[-1])
        elif change == "repeat":
            repeated.add(place[-1])
        elif change == "add":
            block[key] = value
    return flow(document, repeated)


def flow(value: Any, repeated: set) -> str:
    """YAML on one line. repeated: keys that are written twice."""
    if isinstance(value, dict):
        pairs = [f"? {flow(key, set())} : {flow(inner, repeated)}" for key, inner in value.items()
                 for _ in range(2 if key in repeated else 1)]  # fmt: skip
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner, repeated) for inner in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return str(value) if isinstance(value, Raw) else json.dumps(value)


@pytest.fixture(scope="module")
def accepted() -> list[str]:
    """The first of the random params.yaml files that were accepted."""
    return []


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def resolved(root) -> Iterator[Callable[[str], dict]]:
    """The stages that DVC makes of dvc.yaml and a params.yaml."""
    document = YAML(typ="safe").load((root / "dvc.yaml").read_text())

    def resolve(text: str) -> dict:
        (root / "params.yaml").write_text(text)
        return DataResolver(repo, str(root), copy.deepcopy(document)).resolve()["stages"]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # where DVC looks for params.yaml, whatever the repository
        with Repo() as repo:
            yield resolve


@many
@given(wanted=changes)
def test_any_params_yaml_is_used_or_refused_in_a_sentence(wanted, accepted, resolved, root):
    text = changed(wanted)
    path = root / "random.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        loaded = params.load(path)
    except PipelineError as refused:
        message = str(refused)
        assert "`" in message or "line" in message or "not valid YAML" in message
        event("params.yaml is refused")
        assert len(message) < 10_000 and len(message.splitlines()) <= params.SENTENCES + 1
    else:
        event("params.yaml is accepted")
        assert models(resolved(text)) == sorted(loaded.models())
        if len(accepted) < COMMANDS and text not in accepted and (root / loaded.data.path).is_dir():
            accepted.append(text)


def models(stages: dict) -> list[str]:
    """Of the teachers and students that these stages train."""
    executions = [name.partition("@") for name in stages]
    names = {"train_teacher": "", "train_baseline": "baseline-", "distill": ""}
    return sorted(names[stage] + item for stage, _, item in executions if stage in names)


def test_dvc_takes_what_was_accepted(accepted, root):
    if not accepted:
        pytest.skip("needs what the test above has accepted")
    for text in accepted:
        (root / "params.yaml").write_text(text)
        result = run("dvc", "repro", "--dry", "prepare", cwd=root)
        assert result.returncode == 0, text + result.stdout + result.stderr


def encoded(form: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(toys.images(1, size=24, channels=3)[0]).save(content, form)
    return content.getvalue()


FORMS = {
    form: encoded(form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX", "DDS")
}
WHOLE = st.sampled_from(list(FORMS.values()))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image that is cut, or some of whose bytes are others."""
    content = bytearray(draw(WHOLE))
    for position, value in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)):
        content[position % len(content)] = value
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


contents = st.one_of(
    *[WHOLE] * 5, damaged(), st.binary(max_size=64), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe"])
)
NAMES = [
    *(
        b"red",
        b"blue",
        b"red",
        b"blue",
        b"green",
        b"train",
        b"test",
        b"val",
        b".hidden",
        b"a b",
        b"-x",
        b"$(true)",
        b"\xff\xfe",
        b"a\nb",
    ),
    "ünï".encode(),
]
names = st.one_of(*[st.sampled_from(NAMES)] * 5, st.binary(min_size=1, max_size=12))
endings = st.sampled_from(
    [suffix.encode() for suffix in sorted(decoding.SUFFIXES)] + [b".png"] * 20 + [b"", b".txt", b".EPS"]
)
files_of_images = st.lists(st.tuples(st.lists(names, max_size=3), names, endings, contents), max_size=3)


def legal(name: bytes) -> bytes:
    name = name.replace(b"/", b"_").replace(b"\0", b"_")
    return b"_" if name in (b".", b"..") else name


def plant(root: Path, files: list[tuple]) -> None:
    for folders, name, ending, content in files:
        folder = root.joinpath(*(os.fsdecode(legal(part)) for part in folders))
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # that name is taken
            folder.mkdir(parents=True, exist_ok=True)
            (folder / os.fsdecode(legal(name + ending))).write_bytes(content)


@many
@given(files=files_of_images, sound=st.sampled_from([True, True, True, False]), unlabelled=files_of_images)
def test_any_folder_of_images_is_read_or_refused_in_a_sentence(files, sound, unlabelled, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("images", "more"):
            (root / name).mkdir()
        plant(root / "images", files)
        if sound:
            plant(root / "images", [([name], b"sound", b".png", FORMS["PNG"]) for name in (b"red", b"blue")])
        plant(root / "more", unlabelled if sound else [])
        data = toys.data_params(source="image_folder", path=str(root / "images"), unlabelled=str(root / "more"))
        try:
            listing = sources.load(data, root / "raw")
        except PipelineError as refused:
            event("the folder is refused")
            assert str(refused)
        else:
            event("the folder is read")
            assert listing.images.shape == (len(listing.labels), 8, 8, 3) and listing.images.dtype == np.uint8
            assert len(listing.classes) >= 2 and json.dumps(listing.classes, ensure_ascii=False).encode()

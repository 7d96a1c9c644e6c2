import csv
import hashlib
import json

import numpy as np
import pytest

from pipeline.project import files
from pipeline.project.errors import PipelineError


def test_replacing_puts_the_whole_file_in_place(tmp_path):
    with files.atomic_write(tmp_path / "new/folder/file") as temporary:
        temporary.write_text("content")
        assert not (tmp_path / "new/folder/file").exists()
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["file"]
    assert (tmp_path / "new/folder/file").read_text() == "content"


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"ä": [1, 2.5, None, True], "b": {"c": "Σ"}}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value


def test_json_without_a_standard_form_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", {"nll": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_broken_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(PipelineError, match=r"x\.json is not valid JSON"):
        files.read_json(tmp_path / "x.json")


def test_missing_json_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"x\.json is missing"):
        files.read_json(tmp_path / "x.json")


def test_rows_come_back_as_they_were_written(tmp_path):
    files.write_rows(tmp_path / "x.csv", [{"epoch": 1, "name": "a, b"}, {"epoch": 2, "name": 'c"d'}])
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "name": "a, b"}, {"epoch": "2", "name": 'c"d'}]


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int64])
def test_an_array_comes_back_as_it_was_written_and_read_only(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    files.write_array(tmp_path / "x.npy", array)
    opened = files.open_array(tmp_path / "x.npy")
    assert isinstance(opened, np.memmap) and not opened.flags.writeable
    assert opened.dtype == dtype and np.array_equal(opened, array)


def test_an_array_of_objects_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        files.write_array(tmp_path / "x.npy", np.array([{}, []], dtype=object))
    assert not list(tmp_path.iterdir())


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"x\.npy is missing"):
        files.open_array(tmp_path / "x.npy")


def test_an_array_cut_anywhere_is_refused_by_name(tmp_path):
    path = tmp_path / "x.npy"
    files.write_array(path, np.arange(12, dtype=np.uint8))
    content = path.read_bytes()
    for left in range(len(content)):
        path.write_bytes(content[:left])
        with pytest.raises(PipelineError, match=r"x\.npy"):
            files.open_array(path)


def test_a_flipped_byte_in_the_header_of_an_array_never_escapes_as_another_error(tmp_path):
    path = tmp_path / "x.npy"
    files.write_array(path, np.arange(12, dtype=np.uint8))
    content = path.read_bytes()
    for position in range(128):
        for flipped in (1, 64, 255):
            damaged = bytearray(content)
            damaged[position] ^= flipped
            path.write_bytes(damaged)
            try:
                files.open_array(path)
            except PipelineError as error:
                assert "x.npy" in str(error)


def test_sha256_is_the_digest_of_the_content(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_equal_values_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        files.write_json(tmp_path / f"{name}.json", {"x": [1, 2]})
        files.write_array(tmp_path / f"{name}.npy", np.arange(5))
    assert files.sha256(tmp_path / "a.json") == files.sha256(tmp_path / "b.json")
    assert files.sha256(tmp_path / "a.npy") == files.sha256(tmp_path / "b.npy")
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 2]}


@pytest.mark.parametrize("dtype", [np.dtype("<f2"), np.dtype([("logits", "<f2", 2), ("rest", "<f4")])])
def test_chunks_become_the_file_that_the_whole_array_would_be(tmp_path, dtype):
    array = np.frombuffer(np.random.default_rng(0).bytes(3 * 4 * dtype.itemsize), dtype).reshape(3, 4)
    files.write_array(tmp_path / "whole.npy", array)
    files.write_chunks(tmp_path / "chunks.npy", (3, 4), dtype, (row[None] for row in array))
    assert (tmp_path / "chunks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_chunks_that_end_early_leave_no_file(tmp_path):
    def chunks():
        yield np.zeros(3)
        raise PipelineError("no more")

    with pytest.raises(PipelineError, match="no more"):
        files.write_chunks(tmp_path / "x.npy", (6,), np.dtype(float), chunks())
    assert not list(tmp_path.iterdir())


def test_forgotten_pages_are_read_again(tmp_path):
    array = np.arange(5000)
    files.write_array(tmp_path / "x.npy", array)
    mapped = files.open_array(tmp_path / "x.npy")
    for view in (mapped, mapped[10:20], np.asarray(mapped), array):
        files.forget(view)
    assert np.array_equal(mapped, array)

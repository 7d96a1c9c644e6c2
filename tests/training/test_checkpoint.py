from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.training import checkpoint
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.losses import label_loss
from tests import toys

TRAIN, VAL = toys.split(20), toys.split(12, seed=1)
DROPOUT = toys.architecture(kwargs={**toys.KWARGS, "drop_rate": 0.5})
SETTINGS = toys.training(epochs=3, ema=0.9)
STEPS = 9  # 3 epochs of 20 samples in batches of 8
ARRAY = np.arange(24, dtype=np.float16).reshape(2, 6, 2)


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0)


def of(folder, params=1, data=2):
    return Checkpoint(folder / ".x.checkpoint", "toy", params, data, toys.CPU)


def train(saved=None, killed_at=None, **changes):
    """The state and the curve of a toy that is trained, or killed in that step of this process."""
    model, seen = toys.classifier(architecture=DROPOUT), []

    def loss(logits, labels, *_):
        if len(seen) == killed_at:
            raise Killed
        seen.append(0)
        return label_loss(logits, labels)

    lesson = Lesson(TRAIN, np.arange(20), replace(toys.VIEWS, count=None), loss)
    trainer = Trainer(model, SETTINGS.model_copy(update=changes), lesson, toys.CPU, seed=0, name="toy")
    result = trainer.fit(VAL, saved)
    return model.state_dict(), result.curve, len(seen)


@pytest.mark.parametrize("changes", [{}, {"freeze_epochs": 1, "layer_decay": 0.7}], ids=["plain", "fine-tuning"])
@pytest.mark.parametrize("killed_at", range(STEPS))
def test_a_training_killed_in_any_step_ends_as_one_that_was_not(tmp_path, killed_at, changes):
    with pytest.raises(Killed):
        train(of(tmp_path), killed_at, **changes)
    weights, curve, steps = train(of(tmp_path), **changes)
    undisturbed, same_curve, _ = train(**changes)
    assert all(torch.equal(weights[name], undisturbed[name]) for name in undisturbed)
    assert curve == same_curve
    assert steps == STEPS - killed_at  # no step again that a checkpoint has


def test_a_training_killed_twice_ends_as_one_that_was_not(tmp_path):
    for _ in range(2):
        with pytest.raises(Killed):
            train(of(tmp_path), 3)
    weights, curve, steps = train(of(tmp_path))
    undisturbed, same_curve, _ = train()
    assert all(torch.equal(weights[name], undisturbed[name]) for name in undisturbed)
    assert (curve, steps) == (same_curve, STEPS - 6)


@pytest.mark.parametrize("part", ["params", "data"])
def test_a_checkpoint_of_something_else_is_not_used_and_a_sentence_says_so(tmp_path, capsys, part):
    of(tmp_path).save({"epoch": 1})
    assert of(tmp_path).load() == {"epoch": 1}
    assert of(tmp_path, **{part: 3}).load() is None
    assert f"belongs to other {part} and is not used" in capsys.readouterr().out


def test_a_checkpoint_of_other_code_is_not_used(tmp_path, capsys, monkeypatch):
    of(tmp_path).save({"epoch": 1})
    monkeypatch.setattr(checkpoint, "_code", lambda: {"pipeline.training.loop": "another digest"})
    assert of(tmp_path).load() is None
    assert "belongs to other code" in capsys.readouterr().out


def test_no_flipped_byte_of_a_checkpoint_goes_unnoticed(tmp_path, capsys):
    saved = of(tmp_path)
    saved.save({"weights": torch.arange(5.0), "epoch": 1})
    content = saved.path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 16
        saved.path.write_bytes(flipped)
        assert saved.load() is None
    saved.path.write_bytes(b"")
    assert saved.load() is None
    assert "is damaged and is not used" in capsys.readouterr().out


def parts(killed_at=None):
    """ARRAY in six parts, as `grow` asks for them; killed before the part of that number."""
    asked = []

    def chunks(first):
        for number in range(first, 6):
            if number == killed_at:
                raise Killed
            asked.append(number)
            yield ARRAY[number // 3, 2 * (number % 3) : 2 * (number % 3) + 2]

    return chunks, asked


def grow(folder, chunks):
    of(folder).grow(folder / "x.npy", ARRAY.shape, ARRAY.dtype, chunks)
    return np.load(folder / "x.npy")


@pytest.mark.parametrize("killed_at", range(6))
def test_an_array_grows_on_where_it_stopped(tmp_path, killed_at):
    with pytest.raises(Killed):
        grow(tmp_path, parts(killed_at)[0])
    with (tmp_path / "x.npy").open("ab") as file:
        file.write(b"cut in the middle of a part")
    chunks, asked = parts()
    np.testing.assert_array_equal(grow(tmp_path, chunks), ARRAY)
    assert asked == list(range(killed_at, 6))
    again, asked = parts()
    np.testing.assert_array_equal(grow(tmp_path, again), ARRAY)
    assert asked == []


@pytest.mark.parametrize("killed_at", range(1, 6))
def test_what_an_array_cost_before_an_interruption_is_counted(tmp_path, monkeypatch, killed_at):
    """A clock that goes a second a part: six parts take six, whether or not they were killed on the way."""
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock[0])

    def ticking(chunks):
        def slow(first):
            for chunk in chunks(first):
                clock[0] += 1
                yield chunk

        return slow

    with pytest.raises(Killed):
        grow(tmp_path, ticking(parts(killed_at)[0]))
    clock[0] += 1000
    for _ in range(2):  # one that is whole costs nothing more
        resumed = of(tmp_path)
        resumed.grow(tmp_path / "x.npy", ARRAY.shape, ARRAY.dtype, ticking(parts()[0]))
        assert resumed.seconds == 6


def test_what_training_cost_before_an_interruption_is_counted(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        train(of(tmp_path), killed_at=4)
    saved = of(tmp_path)
    state = saved.load()
    state["at"]["seconds"] = 5000.0
    saved.save(state)
    lesson = Lesson(
        TRAIN, np.arange(20), replace(toys.VIEWS, count=None), lambda out, labels, *_: label_loss(out, labels)
    )
    trainer = Trainer(toys.classifier(architecture=DROPOUT), SETTINGS, lesson, toys.CPU, seed=0, name="toy")
    assert trainer.fit(VAL, saved).cost["seconds"] > 5000


def test_an_array_that_changed_since_its_checkpoint_starts_anew(tmp_path, capsys):
    grow(tmp_path, parts()[0])
    content = bytearray((tmp_path / "x.npy").read_bytes())
    for damaged in (content[:-1] + b"?", content[:-3]):
        (tmp_path / "x.npy").write_bytes(damaged)
        np.testing.assert_array_equal(grow(tmp_path, parts()[0]), ARRAY)
    assert capsys.readouterr().out.count("does not fit") == 2

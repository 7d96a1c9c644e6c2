"""Training, caching and evaluation by several processes, which gloo joins on this machine's CPU."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pipeline import params
from pipeline.training import ranks
from pipeline.training.ranks import Ranks
from stages import parallel
from tests import toys
from tests.conftest import CHECKOUT, of_digits, run

pytestmark = pytest.mark.long


def ranked(folder, devices, *more, launcher=(sys.executable, "-m"), **environment):
    folder.mkdir(exist_ok=True)
    words = (*launcher, "tests.ranked", str(devices), str(folder), *more)
    return run(*words, cwd=CHECKOUT, **{"CHECKPOINT_SECONDS": "1000"} | environment)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folders that 1, 2 and 3 ranks have left."""
    folders = {devices: tmp_path_factory.mktemp(f"ranks{devices}") for devices in (1, 2, 3)}
    for devices, folder in folders.items():
        done = ranked(folder, devices)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("toy epoch") == 3  # one rank speaks
    return folders


def weights(folder):
    return safetensors.torch.load_file(folder / "weights.safetensors")


def difference(one, other):
    """Of all weights, relative to their norm."""
    squares = sum(((one[name].double() - other[name].double()) ** 2).sum() for name in one)
    return float((squares / sum((weight.double() ** 2).sum() for weight in one.values())) ** 0.5)


@pytest.mark.parametrize("devices", [2, 3])
def test_several_ranks_learn_what_one_does(made, devices):
    distance = difference(weights(made[1]), weights(made[devices]))
    print(f"{devices} ranks, three epochs: weights differ by {distance:.1e}")
    assert 0 < distance < 1e-5


@pytest.mark.parametrize("devices", [2, 3])
def test_several_ranks_cache_the_bytes_of_one(made, devices):
    assert (made[devices] / "cached.npy").read_bytes() == (made[1] / "cached.npy").read_bytes()


def test_evaluation_counts_every_sample_once_however_many_ranks_there_are(made):
    alone, three = (np.load(made[devices] / "evaluated.npz") for devices in (1, 3))
    assert len(alone["logits"]) % 3 == 1
    for name in alone:
        assert np.array_equal(alone[name], three[name]), name


def test_ranks_share_the_gradients_of_layers_that_were_frozen_at_first(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, devices in ((one, 1), (two, 2)):
        assert ranked(folder, devices, "frozen").returncode == 0
    assert 0 < difference(weights(one), weights(two)) < 1e-5


def test_batch_normalisation_has_the_statistics_of_each_rank_and_so_learns_something_else(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, devices in ((one, 1), (two, 2)):
        assert ranked(folder, devices, "normalised").returncode == 0
    assert difference(weights(one), weights(two)) > 1e-3


def test_training_whose_rank_was_killed_goes_on_to_the_same_bytes(made, tmp_path):
    killed = ranked(tmp_path, 2, "plain", "37", CHECKPOINT_SECONDS="0")
    assert killed.returncode != 0 and (tmp_path / ".toy.checkpoint").exists()
    done = ranked(tmp_path, 2)
    assert done.returncode == 0 and "going on from step 16 of epoch 2/3" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "weights.safetensors").read_bytes() == (made[2] / "weights.safetensors").read_bytes()


def test_torchrun_may_start_the_ranks(made, tmp_path):
    done = ranked(tmp_path, 2, launcher=("torchrun", "--nproc-per-node", "2", "-m"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "weights.safetensors").read_bytes() == (made[2] / "weights.safetensors").read_bytes()


def test_a_stage_on_two_devices_writes_and_logs_once(tmp_path):
    root = of_digits(tmp_path)
    (root / "params.yaml").write_text(
        (root / "params.yaml").read_text().replace("compute: {}", "compute: {devices: 2}")
    )
    done = run("dvc", "repro", "cache_logits@byobnet", cwd=root)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("byobnet epoch 1/") == 1
    assert run("dvc", "status", "cache_logits@byobnet", cwd=root).stdout.strip().endswith("up to date.")


def test_a_batch_smaller_than_the_ranks_is_a_sentence(tmp_path):
    done = ranked(tmp_path, 2, "tiny")
    assert done.returncode == 1 and "too few to share out among 2 devices" in done.stderr


@pytest.mark.parametrize("world", [1, 2])
def test_ranks_tell_one_another_the_time_every_few_steps_and_one_alone_asks_at_each(world):
    asked = [step for step in range(40) if Ranks(0, world).asks(step)]
    assert asked == (list(range(40)) if world == 1 else [0, 16, 32])


def named_models():
    """Each model that params.yaml or a profile names, with its arguments; of pretrained ones, the architecture."""
    found = {}
    for path in (CHECKOUT / "params.yaml", *sorted((CHECKOUT / "profiles").glob("*.yaml"))):
        settings = params.load(path)
        for block in (*settings.teachers.values(), settings.student):
            name = block.model or block.backbone.rpartition("/")[2].partition(".")[0]
            found[f"{name} {block.kwargs}"] = {"model": name, "kwargs": block.kwargs, "stem_stride": block.stem_stride}
    return found


@pytest.mark.parametrize("name", named_models())
def test_batch_norms_that_are_synchronised_give_the_same_logits(name):
    info = replace(toys.INFO, image_size=64)
    model = toys.classifier(architecture=toys.architecture(**named_models()[name]), info=info)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:  # of their own, or activations could be missing unseen
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
    pixels = torch.from_numpy(toys.images(4, size=64))
    with torch.inference_mode():
        before = model(pixels)
        after = ranks.synchronised(model)(pixels)
    assert torch.equal(after, before) and before.std() > 0
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in model.modules()) == len(norms) > 0


@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_shares_are_neighbours_that_make_up_the_whole(count):
    shares = [list(Ranks(number, 5).share(np.arange(count))) for number in range(5)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_stage_has_as_many_gpus_as_it_uses():
    assert parallel._shared_out(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert parallel._shared_out(["0", "1"], 1) == ["0", "1"]


def test_a_stage_with_more_devices_takes_more_of_the_cores():
    settings = toys.compute(devices=1000)
    assert parallel._lanes(4, [], settings) == 1

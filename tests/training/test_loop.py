from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics
from pipeline.training import loop, models
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.losses import label_loss
from pipeline.training.views import render
from tests import toys

TRAIN, VAL = toys.split(20), toys.split(12, seed=1)


def labels_only(logits, labels, *_):
    return label_loss(logits, labels)


def fit(model, loss=labels_only, views=toys.VIEWS, train=TRAIN, seed=0, targets=None, ids=None, compiled=False,
        **changes):  # fmt: skip
    lesson = Lesson(train, np.arange(len(train)) if ids is None else ids, views, loss, targets)
    settings = toys.TRAINING.model_copy(update=changes)
    return Trainer(model, settings, lesson, toys.CPU, seed=seed, name="toy").fit(VAL, compiled=compiled)


def trained_weights(seed=0, **arguments):
    model = toys.classifier()
    fit(model, seed=seed, **arguments)
    return model.state_dict()


def same_bits(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_equal_seeds_give_equal_weights_bit_for_bit():
    assert same_bits(trained_weights(), trained_weights())


def test_another_seed_gives_other_weights():
    assert not same_bits(trained_weights(), trained_weights(seed=1))


def test_dropout_is_seeded_too():
    architecture = toys.architecture(kwargs={**toys.KWARGS, "drop_rate": 0.5})

    def run(stray):
        model = toys.classifier(architecture=architecture)
        torch.rand(stray)
        fit(model)
        return model.state_dict()

    assert same_bits(run(stray=0), run(stray=10))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_with_name_and_rate(value):
    with pytest.raises(PipelineError, match=r"`toy` diverged in epoch 1.*`lr` \(now 0\.01\)"):
        fit(toys.classifier(), loss=lambda logits, *_: logits.sum() * value)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_only_the_last_step_spoils_are_refused(value, ema):
    model, steps = toys.classifier(), []

    def loss(logits, labels, *_):
        steps.append(len(steps))
        if len(steps) == 6:  # of two epochs of three
            logits.register_hook(lambda gradient: gradient * value)
        return label_loss(logits, labels)

    with pytest.raises(PipelineError, match=r"diverged in epoch 2: `.+` of the model is not finite; lower its `lr`"):
        fit(model, loss=loss, ema=ema)


def test_statistics_of_batch_norm_that_only_the_last_step_spoils_are_refused():
    """A variance that is infinite makes each output 0: logits and loss stay finite."""
    model = toys.classifier()
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))

    def loss(logits, labels, soft, done):
        if done > 0.8:
            norm.running_var.data.fill_(float("inf"))
        return label_loss(logits, labels)

    with pytest.raises(PipelineError, match=r"diverged in epoch 2: `net\..+running_var` of the model is not finite"):
        fit(model, loss=loss)


def test_finite_weights_whose_answers_overflow_are_refused():
    model = toys.classifier()

    def loss(logits, labels, soft, done):
        if done > 0.8:
            for weight in model.net.get_classifier().parameters():
                weight.data.fill_(3e38)
        return label_loss(logits, labels) * 0

    with pytest.raises(PipelineError, match="`toy` diverged in epoch 2: what it says of val is not finite"):
        fit(model, loss=loss, weight_decay=0.0)


def test_it_learns_what_can_be_separated():
    model = toys.classifier()
    result = fit(model, train=toys.split(96), epochs=6)
    assert result.scores["accuracy"] == 1
    assert result.curve[-1]["train_loss"] < result.curve[0]["train_loss"]


def test_the_model_trains_in_train_mode_and_is_left_in_eval_mode():
    model, modes = toys.classifier(), []

    def loss(logits, labels, soft, done):
        modes.append({module.training for module in model.modules()})
        return label_loss(logits, labels)

    fit(model, loss=loss)
    assert modes == [{True}] * 6
    assert not any(module.training for module in model.modules())


def seen(count, epochs, seed=0, objective=label_loss):
    """Each step's (images, labels, targets) where a target spells its own view and sample."""
    views = epochs if count is None else count
    targets = np.zeros((views, len(TRAIN), 2), np.float32)
    targets[:, :, 0] = np.arange(views)[:, None]
    targets[:, :, 1] = np.arange(len(TRAIN))
    model, inputs, steps = toys.classifier(), [], []
    model.register_forward_pre_hook(lambda module, given: inputs.append(given[0].numpy()) if module.training else None)

    def loss(logits, labels, soft, done):
        assert soft.dtype == torch.float32
        steps.append((inputs[-1], labels.numpy(), soft.numpy().astype(int)))
        return objective(logits, labels)

    fit(
        model,
        loss,
        replace(toys.VIEWS, count=count),
        targets=lambda view, ids: targets[view, ids],
        epochs=epochs,
        seed=seed,
    )
    return steps


def test_targets_and_labels_belong_to_the_view_that_is_seen():
    for images, labels, soft in seen(count=2, epochs=3):
        views, ids = soft.T
        assert np.array_equal(images, render(TRAIN, ids, views[0], toys.VIEWS, 8))
        assert np.array_equal(labels, TRAIN.labels[ids])


@pytest.mark.parametrize(("count", "views"), [(2, [0, 1, 0]), (1, [0, 0, 0]), (None, [0, 1, 2])])
def test_an_epoch_sees_one_view_of_every_sample_once(count, views):
    steps = [soft for _, _, soft in seen(count, epochs=3)]
    for epoch, view in enumerate(views):
        soft = np.concatenate(steps[3 * epoch : 3 * epoch + 3])
        assert set(soft[:, 0]) == {view}
        assert sorted(soft[:, 1]) == list(range(20))


@pytest.mark.parametrize("samples", [1, 20, 64, 65, 1000])
def test_a_shuffled_epoch_has_every_sample_once(monkeypatch, samples):
    monkeypatch.setattr(loop, "WINDOW", 64)
    assert sorted(loop.shuffled(samples, np.random.default_rng(0))) == list(range(samples))


def test_an_epoch_reads_slice_by_slice_and_shuffles_within(monkeypatch):
    monkeypatch.setattr(loop, "WINDOW", 64)
    random = np.random.default_rng(0)
    first, second = loop.shuffled(1024, random), loop.shuffled(1024, random)
    slices = first.reshape(16, 64)
    assert all(len(set((part - start) % 1024)) == 64 and ((part - start) % 1024).max() == 63
               for part in slices for start in [_start(part)])  # fmt: skip
    assert not any((np.diff(part) == 1).mean() > 0.2 for part in slices)
    assert _start(first[:64]) % 64 != _start(second[:64]) % 64  # cut elsewhere


def _start(part):
    """The first sample of a slice that may run over the end."""
    ids = set(part)
    return next(sample for sample in part if (sample - 1) % 1024 not in ids)


def test_the_order_of_samples_does_not_depend_on_the_loss():
    first = seen(count=2, epochs=2)
    second = seen(count=2, epochs=2, objective=lambda logits, labels: label_loss(logits, 1 - labels))
    assert all(np.array_equal(one[2], other[2]) for one, other in zip(first, second, strict=True))


def test_epochs_have_orders_of_their_own():
    first, second = np.split(np.concatenate([soft[:, 1] for _, _, soft in seen(count=1, epochs=2)]), 2)
    assert not np.array_equal(first, second)


def test_final_scores_are_those_of_the_model_that_is_left():
    model = toys.classifier()
    result = fit(model)
    expected = metrics.scores(predict(model, VAL.images, toys.CPU, exact=True), VAL.labels)
    assert result.scores == expected
    assert [row["epoch"] for row in result.curve] == [1, 2]
    assert result.curve[-1]["val_accuracy"] == expected["accuracy"]
    assert result.cost["images"] == 40


def test_mixed_views_are_taught_with_mixed_labels():
    seen = []

    def loss(logits, labels, *_):
        seen.append(labels)
        return label_loss(logits, labels)

    fit(toys.classifier(), loss, replace(toys.VIEWS, mixup=1.0))
    labels = torch.cat(seen)
    assert labels.shape == (40, 2)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(40))
    assert ((labels > 0.1) & (labels < 0.9)).any()


@pytest.mark.long
def test_a_compiled_model_learns_the_same():
    plain, compiled = toys.classifier(), toys.classifier()
    fit(plain, epochs=1)
    fit(compiled, epochs=1, compiled=True)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor, rtol=1e-2, atol=1e-2)


def test_the_loss_is_told_how_much_of_training_is_done():
    seen = []

    def loss(logits, labels, soft, done):
        seen.append(done)
        return label_loss(logits, labels)

    fit(toys.classifier(), loss=loss)
    assert seen == pytest.approx(np.arange(len(seen)) / len(seen)) and len(seen) == 2 * 3


def floats(model):
    return {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}


def test_the_average_of_weights_is_what_is_left_and_evaluated():
    """With a decay of 0.5 by hand: half of the average before and half of the weights after each step."""
    snapshots = []

    def loss(logits, labels, *_):
        snapshots.append(floats(model))
        return label_loss(logits, labels)

    model = toys.classifier()
    plain = fit(model, loss=loss)
    after_each = [*snapshots[1:], floats(model)]
    other = toys.classifier()
    averaged = fit(other, ema=0.5)
    expected = after_each[0]
    for weights in after_each[1:]:
        expected = {name: 0.5 * expected[name] + 0.5 * weights[name] for name in expected}
    for name, value in expected.items():
        if "running" not in name:
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert averaged.scores != plain.scores


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_frozen_body_stays_as_it_is_while_the_head_learns():
    model = toys.classifier()
    before = state(model)
    fit(model, freeze_epochs=2)
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert changed == {"net.fc.weight", "net.fc.bias"}


def test_both_heads_of_a_model_that_has_two_learn_while_its_body_is_frozen():
    small = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 3}
    model = toys.classifier(architecture=toys.architecture(model="deit_tiny_distilled_patch16_224", kwargs=small))
    before = state(model)
    fit(model, freeze_epochs=2)
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert changed == {f"net.{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}


def test_after_the_frozen_epochs_everything_learns():
    model = toys.classifier()
    before = state(model)
    fit(model, freeze_epochs=1)
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert changed == set(before)
    assert int(model.net.bn1.num_batches_tracked) == 3  # of the second epoch alone


def test_each_layer_has_its_share_of_the_rate():
    """By hand: of a body of a stem and four blocks, a head learns at the whole rate, each layer before it at half."""
    model = toys.classifier()
    groups = loop.adamw(model, toys.training(weight_decay=0.1, layer_decay=0.5)).param_groups
    rates = {id(parameter): (group["lr_scale"], group["weight_decay"]) for group in groups
             for parameter in group["params"]}  # fmt: skip
    layers = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1, "fc": 0}
    for name, parameter in model.net.named_parameters():
        share = 0.5 ** layers[name.split(".")[0]]
        assert rates[id(parameter)] == (share, 0.1 if parameter.ndim > 1 else 0), name


def test_rates_follow_the_layers_through_training():
    slow, fast = toys.classifier(), toys.classifier()
    before = state(slow)
    fit(slow, epochs=1, layer_decay=1e-4)
    fit(fast, epochs=1)
    moved = {name: [float((state(model)[name] - before[name]).abs().max()) for model in (slow, fast)]
             for name in ("net.layer1.0.conv1.weight", "net.fc.weight")}  # fmt: skip
    assert moved["net.layer1.0.conv1.weight"][0] < 1e-3 * moved["net.layer1.0.conv1.weight"][1]
    assert moved["net.fc.weight"][0] > 0.1 * moved["net.fc.weight"][1]


def test_only_the_chosen_samples_are_learned_from():
    chosen, seen = np.array([3, 4, 9, 11, 15, 19]), []

    def targets(view, ids):
        seen.append(ids)
        return np.zeros((len(ids), 2), np.float32)

    cost = fit(toys.classifier(), targets=targets, ids=chosen).cost
    assert sorted(np.concatenate(seen)) == sorted(np.tile(chosen, 2)) and cost["images"] == 12


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_position_embedding_and_class_token_of_a_vit_are_not_decayed(layer_decay):
    kwargs = {"img_size": 8, "patch_size": 4, "depth": 1, "embed_dim": 12, "num_heads": 3}
    model = models.build(toys.architecture(model="vit_tiny_patch16_224", kwargs=kwargs), toys.INFO)
    names = {id(parameter): name for name, parameter in model.net.named_parameters()}
    groups = loop.adamw(model, toys.training(weight_decay=0.1, layer_decay=layer_decay)).param_groups
    decay = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay.keys() == set(names.values())
    assert decay["pos_embed"] == decay["cls_token"] == decay["norm.weight"] == decay["head.bias"] == 0
    assert decay["patch_embed.proj.weight"] == decay["blocks.0.attn.qkv.weight"] == decay["head.weight"] == 0.1

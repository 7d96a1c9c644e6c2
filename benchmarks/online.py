"""What we are measured against: distillation with the teachers in the loop, as others do it."""

import contextlib
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.task import LogitDistillationTask
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import setting
from pipeline.params import Params
from pipeline.project.data import Split
from pipeline.training.inference import precision
from pipeline.training.loop import Lesson
from pipeline.training.models import Classifier

NORMALISED = {"mean": (0.5,), "std": (0.5,)}  # timm converts between student and teacher only where these differ
WORKERS = os.cpu_count() or 1


class Images(Dataset):
    """Fashion-MNIST as torchvision holds it: an array in memory, a PIL image a sample, transforms in Python."""

    def __init__(self, split: Split, shift: int, flip: bool) -> None:
        self.split = split
        flips = [transforms.RandomHorizontalFlip()] if flip else []
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(setting.SIDE, padding=shift),
                *flips,
                transforms.ToTensor(),
                transforms.Normalize(setting.INFO.mean, setting.INFO.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.split.images[index, :, :, 0])
        return self.transform(image), int(self.split.labels[index])


def loader(split: Split, settings: Params, workers: int) -> DataLoader:
    views = setting.views(settings)
    images = Images(split, views.shift, views.flip)
    size = settings.student.batch_size
    return DataLoader(images, size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


class Average(nn.Module):
    """The teachers' mean probability, in the precision around it or each teacher in its own best one."""

    def __init__(self, members: list[Classifier], device: torch.device, own_precision: bool) -> None:
        super().__init__()
        self.members, self.device, self.own_precision = nn.ModuleList(members), device, own_precision
        self.pretrained_cfg = NORMALISED

    def forward(self, pixels: Tensor) -> Tensor:
        logits = []
        for member in self.members:
            with precision(member, self.device) if self.own_precision else contextlib.nullcontext():
                logits.append(member.net(pixels).float())
        return torch.stack([F.softmax(each, dim=1) for each in logits]).mean(dim=0).log()


def timm_epoch(
    settings: Params,
    device: torch.device,
    split: Split,
    teachers: list[Classifier],
    stepper: setting.Stepper,
    *,
    own_precision: bool,
) -> None:
    """timm.task's logit distillation, fed by our input pipeline, under one autocast as timm's train script has it."""
    distill, student = settings.distill, stepper.model.net
    student.pretrained_cfg = NORMALISED
    task = LogitDistillationTask(
        student,
        Average(teachers, device, own_precision),
        criterion=nn.CrossEntropyLoss(),
        task_loss_weight=1 - distill.alpha,
        temperature=distill.temperature,
        device=device,
        verbose=False,
    ).train()
    lesson = Lesson(split, split.labelled, setting.views(settings), setting.loss_of(None))
    for ids in setting.batches(len(split), settings.student.batch_size):
        images, labels, _ = lesson.batch(ids, 0, setting.INFO)
        pixels = images.to(device).permute(0, 3, 1, 2).float()
        pixels = (pixels - stepper.model.mean) / stepper.model.std
        with precision(stepper.model, device):
            loss = task(pixels, labels.to(device))["loss"]
        stepper.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        stepper.optimizer.step()


def tutorial_epoch(
    settings: Params, device: torch.device, batches: DataLoader, teachers: list[nn.Module], student: nn.Module
) -> None:
    """The loop of a tutorial: workers, transforms, one forward a teacher, fp32, no memory format."""
    distill = settings.distill
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    student.train()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        with torch.no_grad():
            soft = torch.stack([F.softmax(teacher(images) / distill.temperature, dim=1) for teacher in teachers])
        logits = student(images)
        log_probs = F.log_softmax(logits / distill.temperature, dim=1)
        taught = F.kl_div(log_probs, soft.mean(dim=0), reduction="batchmean") * distill.temperature**2
        loss = distill.alpha * taught + (1 - distill.alpha) * F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def plain(model: Classifier) -> nn.Module:
    """The network as timm makes it: no channels_last, nothing around it."""
    return model.net.to(memory_format=torch.contiguous_format)


def random_targets(views: int, samples: int) -> np.ndarray:
    logits = np.random.default_rng(2).normal(0, 3, (views, samples, setting.CLASSES))
    return logits.astype(np.float16)

import threading

import pytest
import torch

from pipeline.training.prefetch import ahead

CPU, GPU = torch.device("cpu"), torch.device("cuda")  # only their names matter here


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("items", [list(range(50)), [], [None, 0, False]])
def test_items_come_whole_and_in_order(items, device):
    assert list(ahead(iter(items), device)) == items


def test_the_next_item_is_made_while_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def items():
        for event in made:
            event.set()
            yield event

    for used, _ in enumerate(ahead(items(), GPU)):
        if used + 1 < len(made):
            assert made[used + 1].wait(timeout=10)


def test_an_error_in_making_reaches_the_user():
    def items():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(ahead(items(), GPU))

"""How many images a minute the attack `likelihood` rebuilds, all at once, against one image after the other as it was
published (He, Zhang and Lee, ACSAC 2019: Adam with the maximum of past second moments, 5,000 steps of 0.01 from zeros).

`python benchmarks/likelihood.py` needs FEDSPLIT_DATA and three minutes of a core that does nothing else; `--quick` few
images and steps: whether it runs. 256 images of MNIST behind the first convolution of LeNet, on one thread. The
attack's time holds all that it does, the choice of its settings included. Prints a table, then one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from sparse import load, printed
from sparse_coding.figure import Figure, Goal, ratio, turns
from torch import Tensor, nn

from fedsplit.attacks.likelihood import Likelihood
from fedsplit.datasets.mnist import Mnist
from fedsplit.models.lenet import LeNet
from fedsplit.numerics.psnr import peak_signal_to_noise_ratio
from fedsplit.records.leak import Auxiliary, ClientSegment, Leak, Pairs
from fedsplit.seeding import Seeds
from fedsplit.split import split

TARGETS, VALIDATION, AUXILIARY = 256, 64, 512
PUBLISHED_STEPS, PUBLISHED_RATE = 5000, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether everything runs, in seconds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}, {load()}", flush=True)
    client, leak, truth = problem(8 if quick else TARGETS)
    assert leak.smashed is not None
    attack = Likelihood(steps=20) if quick else Likelihood()
    steps, one = 20 if quick else PUBLISHED_STEPS, leak.smashed[:1]
    together: list[Tensor] = []
    alone: list[Tensor] = []
    sides: tuple[Callable[[], object], ...] = (
        lambda: alone.append(published(client, one, leak.image_shape, steps)),
        lambda: together.append(attack.reconstruct(leak, Seeds(0)("attack")).images),
    )
    single, all_at_once = turns(sides, 1 if quick else 3)
    strength = partial(peak_signal_to_noise_ratio, truth[:1])
    remark = (
        f"{60 * len(truth) / min(all_at_once):.3g} / {60 / min(single):.3g} a minute; of the first image "
        f"{float(strength(together[-1][:1].clamp(0, 1))):.0f} and {float(strength(alone[-1].clamp(0, 1))):.0f} dB"
    )
    goal = None if quick else Goal("at least", 50)
    figure = Figure(f"{len(truth)} at once / one by one", *ratio(single, all_at_once, len(truth)), goal, remark)
    figures = {"likelihood": printed(figure)}
    print(f"{time.strftime('%H:%M')}, {load()}")
    print(json.dumps(figures))


def problem(targets: int) -> tuple[nn.Module, Leak, Tensor]:
    """An untrained client, what it releases of some images, and these."""
    images = Mnist(limit=TARGETS + VALIDATION + AUXILIARY).load()
    shape, seeds = (1, 28, 28), Seeds(0)
    order = torch.randperm(len(images.pixels), generator=seeds("order"))
    truth, validation, auxiliary = images.pixels[order].split((TARGETS, VALIDATION, len(order) - TARGETS - VALIDATION))
    truth = truth[:targets]
    with seeds.fork("model"):
        client = split(LeNet().blocks(shape, 10), "conv1", shape).client.eval()
    labels = torch.zeros(len(order), dtype=torch.long)
    with torch.no_grad():
        leak = Leak(
            kind="inference",
            round=1,
            image_shape=shape,
            classes=10,
            auxiliary=Auxiliary(auxiliary, labels[: len(auxiliary)], validation, labels[:VALIDATION]),
            smashed=client(truth),
            auxiliary_pairs=Pairs(client(auxiliary), client(validation)),
            client_weights=ClientSegment(client),
        )
    return client, leak, truth


def published(client: nn.Module, crossed: Tensor, shape: tuple[int, int, int], steps: int) -> Tensor:
    """One image, as plainly as can be."""
    image = torch.zeros(1, *shape, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=PUBLISHED_RATE, eps=1e-3, amsgrad=True)
    for _ in range(steps):
        optimizer.zero_grad()
        (client(image) - crossed).square().mean().backward()
        optimizer.step()
    return image.detach()


if __name__ == "__main__":
    main()

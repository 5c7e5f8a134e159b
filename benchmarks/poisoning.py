"""How fast `poison_preserving` and `poison_flipping` answer when networks that were trained for it make the changes,
against the searches that they stand for, and how much more then leaks to an adversary who knows of it.

`python benchmarks/poisoning.py` takes five minutes of a core that does nothing else; `--quick` few steps: whether it
runs. One client with 400 of scikit-learn's digits, behind a classifier that was trained on them; 256 answers at once,
on one thread. The leak is what the attack `inverse_network` rebuilds of 256 other images, from pairs that were answered
by this very client. What a client does once, before its first answer, is stated apart. Prints a table, then one JSON
object.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from sparse import load, printed
from sparse_coding.figure import Figure, Goal, ratio, seconds, turns
from torch import Tensor
from torch.nn import functional as F

from fedsplit.attacks.inverse_network import InverseNetwork
from fedsplit.datasets.digits import Digits
from fedsplit.defenses.base import Defense, Deployed
from fedsplit.defenses.poison_flipping import PoisonFlipping
from fedsplit.defenses.poison_preserving import PoisonPreserving
from fedsplit.models.linear import Linear
from fedsplit.numerics.psnr import peak_signal_to_noise_ratio
from fedsplit.records.images import Holding, Images
from fedsplit.records.leak import Auxiliary, Leak, Pairs
from fedsplit.seeding import Seeds
from fedsplit.split import Segments, split

OWN, TARGETS, VALIDATION, AUXILIARY = 400, 256, 128, 600
EPOCHS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether everything runs, in seconds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}, {load()}", flush=True)
    own, *others = dealt()
    model = trained(own)
    defenses = {
        "preserving": PoisonPreserving(),
        "flipping": PoisonFlipping(),
        # Where many answers are falsified, they are what the adversary learns from.
        "flipping 3 of 10": PoisonFlipping(share=0.3),
    }
    bare, figures = leaked(model, None, others), dict[str, dict[str, float]]()
    for name, defense in defenses.items():
        for part, figure in zip(
            ("speed", "leak"), compared(name, defense, model, own, others, bare, quick), strict=True
        ):
            figures[f"{name} {part}"] = printed(replace(figure, goal=None) if quick else figure)
    print(f"{time.strftime('%H:%M')}, {load()}")
    print(json.dumps(figures))


def compared(
    name: str, defense: Defense, model: Segments, own: Images, others: list[Images], bare: float, quick: bool
) -> Iterator[Figure]:
    """The search beside the generator, by time and by leak. bare: the leak without a defense."""
    changes = {"steps": 5} if quick else {}
    forms = [defense.model_copy(update={"generator": generator, **changes}) for generator in (False, True)]
    found: list[Deployed] = []
    prepared = [
        seconds(lambda form=form: found.append(form.deploy(model, holding(own), Seeds(0)("deploy")))) for form in forms
    ]
    targets, answers = others[0].pixels, confidences(model, others[0].pixels)
    searched, generated = turns(
        [lambda deployed=deployed: deployed.answer(targets, answers) for deployed in found], 1 if quick else 3
    )
    yield Figure(
        f"{name}: search / generator",
        *ratio(searched, generated),
        Goal("at least", 100),
        f"{1e3 * min(searched) / TARGETS:.3g} / {1e3 * min(generated) / TARGETS:.3g} ms per answer; "
        f"before the first one {prepared[0]:.3g} / {prepared[1]:.3g} s",
    )
    search, generator = (leaked(model, deployed, others) for deployed in found)
    more = generator - search
    yield Figure(
        f"{name}: more leak, dB",
        more,
        (more, more),
        Goal("at most", 1),
        f"generator {generator:.2f} - search {search:.2f} dB, without a defense {bare:.2f}",
    )


def dealt() -> list[Images]:
    """The client's own images, the targets, and the adversary's: to learn from, and to stop and choose by."""
    images = Digits().load()
    order = torch.randperm(len(images), generator=Seeds(0)("order"))
    sizes = (OWN, TARGETS, AUXILIARY, VALIDATION)
    return [images.at(rows) for rows in order[: sum(sizes)].split(sizes)]


def trained(own: Images) -> Segments:
    """A classifier of the client's images."""
    with Seeds(0).fork("model"):
        segments = split(Linear(width=32).blocks((1, 8, 8), 10), "rows", (1, 8, 8))
    optimizer, rng = torch.optim.Adam(segments.whole.parameters(), lr=0.005), Seeds(0)("batches")
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(own), generator=rng).split(32):
            optimizer.zero_grad()
            F.cross_entropy(segments.whole(own.pixels[rows]), own.labels[rows]).backward()
            optimizer.step()
    return segments


def holding(own: Images) -> Holding:
    rows = torch.arange(len(own))
    return Holding(own.pixels, own.labels, torch.ones(len(own)), rows, rows < 0)


@torch.no_grad()
def confidences(model: Segments, images: Tensor) -> Tensor:
    return model.whole(images).softmax(dim=1)


def leaked(model: Segments, deployed: Deployed | None, others: list[Images]) -> float:
    """Decibels."""
    targets, auxiliary, validation = others
    answers = [confidences(model, one.pixels) for one in others]
    if deployed is not None:
        answers = [deployed.answer(one.pixels, answer) for one, answer in zip(others, answers, strict=True)]
    seen, pairs, kept = answers
    leak = Leak(
        kind="answers",
        round=1,
        image_shape=(1, 8, 8),
        classes=10,
        auxiliary=Auxiliary(auxiliary.pixels, auxiliary.labels, validation.pixels, validation.labels),
        smashed=seen,
        auxiliary_pairs=Pairs(pairs, kept),
    )
    guess = InverseNetwork().reconstruct(leak, Seeds(0)("attack")).images.clamp(0, 1)
    return float(peak_signal_to_noise_ratio(targets.pixels, guess).mean())


if __name__ == "__main__":
    main()

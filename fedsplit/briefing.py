"""What a run is going to do, told before it does it: the threat card, and an estimate of its cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from fedsplit.checks import tried_out
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset
from fedsplit.scenario import Scenario
from fedsplit.split import Segments

_MEANINGS = {
    Asset.SMASHED: "smashed data",
    Asset.CUT_GRADIENTS: "cut gradients",
    Asset.LABELS: "labels",
    Asset.HEAD_GRADIENTS: "gradients at the server's last features",
    Asset.AUXILIARY_PAIRS: "pairs of its own images with their smashed data",
    Asset.CLIENT_QUERIES: "released answers to images of its own",
    Asset.CLIENT_WEIGHTS: "client segments",
    Asset.SERVER_SEGMENTS: "server segments over time",
    Asset.DEFENSE: "the defense and its parameters",
    Asset.REPEATS: "as many answers to one image as it waits for",
    Asset.SCORES: "released confidences in images of its own",
    Asset.MODEL: "the deployed model",
}


def card(scenario: Scenario, shape: Shape, classes: int, *, device: str = "meta") -> str:
    """Who holds what, who sees what, which attack uses which asset; plain text, a line each.

    device: where segments are built to be asked for their shapes.
    """
    return "\n".join(_lines(scenario, shape, classes, device))


def _lines(scenario: Scenario, shape: Shape, classes: int, device: str) -> Iterator[str]:
    segments = tried_out(scenario, 0, shape, classes, device)
    size = " x ".join(map(str, shape))
    smashed = " x ".join(map(str, segments.cut_shape))
    yield f"{scenario.dataset.title}: images {size}, {classes} classes, {scenario.partition.clients} clients"
    yield f"clients hold   {', '.join(segments.home.whole.names)}; their images and labels"
    yield f"server holds   {', '.join(segments.server.names)}"
    labels, features = (", labels", "") if segments.head is None else (", gradients at the head", "features and ")
    yield f"crosses        up: {smashed} smashed values per image{labels}; down: {features}cut gradients"
    yield f"defenses       {', '.join(f'{name} ({defense.kind})' for name, defense in scenario.rows)}"
    yield from (f"{name:14} {defense.caveat}" for name, defense in scenario.rows if defense.caveat)
    yield from (f"bound          {bound.title}, of {bound.about}" for bound in scenario.bounds)
    if scenario.public.title:
        yield f"public images  {scenario.public.title}"
    yield f"targets        {scenario.targets.count} {scenario.targets.source} images"
    for threat in scenario.threats:
        seen = ", ".join(_MEANINGS[asset] for asset in Asset if asset in threat.assets_without(scenario.withheld))
        conduct = ", and need not follow the protocol" if threat.active else ""
        yield f"{threat.title} sees or knows {seen}{conduct}"
    for duel in scenario.duels:
        uses = ", ".join(_MEANINGS[asset] for asset in Asset if asset in duel.attack.needs)
        where = f"{duel.leak} leak of round {duel.round}"
        conduct = "is active, has the server of a training of its own, and " if duel.hijacks is not None else ""
        yield f"{duel.attack_name} (under {duel.threat_name}, {where}) {conduct}needs {uses}"
    yield from dict.fromkeys(f"{attack.title}: {attack.caveat}" for attack in scenario.attacks if attack.caveat)


@dataclass(frozen=True)
class Estimate:
    """What a run will cost. bytes: (up, down) per step. memory: bytes that training and the largest leak hold."""

    cells: int
    attacks: int
    steps: int
    bytes: tuple[int, int]
    memory: int

    def __str__(self) -> str:
        up, down = (value / 2**10 for value in self.bytes)
        return (
            f"{self.cells} trainings, {self.attacks} attacks (controls not counted), {self.steps:,} steps in all, "
            f"{up:,.0f} KiB up and {down:,.0f} KiB down per step, about {self.memory / 2**20:,.0f} MiB of memory"
        )


def estimate(scenario: Scenario, shape: Shape, classes: int, images: int) -> Estimate:
    """From shapes and counts alone; the memory is that of the row that needs most."""
    roles = scenario.roles
    private = round(images * roles.private)
    clients = scenario.partition.clients
    item = scenario.dtype.itemsize
    cells = tuple(scenario.cells)
    rows = [tried_out(scenario, index, shape, classes, "meta") for index in range(len(scenario.rows))]
    smashed = max(prod(segments.cut_shape) for segments in rows) * item
    hidden = max(_hidden(segments) for segments in rows) * item
    label = 8 if scenario.head is None else 0
    parameters = max(_parameters(segments) for segments in rows) * item
    auxiliary = round(images * roles.auxiliary)
    pool = private if scenario.targets.source == "private" else round(images * roles.test)
    targets = pool if scenario.targets.count == "all" else min(scenario.targets.count, pool)
    recordings = [scenario.recording(cell) for cell in cells]
    pages = max(len({*recording.training, *recording.inference}) for recording in recordings)
    # Parameters, gradients and two moments; per recorded round the averaged segments and every client's own; leaks
    # hold targets and auxiliary pairs.
    memory = 4 * parameters + pages * (2 + clients) * parameters + (2 * targets + auxiliary) * smashed
    return Estimate(
        cells=len(cells),
        attacks=sum(len(scenario.duels_of(cell)) for cell in cells),
        steps=scenario.protocol.steps(tuple([private // clients] * clients)) * len(cells),
        bytes=(
            scenario.protocol.batch_size * (smashed + hidden + label),
            scenario.protocol.batch_size * (smashed + hidden),
        ),
        memory=memory + images * prod(shape) * 4,
    )


def _parameters(segments: Segments) -> int:
    return sum(parameter.numel() for parameter in segments.whole.parameters())


def _hidden(segments: Segments) -> int:
    """Values per image between the server segment and a head at the client."""
    if segments.head is None:
        return 0
    with torch.device("meta"):
        smashed = torch.empty((1, *segments.cut_shape), dtype=next(segments.home.whole.parameters()).dtype)
        return segments.server.eval()(smashed).numel()

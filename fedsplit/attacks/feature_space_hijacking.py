"""The server steers the clients into a space that it can read (FSHA: Pasquini, Ateniese and Bernaschi, "Unleashing the
tiger: inference attacks on split learning", CCS 2021)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.attacks.base import ActiveAttack, Check
from fedsplit.layers.critic import Critic, critic_loss
from fedsplit.layers.decoder import Decoder
from fedsplit.layers.decoder_training import decode
from fedsplit.layers.optimizer_memory import memory_of, remember
from fedsplit.layers.pilot import Pilot
from fedsplit.layers.site_map import SiteMap, fit_site_map
from fedsplit.layers.sites import Sites, sites_of
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.records.images import Shape
from fedsplit.records.impostor import Impostor
from fedsplit.records.leak import Asset, Auxiliary, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds

_BETAS = (0.5, 0.999)
"""Of every Adam here: what the critic says changes as fast as the clients do, and a long memory of it oscillates."""
_LESSONS = 512
"""Images, at most, from which the decoder takes its closed-form start."""


class FeatureSpaceHijacking(ActiveAttack):
    """Sends every client, in place of the task's gradient, that of a critic which tells what clients send from what a
    pilot network makes of auxiliary images; a decoder learns to undo the pilot, and in the end is given what clients
    send. It needs neither labels nor the client's architecture or weights, and trains no classifier.

    How far a client follows in so many steps depends on its optimiser, which is the clients' to choose.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED})
    controls: ClassVar[frozenset[Check]] = frozenset({"parameters_moved", "loss_fell"})

    width: PositiveInt = 8
    """Feature maps of the pilot."""
    critic_width: PositiveInt = 32
    """Units of the critic's hidden layers."""
    decoder_width: PositiveInt = 64
    """Hidden units of the decoder at each row; other parts of it are in proportion."""
    learning_rate: PositiveFloat = 0.0003
    """Of Adam for pilot and decoder; published: 0.00001, for ten thousand steps."""
    critic_learning_rate: PositiveFloat = 0.002
    """Of Adam for the critic; published: 0.0001."""
    critic_steps: PositiveInt = 3
    """Of the critic at each exchange, on the same smashed data and fresh auxiliary images; published: 1."""
    penalty: PositiveFloat = 10.0
    """On critics that are steeper or flatter than 1 between the two distributions; published: 500, over places alone,
    where this one is over all of a row's values."""
    gain: PositiveFloat = 1.0
    """Factor on the gradient that goes back, to drown what else a client minimises."""
    batch_size: PositiveInt = 64
    """Auxiliary images per step."""
    images: PositiveInt = 4096
    """Auxiliary images it serves with, at most: each checkpoint holds them."""

    def prepare(self, auxiliary: Auxiliary) -> dict[str, Tensor]:
        """The images, evenly spaced where there are too many."""
        count = len(auxiliary.images)
        used = min(count, self.images)
        return {"images": auxiliary.images[torch.arange(used) * count // used].clone()}

    def hijack(self, memory: dict[str, Tensor]) -> Impostor:
        """Networks are made for the first smashed data that it is sent."""
        return _Hijacker(self, memory)

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """What the decoder makes of the targets, wherever the clients are by now."""
        assert leak.smashed is not None and leak.learned is not None
        with Seeds(int(torch.randint(2**62, (), generator=rng))).fork("networks"):
            networks = _restored(self, leak.learned)
        images = leak.auxiliary.validation_images.to(leak.smashed)
        with torch.no_grad():
            error = F.mse_loss(decode(networks.decoder, networks.pilot(images)), images).item()
        evidence = Evidence(
            tuple(leak.learned["losses"].tolist()),
            bytes(leak.learned["began"].tolist()).decode(),
            fingerprint(networks),
            f"its own images come back from the pilot with a squared error of {error:.2g}",
        )
        return Reconstruction(decode(networks.decoder, leak.smashed), evidence)


class _Networks(nn.Module):
    def __init__(self, attack: FeatureSpaceHijacking, pilot: Pilot, start: SiteMap, scale: Tensor) -> None:
        super().__init__()
        self.pilot = pilot
        self.decoder = Decoder(start, scale, attack.decoder_width, depth=1)
        self.critic = Critic(pilot.cut, attack.critic_width)
        self.to(scale)


class _Hijacker(Impostor):
    def __init__(self, attack: FeatureSpaceHijacking, memory: dict[str, Tensor]) -> None:
        self._attack = attack
        self._memory = memory
        self._images = memory["images"]
        self._losses: list[float] = []
        self._training: _Training | None = None
        if "cut" in memory:
            self._training = _Training(attack, _restored(attack, memory))
            self._training.remember(memory)

    def answer(self, smashed: Tensor, rng: Generator) -> tuple[Tensor, float]:
        if self._training is None:
            self._training = self._begun(smashed, rng)
        training = self._training
        self._losses.append(training.autoencode(self._drawn(rng)))
        for _ in range(self._attack.critic_steps):
            training.criticise(self._drawn(rng), smashed, rng)
        seen = smashed.clone().requires_grad_()
        loss = training.networks.critic(seen).mean()
        (gradient,) = torch.autograd.grad(loss, seen)
        return self._attack.gain * gradient, float(loss.detach())

    @property
    def memory(self) -> dict[str, Tensor]:
        if self._training is None or not self._losses:
            return self._memory
        mean = torch.tensor([sum(self._losses) / len(self._losses)], dtype=torch.float64)
        losses = torch.cat([self._memory["losses"].cpu(), mean])
        return {**self._memory, **self._training.memory, "losses": losses}

    def _drawn(self, rng: Generator) -> Tensor:
        return self._images[torch.randint(len(self._images), (self._attack.batch_size,), generator=rng)]

    def _begun(self, smashed: Tensor, rng: Generator) -> "_Training":
        attack, images = self._attack, self._images
        lessons, cut = images[:_LESSONS], tuple(smashed.shape[1:])
        with Seeds(int(torch.randint(2**62, (), generator=rng))).fork("networks"):
            pilot = Pilot(_shape(images), cut, attack.width).to(smashed)
            pilot.aim(lessons, smashed)
            with torch.no_grad():
                seen = pilot(lessons)
            start = fit_site_map(seen, lessons, sites_of(cut, _shape(images)))
            scale = seen.std()
            networks = _Networks(attack, pilot, start, torch.where(scale > 0, scale, 1.0))
        self._memory |= {
            "cut": torch.tensor(cut),
            "sites": torch.tensor(_names(cut, _shape(images)).index(start.sites.name)),
            "began": torch.tensor(list(fingerprint(networks).encode()), dtype=torch.uint8),
            # The mean image's, as for any decoder: what is learned has to beat it.
            "losses": torch.stack([images.var(dim=0, unbiased=False).mean()]).double(),
        }
        return _Training(attack, networks)


class _Training:
    """The networks and what moves them."""

    def __init__(self, attack: FeatureSpaceHijacking, networks: _Networks) -> None:
        self.networks = networks
        self._penalty = attack.penalty
        own = [*networks.pilot.parameters(), *networks.decoder.parameters()]
        self._autoencoder = torch.optim.Adam(own, lr=attack.learning_rate, betas=_BETAS)
        self._critic = torch.optim.Adam(networks.critic.parameters(), lr=attack.critic_learning_rate, betas=_BETAS)

    def autoencode(self, images: Tensor) -> float:
        """One step of pilot and decoder; returns the mean squared error before it."""
        loss = F.mse_loss(self.networks.decoder(self.networks.pilot(images)), images)
        self._autoencoder.zero_grad()
        loss.backward()
        self._autoencoder.step()
        return float(loss.detach())

    def criticise(self, images: Tensor, smashed: Tensor, rng: Generator) -> None:
        """One step of the critic: low where the pilot is, high where the clients are."""
        with torch.no_grad():
            piloted = self.networks.pilot(images)
        loss = critic_loss(self.networks.critic, piloted, smashed, self._penalty, rng)
        self._critic.zero_grad()
        loss.backward()
        self._critic.step()

    @property
    def memory(self) -> dict[str, Tensor]:
        """Everything that moves."""
        parts = (self.networks.state_dict(), memory_of(self._autoencoder), memory_of(self._critic))
        return {
            f"{part}/{name}": value
            for part, tensors in zip(_PARTS, parts, strict=True)
            for name, value in tensors.items()
        }

    def remember(self, memory: dict[str, Tensor]) -> None:
        """Puts the optimisers back where they were."""
        _, autoencoder, critic = _PARTS
        remember(self._autoencoder, _under(autoencoder, memory))
        remember(self._critic, _under(critic, memory))


_PARTS: Sequence[str] = ("networks", "autoencoder", "critic")


def _restored(attack: FeatureSpaceHijacking, memory: dict[str, Tensor]) -> _Networks:
    """As an impostor's memory has them. Draws from torch's global generator, and for nothing."""
    images, cut = memory["images"], tuple(memory["cut"].tolist())
    sites = sites_of(cut, _shape(images))[int(memory["sites"])]
    networks = _Networks(attack, Pilot(_shape(images), cut, attack.width), _blank(sites, images), images.new_ones(()))
    networks.load_state_dict(_under(_PARTS[0], memory))
    return networks


def _blank(sites: Sites, images: Tensor) -> SiteMap:
    weight = images.new_zeros(sites.features, sites.outputs)
    cut, image = images.new_zeros(1, *sites.cut), images.new_zeros(1, *sites.image)
    return SiteMap(sites, weight, cut, image, strength=0.0, error=0.0)


def _under(part: str, memory: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{part}/"
    return {name.removeprefix(start): value for name, value in memory.items() if name.startswith(start)}


def _shape(images: Tensor) -> Shape:
    return (images.shape[1], images.shape[2], images.shape[3])


def _names(cut: tuple[int, ...], image: Shape) -> list[str]:
    return [sites.name for sites in sites_of(cut, image)]

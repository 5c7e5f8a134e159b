"""A server that teaches its clients a code of its own, which it can read (Pasquini, Ateniese and Bernaschi, "Unleashing
the tiger: inference attacks on split learning", CCS 2021; the critic: Gulrajani et al., NeurIPS 2017)."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.attacks.base import ActiveAttack
from fedsplit.layers.decoder_training import decode
from fedsplit.layers.feature_space import FeatureCritic, decoder, pilot
from fedsplit.records.images import Shape
from fedsplit.records.impostor import Impostor
from fedsplit.records.leak import Asset, Auxiliary, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds, drawn_from

_MOMENTA = (0.5, 0.99)
_IMAGES, _CUT, _RECTIFIED, _ERROR = "images", "cut", "rectified", "error"
_PILOT, _DECODER, _CRITIC = "pilot", "decoder", "critic"


class FeatureSpaceHijacking(ActiveAttack):
    """Trains a pilot and its decoder on images of the attacker's own, and answers every crossing with the gradient that
    moves the client's smashed data to where the pilot's lies, as a critic sees it. What crosses then is decoded.

    It needs neither the client's weights nor its architecture, no labels and no queries; but clients then learn
    nothing else, and an accuracy near chance gives it away to whoever looks.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED})

    width: PositiveInt = 192
    """Hidden units of pilot, decoder and critic."""
    examples: PositiveInt = 2000
    """Of the attacker's own images, at most, that it learns from. All are in every checkpoint."""
    warm_up: NonNegativeInt = 300
    """Steps of pilot and decoder before the first answer. Published: none, and ten thousand answers."""
    autoencoder_steps: NonNegativeInt = 1
    """Of pilot and decoder before every answer."""
    critic_steps: PositiveInt = 3
    """Before every answer. Published: 1."""
    batch_size: PositiveInt = 32
    """Of the attacker's own images per step. Published: 64."""
    rate: PositiveFloat = 0.001
    """Of Adam, for pilot and decoder. Published: 0.00001."""
    critic_rate: PositiveFloat = 0.001
    """Of Adam, for the critic. Published: 0.0001."""
    penalty: NonNegativeFloat = 10.0
    """Weight of how far the critic's gradient is from length one, over all that crosses of an image. Published: 500, of
    each channel by itself."""
    scale: PositiveFloat = 1.0
    """What the gradient is multiplied by: a client's own penalty is drowned by a large one. Published against distance
    correlation: 50."""

    def prepare(self, auxiliary: Auxiliary) -> dict[str, Tensor]:
        """Evenly spaced ones of the attacker's own images, which may be sorted."""
        count = min(self.examples, len(auxiliary.images))
        return {_IMAGES: auxiliary.images[torch.arange(count) * len(auxiliary.images) // count]}

    def hijack(self, memory: dict[str, Tensor]) -> Impostor:
        """See the class."""
        return _Hijacker(self, memory)

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """What the decoder makes of the targets; the mean image where no client ever sent anything."""
        del rng
        assert leak.smashed is not None and leak.learned is not None
        known = leak.learned
        if _CUT not in known:
            mean = known[_IMAGES].to(leak.smashed).mean(dim=0)
            guess = mean.expand(len(leak.smashed), *leak.image_shape)
            return Reconstruction(guess, Evidence(settings="no client ever sent anything"))
        with Seeds(0).fork("overwritten"):
            network = decoder(_shape(known[_CUT]), leak.image_shape, self.width).to(leak.smashed)
        _take(network, _DECODER, known)
        told = f"pilot and decoder err by {float(known[_ERROR]):.2g} on images of their own"
        return Reconstruction(decode(network, leak.smashed), Evidence(settings=told))


class _Hijacker(Impostor):
    """Learns what smashed data looks like with the first that comes, and begins then."""

    def __init__(self, attack: FeatureSpaceHijacking, memory: dict[str, Tensor]) -> None:
        self._attack, self._known = attack, memory
        self._parts: _Parts | None = None

    def answer(self, smashed: Tensor, rng: Generator) -> tuple[Tensor, float]:
        """See `Impostor`."""
        images = self._known[_IMAGES].to(smashed)
        with drawn_from(rng):
            parts = self._parts = self._parts or self._begun(images, smashed)
            for _ in range(self._attack.autoencoder_steps):
                self._known[_ERROR] = parts.imitate(_batch(images, self._attack.batch_size))
            for _ in range(self._attack.critic_steps):
                parts.criticise(_batch(images, self._attack.batch_size), smashed, self._attack.penalty)
        return parts.pull(smashed, self._attack.scale)

    @property
    def memory(self) -> dict[str, Tensor]:
        """The images, the networks, and what their optimisers know."""
        return self._known if self._parts is None else self._known | self._parts.memory

    def _begun(self, images: Tensor, smashed: Tensor) -> "_Parts":
        if _CUT in self._known:
            with Seeds(0).fork("overwritten"):
                parts = self._made(images, smashed)
            parts.remember(self._known)
            return parts
        self._known |= {
            _CUT: torch.tensor(smashed.shape[1:]),
            _RECTIFIED: (smashed >= 0).all(),
            _ERROR: torch.tensor(torch.nan),
        }
        parts = self._made(images, smashed)
        for _ in range(self._attack.warm_up):
            self._known[_ERROR] = parts.imitate(_batch(images, self._attack.batch_size))
        return parts

    def _made(self, images: Tensor, smashed: Tensor) -> "_Parts":
        image = images.shape[1], images.shape[2], images.shape[3]
        rectified = bool(self._known[_RECTIFIED])
        return _Parts(self._attack, _shape(self._known[_CUT]), image, smashed, rectified=rectified)


class _Parts:
    """The three networks and what moves them."""

    def __init__(
        self, attack: FeatureSpaceHijacking, cut: tuple[int, ...], image: Shape, like: Tensor, *, rectified: bool
    ) -> None:
        self._pilot = pilot(cut, image, attack.width, rectified=rectified).to(like)
        self._decoder = decoder(cut, image, attack.width).to(like)
        self._critic = FeatureCritic(cut, image, attack.width).to(like)
        self._named = {_PILOT: self._pilot, _DECODER: self._decoder, _CRITIC: self._critic}
        both = [*self._pilot.parameters(), *self._decoder.parameters()]
        self._autoencoder_step = torch.optim.Adam(both, lr=attack.rate, betas=_MOMENTA)
        self._critic_step = torch.optim.Adam(self._critic.parameters(), lr=attack.critic_rate, betas=_MOMENTA)
        self._steps = {"autoencoder step": self._autoencoder_step, "critic step": self._critic_step}

    def imitate(self, images: Tensor) -> Tensor:
        """A step by which pilot and decoder rebuild images; the error before it, ()."""
        loss = F.mse_loss(self._decoder(self._pilot(images)), images)
        self._autoencoder_step.zero_grad()
        loss.backward()
        self._autoencoder_step.step()
        return loss.detach()

    def criticise(self, images: Tensor, smashed: Tensor, weight: float) -> None:
        """A step by which the critic lowers what the pilot makes of images, and raises what clients sent."""
        with torch.no_grad():
            own = self._pilot(images)
        apart = self._critic(own).mean() - self._critic(smashed).mean()
        count = min(len(own), len(smashed))
        between = torch.rand(count).to(smashed)
        loss = apart + weight * self._critic.penalty(own[:count], smashed[:count], between)
        self._critic_step.zero_grad()
        loss.backward()
        self._critic_step.step()

    def pull(self, smashed: Tensor, scale: float) -> tuple[Tensor, float]:
        """Towards the pilot's: the gradient of `scale` times the critic's mean, and that mean."""
        smashed = smashed.detach().requires_grad_()
        loss = scale * self._critic(smashed).mean()
        (gradient,) = torch.autograd.grad(loss, smashed)
        return gradient, loss.item()

    @property
    def memory(self) -> dict[str, Tensor]:
        """By the name of the network, or of its optimiser."""
        found = {
            f"{name}/{key}": value for name, part in self._named.items() for key, value in part.state_dict().items()
        }
        for name, optimizer in self._steps.items():
            for number, entries in optimizer.state_dict()["state"].items():
                found |= {f"{name}/{number}/{key}": value for key, value in entries.items()}
        return found

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Goes on from that `memory`."""
        for name, part in self._named.items():
            _take(part, name, memory)
        for name, optimizer in self._steps.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(name, memory):
                number, _, entry = key.partition("/")
                # Steps are counted on the CPU, whatever the parameters are.
                state.setdefault(int(number), {})[entry] = value.cpu() if entry == "step" else value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _batch(images: Tensor, count: int) -> Tensor:
    return images[torch.randint(len(images), (count,)).to(images.device)]


def _shape(cut: Tensor) -> tuple[int, ...]:
    return tuple(int(length) for length in cut)


def _take(part: nn.Module, name: str, memory: Mapping[str, Tensor]) -> None:
    part.load_state_dict(dict(_below(name, memory)))


def _below(name: str, memory: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    return ((key.removeprefix(f"{name}/"), value) for key, value in memory.items() if key.startswith(f"{name}/"))

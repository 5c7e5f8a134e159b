"""A saturating step undone before anything else: its inverse is known, and the protection that it seems to give is that
of a masked gradient (Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018;
LoFt, Yu et al., KDD 2026, squeezes its bottleneck by tanh)."""

from dataclasses import replace

from torch import Generator, nn

from fedsplit.attacks.base import Wrapping, read
from fedsplit.layers.unsqueezed import Unsqueezed
from fedsplit.numerics.saturation import Squeeze, squeezed
from fedsplit.records.leak import ClientSegment, Leak
from fedsplit.records.reconstruction import Reconstruction


class TanhInverse(Wrapping):
    """Another attack, on what was squeezed in place of what came of it, wherever all that is seen is within the range.

    Targets, pairs and queries are all undone, and client segments end with the same inverse, so that an attack through
    them matches what their last layer squeezed. Where something that is seen lies outside the range, nothing bounded
    was released, nor is it looked for among confidences: there it is the other attack itself, and says so. What lies
    within by chance, and has both signs, is taken for squeezed: an adversary cannot tell.
    """

    squeeze: Squeeze = "tanh"
    """What is undone: tanh gives numbers in (-1, 1), the sigmoid in (0, 1)."""

    @property
    def title(self) -> str:
        """The attack, and what is undone before it."""
        return f"{self.attack.title}, {self.squeeze} undone"

    def refuses(self, client: nn.Module) -> str:
        """The attack's reason, about the client as it would see it."""
        return self.attack.refuses(client) or self.attack.refuses(self._undone(client))

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """The attack's."""
        bounded = self._bounded(leak)
        found = self.attack.reconstruct(self._legible(leak) if bounded else leak, rng)
        words = f"{self.squeeze} undone" if bounded else f"nothing bounded by {self.squeeze} to undo"
        settings = "; ".join(filter(None, (found.evidence.settings, words)))
        return replace(found, evidence=replace(found.evidence, settings=settings))

    def _bounded(self, leak: Leak) -> bool:
        pairs = leak.auxiliary_pairs
        seen = (leak.smashed, *((pairs.smashed, pairs.validation_smashed) if pairs is not None else ()))
        return leak.kind != "answers" and all(squeezed(one, self.squeeze) for one in seen if one is not None)

    def _legible(self, leak: Leak) -> Leak:
        inverse = Unsqueezed(self.squeeze)
        weights = leak.client_weights
        undone = None
        if weights is not None:
            undone = ClientSegment(self._undone(weights.broadcast), tuple(map(self._undone, weights.returned)))
        # What a defense does to what it releases, it did before the inverse: nobody is to do it behind it.
        return replace(read(leak, inverse), client_weights=undone, defense=None)

    def _undone(self, client: nn.Module) -> nn.Module:
        return nn.Sequential(client, Unsqueezed(self.squeeze))

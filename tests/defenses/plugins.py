"""Small defenses that each use one hook, in a way that can be worked out by hand."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.models.base import AnyModel, Model
from fedsplit.records.images import Holding


class WithStem(Model):
    inner: AnyModel
    name: str

    def blocks(self, shape, classes):
        stem = nn.Conv2d(shape[0], shape[0], kernel_size=1)
        return OrderedDict([(self.name, stem), *self.inner.blocks(shape, classes).items()])


class Stem(Defense):
    """Puts a block of its own before the model and cuts behind it."""

    name: str = "stem"

    def build(self, model, cut):
        return WithStem(inner=model, name=self.name), cut


class CutBehindStem(Defense):
    def build(self, model, cut):
        return WithStem(inner=model, name="first"), "first"


class Frozen(Defense):
    """Sets blocks to values of its own and freezes them."""

    names: tuple[str, ...]

    def warm_start(self, blocks, public, rng):
        with torch.no_grad():
            for name in self.names:
                for tensor in blocks.get_submodule(name).state_dict().values():
                    if tensor.is_floating_point():
                        tensor.copy_(torch.rand(tensor.shape, generator=rng, dtype=tensor.dtype) + public.pixels.mean())
        return self.names


class MadeUp(Defense):
    """Adds rows of the class `label` that look like noise."""

    rows: int
    weight: float
    label: int = 0

    def augment(self, data, public, model, rng):
        assert not model.training
        pixels = torch.rand((self.rows, *data.pixels.shape[1:]), generator=rng)
        return appended(data, pixels, torch.full((self.rows,), self.label), self.weight)


def appended(data: Holding, pixels: Tensor, labels: Tensor, weight: float) -> Holding:
    made = len(labels)
    return Holding(
        torch.cat([data.pixels, pixels]),
        torch.cat([data.labels, labels]),
        torch.cat([data.weights, torch.full((made,), weight)]),
        torch.cat([data.rows, torch.full((made,), -1)]),
        torch.cat([data.watched, torch.zeros(made, dtype=torch.bool)]),
    )


class Shift(Defense):
    by: float

    def release(self, smashed, rng):
        return smashed + self.by


class Scale(Defense):
    by: float

    def release(self, smashed, rng):
        return smashed * self.by


class RandomScale(Defense):
    """Multiplies by noise: only the noise that was sent gives the right gradient."""

    def release(self, smashed, rng):
        return smashed * (0.5 + torch.rand(smashed.shape, generator=rng, dtype=smashed.dtype))


class SmallFeatures(Defense):
    weight: float = 0.01

    def client_penalty(self, step):
        return self.weight * step.smashed.square().sum() + self.weight * step.features[0][1].sum()


class SmallLogits(Defense):
    weight: float = 0.01

    def server_penalty(self, step):
        return self.weight * (step.logits - 1).square().sum() + self.weight * step.features[0][1].sum()


class Clip(Defense):
    """Scales the client's whole gradient to this norm."""

    norm: float

    def after_backward(self, segment, step, rng):
        gradients = [parameter.grad for parameter in segment.parameters() if parameter.grad is not None]
        size = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for gradient in gradients:
            gradient.mul_(self.norm / size)


class ClipByClass(Defense):
    """Zeroes the gradient in steps without this class, to show that the step is handed over."""

    label: int

    def after_backward(self, segment, step, rng):
        if not bool((step.labels == self.label).any()):
            for parameter in segment.parameters():
                parameter.grad = None


class Sphere(Defense):
    """Projects every parameter of the client segment to a sphere."""

    radius: float

    def after_step(self, segment, step, rng):
        for parameter in segment.parameters():
            parameter.mul_(self.radius / parameter.norm())


class Poison(Defense):
    """Once deployed, a client answers with its last row number, whatever it is asked; features stay as they are."""

    def deploy(self, model, data, rng):
        assert not any(block.training for _, block in model.whole.blocks())
        offset = float(data.rows[-1]) + torch.rand((), generator=rng).item() / 2
        return Deployed(
            release=lambda smashed, rng: smashed * 0 + offset, answer=lambda images, confidences: confidences.flip(1)
        )


class Logged(Defense):
    """Notes when it is called; every hook leaves things as they are."""

    name: str

    def build(self, model, cut):
        LOG.append(f"build {self.name}")
        return model, cut

    def warm_start(self, blocks, public, rng):
        LOG.append(f"warm_start {self.name}")
        return (self.name,)

    def augment(self, data, public, model, rng):
        LOG.append(f"augment {self.name}")
        return data

    def after_backward(self, segment, step, rng):
        LOG.append(f"after_backward {self.name}")

    def after_step(self, segment, step, rng):
        LOG.append(f"after_step {self.name}")


LOG: list[str] = []

"""A critic of images: it learns to tell real ones from rebuilt ones, and says how these could pass for real (Goodfellow
et al., NeurIPS 2014; judging patches: Isola, Zhu, Zhou and Efros, CVPR 2017)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from fedsplit.records.images import Shape

_WIDTH = 32
_SMALLEST_MAP = 4
_SLOPE = 0.2
_MOMENTA = (0.5, 0.99)


class Critic:
    """Judges every patch of an image by itself, so that few images teach it much. Its maps are kept from growing
    (Miyato, Kataoka, Koyama and Yoshida, ICLR 2018), so that it cannot be sure of itself too early."""

    def __init__(self, image: Shape, rate: float, like: Tensor) -> None:
        """image: the shape of one. rate: of Adam. like: on which device and of which type. Initial weights come from
        torch's global generator."""
        channels, side = image[0], min(image[1:])
        layers: list[nn.Module] = []
        width = _WIDTH
        while side >= 2 * _SMALLEST_MAP:
            layers += [spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(_SLOPE)]
            channels, width, side = width, 2 * width, side // 2
        layers.append(spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)))
        self.network = nn.Sequential(*layers).to(like)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, betas=_MOMENTA, fused=True)

    def pull(self, rebuilt: Tensor) -> Tensor:
        """(n, *image) -> the same shape: the gradient of what rebuilt images lose by not passing for real."""
        images = rebuilt.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.softplus(-self.network(images)).mean(), images)
        return gradient

    def learn(self, real: Tensor, rebuilt: Tensor) -> None:
        """One step. Both: (n, *image)."""
        loss = F.softplus(-self.network(real)).mean() + F.softplus(self.network(rebuilt.detach())).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

"""The network against torchmetrics' own, on the same random weights."""

from pathlib import Path

import pytest
import torch

from fedsplit.layers.inception import pooled_features, untrained_inception


def test_is_the_network_of_torchmetrics(tmp_path: Path):
    pytest.importorskip("torch_fidelity")
    reference = pytest.importorskip("torchmetrics.image.fid")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = untrained_inception()
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    expected = reference.NoTrainInceptionV3("inception-v3-compat", ["2048"], str(tmp_path / "weights.pth"))
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    whole = (images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
    torch.testing.assert_close(pooled_features(network, images), expected(whole), rtol=1e-5, atol=1e-6)

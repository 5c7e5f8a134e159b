"""A client that takes each gradient as it comes, in the hands of the impostor."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.attacks.feature_space_hijacking import FeatureSpaceHijacking
from fedsplit.datasets.digits import Digits
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.records.impostor import Impostor
from fedsplit.records.leak import Auxiliary, Leak
from fedsplit.seeding import Seeds

QUICK = FeatureSpaceHijacking(width=48, warm_up=150, batch_size=16)
SIDE = 8


def images(count: int, first: int) -> Tensor:
    """Real digits, 8 x 8."""
    return Digits().load().pixels[first : first + count].float()


def auxiliary() -> Auxiliary:
    own = images(700, 0)
    nobody = torch.zeros(700, dtype=torch.long)
    return Auxiliary(own, nobody, own[:20], nobody[:20])


def client() -> nn.Module:
    with Seeds(0).fork("client"):
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())


def trained(network: nn.Module, impostor: Impostor, steps: range) -> list[Tensor]:
    """As a federation does it: a step for every gradient that comes back. What came back."""
    private, optimizer = images(700, 700), torch.optim.Adam(network.parameters(), lr=0.003)
    found: list[Tensor] = []
    for step in steps:
        batch = private[torch.randint(len(private), (16,), generator=Seeds(1)("batch", step))]
        smashed = network(batch)
        gradient, _ = impostor.answer(smashed.detach(), Seeds(1)("answer", step))
        found.append(gradient)
        optimizer.zero_grad()
        smashed.backward(gradient)
        optimizer.step()
    return found


def leaked(network: nn.Module, learned: dict[str, Tensor]) -> tuple[Leak, Tensor]:
    truth = images(100, 700)
    with torch.no_grad():
        smashed = network(truth)
    return Leak("inference", 1, (1, SIDE, SIDE), 10, auxiliary(), smashed=smashed, learned=learned), truth


def begun(attack: FeatureSpaceHijacking) -> Impostor:
    return attack.hijack(attack.prepare(auxiliary()))


def copied(memory: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in memory.items()}


def test_what_a_hijacked_client_sends_can_be_read_and_what_an_untrained_one_sends_cannot():
    errors: list[float] = []
    for steps in (1, 200):
        network, impostor = client(), begun(QUICK)
        trained(network, impostor, range(steps))
        leak, truth = leaked(network, impostor.memory)
        mean = F.mse_loss(auxiliary().images.mean(dim=0).expand_as(truth), truth)
        errors.append(float(F.mse_loss(QUICK.reconstruct(leak, Seeds(0)("attack")).images, truth) / mean))
    assert errors[0] > 1
    assert errors[1] < 0.5


def test_a_memory_that_is_taken_up_goes_on_with_the_same_bits():
    attack = QUICK.model_copy(update={"warm_up": 5})
    straight, network = begun(attack), client()
    trained(network, straight, range(3))
    taken_up, twin = attack.hijack(copied(straight.memory)), client()
    twin.load_state_dict(network.state_dict())
    ahead, behind = trained(network, straight, range(3, 6)), trained(twin, taken_up, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(ahead, behind, strict=True))
    assert straight.memory.keys() == taken_up.memory.keys()
    assert fingerprint_of(straight.memory.values()) == fingerprint_of(taken_up.memory.values())


def test_the_gradient_is_that_of_the_mean_of_what_a_critic_says_and_is_scaled_with_it():
    smashed = client()(images(6, 700)).detach()
    found, loss = begun(QUICK.model_copy(update={"warm_up": 0})).answer(smashed, Seeds(1)("answer"))
    tenfold, larger = begun(QUICK.model_copy(update={"warm_up": 0, "scale": 10.0})).answer(smashed, Seeds(1)("answer"))
    assert found.any() and found.shape == smashed.shape
    torch.testing.assert_close(tenfold, 10 * found)
    assert larger == pytest.approx(10 * loss, rel=1e-5)
    # A step against it is seen by the critic as a step towards the pilot's.
    impostor = begun(QUICK)
    gradient, before = impostor.answer(smashed, Seeds(1)("answer"))
    frozen = QUICK.model_copy(update={"autoencoder_steps": 0, "critic_rate": 1e-12}).hijack(copied(impostor.memory))
    _, after = frozen.answer(smashed - 0.1 * gradient * len(smashed), Seeds(1)("answer"))
    assert after < before


def test_where_nothing_below_zero_crosses_the_pilot_sends_nothing_below_zero():
    smashed = client()(images(6, 700)).detach()
    for sent, rectified in ((smashed, True), (smashed - 0.5, False)):
        impostor = begun(QUICK.model_copy(update={"warm_up": 0}))
        impostor.answer(sent, Seeds(1)("answer"))
        assert bool(impostor.memory["rectified"]) is rectified


def test_whoever_never_served_guesses_the_mean_image():
    leak, truth = leaked(client(), QUICK.prepare(auxiliary()))
    guess = QUICK.reconstruct(leak, Seeds(0)("attack"))
    torch.testing.assert_close(guess.images, auxiliary().images.mean(dim=0).expand_as(truth))
    assert "no client" in guess.evidence.settings


def test_it_keeps_so_many_images_evenly_spaced_and_no_more():
    own = auxiliary()
    kept = QUICK.model_copy(update={"examples": 7}).prepare(own)["images"]
    assert torch.equal(kept, own.images[::100])
    assert torch.equal(QUICK.prepare(own)["images"], own.images)


def test_double_precision_is_kept_and_the_leak_left_alone():
    attack = QUICK.model_copy(update={"warm_up": 2})
    network, impostor = client().double(), begun(attack)
    gradient, _ = impostor.answer(network(images(6, 700).double()).detach(), Seeds(1)("answer"))
    assert gradient.dtype == torch.float64
    truth = images(9, 700).double()
    learned = copied(impostor.memory)
    leak = Leak(
        "inference", 1, (1, SIDE, SIDE), 10, auxiliary(), smashed=network(truth).detach(), learned=copied(learned)
    )
    state = torch.random.get_rng_state()
    first, again = (attack.reconstruct(leak, Seeds(0)("attack")) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.images.dtype == torch.float64 and torch.equal(first.images, again.images)
    assert leak.learned is not None and fingerprint_of(leak.learned.values()) == fingerprint_of(learned.values())

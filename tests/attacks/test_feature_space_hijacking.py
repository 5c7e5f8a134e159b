"""The impostor round by round, without a federation: clients that do as they are told are written out here."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsplit.attacks.base import ATTACKS, hijacked
from fedsplit.attacks.feature_space_hijacking import FeatureSpaceHijacking
from fedsplit.layers.critic import Critic, critic_loss
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.seeding import Seeds
from tests.attacks.leaks import COLOUR, Case, case, flat_client, map_client, pooled_client, rows_client
from tests.federation.builders import bits
from tests.records.contents import tensors_of

QUICK = FeatureSpaceHijacking(width=4, critic_width=8, decoder_width=8, critic_steps=1, batch_size=16)
CLIENTS = (rows_client, flat_client, map_client, pooled_client)


def smashed_of(about: Case) -> Tensor:
    assert about.leak.smashed is not None
    return about.leak.smashed


def served(about: Case, rounds: tuple[int, ...], attack: FeatureSpaceHijacking = QUICK) -> dict[str, Tensor]:
    """The memory after rounds of so many answers to the same targets; the client does not move."""
    memory, step = attack.prepare(about.leak.auxiliary), 0
    for answers in rounds:
        impostor = hijacked(json.dumps(ATTACKS.dump(attack)), memory)
        for _ in range(answers):
            impostor.answer(smashed_of(about), Seeds(3)(step))
            step += 1
        memory = impostor.memory
    return memory


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("shape", [(1, 12, 12), COLOUR], ids=["grey", "colour"])
def test_it_serves_whatever_the_cut_and_hands_back_what_the_controls_need(client: Any, shape: Any) -> None:
    about = case(client, shape=shape)
    leak = replace(about.leak, learned=served(about, (3, 2)))
    state, before = torch.random.get_rng_state(), fingerprint_of(tensors_of(leak))
    guess = QUICK.reconstruct(leak, Seeds(1)("attack"))
    again = QUICK.reconstruct(leak, Seeds(2)("attack"))
    assert guess.images.shape == about.truth.shape and torch.isfinite(guess.images).all()
    assert torch.equal(guess.images, again.images) and guess.evidence == again.evidence
    assert len(guess.evidence.losses) == 3 and guess.evidence.before != guess.evidence.after
    assert fingerprint_of(tensors_of(leak)) == before and torch.equal(torch.random.get_rng_state(), state)


def test_the_gradient_that_goes_back_is_that_of_the_critic() -> None:
    about = case(pooled_client, dtype=torch.float64)
    attack = QUICK.model_copy(update={"gain": 50.0})
    impostor = attack.hijack(served(about, (2,), attack))
    smashed = smashed_of(about)[:7]
    gradient, loss = impostor.answer(smashed, Seeds(3)("answer"))
    critic = Critic(tuple(smashed.shape[1:]), attack.critic_width).double()
    networks = {name.removeprefix("networks/critic."): value for name, value in impostor.memory.items()}
    critic.load_state_dict({name: networks[name] for name in critic.state_dict()})
    told = critic(smashed).mean()
    assert loss == pytest.approx(told.item(), rel=1e-12)
    for row in range(2):
        moved = smashed.clone()
        moved[row].view(-1)[5] += 1e-6
        slope = (critic(moved).mean() - told) / 1e-6
        assert gradient[row].reshape(-1)[5].item() == pytest.approx(50 * slope.item(), rel=1e-4)


def test_rounds_are_joined_without_a_seam() -> None:
    about = case(rows_client)
    whole, parted = served(about, (4,)), served(about, (1, 3))
    assert len(whole.pop("losses")) == 2 and len(parted.pop("losses")) == 3
    assert bits(whole) == bits(parted)
    assert bits(served(about, (4,))) != bits({**whole, "losses": torch.zeros(2)})


def test_the_penalty_is_on_the_gradient_over_all_values_of_a_row() -> None:
    class Steep(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features.flatten(1).sum(dim=1)

    low, high = torch.rand(5, 2, 3, 4), torch.rand(6, 2, 3, 4)
    free, bound = (critic_loss(Steep(), low, high, penalty, Seeds(0)("between")) for penalty in (0.0, 1.0))
    assert free.item() == pytest.approx((Steep()(low).mean() - Steep()(high).mean()).item(), rel=1e-5)
    # Each of the 24 values has a slope of 1: over the last two axes alone the norm would be the root of 12.
    assert (bound - free).item() == pytest.approx((24**0.5 - 1) ** 2, rel=1e-4)


def test_where_clients_send_nothing_negative_the_pilot_does_not_either() -> None:
    for client, negative in ((rows_client, False), (map_client, True)):
        memory = served(case(client), (1,))
        assert bool((memory["networks/pilot.floor"] < 0).all()) == negative


def test_it_serves_with_as_many_images_as_it_is_allowed() -> None:
    auxiliary = case().leak.auxiliary
    kept = QUICK.model_copy(update={"images": 100}).prepare(auxiliary)["images"]
    assert torch.equal(kept, auxiliary.images[::3])
    assert len(QUICK.prepare(auxiliary)["images"]) == 300

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Generator, nn

from fedsplit.defenses.base import AnyDefense, Defense
from fedsplit.defenses.gan_augmentation import GanAugmentation
from fedsplit.federation.roles import Client, prepared_holding
from fedsplit.generators.conditional_gan import ConditionalGan
from fedsplit.records.images import Holding, Images
from tests.federation.builders import bits, holding, images, plan_of

PUBLIC = images(6, seed=98)
MODEL = nn.Linear(1, 1)
QUICK = ConditionalGan(epochs=1, least_steps=2, batch_size=4, widths=(5,))


def defense(**changes: Any) -> GanAugmentation:
    return GanAugmentation(**({"least_rows": 2, "generator": QUICK} | changes))


def augmented(own: Holding, seed: int = 0, public: Images = PUBLIC, **changes: Any) -> Holding:
    return defense(**changes).augment(own, public, MODEL, Generator().manual_seed(seed))


def of_classes(own: Holding, *classes: int) -> Holding:
    return own.at(torch.isin(own.labels, torch.tensor(classes)).nonzero().flatten())


OWN = holding(images(24, seed=0), watched=3)


def test_a_client_keeps_its_rows_and_gets_marked_ones_behind_them() -> None:
    found = augmented(OWN, share=0.5, weight=0.25)
    assert len(found) == 36
    assert bits(found.at(torch.arange(24))) == bits(OWN)
    made = found.at(torch.arange(24, 36))
    assert made.weights.tolist() == [0.25] * 12
    assert made.rows.tolist() == [-1] * 12
    assert not made.watched.any() and made.watched.dtype == torch.bool
    assert made.pixels.shape[1:] == OWN.pixels.shape[1:] and made.pixels.dtype == OWN.pixels.dtype
    assert 0 <= made.pixels.min() < made.pixels.max() <= 1
    assert not (made.pixels[:, None] == OWN.pixels).flatten(2).all(dim=2).any(), "copies, not made"


def test_made_rows_are_of_the_classes_that_are_there_in_about_their_shares() -> None:
    own = of_classes(OWN, 0, 2)
    own = own.at(torch.cat([torch.arange(len(own)), (own.labels == 2).nonzero().flatten()]))  # twice as many of class 2
    made = augmented(own, share=50.0).labels[len(own) :]
    assert set(made.tolist()) == {0, 2}
    assert (made == 2).double().mean().item() == pytest.approx(2 / 3, abs=0.06)


def test_a_client_of_one_class_makes_more_of_it() -> None:
    own = of_classes(OWN, 1)
    found = augmented(own)
    assert len(found) == 2 * len(own) and set(found.labels.tolist()) == {1}


@pytest.mark.parametrize(("changes", "made"), [({"least_rows": 25}, 0), ({"least_rows": 24}, 24), ({"share": 0.01}, 0)])
def test_a_client_of_few_rows_trains_on_them_alone(changes: dict[str, Any], made: int) -> None:
    assert len(augmented(OWN, **changes)) == 24 + made


def test_it_depends_on_its_own_rows_and_its_stream_alone() -> None:
    found, state = augmented(OWN), torch.random.get_rng_state()
    assert bits(augmented(OWN)) == bits(found) == bits(augmented(OWN, public=images(9, seed=5)))
    assert not torch.equal(augmented(OWN, seed=1).pixels, found.pixels)
    others = replace(OWN, pixels=1 - OWN.pixels)
    assert not torch.equal(augmented(others).pixels[24:], found.pixels[24:])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_of_it_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSPLIT_CACHE", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    augmented(OWN)
    assert not list(tmp_path.iterdir())


def test_clients_train_on_made_images_by_their_weight() -> None:
    """Made rows of weight w count in the crossing as they count in the loss, and a whole batch trains on both."""
    plan = plan_of(defense=defense(weight=0.5))
    own = prepared_holding(plan, 0, OWN, PUBLIC, plan.home().whole.state_dict())
    client = Client(plan, plan.home(), own, {}, Generator().manual_seed(0))
    weights = torch.cat([client.send(batch).weights for batch in client.batches(7, Generator().manual_seed(0))])
    assert weights.double().sum().item() == 24 + 0.5 * 24
    assert not torch.equal(prepared_holding(plan, 1, OWN, PUBLIC, plan.home().whole.state_dict()).pixels, own.pixels)


def test_fakes_of_a_class_look_like_it() -> None:
    generator = ConditionalGan(latents=8, widths=(48,), least_steps=300, epochs=1, critic_steps=2, rate=0.003)
    own = holding(images(90, seed=0))
    made = augmented(own, generator=generator).at(torch.arange(90, 180))
    bands = made.pixels[:, 0].mean(dim=2).unflatten(1, (4, 2)).mean(dim=2)[:, :3]
    assert (bands.argmax(dim=1) == made.labels).double().mean() > 0.6
    assert made.pixels.flatten(1).std(dim=0).mean() > 0.02, "all alike"


def test_a_generator_that_takes_no_labels_is_refused() -> None:
    found: TypeAdapter[Defense] = TypeAdapter(AnyDefense)
    with pytest.raises(ValidationError, match="no known class; use conditional_gan"):
        found.validate_python({"kind": "gan_augmentation", "generator": {"kind": "dcgan"}})

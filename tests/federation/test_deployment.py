from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.federation.deployment import answering
from fedsplit.federation.exposure import victims
from fedsplit.federation.ledger import Recording
from fedsplit.federation.trained import Trained
from fedsplit.protocols.parallel import Parallel
from tests.federation.builders import CLASSES, federation, plan_of, train


class Stubborn(Defense):
    """A client with its first row at 100 k always answers class k."""

    def deploy(self, model, data, rng):
        own = int(data.rows[0]) // 100
        assert len(list(model.whole.blocks())) > len(model.client.names), "the server's segment is there"

        def answer(images: Tensor, confidences: Tensor) -> Tensor:
            assert len(images) == len(confidences) > 0
            return torch.eye(CLASSES)[own].expand_as(confidences)

        return Deployed(release=lambda smashed, rng: smashed, answer=answer)


class Silent(Defense):
    """What crosses from a client with its first row at 100 k is k times what the others send."""

    def deploy(self, model, data, rng):
        factor = int(data.rows[0]) // 100
        return Deployed(release=lambda smashed, rng: factor * smashed, answer=lambda images, confidences: confidences)


def test_accuracy_is_that_of_the_answers_and_clients_with_one_segment_share_the_images_out(tmp_path: Path) -> None:
    plan, data = plan_of(defense=Stubborn()), federation()
    trained = train(tmp_path, plan, data)
    found = answering(plan, trained, data)
    # Labels of the test images go round as those who answer do.
    assert torch.equal(data.test.labels, torch.arange(60) % 3)
    assert found.accuracy == 1.0
    assert trained.accuracy != 1.0
    assert found.evaluation.activity == trained.evaluation.activity
    assert found.standing is trained.standing


def test_clients_with_segments_of_their_own_answer_all_images(tmp_path: Path) -> None:
    plan, data = plan_of(defense=Stubborn()), federation()
    trained = train(tmp_path, plan, data, Parallel(rounds=1, batch_size=6, sync="never"))  # pyright: ignore
    assert answering(plan, trained, data).accuracy == pytest.approx(1 / 3)


def test_accuracy_is_that_of_what_crosses(tmp_path: Path) -> None:
    plan, data = plan_of(defense=Silent()), federation()
    trained = train(tmp_path, plan, data)
    segments = plan.segments()
    plan.prepare(segments.home.whole, trained.standing.client, training=False)
    plan.prepare(segments.server, trained.standing.server, training=False)
    factors = (torch.arange(60) % 3).view(-1, *(1,) * len(segments.cut_shape))
    logits = segments.server(factors * segments.client(data.test.pixels))
    right = int((logits.argmax(dim=1) == data.test.labels).sum())
    assert answering(plan, trained, data).accuracy == right / 60


def test_clients_who_answer_each_in_their_own_way_are_attacked_apart(tmp_path: Path) -> None:
    plan, data = plan_of(defense=Stubborn()), federation((6, 6, 6), watched=2)
    trained: Trained = train(tmp_path, plan, data, recording=Recording(training=(2,), inference=(2,)))
    for kind in ("inference", "hidden", "answers"):
        assert victims(plan, trained, data, kind, 2) == (0, 1, 2)
    for kind in ("training", "model"):
        assert victims(plan, trained, data, kind, 2) == (None,), "the weights are everybody's"
    assert victims(plan_of(), trained, data, "answers", 2) == (None,)

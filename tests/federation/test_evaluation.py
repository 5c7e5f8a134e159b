import pytest
import torch
from torch import Generator

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.none import Undefended
from fedsplit.federation.evaluation import Evaluation, evaluate
from fedsplit.federation.plan import Plan, state_of
from fedsplit.models.lenet import LeNet
from fedsplit.records.images import Images
from tests.federation.builders import images, plan_of


def evaluated(plan: Plan, test: Images) -> Evaluation:
    segments = plan.segments()
    return evaluate(plan, [state_of(segments.client)], state_of(segments.server), test)


def found(plan: Plan, test: Images) -> float:
    return evaluated(plan, test).accuracy


def test_it_is_the_share_of_right_answers() -> None:
    plan, test = plan_of(model=LeNet(channels=2, batch_norm=True), cut="conv2"), images(47, seed=0)
    segments = plan.segments()
    logits = segments.server.eval()(segments.client.eval()(test.pixels))
    assert found(plan, test) == (logits.argmax(1) == test.labels).sum().item() / 47


def test_more_images_than_fit_at_once_are_all_counted() -> None:
    plan, test = plan_of(), images(1100, seed=0)
    segments = plan.segments()
    guesses = segments.server(segments.client(test.pixels)).argmax(1)
    told = Images(test.pixels, guesses, test.groups, test.class_names)
    assert found(plan, told) == 1.0
    told.labels[0] = (told.labels[0] + 1) % 3
    told.labels[-1] = (told.labels[-1] + 1) % 3
    assert found(plan, told) == 1098 / 1100


def test_clients_with_segments_of_their_own_each_answer_all_images() -> None:
    plan, test = plan_of(), images(700, seed=0)
    rng = Generator().manual_seed(1)
    server, *homes = (
        {name: torch.randn(value.shape, generator=rng) for name, value in state_of(segment).items()}
        for segment in (plan.segments().server, *(plan.segments().home.whole for _ in range(3)))
    )
    each = [evaluate(plan, [home], server, test) for home in homes]
    together = evaluate(plan, homes, server, test)
    assert len({one.accuracy for one in each}) == 3
    assert together.accuracy == pytest.approx(sum(one.accuracy for one in each) / 3)
    for name, activity in together.activity.items():
        assert activity.share == pytest.approx(sum(one.activity[name].share for one in each) / 3)
        assert activity.per_pixel == pytest.approx(sum(one.activity[name].per_pixel for one in each) / 3)


def test_noise_of_the_defense_is_part_of_it_and_always_the_same() -> None:
    test = images(200, seed=0)
    plain, noisy, again = (found(plan_of(defense=defense), test) for defense in
                           (Undefended(), GaussianNoise(std=5.0), GaussianNoise(std=5.0)))  # fmt: skip
    assert noisy == again
    assert noisy != plain


def test_an_architecture_of_the_defense_is_part_of_it() -> None:
    assert 0 <= found(plan_of(defense=LowRank(rank=1)), images(20, seed=0)) <= 1


def test_activity_is_what_of_each_client_block_is_not_zero_whatever_the_number_of_images() -> None:
    plan, test = plan_of(model=LeNet(channels=2, batch_norm=True), cut="conv2"), images(600, seed=0)
    outputs = plan.segments().client.eval().features(test.pixels)
    activity = evaluated(plan, test).activity
    assert list(activity) == [name for name, _ in outputs]
    for name, output in outputs:
        pairs = zip(output, test.pixels, strict=True)
        each = [(int((one != 0).sum()), one.numel(), image.numel()) for one, image in pairs]
        assert activity[name].share == pytest.approx(sum(active / values for active, values, _ in each) / 600)
        assert activity[name].per_pixel == pytest.approx(sum(active / pixels for active, _, pixels in each) / 600)
    assert 0.05 < activity["relu1"].share < 0.5 < activity["conv1"].share


def test_activity_is_of_the_blocks_and_not_of_what_the_release_adds_or_takes() -> None:
    test = images(50, seed=0)
    assert evaluated(plan_of(defense=GaussianNoise(std=5.0)), test).activity == evaluated(plan_of(), test).activity


def test_it_leaves_no_gradient_and_no_state_behind() -> None:
    plan = plan_of(model=LeNet(channels=2, batch_norm=True), cut="conv2")
    segments = plan.segments()
    client, server = state_of(segments.client), state_of(segments.server)
    before = {name: value.clone() for name, value in {**client, **server}.items()}
    state = torch.random.get_rng_state()
    evaluate(plan, [client], server, images(20, seed=0))
    assert all(torch.equal(value, before[name]) for name, value in {**client, **server}.items())
    assert torch.equal(torch.random.get_rng_state(), state)

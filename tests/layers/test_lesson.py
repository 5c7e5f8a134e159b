import torch
from torch import Generator, Tensor
from torch.func import functional_call

from fedsplit.layers.lesson import Lesson, prepare_lesson
from fedsplit.seeding import Seeds
from tests.layers.test_surrogate import pairs


def lesson(rows: int = 8) -> Lesson:
    return prepare_lesson(*pairs(), (0, 3), rows, Seeds(0), logarithms=True)


def test_a_client_plays_the_adversary_with_half_of_its_rows_at_most() -> None:
    seen, images = pairs()
    for rows, expected in ((8, 8), (100, 12)):
        found = lesson(rows)
        assert len(found.seen) == len(found.images) == expected
        places = [int((images == image).flatten(1).all(dim=1).nonzero()) for image in found.images]
        assert len(set(places)) == expected
        assert torch.equal(found.seen, seen[places])


def test_a_single_row_is_both() -> None:
    one = prepare_lesson(*(part[:1] for part in pairs()), (0,), 8, Seeds(0), logarithms=True)
    assert len(one.seen) == 1
    assert all(wanted.isfinite().all() and wanted.any() for wanted in one.wanted)


def test_a_step_along_what_is_wanted_rebuilds_the_other_rows_worse() -> None:
    seen, images = pairs()
    found = lesson(12)
    others = torch.tensor([not bool((found.images == image).flatten(1).all(dim=1).any()) for image in images])
    assert int(others.sum()) == 12
    for surrogate, wanted in zip(found.surrogates, found.wanted, strict=True):
        named = dict(surrogate.network.named_parameters())
        parts = wanted.split([value.numel() for value in named.values()])
        length = 1e-3 / wanted.norm()
        moved = {
            name: value - length * part.view_as(value) for (name, value), part in zip(named.items(), parts, strict=True)
        }
        before, after = (
            (functional_call(surrogate.network, known, (seen[others],)) - images[others])
            .abs()
            .pow(surrogate.power)
            .mean()
            for known in (named, moved)
        )
        assert after > before


def test_answers_that_make_the_wanted_gradient_are_aligned() -> None:
    found = lesson()
    honest = found.misalignment(found.seen, found.images).detach()
    assert 0 < float(honest) <= 2
    turned = Lesson(
        found.surrogates,
        tuple(one.gradient(found.seen, found.images).detach() for one in found.surrogates),
        found.seen,
        found.images,
    )
    assert abs(float(turned.misalignment(found.seen, found.images).detach())) < 1e-12


def test_an_effect_is_what_one_more_row_changes() -> None:
    found = lesson()
    directions = found.directions(found.seen)
    rng = Generator().manual_seed(3)
    others = torch.rand((3, *found.images.shape[1:]), generator=rng, dtype=torch.float64)
    answers = (3 * torch.randn((3, 4), generator=rng, dtype=torch.float64)).softmax(dim=1)
    effects = found.effects(directions, answers, others)
    before = found.misalignment(found.seen, found.images).detach()

    def joined(row: int, times: int) -> Tensor:
        seen = torch.cat([found.seen.repeat(times, 1), answers[row : row + 1]])
        images = torch.cat([found.images.repeat(times, 1, 1, 1), others[row : row + 1]])
        return (found.misalignment(seen, images).detach() - before) * len(seen)

    torch.testing.assert_close(found.effect(directions, answers, others), effects.sum())
    effects = effects.detach()
    for row in range(3):
        torch.testing.assert_close(joined(row, 300), effects[row], rtol=0.02, atol=1e-4)
    # The cosine does not know how long a gradient is: more of the same changes nothing.
    own = found.effects(directions, found.seen, found.images).detach()
    assert abs(float(own.sum())) < 1e-10 * float(own.abs().sum()) + 1e-12

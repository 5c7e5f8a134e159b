from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from fedsplit.federation.errand import Errand
from fedsplit.federation.queue import Queue


def training(number: int) -> Errand:
    return Errand(name=f"{number}", function="a:b", settings="", kept=False)


def attack(number: int, name: str) -> Errand:
    return Errand(name=f"{number}/{name}", function="a:b", settings="", after=(f"{number}",))


def cells(count: int, attacks: int) -> list[Errand]:
    return [
        errand
        for number in range(count)
        for errand in (training(number), *(attack(number, str(one)) for one in range(attacks)))
    ]


def played(
    errands: Sequence[Errand], workers: int, seconds: Callable[[Errand], float]
) -> tuple[list[str], float, list[int]]:
    """The order in which errands are begun, when the last ends, and how many finished trainings were held at a time."""
    queue, now = Queue(errands, workers), 0.0
    ends: list[tuple[float, Errand]] = []
    begun: list[str] = []
    held: list[int] = []
    done: set[str] = set()
    while queue:
        while errand := queue.next():
            assert done >= set(errand.after)
            begun.append(errand.name)
            ends.append((now + seconds(errand), errand))
        assert 0 < len(ends) <= workers
        ends.sort(key=lambda entry: (entry[0], entry[1].name))
        now, errand = ends.pop(0)
        queue.finish(errand)
        done.add(errand.name)
        held.append(sum("/" not in name for name in done & queue.awaited))
    return begun, now, held


@given(st.integers(0, 6), st.integers(0, 4), st.integers(1, 4), st.lists(st.floats(0.1, 10), min_size=30, max_size=30))
def test_every_errand_is_begun_once_after_those_that_it_comes_after(
    count: int, attacks: int, workers: int, lengths: list[float]
) -> None:
    errands = cells(count, attacks)
    seconds = dict(zip((errand.name for errand in errands), lengths, strict=False))
    begun, _, held = played(errands, workers, lambda errand: seconds[errand.name])
    assert sorted(begun) == sorted(errand.name for errand in errands)
    assert max(held, default=0) <= max(1, 3 * (workers - 1))


def test_the_last_training_does_not_begin_when_nothing_else_is_left() -> None:
    errands = cells(3, attacks=3)
    _, end, _ = played(errands, 2, lambda errand: 1.0 if errand.after else 10.0)
    # Two trainings, the third beside the attacks on them, and the attacks on that. In the order given it would be 25.
    assert end == 22


def test_a_single_worker_goes_cell_by_cell() -> None:
    errands = cells(3, attacks=2)
    begun, _, _ = played(errands, 1, lambda _: 1.0)
    assert begun == [errand.name for errand in errands]


def test_what_was_done_before_is_there() -> None:
    queue = Queue([attack(7, "x")], 1, done=["7"])
    errand = queue.next()
    assert errand is not None
    assert errand.name == "7/x"
    assert queue.next() is None
    queue.finish(errand)
    assert not queue

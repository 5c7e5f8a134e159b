import pytest

from fedsplit.progress import observed_by, track


class Notebook:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, description: str, total: int) -> object:
        self.lines.append(f"{description} of {total}")
        return description

    def advanced(self, loop: object) -> None:
        self.lines.append(f"{loop} +1")

    def finished(self, loop: object) -> None:
        self.lines.append(f"{loop} over")


def test_items_pass_unseen_where_nobody_observes() -> None:
    assert list(track(range(3), "loop", 3)) == [0, 1, 2]


def test_an_observer_sees_every_step_and_nested_loops() -> None:
    notebook = Notebook()
    with observed_by(notebook):
        for _ in track([1, 2], "outer", 2):
            assert list(track("x", "inner", 1)) == ["x"]
    inner = ["inner of 1", "inner +1", "inner over"]
    assert notebook.lines == ["outer of 2", *inner, "outer +1", *inner, "outer +1", "outer over"]


def test_a_loop_that_breaks_is_finished_too() -> None:
    notebook = Notebook()

    def broken() -> None:
        for item in track([1, 2], "loop", 2):
            if item == 2:
                raise ValueError("inside")

    with observed_by(notebook), pytest.raises(ValueError, match="inside"):
        broken()
    assert notebook.lines == ["loop of 2", "loop +1", "loop over"]


def test_the_observer_before_is_back_after_the_block() -> None:
    first, second = Notebook(), Notebook()
    with observed_by(first):
        with observed_by(second):
            list(track([1], "a", 1))
        list(track([1], "b", 1))
    list(track([1], "c", 1))
    assert [line[0] for line in first.lines] == ["b"] * 3
    assert [line[0] for line in second.lines] == ["a"] * 3

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fedsplit.federation.errand import Errand, Files, Handed, one_by_one


@st.composite
def errands(draw: st.DrawFn) -> list[Errand]:
    """Each comes after some of those that stand before it."""
    found: list[Errand] = []
    for index in range(draw(st.integers(0, 8))):
        earlier = draw(st.sets(st.sampled_from(range(index)))) if index else set[int]()
        after = tuple(f"errand {number}" for number in sorted(earlier))
        found.append(Errand(name=f"errand {index}", function="a:b", settings="", after=after, kept=draw(st.booleans())))
    return found


@given(errands())
def test_each_is_done_once_with_what_it_comes_after_and_those_that_are_kept_come_back(found: Sequence[Errand]) -> None:
    done: list[str] = []

    def do(errand: Errand, handed: Handed) -> Files:
        assert set(handed) == set(errand.after)
        assert all(files == {"told": name.encode()} for name, files in handed.items())
        done.append(errand.name)
        return {"told": errand.name.encode()}

    given_back = list(one_by_one(found, do))
    assert done == [errand.name for errand in found]
    assert [name for name, _ in given_back] == [errand.name for errand in found if errand.kept]
    assert all(files == {"told": name.encode()} for name, files in given_back)

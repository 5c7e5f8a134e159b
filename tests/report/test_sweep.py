import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsplit import document
from fedsplit.report.sweep import Sweep, sweeps


def scenario(rows: dict[str, object]) -> str:
    return document.dump({"name": "any", "defenses": {"none": {"kind": "none"}, **rows}})


def test_rows_that_differ_in_one_number_are_a_sweep_in_the_order_of_its_values() -> None:
    rows = {f"noise std={std}": {"kind": "gaussian_noise", "active": "both", "std": std} for std in (1.0, 0.25, 0.5)}
    expected = ((0.25, "noise std=0.25"), (0.5, "noise std=0.5"), (1.0, "noise std=1.0"))
    assert sweeps(scenario(rows)) == (Sweep("noise", "std", expected),)


def test_two_differences_are_no_sweep_and_a_grid_is_one_per_line() -> None:
    apart = {"a": {"kind": "x", "p": 1, "q": 1}, "b": {"kind": "x", "p": 2, "q": 2}}
    assert sweeps(scenario(apart)) == ()
    grid = {f"x p={p} q={q}": {"kind": "x", "p": p, "q": q} for p in (1, 2) for q in (3, 4, 5)}
    found = sweeps(scenario(grid))
    assert {(one.name, one.setting, len(one.points)) for one in found} == {
        *((f"x p={p}", "q", 3) for p in (1, 2)),
        *((f"x q={q}", "p", 2) for q in (3, 4, 5)),
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"kind": "x", "p": 1}, {"kind": "y", "p": 2}),
        ({"kind": "x", "p": True}, {"kind": "x", "p": False}),
        ({"kind": "x", "p": 1, "q": "a"}, {"kind": "x", "p": 2, "q": "b"}),
        ({"kind": "x", "p": 1}, {"kind": "x", "p": 1.0}),
        ({"kind": "x", "ps": [1, 1]}, {"kind": "x", "ps": [2]}),
        ({"kind": "x", "ps": [1, 3]}, {"kind": "x", "ps": [2, 4]}),
    ],
)
def test_other_kinds_words_flags_lengths_and_lists_are_no_sweep(first: object, second: object) -> None:
    assert sweeps(scenario({"a": first, "b": second})) == ()


def test_a_list_of_equal_numbers_is_that_number_and_a_list_that_differs_in_one_is_swept_there() -> None:
    rows = {f"sca {value}": {"kind": "sca", "lambdas": [value, value], "features": [4, 8]} for value in (0.5, 0.1)}
    assert sweeps(scenario(rows)) == (Sweep("sca", "lambda", ((0.1, "sca 0.1"), (0.5, "sca 0.5"))),)
    rows = {f"sca {value}": {"kind": "sca", "lambdas": [0.1, value]} for value in (0.5, 0.9)}
    assert sweeps(scenario(rows)) == (Sweep("sca", "lambdas", ((0.5, "sca 0.5"), (0.9, "sca 0.9"))),)


def test_a_composition_is_swept_in_one_of_its_parts() -> None:
    rows = {
        name: [{"kind": "low_rank", "rank": 4}, {"kind": "noise", "std": std}] for name, std in (("a", 1), ("b", 2))
    }
    assert sweeps(scenario(rows)) == (Sweep("a", "std", ((1.0, "a"), (2.0, "b"))),)


NOTHING = ["", "defenses", "defenses: 3", "defenses: [a]", "defenses: {a: 1, b: 2.5}", "[", "a: !!int x", "a: *b"]


@pytest.mark.parametrize("text", NOTHING)
def test_what_is_no_scenario_has_no_sweep(text: str) -> None:
    assert sweeps(text) == ()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "p"]),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from("pqs"), part, max_size=2),
    max_leaves=6,
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["a b", "a c", "d"]), PLAIN, max_size=3))
def test_of_any_rows_a_sweep_names_some_that_are_there_once_each(rows: dict[str, object]) -> None:
    for sweep in sweeps(document.dump({"defenses": rows})):
        values, names = zip(*sweep.points, strict=True)
        assert set(names) <= set(rows) and len(set(names)) == len(names) > 1
        assert list(values) == sorted(set(values))

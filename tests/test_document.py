import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsplit import document
from fedsplit.errors import ScenarioError

MARKS = r"""a: - { } [ ] , &a *a <<: ? : !x ' " | > # % @ \ --- ... = ~"""
TAGS = "!!int !!float !!bool !!null !!timestamp !!binary !!set !!omap !!python/name:os.system"
SCALARS = r"1e-3 .nan .inf 0x_ 0b_ 0o7 1:30 2020-01-01 1e999 - + _ . null yes é \ud800 999999999999999999999999999999"
PIECES = st.sampled_from(["\n", "\t", "  ", *f"{MARKS} {TAGS} {SCALARS}".split()])
# JSON writes what is beyond 0xFFFF as two halves; PyYAML breaks lines at the characters left out.
TEXT = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=4
)
NAMES = st.text("abc", min_size=1, max_size=2)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
PLAIN = st.recursive(
    LEAVES, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(NAMES, parts, max_size=3), max_leaves=8
)


def is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(part) for key, part in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def refusal(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        document.parse(text, at="x.yaml")
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


@settings(max_examples=200)
@given(st.text(max_size=40) | st.lists(PIECES, max_size=10).map(" ".join) | st.lists(PIECES, max_size=10).map("".join))
def test_any_text_is_plain_values_or_a_scenario_error(text: str) -> None:
    value = None
    with suppress(ScenarioError):
        value = document.parse(text, at="x.yaml")
    assert is_plain(value)
    json.dumps(value, ensure_ascii=False).encode()


@settings(max_examples=60)
@given(st.dictionaries(NAMES, PLAIN, max_size=3))
def test_what_is_dumped_is_read_back(plain: dict) -> None:
    assert document.parse(document.dump(plain), at="x") == plain


@settings(max_examples=60)
@given(PLAIN)
def test_json_is_yaml(plain: object) -> None:
    assert document.parse(json.dumps(plain), at="x") == plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("7", 7),
        ("-0.0", 0.0),
        ("1.", 1.0),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01 10:00:00", "2020-01-01 10:00:00"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("0.1.2", "0.1.2"),
        ("'1'", "1"),
        ("", None),
        ("~", None),
        ("[a, 1, true]", ["a", 1, True]),
        ("conv1", "conv1"),
    ],
)
def test_scalars(text: str, value: document.Plain) -> None:
    found = document.parse(text, at="x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: 1\na: 2", "'a' stands twice"),
        ("1: x", "1 must be text"),
        ("true: x", "True must be text"),
        ("? [a]\n: 1", "must be text"),
        ("a: [", "not valid YAML"),
        ("a: !!python/name:os.system x", "not valid YAML"),
        ("a: !!timestamp nonsense", "cannot be read"),
        ("a: !!int ''", "cannot be read"),
        ("a: !!bool maybe", "cannot be read"),
        ("9" * 5000, "cannot be read"),
        ("a: *b", "not valid YAML"),
        ("a: 1\n--- \nb: 2", "not valid YAML"),
        ("a: {<<: {b: 1}}", "not valid YAML"),
        ("[" * 2000, "cannot be read"),
        ("[" * 60 + "]" * 60, "too deep"),
        ('"\\ud83d"', "cannot be read"),
        ('{"\\udc00": 1}', "cannot be read"),
        ("&a [*a]", "too large or too deep"),
        ("&a {b: *a}", "too large or too deep"),
    ],
)
def test_refused_in_one_line(text: str, fragment: str) -> None:
    assert fragment in refusal(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("defenses: {g: {std: .nan}}", "x.yaml: defenses.g.std: nan"),
        ("attacks: [{kind: a}, {width: .inf}]", "x.yaml: attacks.1.width: inf"),
        ("a: 1e999", "x.yaml: a: inf"),
        ("a: {b: !!set {c}}", "x.yaml: a.b: {'c'}"),
        ("a: [!!binary aGk=]", "x.yaml: a.0: b'hi'"),
        (".nan", "x.yaml: nan"),
    ],
)
def test_an_odd_value_is_named_by_its_key_path(text: str, place: str) -> None:
    assert refusal(text).startswith(f"{place}: ")


def test_aliases_are_unfolded_into_values_of_their_own() -> None:
    found = document.parse("a: &x {b: 1}\nc: *x", at="x")
    assert isinstance(found, dict)
    document.assign(found, "a.b=2")
    assert found == {"a": {"b": 2}, "c": {"b": 1}}


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "too large" in refusal("\n".join(lines))


def test_a_large_mapping_takes_no_quadratic_time() -> None:
    found = document.parse("{" + ", ".join(f"key{number}: 1" for number in range(15_000)) + "}", at="x")
    assert isinstance(found, dict)
    assert len(found) == 15_000


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: é\n", encoding="utf-8")
    assert document.read(path) == {"name": "é"}


def test_what_is_no_scenario_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    for name, fragment in [
        ("list.yaml", "not a mapping"),
        ("latin.yaml", "cannot be read"),
        ("missing.yaml", "No such file"),
        ("", "directory"),
        ("nul\0.yaml", "cannot be read"),
    ]:
        with pytest.raises(ScenarioError, match=fragment) as caught:
            document.read(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path).split("\0")[0])


@pytest.mark.parametrize(
    ("before", "assignment", "after"),
    [
        ({}, "a=1", {"a": 1}),
        ({}, "a.b=1e-3", {"a": {"b": 0.001}}),
        ({"a": {"b": 1, "c": 2}}, "a.b=[1, x]", {"a": {"b": [1, "x"], "c": 2}}),
        ({"a": [{"b": 1}, 2]}, "a.0.b=3", {"a": [{"b": 3}, 2]}),
        ({"a": [1, 2]}, "a.1={k: v}", {"a": [1, {"k": "v"}]}),
        ({"rank 0.5": {"std": 1}}, "rank 0.5.std=2", {"rank 0.5": {"std": 2}}),
        ({"a": 1}, "a.b=2", {"a": {"b": 2}}),
        ({}, "a=", {"a": None}),
        ({}, "a=b=c", {"a": "b=c"}),
        ({"a.b": {"c": 1}, "a": {"b": {"c": 2}}}, "a.b.c=3", {"a.b": {"c": 3}, "a": {"b": {"c": 2}}}),
    ],
)
def test_assignment(before: dict, assignment: str, after: dict) -> None:
    document.assign(before, assignment)
    assert before == after


@pytest.mark.parametrize(
    ("before", "assignment", "fragment"),
    [
        ({}, "a", "key=value"),
        ({}, "=1", "key=value"),
        ({}, " =1", "key=value"),
        ({}, "a=[", "--set a"),
        ({}, "a.b=.nan", "--set a.b: nan"),
        ({}, "a={b: [.inf]}", "--set a: b.0: inf"),
        ({"a": [1]}, "a.1=2", "no item of the list"),
        ({"a": [1]}, "a.x=2", "no item of the list"),
        ({"a": []}, "a.0=2", "the list is empty"),
        ({"a": [1]}, "a.0.b=2", "not a mapping"),
        ({"a": [1]}, "a.-1=2", "no item of the list"),
    ],
)
def test_assignment_refused(before: dict, assignment: str, fragment: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        document.assign(before, assignment)
    assert fragment in str(caught.value)


@settings(max_examples=100)
@given(
    st.dictionaries(NAMES, PLAIN, max_size=3),
    st.lists(NAMES | st.sampled_from(["0", "1"]), min_size=1, max_size=4).map(".".join),
)
def test_any_assignment_is_done_or_refused(plain: dict, path: str) -> None:
    try:
        document.assign(plain, f"{path}=found")
    except ScenarioError:
        return
    place: document.Plain = plain
    for part in path.split("."):
        assert isinstance(place, dict | list)
        place = place[part] if isinstance(place, dict) else place[int(part)]
    assert place == "found"


def test_a_row_without_sweep_is_one_row() -> None:
    assert list(document.swept({"kind": "none"}, "x")) == [("x", {"kind": "none"})]
    assert list(document.swept({"sweep": []}, "x")) == [("x", {"sweep": []})]
    assert list(document.swept({"sweep": [1], "b": 2}, "x")) == [("x", {"sweep": [1], "b": 2})]


def test_sweeps_are_combined_and_named() -> None:
    row: document.Plain = [{"kind": "g", "std": {"sweep": [1, 2]}}, {"kind": "l", "rank": {"sweep": [3, 4]}}, "c"]
    found = dict(document.swept(row, "both"))
    assert list(found) == ["both std=1 rank=3", "both std=1 rank=4", "both std=2 rank=3", "both std=2 rank=4"]
    assert found["both std=2 rank=3"] == [{"kind": "g", "std": 2}, {"kind": "l", "rank": 3}, "c"]
    assert row[0] == {"kind": "g", "std": {"sweep": [1, 2]}}


def test_a_whole_row_may_be_swept() -> None:
    assert list(document.swept({"sweep": [{"kind": "a"}, {"kind": "b"}]}, "x")) == [
        ("x value={'kind': 'a'}", {"kind": "a"}),
        ("x value={'kind': 'b'}", {"kind": "b"}),
    ]


def test_dump_keeps_the_order_of_keys() -> None:
    assert list(yaml.safe_load(document.dump({"b": 1, "a": {"d": 1, "c": 2}}))) == ["b", "a"]

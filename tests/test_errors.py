import pickle

import pytest

from fedsplit import errors
from fedsplit.errors import FedsplitError, ScenarioError

KINDS = {
    "ScenarioError": 2,
    "PluginError": 3,
    "DataError": 4,
    "EngineError": 5,
    "ControlError": 6,
}


@pytest.mark.parametrize(("name", "code"), KINDS.items())
def test_every_kind_has_its_exit_code(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, FedsplitError)
    assert kind.exit_code == code


def test_no_kind_is_untested() -> None:
    assert {kind.__name__ for kind in FedsplitError.__subclasses__() if kind.__module__ == errors.__name__} == set(
        KINDS
    )


def test_one_line_says_where_what_why_and_the_way_out() -> None:
    error = ScenarioError("must be positive", at="defenses.g.std", value=-1.0, remedy="give a positive number")
    assert str(error) == "defenses.g.std: -1.0: must be positive; give a positive number"


def test_absent_parts_leave_no_trace() -> None:
    assert str(ScenarioError("is odd")) == "is odd"
    assert str(ScenarioError("is odd", value=None)) == "None: is odd"
    assert str(ScenarioError("is odd", value="")) == "'': is odd"


def test_it_stays_one_short_line_whatever_it_is_told() -> None:
    text = str(ScenarioError("fell\nover\r\n\there", at="a\nb", value="x" * 1000, remedy="one\n\ntwo"))
    assert text.startswith("a b: 'xxx")
    assert text.endswith("...: fell over here; one two")
    assert len(text) < 200


@pytest.mark.parametrize("name", KINDS)
def test_it_crosses_a_process_border_with_its_kind_and_its_line(name: str) -> None:
    error = getattr(errors, name)("is odd", at="a.b", value=[1], remedy="mend it")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert str(pickle.loads(pickle.dumps(copy))) == str(error)

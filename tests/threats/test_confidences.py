from fedsplit.threats.confidences import Confidences
from tests.threats.views import held


def test_it_holds_answers_and_asks_for_more() -> None:
    assert held(Confidences(knows_defense="algorithm")) == {"smashed", "client_queries", "auxiliary_pairs"}


def test_it_looks_at_what_is_released() -> None:
    assert Confidences.behind_the_cut == "answers"

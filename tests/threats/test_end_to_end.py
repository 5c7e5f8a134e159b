from fedsplit.threats.end_to_end import EndToEnd
from tests.threats.views import held


def test_it_sees_outputs_and_asks() -> None:
    assert held(EndToEnd(knows_defense="no")) == {"smashed", "client_queries", "auxiliary_pairs"}


def test_without_queries_it_has_one_answer_for_each_of_its_images() -> None:
    assert held(EndToEnd(queries=False)) == {"smashed", "auxiliary_pairs", "defense"}


def test_it_looks_at_the_last_hidden_layer() -> None:
    assert EndToEnd.behind_the_cut == "hidden"

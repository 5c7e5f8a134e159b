from fedsplit.threats.eavesdropper import Eavesdropper
from tests.threats.views import held


def test_it_reads_both_directions_and_asks() -> None:
    everything = {"smashed", "cut_gradients", "head_gradients", "client_queries", "auxiliary_pairs"}
    assert held(Eavesdropper(knows_defense="algorithm")) == everything


def test_without_queries_it_has_no_pairs_either() -> None:
    assert held(Eavesdropper(queries=False, knows_defense="no")) == {"smashed", "cut_gradients", "head_gradients"}

from fedsplit.threats.split_network import SplitNetwork
from tests.threats.views import held


def test_it_holds_smashed_data_and_pairs_and_cannot_ask_again() -> None:
    assert held(SplitNetwork(knows_defense="no")) == {"smashed", "auxiliary_pairs"}
    assert held(SplitNetwork()) == {"smashed", "auxiliary_pairs", "defense"}

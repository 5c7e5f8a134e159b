import pytest

from fedsplit.threats.curious_server import CuriousServer
from tests.threats.views import held

SEEN = {"smashed", "cut_gradients", "labels", "head_gradients", "server_segments"}
ASKED = {"client_queries", "auxiliary_pairs"}


@pytest.mark.parametrize(
    ("aggregates", "queries", "expected"),
    [
        (True, True, SEEN | ASKED | {"client_weights"}),
        # Who holds the weights can run them.
        (True, False, SEEN | ASKED | {"client_weights"}),
        (False, True, SEEN | ASKED),
        (False, False, SEEN),
    ],
)
def test_what_it_holds(aggregates: bool, queries: bool, expected: set[str]) -> None:
    assert held(CuriousServer(aggregates=aggregates, queries=queries, knows_defense="no")) == expected


def test_by_default_it_is_the_strongest() -> None:
    assert held(CuriousServer()) == SEEN | ASKED | {"client_weights", "defense"}

import pytest

from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Crossing, Opening
from fedsplit.federation.plan import Plan, state_of
from fedsplit.hosting import Host
from fedsplit.protocols.parallel import Parallel
from tests.federation.builders import federation, plan_of


def test_clients_that_are_met_at_once_hold_no_server_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, data = plan_of(), federation()
    host = Host(Parallel(batch_size=4), plan, Recording(), lambda client: data.holdings[client])
    state = state_of(plan.segments().home.whole)
    monkeypatch.setattr(Plan, "segments", None)
    for client in range(2):
        host.open(Opening(1, client, state, {}))
        assert isinstance(host.say(client, None), Crossing)

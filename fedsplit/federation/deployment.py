"""Clients once training is over: how each of them answers, and what the answers are worth."""

from collections.abc import Callable
from dataclasses import replace

from fedsplit.defenses.base import Deployed
from fedsplit.federation.evaluation import evaluate
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Trained
from fedsplit.records.images import Holding

DeployedAfter = Callable[[int, int], Deployed]
"""(round, client) -> how this client answers, were it deployed after this recorded round."""


def deployed_after(plan: Plan, trained: Trained, data: FederationData, round: int, client: int) -> Deployed:  # noqa: A002
    """How this client answers, were it deployed after this recorded round."""
    page = trained.ledger.page(round)
    state = page.after(client if page.apart else None)
    return _deployed(plan, state, page.server, data.holdings[client], client)


def answering(plan: Plan, trained: Trained, data: FederationData) -> Trained:
    """The same, worth what the deployed clients' own answers are: those who share a segment share the test images."""
    if not plan.defense.deploys:
        return trained
    standing = trained.standing

    def deployed(client: int) -> Deployed:
        return _deployed(plan, standing.held_by(client), standing.server, data.holdings[client], client)

    everybody = range(len(data.holdings))
    holders = [(client,) for client in sorted(standing.apart)] or [everybody]
    ways = [[deployed(client) for client in some] for some in holders]
    return replace(trained, evaluation=evaluate(plan, standing.deployed, standing.server, data.test, ways))


def _deployed(plan: Plan, state: State, server: State, holding: Holding, client: int) -> Deployed:
    # state: of all that it holds.
    if not plan.defense.deploys:
        return plan.defense.released("inference")
    segments = plan.segments()
    plan.prepare(segments.home.whole, state, training=False)
    plan.prepare(segments.server, server, training=False)
    pixels, labels = holding.pixels.to(plan.device, plan.dtype), holding.labels.to(plan.device)
    with plan.seeds.fork("deploy", client):
        return plan.defense.deploy(
            segments, replace(holding, pixels=pixels, labels=labels), plan.seeds("deploy", client)
        )

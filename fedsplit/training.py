"""A training as an engine is asked for it."""

from dataclasses import dataclass

from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import Protocol


@dataclass(frozen=True)
class Training:
    """Of one victim: by which rules, from where, on whose rows; what is kept of it for the attacks, and on disk."""

    protocol: Protocol
    plan: Plan
    start: Standing
    data: FederationData
    recording: Recording
    checkpoint: Checkpoint

"""One server segment that serves a whole cohort through a round, step by step."""

import torch

from fedsplit.federation.cohort import Cohort
from fedsplit.federation.messages import Crossing, CutGradient, Hidden, HiddenGradient, joined
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Server
from fedsplit.federation.trained import Standing
from fedsplit.split import Segments


class Service:
    """Exchanges with one client or with many at once. Every answer draws from a stream of its own."""

    def __init__(self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing) -> None:
        """The server's `segments` are overwritten with the standing."""
        plan.prepare(segments.server, standing.server, training=True)
        self.server = Server(plan, segments.server, standing.server_memory)
        self._plan = plan
        self._cohort = cohort
        self._round = standing.round + 1
        self._answers = 0

    def exchange(self, client: int, crossing: Crossing) -> None:
        """One step with one client: it has its cut gradient when this returns."""
        answer = self._answer(crossing)
        self._cohort.post({client: answer})
        if isinstance(answer, Hidden):
            back = self._cohort.take(client)
            assert isinstance(back, HiddenGradient), "features are answered by the gradient at them"
            self._cohort.post({client: self._answer(back)})

    def joint_exchange(self, crossings: dict[int, Crossing]) -> None:
        """One step on the joined batch of these clients; each gets the gradient of the mean loss over its own rows."""
        weights = torch.stack([crossing.weights.sum() for crossing in crossings.values()])
        shares = (weights / weights.sum()).tolist()
        sizes = [len(crossing.weights) for crossing in crossings.values()]
        answer = self._answer(joined(tuple(crossings.values())))
        if isinstance(answer, Hidden):
            parts = answer.features.split(sizes)
            self._cohort.post({client: Hidden(part) for client, part in zip(crossings, parts, strict=True)})
            backs = [self._cohort.take(client) for client in crossings]
            gradients = [back.gradient for back in backs if isinstance(back, HiddenGradient)]
            scaled = [share * gradient for share, gradient in zip(shares, gradients, strict=True)]
            answer = self._answer(HiddenGradient(torch.cat(scaled)))
        assert isinstance(answer, CutGradient), "an exchange ends with a gradient"
        parts = zip(crossings, answer.gradient.split(sizes), shares, strict=True)
        self._cohort.post({client: CutGradient(part / share) for client, part, share in parts})

    def _answer(self, message: Crossing | HiddenGradient) -> Hidden | CutGradient:
        name = (self._round, "server", self._answers)
        self._answers += 1
        with self._plan.seeds.fork("forward", *name):
            return self.server.answer(message)

"""One server segment that serves a whole cohort through a round, step by step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsplit.errors import EngineError, blaming
from fedsplit.federation.cohort import Cohort
from fedsplit.federation.hijacked import server_of
from fedsplit.federation.messages import Crossing, CutGradient, Failed, Hidden, HiddenGradient, Up, joined
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Standing
from fedsplit.numerics.finite import all_finite
from fedsplit.split import Segments


class Service:
    """Exchanges with one client or with many at once. Every answer draws from a stream of its own."""

    def __init__(self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing, rounds: int) -> None:
        """The server's `segments` are overwritten with the standing. rounds: of the whole training."""
        plan.prepare(segments.server, standing.server, training=True)
        self.server = server_of(plan, segments.server, standing, rounds)
        self._plan = plan
        self._cohort = cohort
        self._cut_shape = segments.cut_shape
        self._round = standing.round + 1
        self._at = f"server, round {self._round}"
        self._answers = 0

    def take(self, client: int) -> Up:
        """What this client says next: a crossing only where it can be trained on, else why not."""
        said = self._cohort.take(client)
        return (self._fault(client, said) or said) if isinstance(said, Crossing) else said

    def exchange(self, client: int, crossing: Crossing) -> Failed | None:
        """One step with one client: it has its cut gradient when this returns, unless it failed."""
        answer = self._answer(crossing)
        self._post({client: answer})
        if isinstance(answer, Hidden):
            back = self._cohort.take(client)
            if isinstance(back, Failed):
                return back
            assert isinstance(back, HiddenGradient), "features are answered by the gradient at them"
            self._post({client: self._answer(back)})
        return None

    def joint_exchange(self, crossings: dict[int, Crossing]) -> dict[int, Failed]:
        """One step on the joined batch of these clients; each gets the gradient of the mean loss over its own rows.

        Returns those who fail on the way. What of their batch had reached the server counts for nothing.
        """
        failed: dict[int, Failed] = {}
        if not crossings:
            return failed
        masses = torch.stack([crossing.mass for crossing in crossings.values()])
        shares = (masses / masses.sum()).tolist()
        sizes = [len(crossing.weights) for crossing in crossings.values()]
        answer = self._answer(joined(tuple(crossings.values())))
        if isinstance(answer, Hidden):
            parts = answer.features.split(sizes)
            self._post({client: Hidden(part) for client, part in zip(crossings, parts, strict=True)})
            scaled: list[Tensor] = []
            for client, part, share in zip(crossings, parts, shares, strict=True):
                back = self._cohort.take(client)
                if isinstance(back, Failed):
                    failed[client] = back
                    scaled.append(torch.zeros_like(part))
                else:
                    assert isinstance(back, HiddenGradient), "features are answered by the gradient at them"
                    scaled.append(share * back.gradient)
            answer = self._answer(HiddenGradient(torch.cat(scaled)))
        assert isinstance(answer, CutGradient), "an exchange ends with a gradient"
        parts = zip(crossings, answer.gradient.split(sizes), shares, strict=True)
        self._post({client: CutGradient(part / share) for client, part, share in parts if client not in failed})
        return failed

    def _fault(self, client: int, crossing: Crossing) -> Failed | None:
        """What makes this crossing impossible to train on."""
        shape, expected = tuple(crossing.smashed.shape[1:]), self._cut_shape
        counts = {len(part) for part in (crossing.smashed, crossing.labels, crossing.weights) if part is not None}
        if shape != expected:
            reason, remedy = f"sent smashed data of shape {shape} instead of {expected}", "mend the defense's release"
        elif len(counts) != 1:
            reason, remedy = "sent different numbers of values, labels and weights", "mend the defense's release"
        elif not all_finite(crossing.smashed):
            reason, remedy = "sent values that are not finite", "lower optimizer.learning_rate, or look at its rows"
        else:
            return None
        return Failed(str(EngineError(reason, at=f"client {client}, round {self._round}", remedy=remedy)))

    def _post(self, answers: Mapping[int, Hidden | CutGradient]) -> None:
        self._cohort.post(answers)
        with blaming(self._at):
            self.server.move()

    def _answer(self, message: Crossing | HiddenGradient) -> Hidden | CutGradient:
        name = (self._round, "server", self._answers)
        self._answers += 1
        with self._plan.seeds.fork("forward", *name), blaming(self._at):
            return self.server.answer(message)

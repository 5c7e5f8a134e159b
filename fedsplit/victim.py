"""A trained victim: what attacks are let loose on, here or in any other process."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

from fedsplit.auxiliary import AuxiliaryImages
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.deployment import deployed_after
from fedsplit.federation.errand import Deferred, Files
from fedsplit.federation.evaluation import Evaluation
from fedsplit.federation.exposure import Exposure, Observation, expose
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Trained
from fedsplit.parties import Parties

_OBSERVED = 4
"""Exposures that are kept for the next attack: defended and not, of both kinds of leak."""

_Observe = Callable[[AuxiliaryImages, Observation], Exposure]

_PLAN, _EVALUATION = "plan.json", "evaluation.json"


@dataclass(frozen=True)
class Victim:
    """A federation at the end of its training, among the parties of its seed."""

    plan: Plan
    trained: Trained
    parties: Parties

    @cached_property
    def observe(self) -> _Observe:
        """What anybody with these images could see or know of it; the last few answers are remembered, and are not to
        be written into."""
        apart = self.plan.defense.deploys or len(self.trained.standing.deployed) > 1
        kept = _OBSERVED * (len(self.parties.data.holdings) if apart else 1)

        deployed = lru_cache(maxsize=None)(partial(deployed_after, self.plan, self.trained, self.parties.data))

        def observed(own: AuxiliaryImages, observation: Observation) -> Exposure:
            others, auxiliary = self.parties.data, self.parties.auxiliary[own]
            return expose(self.plan, self.trained, others, auxiliary, observation, deployed)

        # Settings are frozen, so these have a hash, which their type does not tell.
        remembered: _Observe = lru_cache(kept)(observed)  # pyright: ignore[reportAssignmentType]
        if self.plan.defense.releases or self.plan.defense.deploys:
            return remembered
        # What crosses the cut is what the blocks made, with the defense and without it.
        return lambda own, observation: remembered(own, replace(observation, defended=True))

    def packed(self) -> Files:
        """All but the parties and the clients' optimisers, which no attack sees."""
        return Deferred(partial(_files, self))

    @classmethod
    def unpacked(cls, files: Files, parties: Parties) -> "Victim":
        """The inverse of `packed`, among the same parties."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            found = Checkpoint(Path(folder), "").load()
        assert found is not None, "what was packed can be loaded"
        plan = Plan.model_validate_json(files[_PLAN])
        return cls(plan, Trained(*found, Evaluation.model_validate_json(files[_EVALUATION])), parties)


def _files(victim: Victim) -> dict[str, bytes]:
    trained = victim.trained
    bare = replace(trained.standing, memories={}, common_memory={})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), "")
        for page in (*trained.ledger.pages, None):
            checkpoint.save(bare, page)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {
            _PLAN: victim.plan.model_dump_json().encode(),
            _EVALUATION: trained.evaluation.model_dump_json().encode(),
            **{str(path.relative_to(folder)): path.read_bytes() for path in files},
        }

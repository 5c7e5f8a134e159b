from pathlib import Path

import torch

from fedsplit.auxiliary import AuxiliaryImages
from fedsplit.defenses.base import Defense
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.none import Undefended
from fedsplit.federation.exposure import Observation
from fedsplit.federation.ledger import Recording
from fedsplit.parties import Parties
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.victim import Victim
from tests.federation.builders import auxiliary, federation, images, plan_of, train
from tests.federation.test_checkpoint import bits
from tests.records.contents import tensors_of

RECORDING = Recording(training=(1, 2), inference=(1, 2))


def victim(cell: Path, protocol: SplitFedV1 | Parallel, defense: Defense | None = None) -> Victim:
    plan, data = plan_of(defense=defense or Undefended()), federation()
    trained = train(cell, plan, data, protocol, RECORDING)
    return Victim(plan, trained, Parties(images(20, seed=3), data, {AuxiliaryImages(): auxiliary()}, None))


def test_what_was_packed_is_attacked_as_what_was_not(tmp_path: Path) -> None:
    for protocol in (SplitFedV1(rounds=2, batch_size=6), Parallel(rounds=2, batch_size=6, sync="never")):
        own = victim(tmp_path / protocol.kind, protocol)
        files = dict(own.packed())
        assert all(isinstance(content, bytes) for content in files.values())
        arrived = Victim.unpacked(files, own.parties)
        assert arrived.plan == own.plan and arrived.trained.evaluation == own.trained.evaluation
        assert bits(arrived.trained.ledger) == bits(own.trained.ledger)
        for state, other in zip(arrived.trained.standing.deployed, own.trained.standing.deployed, strict=True):
            assert bits(dict(state)) == bits(dict(other))
        for kind in ("inference", "training"):
            observation = Observation(kind, 2, True, None if isinstance(protocol, SplitFedV1) else 1)
            mine, theirs = (tensors_of(one.observe(AuxiliaryImages(), observation).leak) for one in (own, arrived))
            assert len(mine) == len(theirs) > 10
            assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_nothing_is_packed_before_somebody_looks(tmp_path: Path, monkeypatch) -> None:
    made: list[str] = []
    monkeypatch.setattr("fedsplit.victim.tempfile.TemporaryDirectory", lambda: made.append("folder"))
    victim(tmp_path, SplitFedV1(rounds=2, batch_size=6)).packed()
    assert made == []


def test_the_optimisers_of_clients_stay_behind(tmp_path: Path) -> None:
    own = victim(tmp_path, SplitFedV1(rounds=2, batch_size=6))
    standing = Victim.unpacked(dict(own.packed()), own.parties).trained.standing
    assert (standing.memories, standing.common_memory) == ({}, {})
    assert standing.round == own.trained.standing.round and standing.losses == own.trained.standing.losses


def test_a_defense_that_changes_nothing_at_the_cut_is_looked_at_once(tmp_path: Path) -> None:
    with_it, without = (Observation("inference", 2, defended) for defended in (True, False))
    for number, defense in enumerate((Undefended(), LowRank(rank=2))):
        looked = victim(tmp_path / str(number), SplitFedV1(rounds=2, batch_size=6), defense).observe
        assert looked(AuxiliaryImages(), with_it) is looked(AuxiliaryImages(), without)
    looked = victim(tmp_path / "noise", SplitFedV1(rounds=2, batch_size=6), GaussianNoise(std=0.5)).observe
    noisy, bare = (looked(AuxiliaryImages(), one).leak.auxiliary_pairs for one in (with_it, without))
    assert noisy is not None and bare is not None and not torch.equal(noisy.smashed, bare.smashed)

import torch
from torch import Generator

from fedsplit.defenses.base import Defense
from fedsplit.defenses.none import Undefended


def test_it_overrides_nothing() -> None:
    own = set(vars(Undefended))
    hooks = {"build", "warm_start", "augment", "release", "client_penalty", "server_penalty", "after_backward"}
    assert not own & (hooks | {"after_step", "deploy", "releasing", "releases"})


def test_nothing_is_released_but_the_smashed_data() -> None:
    smashed = torch.rand(2, 3)
    assert Undefended().releasing("training") == Undefended().releasing("inference") == ()
    assert Undefended().release(smashed, Generator()) is smashed
    assert not Undefended().releases
    assert isinstance(Undefended(), Defense)

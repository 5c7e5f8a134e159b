"""A user's own generator: what it makes is what its own code makes, and what cannot be used is said in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fedsplit.attacks.intermediate_features import IntermediateFeatures
from fedsplit.briefing import card
from fedsplit.component import Trust
from fedsplit.errors import FedsplitError, PluginError, ScenarioError
from fedsplit.foreign import loaded
from fedsplit.generators.base import fitted
from fedsplit.generators.checkpoint import Checkpoint
from fedsplit.layers.synthesizer import Stage, chained
from fedsplit.numerics.likeness import alike, centred
from fedsplit.reading import parse
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from tests import tiny
from tests.generators import foreign

SHAPE: Shape = (3, 8, 8)
OWN = torch.rand(5, *SHAPE, generator=Seeds(0)("own"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.repository(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def styled(clone: Path) -> Path:
    return foreign.pickled(clone, clone / "network.pkl")


def checkpoint(file: Path, **settings: Any) -> Checkpoint:
    return Checkpoint(**({"file": file, "trust": True} | settings))


def refusal(generator: Checkpoint, shape: Shape = SHAPE) -> str:
    with pytest.raises(PluginError) as caught:
        generator.refuses(shape)
    line = str(caught.value)
    assert line.startswith(f"generators.checkpoint.file: '{generator.file}'"[:60]) and "\n" not in line
    return line


def test_a_style_generator_makes_what_its_own_code_makes(clone: Path, styled: Path) -> None:
    found = checkpoint(styled, repository=clone).fit(OWN, None, Seeds(0))
    network: Any = loaded(styled.read_bytes(), clone)["G_ema"]  # pyright: ignore[reportIndexIssue]
    latents = found.draw(9, Seeds(1)("latents"))
    assert latents.shape == (9, foreign.Z)
    with torch.no_grad():
        layered = network.mapping(latents, torch.zeros(9, 0))
        made = network.synthesis(layered, noise_mode="const", force_fp32=True)
        styles = found.mapping(latents)
    assert torch.equal(styles, layered[:, 0]) and styles.shape == (9, 7)
    known = alike(((made + 1) / 2).clamp(0, 1), SHAPE)
    torch.testing.assert_close(found.synthesis(styles), known)
    assert torch.equal(found(latents), found(latents)), "its noise is off"


def test_the_blocks_of_a_style_generator_are_a_chain_and_those_of_other_files_are_not_told(
    clone: Path, styled: Path
) -> None:
    generator = checkpoint(styled, repository=clone)
    found = generator.fit(OWN.double(), None, Seeds(0))
    styles = found.mapping(found.draw(4, Seeds(1)("latents")))
    assert len(found.blocks) == 3
    assert torch.equal(chained(found.blocks, Stage(styles), styles), found.synthesis(styles))
    stage = found.blocks[0](Stage(styles), styles)
    features = stage.features.clone().requires_grad_()
    images = chained(found.blocks[1:], replace(stage, features=features), styles)
    (gradient,) = torch.autograd.grad(images[0].sum(), features)
    assert features.shape == (4, 5, 4, 4) and gradient[0].any() and not gradient[1:].any()
    assert not IntermediateFeatures(generator=generator).unfit(SHAPE)
    reason = IntermediateFeatures(generator=checkpoint(foreign.stored())).unfit(SHAPE)
    assert "that of checkpoint plain.pt is no chain of blocks" in reason


def test_without_a_mapping_styles_are_latents_and_torchscript_is_what_it_was_made_of() -> None:
    found = checkpoint(foreign.stored()).fit(OWN, None, Seeds(0))
    latents = found.draw(9, Seeds(1)("latents"))
    assert torch.equal(found.mapping(latents), latents)
    made = (foreign.plain()(latents) + 1) / 2
    assert made.shape == (9, 3, 20, 16)
    torch.testing.assert_close(found.synthesis(latents), alike(made[:, :, 2:18], SHAPE))
    grey = checkpoint(foreign.stored(), crop=0.5).fit(OWN[:, :1], None, Seeds(0))
    torch.testing.assert_close(grey.synthesis(latents), alike(centred(made, 8, 8, 0.5), (1, 8, 8)))


class Mapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(foreign.Z, 5)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.dense(z)[:, None].repeat(1, 3, 1)


class Synthesis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(15, 192)

    def forward(self, w: Tensor) -> Tensor:
        return torch.tanh(4 * self.dense(w.flatten(1))).view(-1, 3, 8, 8)


class Styled(nn.Module):
    z_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.z_dim = foreign.Z
        self.mapping, self.synthesis = Mapping(), Synthesis()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z, c))


def test_torchscript_may_have_a_mapping_and_a_synthesis_too(tmp_path: Path) -> None:
    with Seeds(0).fork("styled"):
        network = Styled()
    found = checkpoint(foreign.scripted(network, tmp_path / "styled.pt")).fit(OWN, None, Seeds(0))
    latents = found.draw(4, Seeds(1)("latents"))
    with torch.no_grad():
        torch.testing.assert_close(found.mapping(latents), network.mapping.dense(latents))
        torch.testing.assert_close(found(latents), (network(latents, torch.zeros(4, 0)) + 1) / 2)


def test_what_torch_save_wrote_is_read_as_well(tmp_path: Path) -> None:
    torch.save(foreign.plain(), tmp_path / "plain.pt")
    saved, scripted = (checkpoint(file).fit(OWN, None, Seeds(0)) for file in (tmp_path / "plain.pt", foreign.stored()))
    latents = saved.draw(4, Seeds(1)("latents"))
    torch.testing.assert_close(saved(latents), scripted(latents))


class Negative(foreign.Plain):
    """0 to 255, and dark where it was bright."""

    def forward(self, z: Tensor) -> Tensor:
        return 127.5 - 127.5 * torch.tanh(2 * self.second(torch.tanh(2 * self.first(z)))).view(-1, 3, 20, 16)


def test_black_and_white_are_what_one_says_they_are(tmp_path: Path) -> None:
    with Seeds(0).fork("plain"):
        file = foreign.dumped(Negative(), tmp_path / "negative.pkl")
    negative = checkpoint(file, black=255, white=0).fit(OWN, None, Seeds(0))
    positive = checkpoint(foreign.stored()).fit(OWN, None, Seeds(0))
    latents = positive.draw(4, Seeds(1)("latents"))
    torch.testing.assert_close(negative(latents), positive(latents))


def test_a_conditional_one_is_asked_for_every_class_by_its_latents(clone: Path) -> None:
    found = checkpoint(foreign.pickled(clone, clone / "classes.pkl", classes=3), repository=clone)
    synthesizer = found.fit(OWN, None, Seeds(0))
    assert synthesizer.latents == foreign.Z + 3 and synthesizer.classes is None
    latents = synthesizer.draw(600, Seeds(1)("latents"))
    latents[:, : foreign.Z] = 0
    styles = synthesizer.mapping(latents)
    for label in range(3):
        own = styles[latents[:, foreign.Z :].argmax(dim=1) == label]
        assert 150 < len(own) < 250 and bool((own == own[0]).all())
    assert len(styles.unique(dim=0)) == 3


def test_it_stays_in_its_own_precision_and_gradients_come_back_in_ours(clone: Path, styled: Path) -> None:
    found = checkpoint(styled, repository=clone).fit(OWN.double(), None, Seeds(0))
    styles = found.mapping(found.draw(3, Seeds(1)("latents"))).requires_grad_()
    images = found.synthesis(styles)
    assert styles.dtype == images.dtype == torch.float64
    (gradient,) = torch.autograd.grad(images.square().sum(), styles)
    assert gradient.dtype == torch.float64 and bool((gradient.abs().sum(dim=1) > 0).all())


def test_what_is_kept_says_which_file_it_was_and_what_nobody_knows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSPLIT_CACHE", str(tmp_path / "kept"))
    file = tmp_path / "plain.pt"
    file.write_bytes(foreign.stored().read_bytes())
    first = fitted(checkpoint(file), OWN, None, Seeds(0))
    foreign.scripted(Negative(), file)
    other = fitted(checkpoint(file, black=255, white=0), OWN, None, Seeds(0))
    torch.save(foreign.Plain(), file)
    another = fitted(checkpoint(file), OWN, None, Seeds(0))
    latents = first.draw(2, Seeds(1)("latents"))
    assert not torch.equal(first(latents), another(latents)), "the name is the same and the content is not"
    assert not torch.equal(first(latents), other(latents))
    entries = sorted((tmp_path / "kept" / "generators").iterdir())
    assert len(entries) == 3 and all((entry / "samples.png").is_file() for entry in entries)
    for entry in entries:
        training = json.loads((entry / "training.json").read_text())
        assert "trained elsewhere: nobody can tell" in training["caveat"]
        assert json.loads(training["recipe"])["content"][:16] in training["caveat"]
        assert (entry / "network.safetensors").stat().st_size < 1000, "the file has its weights"


ATTACK: dict[str, Any] = {"kind": "plug_and_play", "candidates": 8, "starts": 4, "per_class": 2, "steps": 2, "views": 2}


def scenario(generator: dict[str, Any]) -> dict[str, Any]:
    raw = tiny.raw("threats=[{kind: plug_and_play}]", "metrics=[{kind: attack_accuracy}]", "defenses={}")
    return {**raw, "attacks": [{**ATTACK, "generator": generator}]}


def test_the_card_says_that_nobody_knows_what_it_has_seen() -> None:
    raw = scenario({"kind": "checkpoint", "file": str(foreign.stored()), "trust": True})
    shown = card(parse(raw, Trust()), (1, 8, 8), 10)
    assert "plug_and_play by checkpoint plain.pt: plain.pt (SHA-256 " in shown
    assert "nobody can tell here on which images, and whether the clients' are among them" in shown


REFUSED: list[tuple[dict[str, Any], Trust, str]] = [
    ({}, Trust(), "attacks.0.generator.*`trust` is not true"),
    ({"trust": False}, Trust(), "attacks.0.generator.*`trust` is not true"),
    ({"trust": True, "file": "/nowhere.pkl"}, Trust(), "attacks.0.generator.file: '/nowhere.pkl': .*no such file"),
    ({"trust": True, "repository": "/nowhere"}, Trust(), "generator.repository: '/nowhere': .*no such folder"),
    ({"trust": True, "white": -1.0}, Trust(), "`black` and `white` are both -1"),
    ({"trust": True}, Trust(plugins=False), "generators.checkpoint.file.*refused here; leave out --no-plugins"),
]


@pytest.mark.parametrize(("settings", "trust", "words"), REFUSED)
def test_what_is_not_trusted_or_not_there_is_refused_before_anything_is_loaded(
    settings: dict[str, Any], trust: Trust, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsplit.generators.checkpoint.loaded", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises((ScenarioError, PluginError), match=words) as caught:
        parse(scenario({"kind": "checkpoint", "file": str(foreign.stored()), **settings}), trust)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_is_not_trusted_runs_nothing(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    file = foreign.dumped(Bomb(), tmp_path / "bomb.pkl")
    with pytest.raises(ValidationError, match="trust"):
        Checkpoint(file=file)
    assert not (tmp_path / "exploded").exists()
    checkpoint_line = refusal(checkpoint(file))
    assert "holds a NoneType and no network" in checkpoint_line and (tmp_path / "exploded").exists()


def test_a_class_that_nobody_has_is_named_with_the_way_out(clone: Path, styled: Path, tmp_path: Path) -> None:
    line = refusal(checkpoint(styled))
    assert "needs the module 'training_of_mine', which is not to be had here; set `repository` to the folder" in line
    line = refusal(checkpoint(styled, repository=tmp_path))
    assert f"needs the module 'training_of_mine', which is not in {tmp_path}"[:90] in line
    other = foreign.repository(tmp_path)
    (other / "training_of_mine" / "networks.py").write_text("class Another: ...")
    assert "needs what is not where it says" in refusal(checkpoint(styled, repository=other))
    (other / "own_ops" / "noise.py").write_text("raise RuntimeError('no\\ncompiler')")
    (other / "training_of_mine" / "networks.py").write_text("import own_ops.noise")
    assert "cannot be loaded (RuntimeError: no compiler)" in refusal(checkpoint(styled, repository=other))


class Odd(nn.Module):
    """(n, 6) -> anything."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.z_dim, self.how = foreign.Z, how
        self.dense = nn.Linear(foreign.Z, 192)

    def forward(self, z: Tensor) -> Any:
        made = torch.tanh(4 * self.dense(z)).view(-1, 3, 8, 8)
        odd = {
            "flat": lambda: made.flatten(1),
            "pair": lambda: (made, made),
            "two": lambda: made[:, :2],
            "bright": lambda: made / 2 + 0.5,
            "large": lambda: 100 * made,
            "empty": lambda: made / 0,
            "noisy": lambda: made + 0.05 * torch.randn_like(made),
            "lost": lambda: self.another(z),
        }
        return odd[self.how]()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("flat", "makes (4, 192) of 4 latents, and not images"),
        ("pair", "makes tuple of 4 latents, and not images"),
        ("two", "makes images of 2 channels, and the scenario's have 3"),
        ("bright", "is not what `black: -1, white: 1` says; set `black` and `white`"),
        ("large", "is not what `black: -1, white: 1` says; set `black` and `white`"),
        ("empty", "makes images that are not finite"),
        ("noisy", "draws while it makes an image"),
        ("lost", "makes no images (AttributeError: "),
    ],
)
def test_a_network_that_makes_no_such_images_is_refused(how: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(checkpoint(foreign.dumped(Odd(how), tmp_path / "odd.pkl")))


def test_two_channels_are_taken_where_the_scenario_has_two(tmp_path: Path) -> None:
    assert not checkpoint(foreign.dumped(Odd("two"), tmp_path / "odd.pkl")).refuses((2, 8, 8))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"G_ema": {"weight": torch.zeros(2)}}, "holds weights without the network that they are of"),
        ({"weight": torch.zeros(2)}, "holds weights without the network that they are of"),
        ({"G": 1}, "holds a dict and no network"),
        (nn.Linear(3, 4), "does not tell how wide its latents are; set `latents`"),
    ],
)
def test_a_file_that_holds_no_usable_network_is_refused(value: object, words: str, tmp_path: Path) -> None:
    assert words in refusal(checkpoint(foreign.dumped(value, tmp_path / "value.pkl")))


def test_nonsense_and_what_vanished_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.pkl"
    file.write_bytes(b"PK nonsense")
    generator = checkpoint(file)
    assert "cannot be loaded (BadZipFile" in refusal(generator)
    file.write_bytes(b"nonsense")
    assert "cannot be loaded (" in refusal(generator)
    file.unlink()
    assert "cannot be read" in refusal(generator)
    with pytest.raises(FedsplitError):
        _ = generator.caveat


def test_latents_may_be_told_where_the_file_does_not(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(5, 192), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
    network[0].weight.data.mul_(5)
    file = foreign.dumped(network, tmp_path / "sequential.pkl")
    assert checkpoint(file, latents=5).network(SHAPE, None).latents == 5
    assert "makes no images (RuntimeError" in refusal(checkpoint(file, latents=6))


def test_it_is_no_source_of_labelled_fakes() -> None:
    generator = {"kind": "checkpoint", "file": str(foreign.stored()), "trust": True}
    raw = tiny.raw() | {"defenses": {"fakes": {"kind": "gan_augmentation", "generator": generator}}}
    with pytest.raises(ScenarioError, match="checkpoint makes images of no known class; use conditional_gan"):
        parse(raw, Trust())

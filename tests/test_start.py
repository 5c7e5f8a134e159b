"""What is imported before the first training step, in a process of its own: most of the time until then is spent so."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("flwr", "matplotlib", "ray", "scipy", "skimage", "sklearn", "sympy", "torch._dynamo")
"""Each takes between a fifth of a second and two."""

TOLD = '''
import sys
from fedsplit.models.linear import Linear


class Told(Linear):
    """Ends the training at its first gradient, and tells what is imported by then."""

    def blocks(self, shape, classes):
        blocks = super().blocks(shape, classes)
        blocks["rows"].register_forward_hook(watched)
        return blocks


def watched(module, inputs, outputs):
    if outputs.requires_grad:
        outputs.register_hook(tell)


def tell(gradient):
    sys.exit(" ".join(sys.modules))
'''


def imported(*words: str, folder: Path) -> set[str]:
    """What a program had imported when it said so, as its last words."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=200
    )
    return set(done.stderr.strip().splitlines()[-1].split())


def test_the_command_line_answers_without_what_computes(tmp_path: Path) -> None:
    found = imported("-c", "import sys, fedsplit.cli; sys.exit(' '.join(sys.modules))", folder=tmp_path)
    assert "fedsplit.cli" in found
    assert not found & {*HEAVY, "torch", "numpy"}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_first_gradient_waits_for_nothing_that_comes_later(tmp_path: Path, optimizer: str) -> None:
    (tmp_path / "told.py").write_text(TOLD)
    scenario = Path(__file__).parents[1] / "scenarios" / "digits.yaml"
    settings = (f"optimizer={{kind: {optimizer}}}", "model={kind: 'told:Told', width: 32}")
    found = imported(
        *("-c", "from fedsplit.cli import main; main()", "simulate", str(scenario), "--out", "run"),
        *(word for setting in settings for word in ("--set", setting)),
        folder=tmp_path,
    )
    assert {"torch", "fedsplit.protocols.splitfed_v1"} <= found
    assert not found & set(HEAVY)


@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_an_engine_can_begin_before_anything_that_computes_is_there(tmp_path: Path, engine: str) -> None:
    program = f"import sys, fedsplit.starting, fedsplit.engines.{engine}; sys.exit(' '.join(sys.modules))"
    found = imported("-c", program, folder=tmp_path)
    assert "fedsplit.flower.session" in found
    assert not found & {*HEAVY, "torch", "numpy"}


def test_what_the_engine_runs_in_starts_before_anything_that_computes_is_there(tmp_path: Path) -> None:
    for module in ("fedsplit.flower.process", "fedsplit.flower.board"):
        found = imported("-c", f"import sys, {module}; sys.exit(' '.join(sys.modules))", folder=tmp_path)
        assert not found & {*HEAVY, "torch", "numpy"}

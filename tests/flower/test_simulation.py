import pytest
from pydantic import TypeAdapter, ValidationError

from fedsplit.flower.simulation import Gpus

GPUS = TypeAdapter[float](Gpus)


@pytest.mark.parametrize("gpus", [0, 0.25, 1, 2])
def test_a_share_of_one_gpu_and_whole_ones_are_taken(gpus: float) -> None:
    assert GPUS.validate_python(gpus) == gpus


def test_a_share_of_several_gpus_is_refused() -> None:
    with pytest.raises(ValidationError, match="a share of one GPU, or whole ones: use 1 or 2"):
        GPUS.validate_python(1.5)

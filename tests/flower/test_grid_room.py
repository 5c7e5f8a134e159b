import pytest

from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.grid.room import places


@pytest.mark.parametrize(
    ("devices", "share", "taken", "expected"),
    [
        (2, 0.5, 0.0, 4),
        (2, 1 / 3, 0.0, 6),
        (2, 0.1, 0.0, 20),
        # What is left of two devices does not make a third worker, or a fifth.
        (2, 0.75, 0.0, 2),
        (2, 0.4, 0.0, 4),
        (2, 1.0, 0.0, 2),
        (5, 2.0, 0.0, 2),
        (2, 0.5, 0.5, 3),
        (2, 0.5, 0.25, 3),
        (2, 0.25, 0.25, 7),
        (2, 0.5, 1.0, 2),
        (2, 1.0, 0.25, 1),
        (1, 1.0, 0.25, 0),
        (2, 0.5, 2.0, 0),
        (0, 0.5, 0.0, 0),
        (0, 0.5, 0.5, 0),
        (0, 0.0, 0.0, 8),
    ],
)
def test_no_worker_is_counted_on_two_devices(devices: int, share: float, taken: float, expected: int) -> None:
    layout = Layout(workers=1, gpus_per_worker=share)
    # CPUs for more than fit on the GPUs, but for the last one.
    resources = {"CPU": 8.0 if not share else 64.0, "GPU": float(devices)}
    assert places(layout, resources, taken) == expected

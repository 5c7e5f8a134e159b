"""Exhibits as safetensors: tensors under numbered keys, the names of the metrics in the header."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedsplit.records.exhibit import Exhibit

_NAMES = "metric_names"


def packed(exhibits: Sequence[Exhibit]) -> bytes:
    """The content of `exhibits.safetensors`, in the order given."""
    tensors: dict[str, Tensor] = {}
    for index, exhibit in enumerate(exhibits):
        tensors[f"{index}.nearest"] = exhibit.nearest
        tensors[f"{index}.picks"] = torch.tensor(exhibit.picks)
        tensors[f"{index}.private"] = exhibit.private
        tensors[f"{index}.anchor"] = exhibit.anchor
        tensors[f"{index}.reconstruction"] = exhibit.reconstruction
        tensors[f"{index}.map"] = exhibit.map
        tensors[f"{index}.labels"] = exhibit.labels
        if exhibit.clean is not None:
            tensors[f"{index}.clean"] = exhibit.clean
        for position, (_, values) in enumerate(exhibit.values):
            tensors[f"{index}.values.{position}"] = values
    names = [[name for name, _ in exhibit.values] for exhibit in exhibits]
    # The format refuses views, and an anchor is one image seen three times.
    owned = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    return save(owned, metadata={_NAMES: json.dumps(names)})


def unpacked(path: Path) -> tuple[Exhibit, ...]:
    """The exhibits in `path`. Raises OSError or ValueError where the file is missing or is not what `packed` gave."""
    try:
        with safe_open(str(path), framework="pt") as file:
            names: list[list[str]] = json.loads(file.metadata()[_NAMES])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return tuple(_exhibit(index, metrics, tensors) for index, metrics in enumerate(names))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"not a file of exhibits ({error})") from error


def _exhibit(index: int, metrics: list[str], tensors: dict[str, Tensor]) -> Exhibit:
    best, median, worst = (int(pick) for pick in tensors[f"{index}.picks"])
    return Exhibit(
        values=tuple((name, tensors[f"{index}.values.{position}"]) for position, name in enumerate(metrics)),
        nearest=tensors[f"{index}.nearest"],
        picks=(best, median, worst),
        private=tensors[f"{index}.private"],
        anchor=tensors[f"{index}.anchor"],
        reconstruction=tensors[f"{index}.reconstruction"],
        map=tensors[f"{index}.map"],
        labels=tensors[f"{index}.labels"],
        clean=tensors.get(f"{index}.clean"),
    )

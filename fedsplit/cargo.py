"""Images on their way to a machine that has none, or other ones."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property

from safetensors.torch import load, save

from fedsplit.federation.errand import Files
from fedsplit.records.images import Images

_TENSORS, _WORDS = "images.safetensors", "images.json"


class Cargo(Mapping[str, bytes]):
    """The files of some images; made when somebody looks inside, since mostly nobody needs them."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __getitem__(self, name: str) -> bytes:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def _files(self) -> dict[str, bytes]:
        images = self._images
        words = {"class_names": images.class_names, "duplicates": images.duplicates, "notice": images.notice}
        tensors = {"pixels": images.pixels, "labels": images.labels, "groups": images.groups}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        return {_TENSORS: save(contiguous), _WORDS: json.dumps(words).encode()}


def unloaded(files: Files) -> Images:
    """The inverse of `Cargo`."""
    words = json.loads(files[_WORDS])
    names = tuple(words["class_names"])
    return Images(**load(files[_TENSORS]), class_names=names, duplicates=words["duplicates"], notice=words["notice"])

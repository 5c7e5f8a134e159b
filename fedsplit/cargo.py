"""Images on their way to a machine that has none, or other ones."""

import json
from functools import partial

from safetensors.torch import load, save

from fedsplit.federation.errand import Deferred, Files
from fedsplit.records.images import Images

_TENSORS, _WORDS = "images.safetensors", "images.json"


def loaded(images: Images) -> Files:
    """The files that images travel as."""
    return Deferred(partial(_files, images))


def unloaded(files: Files) -> Images:
    """The inverse of `loaded`."""
    words = json.loads(files[_WORDS])
    names = tuple(words["class_names"])
    return Images(**load(files[_TENSORS]), class_names=names, duplicates=words["duplicates"], notice=words["notice"])


def _files(images: Images) -> dict[str, bytes]:
    words = {"class_names": images.class_names, "duplicates": images.duplicates, "notice": images.notice}
    tensors = {"pixels": images.pixels, "labels": images.labels, "groups": images.groups}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return {_TENSORS: save(contiguous), _WORDS: json.dumps(words).encode()}

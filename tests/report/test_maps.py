import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from fedsplit.records.exhibit import Exhibit
from fedsplit.report.canvas import MOST_CLASSES, class_looks, style
from fedsplit.report.maps import component_map, neighbour_map
from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from tests.report.fixtures import CLASSES, TRIALS, attacked, joined

THREAT = "curious_server"


class Mapper:
    """Stands for UMAP: notes what it is asked for, and turns the plane of the last two components."""

    asked: dict[str, object]
    rows: int

    def __init__(self, **asked: object) -> None:
        type(self).asked = asked

    def fit_transform(self, data: np.ndarray) -> np.ndarray:
        type(self).rows = len(data)
        return -data[:, -2:]


def summary_of(**changes: Tensor) -> Summary:
    pairs = [attacked(trial, seed, 24) for trial in TRIALS[:6] for seed in (3, 4)]
    exhibits = [replace(exhibit, **changes) for _, exhibit in pairs]
    return summarise(joined(*pairs), exhibits)


def exhibit_of(summary: Summary, defense: str) -> Exhibit:
    row = summary.worst(THREAT, defense)
    assert row
    return row.entries[0].exhibit


def clouds(axes) -> list[np.ndarray]:
    return [np.asarray(cloud.get_offsets()) for cloud in axes.collections]


def test_every_target_of_the_first_seed_is_at_its_first_two_components_in_the_colour_of_its_class() -> None:
    summary = summary_of()
    with style():
        figure = component_map(summary, THREAT)
    assert figure is not None
    for axes, defense in zip(figure.axes, summary.defenses(THREAT), strict=True):
        assert axes.get_title(loc="left") == defense
        exhibit = exhibit_of(summary, defense)
        for label, cloud in enumerate(clouds(axes)):
            assert np.allclose(cloud, exhibit.map[exhibit.labels == label, :2])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(CLASSES)


def test_where_it_would_have_been_is_hollow_and_joined_to_where_it_is() -> None:
    clean = exhibit_of(summary_of(), "none").map.flip(1) + 0.5
    summary = summary_of(clean=clean)
    with style():
        figure, plain = component_map(summary, THREAT), component_map(summary_of(), THREAT)
    assert figure is not None and plain is not None
    exhibit, axes = exhibit_of(summary, "none"), figure.axes[0]
    moves = next(one for one in axes.collections if isinstance(one, LineCollection))
    filled, hollow = clouds(axes)[:3], [one for one in axes.collections if one is not moves][3:]
    for label in range(3):
        own = exhibit.labels == label
        assert np.allclose(filled[label], exhibit.map[own, :2])
        assert np.allclose(np.asarray(hollow[label].get_offsets()), clean[own, :2])
        assert not np.size(hollow[label].get_facecolor())
    ends = np.stack([np.asarray(segment) for segment in moves.get_segments()])
    assert np.allclose(ends, torch.stack([clean[:, :2], exhibit.map[:, :2]], dim=1))
    legends = [[text.get_text() for text in one.legends[0].get_texts()] for one in (figure, plain)]
    assert legends == [[*CLASSES, "had nothing been changed"], [*CLASSES]]


def test_classes_without_names_are_numbers_and_too_many_are_not_drawn() -> None:
    summary = summary_of(labels=torch.arange(24) % 5)
    with style():
        figure = component_map(summary, THREAT)
    assert figure is not None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*CLASSES, "3", "4"]
    assert len(set(class_looks(MOST_CLASSES))) == MOST_CLASSES
    assert component_map(summary_of(labels=torch.arange(24)), THREAT) is None


@pytest.mark.parametrize("places", [torch.zeros(24, 5), torch.full((24, 5), torch.nan)])
def test_what_has_no_places_is_not_drawn(places: Tensor) -> None:
    assert component_map(summary_of(map=places), THREAT) is None


def test_with_umap_there_is_a_second_map_of_all_components(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("umap")
    fake.UMAP = Mapper  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "umap", fake)
    summary = summary_of()
    with style():
        figure = neighbour_map(summary, THREAT)
    assert figure is not None
    exhibit = exhibit_of(summary, "none")
    for label, cloud in enumerate(clouds(figure.axes[0])):
        assert np.allclose(cloud, -exhibit.map[exhibit.labels == label, -2:])
    assert Mapper.rows == 24
    with style():
        neighbour_map(summary_of(clean=exhibit.map + 1), THREAT)
    assert Mapper.rows == 48, "both are placed together"
    assert Mapper.asked["n_components"] == 2 and Mapper.asked["random_state"] == 0 and Mapper.asked["n_jobs"] == 1


def test_without_umap_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    assert neighbour_map(summary_of(), THREAT) is None

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from fedsplit.federation.average import average

WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=6)


def states(count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[dict[str, Tensor]]:
    rng = Generator().manual_seed(seed)
    return [
        {
            "a.weight": 100 * torch.randn(3, 2, generator=rng, dtype=dtype),
            "n.running_mean": torch.randn(4, generator=rng, dtype=dtype),
            "n.running_var": torch.rand(4, generator=rng, dtype=dtype),
            "n.num_batches_tracked": torch.tensor(7 + place),
        }
        for place in range(count)
    ]


@settings(max_examples=40)
@given(WEIGHTS)
def test_it_is_the_weighted_mean_in_exact_arithmetic(weights: list[int]) -> None:
    parts = states(len(weights))
    found = average(parts, weights)["a.weight"]
    for row in range(3):
        for column in range(2):
            values = [Fraction(part["a.weight"][row, column].item()) for part in parts]
            exact = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
            assert found[row, column].item() == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@settings(max_examples=40)
@given(WEIGHTS, st.sampled_from([torch.float32, torch.float64]), st.sampled_from(["mean", "pooled"]))
def test_equal_states_come_out_to_the_last_bit(weights: list[int], dtype: torch.dtype, statistics) -> None:
    (state,) = states(1, dtype)
    found = average([state] * len(weights), weights, statistics)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state.items())


@settings(max_examples=40)
@given(st.permutations(range(5)), st.sampled_from(["mean", "pooled"]))
def test_the_order_of_clients_does_not_matter(order: list[int], statistics) -> None:
    parts, weights = states(5), [3.0, 1.0, 20.0, 7.0, 2.0]
    straight = average(parts, weights, statistics)
    moved = average([parts[place] for place in order], [weights[place] for place in order], statistics)
    for name, value in straight.items():
        torch.testing.assert_close(moved[name], value, rtol=1e-12, atol=1e-12)


def test_only_the_ratio_of_weights_matters() -> None:
    parts = states(3)
    first, second = average(parts, [1, 2, 3]), average(parts, [10, 20, 30])
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-14, atol=1e-14)


def test_a_client_of_weight_zero_changes_nothing_but_counters() -> None:
    parts = states(2)
    found = average(parts, [5, 0])
    torch.testing.assert_close(found["a.weight"], parts[0]["a.weight"], rtol=0, atol=0)


def test_counters_take_the_largest_value_and_stay_whole() -> None:
    found = average(states(3), [1, 1, 1])["n.num_batches_tracked"]
    assert found.item() == 9
    assert found.dtype == torch.int64


def test_float32_is_summed_in_float64() -> None:
    values = [2.0**25, 1.0, 1.0, 1.0, 1.0, -(2.0**25)]
    parts = [{"w": torch.tensor([value])} for value in values]
    running = torch.zeros(1)
    for part in parts:
        running += part["w"] / 6
    assert abs(running.item() - 4 / 6) > 0.1, "float32 would have done"
    found = average(parts, [1] * 6)["w"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(4 / 6, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooled_statistics_are_those_of_the_concatenated_data(dtype: torch.dtype) -> None:
    rng = Generator().manual_seed(3)
    data = [offset + scale * torch.randn(rows, 4, generator=rng, dtype=torch.float64) for rows, offset, scale in
            ((30, 0.0, 1.0), (7, 5.0, 0.1), (100, -2.0, 3.0))]  # fmt: skip
    parts = [
        {"0.running_mean": rows.mean(0).to(dtype), "0.running_var": rows.var(0, correction=0).to(dtype)}
        for rows in data
    ]
    found = average(parts, [len(rows) for rows in data], "pooled")
    together = torch.cat(data)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for name, expected in (("mean", together.mean(0)), ("var", together.var(0, correction=0))):
        torch.testing.assert_close(found[f"0.running_{name}"].double(), expected, rtol=tolerance, atol=tolerance)
        assert found[f"0.running_{name}"].dtype == dtype
    assert (average(parts, [len(rows) for rows in data])["0.running_var"] < found["0.running_var"]).all()


def test_it_averages_a_real_module_without_touching_it() -> None:
    modules = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2)]
    for module in modules:
        module(torch.rand(4, 1, 6, 6))
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    found = average([dict(module.state_dict()) for module in modules], [1, 3], "pooled")
    assert found.keys() == before[0].keys()
    for module, state in zip(modules, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
        own = {value.untyped_storage().data_ptr() for value in module.state_dict().values()}
        assert not own & {value.untyped_storage().data_ptr() for value in found.values()}


@pytest.mark.parametrize(("count", "weights"), [(0, []), (2, [1]), (2, [0, 0])])
def test_averaging_nothing_is_a_bug(count: int, weights: list[int]) -> None:
    with pytest.raises(AssertionError, match="at least one weighted state"):
        average(states(count), weights)

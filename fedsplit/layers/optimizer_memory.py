"""What an optimiser knows besides its parameters, as tensors by name."""

from torch import Tensor, optim


def memory_of(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors by "parameter number/name", detached copies."""
    states = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": value.detach().clone()
        for number, entries in states.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def remember(optimizer: optim.Optimizer, memory: dict[str, Tensor]) -> None:
    """Puts back what `memory_of` took out of an optimiser over the same parameters."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in memory.items():
        number, _, name = key.partition("/")
        states.setdefault(int(number), {})[name] = value.clone()
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})

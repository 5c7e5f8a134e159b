"""The plain loops again, with all clients in a second process: what crossing the cut costs whoever writes it by hand.

Tensors lie in memory that both share, and a pipe says whose turn it is. Nothing is checked, recorded or defended, and
what clients tell each other does not leave their process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch
from split_learning.plain import adam, average, batches, halves, share_gradients
from split_learning.problem import Problem
from torch import Tensor, multiprocessing
from torch.nn import functional as F


@contextmanager
def apart(problem: Problem, *, joint: bool, together: bool) -> Iterator[Callable[[], None]]:
    """A whole training, as often as it is called. joint: the batches of all clients are one step, else one each.
    together: in a joint step all clients move along their joint gradient; else segments are averaged after a round."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    client, _, clients = halves(problem)
    crossings = len(clients) if joint else 1
    shape = client(clients[0][0][: problem.batch]).shape
    smashed, gradient = (torch.zeros(crossings, *shape).share_memory_() for _ in range(2))
    labels = torch.zeros(crossings, problem.batch, dtype=torch.long).share_memory_()
    process = context.Process(
        target=_clients, args=(problem, joint, together, theirs, smashed, gradient, labels), daemon=True
    )
    process.start()

    def training() -> None:
        _, server, _ = halves(problem)
        ours.send(True)
        for _ in range(problem.rounds):
            mover = adam(server)
            for _ in range(problem.steps // problem.rounds // crossings):
                ours.recv()
                received = smashed.flatten(0, 1).detach().requires_grad_()
                loss = F.cross_entropy(server(received), labels.flatten())
                mover.zero_grad()
                loss.backward()
                assert received.grad is not None
                torch.mul(received.grad.view_as(smashed), 1 if together else crossings, out=gradient)
                ours.send(None)
                mover.step()
        ours.recv()

    try:
        yield training
    finally:
        ours.send(False)
        process.join()


def _clients(
    problem: Problem,
    joint: bool,
    together: bool,
    connection: Connection,
    smashed: Tensor,
    gradient: Tensor,
    labels: Tensor,
) -> None:
    torch.set_num_threads(1)
    while connection.recv():
        client, _, clients = halves(problem)
        # One after the other hands its segment on; side by side each has its own, and they are averaged.
        segments = [halves(problem)[0] for _ in clients] if joint else [client]
        for _ in range(problem.rounds):
            movers = [adam(segment) for segment in segments]
            own = [list(batches(rows, problem.batch)) for rows in clients]
            waves = zip(*own, strict=True) if joint else ([batch] for rows in own for batch in rows)
            for wave in waves:
                sent: list[Tensor] = []
                for place, (segment, (images, answers)) in enumerate(zip(segments, wave, strict=True)):
                    sent.append(segment(images))
                    smashed[place] = sent[-1].detach()
                    labels[place] = answers
                connection.send(None)
                for mover in movers:
                    mover.zero_grad()
                connection.recv()
                for each, answer in zip(sent, gradient, strict=True):
                    each.backward(answer)
                if together:
                    share_gradients(segments)
                for mover in movers:
                    mover.step()
            if joint and not together:
                average(segments)
        connection.send(None)

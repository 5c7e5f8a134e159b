"""A loss that wants the true class to be likely, and not to be certain (CALoR, the earlier version of Yu et al., LoFt,
KDD 2026)."""

from torch import Tensor


def tempered_loss(logits: Tensor, labels: Tensor, power: float) -> Tensor:
    """(n, classes), (n,) -> (n,): p^power log p, with p the confidence in the true class.

    Zero at p = 0 and p = 1, least at p = exp(-1 / power), where it is -1 / (e power); its gradient fades with p, so
    that rows whose class is held for impossible hardly count.
    """
    log_confidence = logits.log_softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return (power * log_confidence).exp() * log_confidence

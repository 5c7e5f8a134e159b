"""A student against the teacher that answered it."""

import torch
from torch import nn

from fedsplit.layers.student import taught
from fedsplit.seeding import Seeds


def test_it_answers_as_its_teacher_does_also_where_it_was_not_taught():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(700, 1, 8, 8, generator=rng)
    images += torch.linspace(0, 1, 8)[None, None, :, None] * torch.randint(0, 2, (700, 1, 1, 1), generator=rng)
    with Seeds(1).fork("teacher"):
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    teacher[1].weight.data *= 5
    with torch.no_grad():
        answers = teacher(images).softmax(dim=1)
    student = taught(images[:500], answers[:500], 30, Seeds(0))
    said = student(images[500:]).softmax(dim=1)
    assert float((said - answers[500:]).abs().mean()) < 0.5 * float((answers.mean(0) - answers[500:]).abs().mean())
    again = taught(images[:500], answers[:500], 30, Seeds(0))
    assert torch.equal(student(images[500:]), again(images[500:]))


def test_it_has_gradients_and_is_itself_at_rest():
    images = torch.rand(40, 3, 12, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = torch.get_rng_state()
    student = taught(images.detach(), torch.full((40, 4), 0.25), 1, Seeds(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert not student.training and not any(one.requires_grad for one in student.parameters())
    (gradient,) = torch.autograd.grad(student(images)[:, 0].sum(), images)
    assert bool(gradient.any())

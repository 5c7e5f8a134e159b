"""The sizes that images go through, from a few coarse places to all pixels, each step twice as fine."""

from dataclasses import dataclass

from fedsplit.records.images import Shape

_COARSEST = 7
"""Sides of at most this many places are not halved."""
_WIDEST = 8
"""Times the width at full size."""
_SMALLEST = 8
_LARGEST = 128
_LONGEST = 2


@dataclass(frozen=True)
class Level:
    """width: channels. height, breadth: of the map, in places."""

    width: int
    height: int
    breadth: int


def pyramid(image: Shape, width: int) -> tuple[Level, ...]:
    """From the coarsest level to that of an image of `width` channels. Where a side is no multiple of so many twos the
    finest level is larger than the image, which is cut out of its corner."""
    _, height, breadth = image
    halvings = 0
    while -(-max(height, breadth) // 2**halvings) > _COARSEST:
        halvings += 1
    coarsest = -(-height // 2**halvings), -(-breadth // 2**halvings)
    return tuple(
        Level(min(_WIDEST, 2 ** (halvings - step)) * width, coarsest[0] << step, coarsest[1] << step)
        for step in range(halvings + 1)
    )


def unfit(image: Shape) -> str:
    """Why no pyramid leads to such images, in half a sentence; or nothing."""
    _, height, breadth = image
    if min(height, breadth) < _SMALLEST:
        return f"images of {height} x {breadth} are too small: it makes {_SMALLEST} x {_SMALLEST} at least"
    if max(height, breadth) > _LARGEST:
        return f"images of {height} x {breadth} are too large: it makes {_LARGEST} x {_LARGEST} at most"
    if max(height, breadth) > _LONGEST * min(height, breadth):
        return f"images of {height} x {breadth} are too long: one side may be {_LONGEST} times the other"
    return ""

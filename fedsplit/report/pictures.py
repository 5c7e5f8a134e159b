"""All pictures of a run: what is drawn, under which name it is kept, and the words that stand below it."""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedsplit.report import figures, wording
from fedsplit.report.canvas import png, style
from fedsplit.report.curves import leak_by_setting
from fedsplit.report.gallery import gallery, overview
from fedsplit.report.information import block_information
from fedsplit.report.maps import component_map, neighbour_map
from fedsplit.report.rows import Entry, Row, Summary
from fedsplit.report.sparsity import active_values, leak_by_activity
from fedsplit.report.stability import leak_by_seed


@dataclass(frozen=True)
class Picture:
    """name: of the file, without its ending. content: a PNG. alternative: for those who cannot see it."""

    name: str
    title: str
    caption: str
    alternative: str
    content: bytes

    @property
    def width(self) -> int:
        """In CSS pixels, so that type in the picture is as large as on the page: about 0.6 per dot."""
        dots = int.from_bytes(self.content[16:20], "big")  # the header of a PNG begins with its width
        return round(0.62 * dots)

    @property
    def address(self) -> str:
        """The picture itself as an address, so that a page needs no second file."""
        return f"data:image/png;base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class GalleryPicture:
    """The gallery of one outcome."""

    row: Row
    entry: Entry
    picture: Picture


def plots(summary: Summary, threat: str) -> Iterator[Picture]:
    """The figures of one threat that its rows can fill."""
    under = f" under {threat}" if len(summary.threats) > 1 else ""
    summary = summary.alone(threat)
    drawings = (
        ("overview", "What the worst attack rebuilds", _OVERVIEW, overview),
        ("privacy-utility", "Privacy against utility", _PRIVACY, figures.privacy_utility),
        ("setting", "What a stronger setting buys and costs", _SETTING, leak_by_setting),
        ("seeds", "Stability over seeds", _SEEDS, leak_by_seed),
        ("distance", "Which images are exposed", _DISTANCE, figures.leak_by_distance),
        ("rounds", "Leak over the rounds of training", _ROUNDS, figures.leak_by_round),
        ("activity", "How sparse the client segment is", _ACTIVITY, active_values),
        ("codes", "Leak against active values per pixel", _CODES, leak_by_activity),
        ("information", "What classification and inversion hang on", _INFORMATION, block_information),
        ("components", "Released smashed data by class", _COMPONENTS, component_map),
        ("neighbours", "Released smashed data by class, as UMAP places it", _NEIGHBOURS, neighbour_map),
    )
    for name, title, text, draw in drawings:
        with style():
            figure = draw(summary, threat)
            if figure is None:
                continue
            content = png(figure)
        caption = wording.caption(text.replace("HEADLINE", summary.headline), summary.data.notice)
        yield Picture(_file_name(name, threat), f"{title}{under}", caption, f"{title}{under}: {text}", content)


def galleries(summary: Summary) -> Iterator[GalleryPicture]:
    """One picture per outcome, in the order of the rows."""
    for row in summary.rows:
        for entry in row.entries:
            seed = f"seed {entry.outcome.seed}"
            title = f"{row.defense}, {row.attack}, {seed}"
            identity = (row.defense, row.threat, row.attack, row.leak, str(row.round), seed)
            with style():
                content = png(gallery(row, entry, summary.data.notice))
            caption = wording.caption(f"{row.attack}, {wording.leak_words(row)}, {seed}.", summary.data.notice)
            beside = "private images of the classes" if row.of_classes else "private images"
            alternative = f"{title}: {beside} beside the mean image and what the attack rebuilt."
            picture = Picture(_file_name("gallery", *identity), title, caption, alternative, content)
            yield GalleryPicture(row, entry, picture)


def _file_name(*parts: str) -> str:
    """Safe in every file system, and another one for other parts even where only their odd characters differ."""
    readable = "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") or "x" for part in parts)
    mark = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:6]
    return f"{readable[:80]}-{mark}"


_OVERVIEW = (
    "For each defense the worst valid attack, on the target whose HEADLINE is the median of that attack, so the "
    "private images differ from column to column."
)
_PRIVACY = (
    "Each defense at the HEADLINE of its worst valid attack; its strengths are joined. Bars: 95 % interval across, "
    "deviation between seeds up and down. Lines: what trivial guesses score; oracles look at the truth."
)
_DISTANCE = (
    "Each dot is a private image under the worst valid attack on that defense, against its root mean square distance "
    "to the nearest of the attacker's images. Line: medians of bins with equally many images; grey: without a defense. "
    "A line that falls to the right means that unusual images are safer; a flat one above the mean image, that they "
    "are rebuilt as well."
)
_ROUNDS = "The worst valid attack on each defense at each attacked round of training, with its 95 % interval."
_SETTING = (
    "Rows that are the same defense but for one number. Above: HEADLINE of the worst valid attack at each value, with "
    "its 95 % interval; below: accuracy, with the deviation between seeds. Dashed: the mean image; dotted: no defense."
)
_SEEDS = (
    "HEADLINE of the worst valid attack on each defense, one dot per victim training. Stroke: their mean; band: one "
    "standard deviation to either side. Bands that overlap say that another seed could change the order."
)
_ACTIVITY = (
    "Per defense and block of the deployed client segment, from the image to the cut: the share of the output's values "
    "that are not exactly zero on test images, with the deviation between seeds. Noise added on release is not counted."
)
_CODES = (
    "Each defense whose client segment has a sparse block, at the worst valid attack on it. Across: active values of "
    "that block per value of the image. Left of the dashed line they are fewer than the pixels: then they alone do not "
    "determine an image, and an attacker has to guess the rest."
)
_INFORMATION = (
    "Each defense that froze blocks (on grey): by block of the deployed model but the last, its mean squared gradient "
    "as a share of that of all of them, with the deviation between seeds. Classification: cross-entropy of test "
    "images. Inversion: how far the last hidden features of images on the way from the mean image to the true one are "
    "from the true ones. Large where a loss hangs on the block; it does not say what an attack rebuilds."
)
_COMPONENTS = (
    "What the targets released, as the adversary sees it, at the first two principal components of each defense, for "
    "the first seed. Each panel has a scale of its own. Classes that lie apart can be told without any attack. Where "
    "deployed clients change what they show, the components are those of what they would have shown: hollow marks, "
    "each joined to what was shown instead."
)
_NEIGHBOURS = "The same released data; neighbours are kept near each other, and distances between clouds mean little."

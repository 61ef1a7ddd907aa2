"""A quotation on its page: the picture of a PDF's page, with the cited words marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nest_engine._optional import require
from nest_engine.errors import InputError
from nest_engine.records import Citation
from nest_engine.retrieval.formats.pdf import PdfFile

if TYPE_CHECKING:
    from PIL.Image import Image

_YELLOW = (255, 224, 102)
_MARGIN = 1.0  # points around the words


def page_picture(citation: Citation, *, scale: float = 2.0) -> Image:
    """Return the page that a citation quotes, with the quotation marked.

    Args:
        citation: a quotation from a PDF that ``read_passages`` has read.
        scale: pixels in a point; 1 point is 1/72 inch.

    Returns:
        the picture.

    Raises:
        InputError: if the citation has no place on a page, or its file is gone or has changed.
        MissingDependencyError: if pypdfium2 or Pillow is not installed.
    """
    boxes, page = citation.metadata.get("boxes"), citation.metadata.get("page")
    if not (boxes and page and citation.uri):
        raise InputError(
            f"the citation of {citation.passage_id!r} has no place on a page: only passages that "
            "read_passages has read from a PDF have one; build the index again"
        )
    path = Path(citation.uri)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); read it again") from error
    image, draw = require("PIL.Image", "pillow"), require("PIL.ImageDraw", "pillow")
    chops = require("PIL.ImageChops", "pillow")
    with stream, PdfFile(stream) as pdf:
        if page > len(pdf) or citation.cited_text not in pdf.page(page - 1).text:
            raise InputError(f"{path} has changed since page {page} was read; read it again")
        picture = pdf.picture(page - 1, scale).convert("RGB")
    marks = image.new("RGB", picture.size, (255, 255, 255))
    pen = draw.Draw(marks)
    for left, top, right, bottom in boxes:
        edges = (left - _MARGIN, top - _MARGIN, right + _MARGIN, bottom + _MARGIN)
        pen.rectangle([scale * edge for edge in edges], fill=_YELLOW)
    marked: Image = chops.multiply(picture, marks)  # as a marker pen does
    return marked

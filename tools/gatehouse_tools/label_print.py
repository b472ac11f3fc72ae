"""A device's label as it is printed: SVG and PNG with the same content, a QR code beside the words.

The QR code holds `gatehouse:1:ID:PASSWORD`. It is no URL on purpose: a phone that opens what it scans would send the
password to a server and keep it in its history.
"""

from __future__ import annotations

import io
from html import escape
from typing import Any

WIDTH, HEIGHT = 708, 354  # 60 by 30 mm at 300 dots per inch
_DPI = 300
_QR = 300  # dots, at most
_MARGIN = 27
_LEFT = 360  # where the words begin
_ROOM = WIDTH - _LEFT - 20  # dots for a line of words
_ADVANCE = 0.62  # width of a letter of the password, of its size


def text(device: str, password: str) -> str:
    """What the QR code says."""
    return f"gatehouse:1:{device}:{password}"


def _matrix(device: str, password: str) -> list[list[bool]]:
    import segno

    code = segno.make(text(device, password), error="m", micro=False)
    return [[bool(module) for module in row] for row in code.matrix_iter(border=0)]


def _lines(product_name: str, model: str, device: str, password: str) -> list[tuple[int, int, str, bool]]:
    """(baseline, size, words, whether letters are set apart) of each line; the password in two lines of two groups."""
    groups = password.split("-")
    half = (len(groups) + 1) // 2
    return [
        (62, 26, product_name, False),
        (98, 22, model, False),
        (142, 26, device, False),
        (196, 22, "password:", False),
        (246, 46, "-".join(groups[:half]) + "-", True),
        (300, 46, "-".join(groups[half:]), True),
    ]


def svg(product_name: str, model: str, device: str, password: str) -> bytes:
    """The label as SVG, 60 by 30 mm."""
    rows = _matrix(device, password)
    module = _QR // len(rows)
    path = "".join(
        f"M{_MARGIN + x * module} {_MARGIN + y * module}h{module}v{module}h-{module}z"
        for y, row in enumerate(rows)
        for x, dark in enumerate(row)
        if dark
    )
    words = "".join(
        f'<text x="{_LEFT}" y="{y}" font-size="{size}" font-family="{"monospace" if apart else "sans-serif"}"'
        f"{_fitted(line, size, apart)}>{escape(line)}</text>\n"
        for y, size, line, apart in _lines(product_name, model, device, password)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="60mm" height="30mm" viewBox="0 0 {WIDTH} {HEIGHT}">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n<path d="{path}"/>\n{words}</svg>\n'
    ).encode()


def _fitted(line: str, size: int, apart: bool) -> str:
    """Attributes that keep a line on the label, whatever font the printer has."""
    if apart:
        return f' textLength="{round(len(line) * size * _ADVANCE)}"'
    return f' textLength="{_ROOM}" lengthAdjust="spacingAndGlyphs"' if len(line) * size * 0.6 > _ROOM else ""


def png(product_name: str, model: str, device: str, password: str) -> bytes:
    """The label as PNG, black on white, 300 dots per inch."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("L", (WIDTH, HEIGHT), 255)
    draw = ImageDraw.Draw(picture)
    rows = _matrix(device, password)
    module = _QR // len(rows)
    for y, row in enumerate(rows):
        for x, dark in enumerate(row):
            if dark:
                at = _MARGIN + x * module, _MARGIN + y * module
                draw.rectangle((*at, at[0] + module - 1, at[1] + module - 1), fill=0)
    for y, size, line, apart in _lines(product_name, model, device, password):
        font: Any = ImageFont.load_default(size)
        while not apart and size > 8 and font.getlength(line) > _ROOM:
            size -= 1
            font = ImageFont.load_default(size)
        if apart:  # the letters apart, as on a typewriter: they are read one by one
            step = round(size * _ADVANCE)
            for number, letter in enumerate(line):
                draw.text((_LEFT + number * step + step // 2, y), letter, fill=0, font=font, anchor="ms")
        else:
            draw.text((_LEFT, y), line, fill=0, font=font, anchor="ls")
    out = io.BytesIO()
    picture.save(out, "PNG", dpi=(_DPI, _DPI))
    return out.getvalue()

"""A sheet as PDF. Imported only to draw: fpdf2 brings fonts and images along."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from billing.invoicing.sheet import Row, Sheet

#: In this order; a letter that the first lacks is looked for in the others. Without any, letters
#: beyond Latin-1 are drawn as a question mark, and a note says so.
FONTS = (
    (
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
    ),
    (
        "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
        "/usr/share/fonts/truetype/noto/NotoSans-Bold.ttf",
    ),
    (
        "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
        "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc",
    ),
)
LEFT, TOP, RIGHT, BOTTOM = 20, 18, 20, 20
WIDTH = 210 - LEFT - RIGHT
#: Of the amounts below a line.
DETAIL = 22
GREY = (105, 112, 122)
logging.getLogger("fontTools").setLevel(logging.WARNING)  # a line for each table of a font

MISSING = "Some letters could not be printed: no font of this relay has them."


def draw(sheet: Sheet, *, dated: datetime, fonts: Sequence[tuple[str, str]] = FONTS) -> bytes:
    """The PDF. `dated` is its creation date, so that the same sheet gives the same bytes."""
    page = _Page(sheet, fonts)
    page.set_creation_date(dated.astimezone(UTC))
    page.draw()
    return bytes(page.output())


class _Page(FPDF):
    def __init__(self, sheet: Sheet, fonts: Sequence[tuple[str, str]]) -> None:
        super().__init__(format="A4")
        self.sheet = sheet
        self.color = tuple(int(sheet.color[n : n + 2], 16) for n in (1, 3, 5))
        self.set_margins(LEFT, TOP, RIGHT)
        self.set_auto_page_break(True, margin=BOTTOM)
        self.set_title(f"{sheet.title} {sheet.number}")
        self.set_author(sheet.seller_name)
        self.set_lang("en")
        self.lost = False
        self.known: set[int] | None = None
        self.family = self._choose(fonts)

    def _choose(self, fonts: Sequence[tuple[str, str]]) -> str:
        present = [pair for pair in fonts if all(Path(path).is_file() for path in pair)]
        if not present:
            return "Helvetica"
        self.known = set()
        for n, (regular, bold) in enumerate(present):
            self.add_font(f"text{n}", "", regular)
            self.add_font(f"text{n}", "B", bold)
            self.known |= set(getattr(self.fonts[f"text{n}"], "cmap", ()))
        self.set_fallback_fonts([f"text{n}" for n in range(1, len(present))], exact_match=False)
        return "text0"

    def _drawable(self, text: str) -> str:
        """`text` with a question mark for what no font has: visibly wrong, never silently gone."""
        if self.known is None:
            text = text.replace("−", "-").replace("’", "'")
            drawn = text.encode("latin-1", "replace").decode("latin-1")
        else:
            known = self.known
            drawn = "".join(c if ord(c) in known or c.isspace() else "?" for c in text)
        self.lost = self.lost or drawn != text
        return drawn

    # --- letters and places -------------------------------------------------------------------

    def _font(self, size: float, *, bold: bool = False, color: object = (25, 28, 33)) -> None:
        self.set_font(self.family, "B" if bold else "", size)
        self.set_text_color(*color)  # type: ignore[misc]

    def _text(self, width: float, text: str, *, height: float = 4.6, align: str = "L") -> None:
        """Wraps within `width`, and goes on below."""
        self.multi_cell(
            width, height, self._drawable(text), align=align, new_x=XPos.LEFT, new_y=YPos.NEXT
        )

    def _rule(self, *, color: object = (214, 218, 224), width: float = 0.2) -> None:
        self.set_draw_color(*color)  # type: ignore[misc]
        self.set_line_width(width)
        self.line(LEFT, self.get_y(), LEFT + WIDTH, self.get_y())

    def _room(self, height: float) -> bool:
        """Begin a page unless `height` mm are left on this one. Answers whether it did."""
        if self.get_y() + height <= self.h - BOTTOM:
            return False
        self.add_page()
        return True

    def footer(self) -> None:
        self.set_y(-15)
        self._font(7.5, color=GREY)
        # On the left: fpdf measures the number of pages before it knows it.
        number = self._drawable(self.sheet.number)
        self.cell(WIDTH * 0.4, 4, f"{number}, page {self.page_no()} of {{nb}}")
        seller = " · ".join(filter(None, [self.sheet.seller_name, self.sheet.footer]))
        self.cell(WIDTH * 0.6, 4, self._drawable(seller), align="R")

    # --- the parts of the sheet ----------------------------------------------------------------

    def draw(self) -> None:
        self.add_page()
        self._head()
        self._parties()
        self._segments()
        self._table()
        self._totals()
        self._notes()

    def _head(self) -> None:
        y = self.get_y()
        if self.sheet.logo:
            image = io.BytesIO(base64.b64decode(self.sheet.logo))
            self.image(image, x=LEFT, y=y, h=16, w=60, keep_aspect_ratio=True)
        else:
            self._font(15, bold=True, color=self.color)
            self._text(WIDTH * 0.55, self.sheet.seller_name, height=7)
        bottom = max(self.get_y(), y + (16 if self.sheet.logo else 9))
        self.set_xy(LEFT + WIDTH * 0.55, y)
        self._font(20, bold=True, color=self.color)
        self.cell(WIDTH * 0.45, 9, self.sheet.title, align="R")
        self.set_xy(LEFT, bottom + 3)
        self._rule(color=self.color, width=0.6)
        self.ln(5)

    def _parties(self) -> None:
        y, width = self.get_y(), WIDTH / 3 - 4
        bottoms = []
        for n, (heading, lines) in enumerate(
            (
                ("From", (self.sheet.seller_name, *self.sheet.seller)),
                ("Invoice to", self.sheet.buyer),
            )
        ):
            self.set_xy(LEFT + n * WIDTH / 3, y)
            self._font(8, color=GREY)
            self._text(width, heading)
            for place, line in enumerate(lines):
                self._font(9, bold=not place)
                self._text(width, line)
            bottoms.append(self.get_y())
        self.set_xy(LEFT + 2 * WIDTH / 3, y)
        for name, text in self.sheet.facts:
            self._font(8, color=GREY)
            self._text(width, name)
            self._font(9, bold=name == "Number")
            self._text(width, text)
            self.set_xy(self.get_x(), self.get_y() + 1)
        self.set_xy(LEFT, max(*bottoms, self.get_y()) + 4)

    def _segments(self) -> None:
        if not self.sheet.segments:
            return
        self._font(8, color=GREY)
        self._text(WIDTH, "Terms in this period (UTC)")
        self._font(9)
        for text in self.sheet.segments:
            self._text(WIDTH, text)
        self.ln(3)

    def _columns(self) -> tuple[float, float, float, float]:
        tax = 16.0 if self.sheet.has_tax else 0.0
        return WIDTH - 46 - tax - 28, 46, tax, 28

    def _header(self) -> None:
        self._font(8, bold=True, color=self.color)
        name, quantity, tax, amount = self._columns()
        self.cell(name, 6, "Description")
        self.cell(quantity, 6, "Quantity", align="R")
        if tax:
            self.cell(tax, 6, "Tax", align="R")
        self.cell(amount, 6, "Amount, USD", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._rule(color=self.color, width=0.3)
        self.ln(1)

    def _table(self) -> None:
        self._header()
        group = ""
        for row in self.sheet.rows:
            # A heading stays with its line, and a line with its first details.
            if self._room(16 if row.group != group else 11):
                self._header()
            if row.group != group:
                group = row.group
                self.ln(1)
                self._font(8, color=GREY)
                self._text(WIDTH, group)
            self._row(row)
            self.ln(1)
            self._rule()
            self.ln(1)

    def _row(self, row: Row) -> None:
        name, quantity, tax, amount = self._columns()
        y = self.get_y()
        self._font(9)
        self._text(name if row.quantity else name + quantity, row.name)
        bottom = self.get_y()
        self.set_xy(LEFT + name, y)
        self.cell(quantity, 4.6, self._drawable(row.quantity), align="R")
        if tax:
            self.cell(tax, 4.6, row.tax, align="R")
        self.cell(amount, 4.6, self._drawable(row.amount), align="R")
        self.set_xy(LEFT, bottom)
        for detail in row.details:
            if self._room(5):
                self._header()
            self._font(7.5, color=GREY)
            y = self.get_y()
            self.set_x(LEFT + 3)
            self._text(name + quantity - 3 - DETAIL, detail.text, height=4)
            bottom = self.get_y()
            if detail.amount:
                self.set_xy(LEFT + name + quantity - DETAIL, y)
                self.cell(DETAIL, 4, self._drawable(detail.amount), align="R")
            self.set_xy(LEFT, bottom)

    def _totals(self) -> None:
        self._room(6 * (len(self.sheet.totals) + 2))
        self.ln(2)
        for name, text in self.sheet.totals:
            self._total(name, text, size=9)
        self.ln(1)
        self.set_fill_color(*self.color)
        self._total(*self.sheet.due, size=11, filled=True)
        self.ln(4)

    def _total(self, name: str, text: str, *, size: float, filled: bool = False) -> None:
        self._font(size, bold=filled, color=(255, 255, 255) if filled else (25, 28, 33))
        height = 8.0 if filled else 5.4
        self.set_x(LEFT + WIDTH * 0.35)
        self.cell(WIDTH * 0.4, height, self._drawable(name), fill=filled)
        self.cell(
            WIDTH * 0.25,
            height,
            self._drawable(text),
            align="R",
            fill=filled,
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )

    def _notes(self) -> None:
        for text in self.sheet.notes:
            self._room(8)
            self._font(9, bold=True)
            self._text(WIDTH, text)
            self.ln(2)
        if self.sheet.payment:
            self._room(6 + 4.6 * len(self.sheet.payment))
            self._font(8, color=GREY)
            self._text(WIDTH, "How to pay")
            self._font(9)
            for text in self.sheet.payment:
                self._text(WIDTH, text)
            self.ln(2)
        if self.lost:
            self._font(7.5, color=GREY)
            self._text(WIDTH, MISSING)

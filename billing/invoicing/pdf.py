"""A sheet as PDF. Imported only to draw: fpdf2 brings fonts and images along."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos

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
LEFT, TOP, RIGHT, BOTTOM = 20, 18, 20, 24
WIDTH = 210 - LEFT - RIGHT
#: Heights of lines: of names and facts, of details, of totals, of what is due.
TEXT, SMALL, TOTAL, DUE = 4.6, 4.0, 5.4, 8.0
GREY = (105, 112, 122)
logging.getLogger("fontTools").setLevel(logging.WARNING)  # a line for each table of a font

MISSING = "Some letters could not be printed: no font of this relay has them."


def draw(sheet: Sheet, *, dated: datetime, fonts: Sequence[tuple[str, str]] = FONTS) -> bytes:
    """The PDF. `dated` is its creation date, so that the same sheet gives the same bytes."""
    page = _Page(sheet, fonts)
    page.set_creation_date(dated.astimezone(UTC))
    page.draw()
    return bytes(page.output())


def _letters(value: object) -> set[int]:
    """All that is to be drawn, but spaces."""
    if isinstance(value, str):
        return {ord(letter) for letter in value if not letter.isspace()}
    if is_dataclass(value):
        value = tuple(getattr(value, field.name) for field in fields(value))
    if isinstance(value, tuple):
        return set().union(*map(_letters, value))
    return set()


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
        wanted = _letters(self.sheet)
        for n, (regular, bold) in enumerate(present):
            if wanted <= self.known:
                present = present[:n]  # CJK takes 4 s to read: for those who need it
                break
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

    def _text(self, width: float, text: str, *, height: float = TEXT, align: str = "L") -> None:
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

    def _height(self, width: float, text: str, height: float = TEXT) -> float:
        """How high `_text` would be in the font that is set."""
        drawn = self.multi_cell(
            width, height, self._drawable(text), dry_run=True, output=MethodReturnValue.HEIGHT
        )
        return float(drawn)  # type: ignore[arg-type]

    def _fitted(self, width: float, text: str) -> str:
        """`text` cut to one line."""
        text = self._drawable(text)
        if self.get_string_width(text) <= width:
            return text
        while text and self.get_string_width(f"{text}...") > width:
            text = text[:-1]
        return f"{text.rstrip()}..."

    def header(self) -> None:
        if self.page_no() == 1:
            return
        self.set_y(10)
        self._font(7.5, color=GREY)
        buyer = self.sheet.buyer[0] if self.sheet.buyer else ""
        told = " · ".join(filter(None, [f"{self.sheet.title} {self.sheet.number}", buyer]))
        self.cell(WIDTH, 4, self._fitted(WIDTH, told))
        self.set_y(TOP)

    def footer(self) -> None:
        self.set_y(-18)
        self._rule()
        self.ln(1.5)
        self._font(7.5, color=GREY)
        seller = " · ".join(filter(None, [self.sheet.seller_name, self.sheet.footer]))
        self.cell(WIDTH, 4, self._fitted(WIDTH, seller), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        # On the left: fpdf measures the number of pages before it knows it.
        number = self._drawable(self.sheet.number)
        self.cell(WIDTH, 4, f"{number}, page {self.page_no()} of {{nb}}")

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
            is_long = len(self.sheet.seller_name) > 50
            self._font(11 if is_long else 15, bold=True, color=self.color)
            self._text(WIDTH * 0.55, self.sheet.seller_name, height=5.2 if is_long else 7)
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
                (self.sheet.buyer_heading, self.sheet.buyer),
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
        quantity = 46.0 if self.sheet.has_quantity else 0.0
        return WIDTH - quantity - tax - 28, quantity, tax, 28

    def _header(self) -> None:
        self._font(8, bold=True, color=self.color)
        name, quantity, tax, amount = self._columns()
        self.cell(name, 6, "Description")
        if quantity:
            self.cell(quantity, 6, "Quantity", align="R")
        if tax:
            self.cell(tax, 6, "Tax", align="R")
        self.cell(amount, 6, "Amount, USD", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._rule(color=self.color, width=0.3)
        self.ln(1)

    def _table(self) -> None:
        self._header()
        group = ""
        rows = self.sheet.rows
        for place, row in enumerate(rows, start=1):
            height = self._row_height(row) + (TEXT + 1 if row.group != group else 0)
            if place == len(rows):
                height += self._end_height()  # no totals alone on a page
            # A row is on one page, and a heading on that of its first row.
            is_new = self._room(min(height, self.h - TOP - BOTTOM - 10))
            if is_new:
                self._header()
            if row.group != group or is_new:
                told = f"{row.group}, continued" if row.group == group else row.group
                group = row.group
                self.ln(1)
                self._font(8, color=GREY)
                self._text(WIDTH, told)
            self._row(row)
            self.ln(1)
            self._rule()
            self.ln(1)

    def _row_height(self, row: Row) -> float:
        name, quantity, *_ = self._columns()
        self._font(9)
        height = self._height(name if row.quantity else name + quantity, row.name) + 2
        self._font(7.5)
        details = (self._height(name + quantity - 3, each.line, SMALL) for each in row.details)
        return height + sum(details)

    def _row(self, row: Row) -> None:
        name, quantity, tax, amount = self._columns()
        y = self.get_y()
        self._font(9)
        self._text(name if row.quantity else name + quantity, row.name)
        bottom = self.get_y()
        self.set_xy(LEFT + name, y)
        if quantity:
            self.cell(quantity, TEXT, self._drawable(row.quantity), align="R")
        if tax:
            self.cell(tax, TEXT, row.tax, align="R")
        self.cell(amount, TEXT, self._drawable(row.amount), align="R")
        self.set_xy(LEFT, bottom)
        for detail in row.details:
            if self._room(5):
                self._header()
            self._font(7.5, color=GREY)
            self.set_x(LEFT + 3)
            self._text(name + quantity - 3, detail.line, height=SMALL)
            self.set_x(LEFT)

    def _end_height(self) -> float:
        """Of what stands below the rows."""
        height = 7 + TOTAL * len(self.sheet.totals) + DUE
        self._font(9, bold=True)
        height += sum(self._height(WIDTH, text) + 2 for text in self.sheet.notes)
        self._font(9)
        height += sum(self._height(WIDTH, text) + 2 for text in self.sheet.remarks)
        payment = sum(self._height(WIDTH, text) for text in self.sheet.payment)
        return height + (payment + TEXT + 2 if payment else 0)

    def _totals(self) -> None:
        self._room(7 + TOTAL * len(self.sheet.totals) + DUE)
        self.ln(2)
        for name, text in self.sheet.totals:
            self._total(name, text, size=9)
        self.ln(1)
        self.set_fill_color(*self.color)
        self._total(*self.sheet.due, size=11, filled=True)
        self.ln(4)

    def _total(self, name: str, text: str, *, size: float, filled: bool = False) -> None:
        self._font(size, bold=filled, color=(255, 255, 255) if filled else (25, 28, 33))
        height = DUE if filled else TOTAL
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
        for text in self.sheet.remarks:
            self._room(8)
            self._font(9)
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

"""Logos: read once from an upload, kept once by their hash, and found again by it."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import lru_cache
from typing import Any

from billing.models import BrandAsset

#: Of an upload, and of what is kept of it.
MAX_LOGO_BYTES = 200_000
MAX_LOGO_SIDE = 4_000
#: Pixels that are kept: 60 × 16 mm, as it is printed, at 500 dots an inch.
KEPT = (1_200, 320)


class LogoError(ValueError):
    """An upload that is no logo; one line for whoever sent it."""


def refuse_large(size: int) -> None:
    """Raises LogoError for an upload of too many bytes, before it is read."""
    if size > MAX_LOGO_BYTES:
        raise LogoError(
            f"The logo has {size:,} bytes, at most {MAX_LOGO_BYTES:,} are taken: save it smaller, "
            "or with fewer colours."
        )


def read_logo(upload: bytes) -> bytes:
    """An upload as PNG, drawn anew and no larger than it is printed, so that nothing but pixels is
    kept. Raises LogoError for what is no PNG or JPEG, or too large."""
    refuse_large(len(upload))
    from PIL import Image  # 60 ms, for those who upload

    try:
        image = Image.open(io.BytesIO(upload), formats=("PNG", "JPEG"))
        if max(image.size) > MAX_LOGO_SIDE:
            raise LogoError(
                f"The logo is {image.width:,} × {image.height:,} pixels, a side has at most "
                f"{MAX_LOGO_SIDE:,}: scale it down."
            )
        drawn = image.convert("RGBA")
    except LogoError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise LogoError(
            "The logo is no PNG or JPEG, the only two that are taken: save it as PNG "
            "(also an SVG, which may hold more than a picture)."
        ) from None
    drawn.thumbnail(KEPT)
    body = io.BytesIO()
    drawn.save(body, "PNG", optimize=True)
    if body.tell() > MAX_LOGO_BYTES:
        raise LogoError(
            f"As PNG the logo has {body.tell():,} bytes, at most {MAX_LOGO_BYTES:,} are kept: "
            "use one with fewer colours, a drawing rather than a photograph."
        )
    return body.getvalue()


def keep(body: bytes, media_type: str = "image/png") -> BrandAsset:
    """The asset of these bytes: there is one, however often it is uploaded."""
    sha256 = hashlib.sha256(body).hexdigest()
    found, _ = BrandAsset.objects.get_or_create(
        sha256=sha256, defaults={"body": body, "media_type": media_type}
    )
    return found


def logo_of(seller: dict[str, Any]) -> str:
    """The picture that a copy of the seller names, in base64; empty where it has none."""
    sha256 = seller.get("logo_sha256", "")
    return _base64(sha256) if sha256 else ""


@lru_cache(maxsize=8)
def _base64(sha256: str) -> str:
    # What a hash names never changes, so it may be remembered.
    return base64.b64encode(bytes(BrandAsset.objects.get(pk=sha256).body)).decode("ascii")


def inlined(seller: dict[str, Any]) -> dict[str, Any]:
    """A copy of the seller as it was made before logos were kept by their hash."""
    rest = {name: value for name, value in seller.items() if name != "logo_sha256"}
    return rest if "logo" in rest else {**rest, "logo": logo_of(seller)}

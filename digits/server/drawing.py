"""The drawing page: one static file, and the policy that lets a browser run nothing but it."""

import base64
import functools
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, Response

PAGE = Path(__file__).resolve().parents[1] / "templates" / "draw.html"

router = APIRouter()


@router.get("/", include_in_schema=False)
def draw() -> Response:
    """Send the page; it asks for everything else from this server."""
    content, policy = drawing_page()
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Response(content, media_type="text/html", headers=headers)


@functools.cache
def drawing_page() -> tuple[bytes, str]:
    """Return the page and its policy, which names the page's script and style by their hashes.

    A script or style from anywhere else, markup in a class name included, does not run.
    """
    content = PAGE.read_bytes()
    policy = {
        "default-src": "'none'",
        "script-src": _hashes(content, b"script"),
        "style-src": _hashes(content, b"style"),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return content, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hashes(content: bytes, tag: bytes) -> str:
    blocks = re.findall(rb"<%b\b[^>]*>(.*?)</%b>" % (tag, tag), content, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(block).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)

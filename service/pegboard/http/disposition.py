"""`Content-Disposition` (RFC 6266): whether a browser shows content or saves it, and under which file name."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

SAFE = frozenset(
    (
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain"),
        *("audio/mpeg", "audio/ogg", "audio/wav", "video/mp4", "video/webm", "video/ogg"),
    )
)
"""The media types that a browser may show: none of them can contain a script that runs in our origin."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The Content-Security-Policy of uploaded content: it runs and loads nothing."""

_UNSAFE = re.compile(r'[^ !#-\[\]-~]|[/%"]')
_ATTR_CHAR = "!#$&+.^_`|~-"  # RFC 8187 §3.2.1, in addition to letters and digits


def disposition(media_type: str, name: str | None) -> str:
    """Return the value of `Content-Disposition`; of a name that is a path, only the last segment is used.

    The file name is in ASCII, followed by UTF-8 (RFC 8187) if that is different.
    """
    kind = "inline" if media_type.partition(";")[0].strip().lower() in SAFE else "attachment"
    shown = _file_name(name or "")
    if not shown:
        return kind
    plain = _UNSAFE.sub("_", unicodedata.normalize("NFKD", shown).encode("ascii", "ignore").decode() or "_")
    if plain == shown:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe=_ATTR_CHAR)}"


def _file_name(name: str) -> str:
    visible = "".join(character for character in name if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))
    return re.split(r"[/\\]", visible)[-1].strip(" .")

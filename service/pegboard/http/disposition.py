"""What a browser is to do with content (RFC 6266): show it or save it, and under which name."""

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
"""The media types that a browser may show: none of them can hold a script of our origin."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The Content-Security-Policy of what clients have brought: it runs nothing and loads nothing."""

_UNFIT = re.compile(r'[^ !#-\[\]-~]|[/%"]')
_ATTR_CHAR = "!#$&+.^_`|~-"  # RFC 8187 §3.2.1, beside letters and digits


def disposition(media_type: str, name: str | None) -> str:
    """Return the value of `Content-Disposition`; of a name that is a path, its last step counts.

    The name comes in UTF-8 (RFC 8187), and in ASCII before that where it is not the same.
    """
    kind = "inline" if media_type.partition(";")[0].strip().lower() in SAFE else "attachment"
    shown = _last_step(name or "")
    if not shown:
        return kind
    plain = _UNFIT.sub("_", unicodedata.normalize("NFKD", shown).encode("ascii", "ignore").decode() or "_")
    if plain == shown:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe=_ATTR_CHAR)}"


def _last_step(name: str) -> str:
    kept = "".join(one for one in name if unicodedata.category(one) not in ("Cc", "Cf", "Cs"))
    return re.split(r"[/\\]", kept)[-1].strip(" .")

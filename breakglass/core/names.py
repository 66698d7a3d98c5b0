# SPDX-License-Identifier: Apache-2.0
"""Parse and render the values in documents: names, durations, times, ids.

Each value has one canonical form.  A `parse_` function accepts only that form and raises
`Malformed` for any other text; its `render_` function returns that form.
"""

import re
from datetime import UTC, datetime, timedelta

from breakglass.core import bounds
from breakglass.errors import Malformed

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_SUBDOMAIN = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII
)
_REVISION = re.compile(r"[456789bcdf]{1,10}", re.ASCII)
_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})([smh])", re.ASCII)
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_UUID7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_QUOTED_CHARS = 80
_UUID_BYTES = 16


def quoted(text: str) -> str:
    """Return `text` in quotes for a message, escaped and cut to a bounded length."""
    shown = ascii(text[:_QUOTED_CHARS])
    return shown + "..." if len(text) > _QUOTED_CHARS else shown


def printable(text: str, *, max_chars: int = bounds.MAX_TEXT_CHARS) -> str:
    """Return `text` as printable ASCII, other characters escaped, cut to `max_chars`.

    For text from outside (an error, a program's output) that goes into an entry or a message.
    """
    return ascii(text)[1:-1][:max_chars]


def _matched(pattern: re.Pattern[str], text: str, expected: str) -> str:
    if not pattern.fullmatch(text):
        raise Malformed(f"expected {expected}, got {quoted(text)}")
    return text


def parse_name(text: str) -> str:
    """Return the name of a person, group, policy, courier, cluster, pool or node."""
    return _matched(_NAME, text, "a name of 1 to 63 of a-z 0-9 . _ - starting with a-z or 0-9")


def parse_namespace(text: str) -> str:
    """Return a Kubernetes namespace: a DNS label (RFC 1123)."""
    return _matched(_LABEL, text, "a namespace (a DNS label)")


def parse_workload(text: str) -> tuple[str, str]:
    """Return the namespace and the DaemonSet's name of "namespace/name"."""
    namespace, slash, name = text.partition("/")
    if not slash:
        raise Malformed(f"expected a workload as namespace/name, got {quoted(text)}")
    if len(name) > bounds.MAX_WORKLOAD_CHARS:
        raise Malformed(f"expected a DaemonSet name of at most 253 characters, got {len(name)}")
    return parse_namespace(namespace), _matched(_SUBDOMAIN, name, "a DaemonSet name")


def parse_revision(text: str) -> str:
    """Return a DaemonSet revision hash: 1 to 10 characters that Kubernetes uses in hashes."""
    return _matched(_REVISION, text, "a revision hash of 1 to 10 of 456789bcdf")


def parse_sha256(text: str) -> str:
    """Return a SHA-256 digest in 64 lower-case hex digits."""
    return _matched(_SHA256, text, "a SHA-256 digest in 64 lower-case hex digits")


def parse_image(text: str) -> str:
    """Return an image digest as registries and runtimes write it: "sha256:" and 64 hex digits."""
    return _matched(_IMAGE, text, "an image digest as sha256: and 64 lower-case hex digits")


def parse_id(text: str) -> str:
    """Return a command id: a UUIDv7 in lower case (RFC 9562, section 5.7)."""
    return _matched(_UUID7, text, "a UUIDv7 in lower case")


def render_id(unix_ms: int, entropy: bytes) -> str:
    """Return the UUIDv7 for a time in milliseconds and ten random bytes (RFC 9562, 5.7)."""
    raw = bytearray(unix_ms.to_bytes(6, "big") + entropy)
    if len(raw) != _UUID_BYTES:
        raise ValueError("expected ten bytes of entropy")
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def parse_duration(text: str, *, max_s: int) -> int:
    """Return the seconds of "30s", "5m" or "2h"; the largest unit that fits is required."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise Malformed(f"expected a duration such as 30s, 5m or 2h, got {quoted(text)}")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if render_duration(seconds) != text:
        raise Malformed(f"expected the duration as {render_duration(seconds)!r}, got {text!r}")
    if seconds > max_s:
        raise Malformed(f"expected a duration of at most {render_duration(max_s)}, got {text!r}")
    return seconds


def render_duration(seconds: int) -> str:
    """Return seconds as text, in the largest unit that divides them evenly."""
    for unit in ("h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def parse_time(text: str) -> datetime:
    """Return the UTC time of "2026-11-21T04:05:06Z"; no other form is accepted."""
    match = _TIME.fullmatch(text)
    if not match:
        raise Malformed(f"expected a UTC time such as 2026-11-21T04:05:06Z, got {quoted(text)}")
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise Malformed(f"expected a time that exists, got {quoted(text)}") from error


def render_time(time: datetime) -> str:
    """Return a UTC time as text, cut to whole seconds."""
    if time.utcoffset() != timedelta(0):
        raise ValueError("expected a time in UTC")
    return (
        f"{time.year:04d}-{time.month:02d}-{time.day:02d}"
        f"T{time.hour:02d}:{time.minute:02d}:{time.second:02d}Z"
    )

# SPDX-License-Identifier: Apache-2.0
"""Check that 32 bytes are a sound Ed25519 public key; the `cryptography` library does not.

RFC 8032 verifiers, those of OpenSSH and `cryptography` too, accept points that no honest key
generation produces.  An attacker can forge a signature for a point of small order.  A point with a
component of small order has variants with the same private key, so one private key could be in a
trust twice.  The rule here is that of libsodium's `crypto_core_ed25519_is_valid_point`: canonical,
on the curve, and in the group of prime order.

The input is public, so nothing here needs constant time.  A check takes about a millisecond; keys
are checked when a trust is read, never per signature.
"""

from typing import TypeAlias

# x, y, z, t with X = x/z, Y = y/z, X * Y = t/z (RFC 8032, section 5.1.4).
_Point: TypeAlias = tuple[int, int, int, int]

POINT_BYTES = 32
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_NEUTRAL: _Point = (0, 1, 1, 0)


def is_sound_point(raw: bytes) -> bool:
    """Return whether `raw` is the canonical encoding of a point of prime order."""
    point = _decode(raw)
    return point is not None and not _is_neutral(point) and _is_neutral(_times(_ORDER, point))


def _decode(raw: bytes) -> _Point | None:
    """Return the point of an encoding (RFC 8032, section 5.1.3), or None."""
    if len(raw) != POINT_BYTES:
        return None
    coded = int.from_bytes(raw, "little")
    y, sign = coded % 2**255, coded >> 255
    if y >= _P:  # not canonical: y - p encodes the same point
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if x * x % _P != square or (x == 0 and sign):
        return None
    if x % 2 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _add(one: _Point, other: _Point) -> _Point:
    """Return the sum of two points, equal or not (RFC 8032, section 5.1.4)."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = 2 * t1 * t2 * _D % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    total = _NEUTRAL
    for bit in f"{scalar:b}":
        total = _add(total, total)
        if bit == "1":
            total = _add(total, point)
    return total


def _is_neutral(point: _Point) -> bool:
    x, y, z, _ = point
    return x == 0 and y == z

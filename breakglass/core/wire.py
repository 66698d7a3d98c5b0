# SPDX-License-Identifier: Apache-2.0
"""Read and write the SSH wire encoding (RFC 4251, section 5) strictly."""

from breakglass.errors import Malformed


class WireReader:
    """A reader of one SSH blob; every method raises `Malformed` at the end of the bytes."""

    def __init__(self, raw: bytes, what: str) -> None:
        self._raw = raw
        self._place = 0
        self._what = what

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self._place + count
        if end > len(self._raw):
            raise Malformed(
                f"expected {count} more bytes in {self._what}, got {len(self._raw) - self._place}"
            )
        found, self._place = self._raw[self._place : end], end
        return found

    def number(self) -> int:
        """Return the next uint32."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Return the next string: a uint32 length, then that number of bytes."""
        return self.take(self.number())

    def name(self) -> str:
        """Return the next string as printable ASCII."""
        raw = self.string()
        if not raw.isascii() or not raw.decode("ascii").isprintable():
            raise Malformed(f"expected printable ASCII in {self._what}, got another byte")
        return raw.decode("ascii")

    def integer(self) -> int:
        """Return the next mpint; it must not be negative and must have its shortest form."""
        raw = self.string()
        if raw[:1] >= b"\x80":
            raise Malformed(f"expected a positive integer in {self._what}, got a negative one")
        if raw[:1] == b"\0" and raw[1:2] < b"\x80":
            raise Malformed(
                f"expected an integer in its shortest form in {self._what}, got a longer one"
            )
        return int.from_bytes(raw, "big")

    def finish(self) -> None:
        """Raise `Malformed` if any bytes are left."""
        if self._place != len(self._raw):
            raise Malformed(
                f"expected the end of {self._what}, got {len(self._raw) - self._place} more bytes"
            )


def string(raw: bytes) -> bytes:
    """Return bytes as an SSH string."""
    return len(raw).to_bytes(4, "big") + raw

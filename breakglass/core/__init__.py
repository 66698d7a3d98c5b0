# SPDX-License-Identifier: Apache-2.0
"""Decisions and formats, pure: bytes and values in, values out; no I/O, no clock, no asyncio, no gRPC."""

# SPDX-License-Identifier: Apache-2.0
"""Decisions and formats, pure: values in, values out; no I/O, no clock, no asyncio, no gRPC."""

# SPDX-License-Identifier: Apache-2.0
"""The pure decisions and formats: no I/O, no clock, no asyncio, no gRPC."""

# SPDX-License-Identifier: Apache-2.0
"""The way in: the gRPC service, its listeners, and the client for the node's own socket.

Reason to change: what couriers and local root may ask, and how they connect.
May touch: sockets, and the textfile of the metrics.
Promises: a courier may deliver and read and nothing else; every input is bounded (P2, P8).
"""

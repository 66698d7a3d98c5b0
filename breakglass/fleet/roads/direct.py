# SPDX-License-Identifier: Apache-2.0
"""The direct road: gRPC over mutual TLS 1.3 to the node's IP address.

The node's own pinned certificate is the only trusted root, so a certificate that the same CA issued
to another node is refused.  The certificate must have the node's `server_name`, so its address may
change.  No name is resolved.
"""

import contextlib
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from breakglass.fleet.home.identity import TlsIdentity, server_name
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.grpc import CHANNEL_OPTIONS, GrpcRoad
from breakglass.fleet.roads.port import OpenRoad, Road


def direct_road(courier: TlsIdentity) -> OpenRoad:
    """Return a function that opens a direct road to a node, as this courier."""

    @contextlib.asynccontextmanager
    async def open_road(node: InventoryNode) -> AsyncIterator[Road]:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=node.certificate.encode(),
            private_key=courier.key,
            certificate_chain=courier.certificate,
        )
        name = server_name(node=node.name, cluster=node.cluster)
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name))
        channel = grpc.aio.secure_channel(node.address.target, credentials, options=options)
        try:
            yield GrpcRoad(channel, f"{node.name} ({node.address.text})")
        finally:
            await channel.close()

    return open_road

# SPDX-License-Identifier: Apache-2.0
"""What runs on the node: the durable log, the runtime client, the procedure, the service, the daemon."""

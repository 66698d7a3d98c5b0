# SPDX-License-Identifier: Apache-2.0
"""Parts of the lab's Kubernetes without one: a node of files, a machine that cannot build."""

import os
from pathlib import Path

from lab.kubernetes.node import KubeNode, prepare
from lab.netns import Host


def node_of_files(folder: Path) -> KubeNode:
    """Return a node of which only the folder is there."""
    prepare(folder / "n1")
    return KubeNode(
        host=Host(name="n1", address="192.0.2.11", holder=0),
        number=1,
        version="2",
        folder=folder / "n1",
        built=folder,
        kubeconfig=folder / "kubeconfig",
    )


def old_go(folder: Path) -> dict[str, str]:
    """Return the environment of a machine with a Go too old, and nothing built."""
    program = folder / "bin/go"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho go1.25.9\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "BREAKGLASS_CACHE": str(folder / "cache")}

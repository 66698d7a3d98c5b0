#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run once in the guest: start containerd, import the images, start kubelet, all from the read-only
# drive.  The agent is installed afterwards, by the commands of README.
set -eu
cd /stage/extra
mkdir -p /etc/cni/net.d /node-out
cp network.conflist /etc/cni/net.d/
cp containerd.service kubelet.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --quiet --now containerd
/stage/containerd/ctr -n k8s.io images import images.tar
systemctl enable --quiet --now kubelet

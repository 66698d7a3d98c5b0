#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that tests and demos need.  As root it installs what is missing and
# says so; otherwise it says what will be skipped, and why.  It starts no service of those packages:
# tests start their own, in their own folders.
#
#   tools/machine.sh test | containerd | simulated | guest
set -eu
PATH=$PATH:/usr/sbin:/sbin

missing=""
need() {  # PACKAGE PURPOSE COMMAND-OR-FILE
    case $3 in
    /*) [ -e "$3" ] && return ;;
    *) command -v "$3" >/dev/null && return ;;
    esac
    missing="$missing $1"
    reasons="${reasons:-}
  $1: $2"
}

need openssh-client "approvals are made by the real ssh-keygen" ssh-keygen
if [ "$1" = guest ]; then
    need iproute2 "a network namespace for the guest" ip
    need qemu-system-x86 "the guest" qemu-system-x86_64
    need mmdebstrap "the guest's root" mmdebstrap
    need e2fsprogs "the guest's drives" mke2fs
    need gcc "the pods' programs" gcc
    need libc6-dev "the pods' programs" /usr/include/stdio.h
elif [ "$1" != simulated ]; then
    need containerd "pods in a real runtime" containerd
    need runc "pods in a real runtime" runc
    need busybox-static "the image of those pods" /bin/busybox
    need iproute2 "a network namespace without resolver and routes" ip
fi
if [ "$1" = test ]; then
    need openssh-server "commands over ssh" sshd
    need crun "pods with another OCI runtime" crun
    need gcc "the software security key for sk signatures" gcc
    need libc6-dev "the software security key for sk signatures" /usr/include/stdio.h
    need strace "the test that no name is resolved" strace
    need systemd "the check of the unit files" systemd-analyze
    need e2fsprogs "a small file system for the full-disk tests" mkfs.ext4
    need mmdebstrap "a node with a real systemd" mmdebstrap
fi

if [ -z "$missing" ]; then
    if [ "$(id -u)" != 0 ] && [ "$1" = test ]; then
        echo "machine: not root: tests with containerd, namespaces or systemd are skipped"
    fi
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "machine: not root, so it installs nothing; tests that need these are skipped:$reasons"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "machine: no apt-get, so it installs nothing; tests that need these are skipped:$reasons"
    exit 0
fi

echo "machine: installing Debian packages:$reasons"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "machine: apt-get update failed; using the existing package lists"
# If installing all of them fails, install one by one: one conflict must not block the others.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends --no-upgrade $missing >/dev/null ||
    for package in $missing; do
        apt-get install -y -qq --no-install-recommends --no-upgrade "$package" >/dev/null ||
            echo "machine: cannot install $package; tests that need it are skipped"
    done

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What tests and demos need of the machine itself, from Debian's packages.  As root it installs what
# is missing and says so; otherwise it says what will be skipped, and why.  Services that packages
# bring are not started: tests start their own, in their own folders.
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
    need iproute2 "a network namespace of the guest's own" ip
    need qemu-system-x86 "the guest" qemu-system-x86_64
    need mmdebstrap "the guest's root" mmdebstrap
    need e2fsprogs "the guest's drives" mke2fs
    need gcc "what the pods run" gcc
    need libc6-dev "what the pods run" /usr/include/stdio.h
elif [ "$1" != simulated ]; then
    need containerd "pods in a real runtime" containerd
    need runc "pods in a real runtime" runc
    need busybox-static "the image of those pods" /bin/busybox
    need iproute2 "a network namespace without resolver and routes" ip
fi
if [ "$1" = test ]; then
    need openssh-server "commands carried over ssh" sshd
    need crun "pods whose containers another program makes" crun
    need gcc "the software security key for sk signatures" gcc
    need libc6-dev "the software security key for sk signatures" /usr/include/stdio.h
    need strace "the proof that no name is resolved" strace
    need systemd "the unit's check" systemd-analyze
    need e2fsprogs "a small file system that fills up" mkfs.ext4
    need mmdebstrap "a node with a real systemd" mmdebstrap
fi

if [ -z "$missing" ]; then
    if [ "$(id -u)" != 0 ] && [ "$1" = test ]; then
        echo "machine: not root: tests with containerd, namespaces and systemd are skipped"
    fi
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "machine: not root, so nothing is installed; what needs these is skipped:$reasons"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "machine: no apt-get here; what needs these is skipped:$reasons"
    exit 0
fi

echo "machine: installing from Debian's packages:$reasons"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "machine: apt-get update failed; going on with the lists that are here"
# One by one when all together cannot be: one package that conflicts must not cost the others.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends --no-upgrade $missing >/dev/null ||
    for package in $missing; do
        apt-get install -y -qq --no-install-recommends --no-upgrade "$package" >/dev/null ||
            echo "machine: $package cannot be installed; what needs it is skipped"
    done

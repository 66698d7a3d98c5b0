#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install the programs that the tests run against, from Debian's packages, where we are root and
# something is missing.  Without root, or without apt, say so: the tests then skip what they cannot
# run and print why.
set -euo pipefail

declare -A package=(
  [containerd]=containerd [runc]=runc [ssh-keygen]=openssh-client [sshd]=openssh-server
  [busybox]=busybox-static [gcc]=gcc [ip]=iproute2 [strace]=strace [nsenter]=util-linux
  [systemd-analyze]=systemd [ps]=procps
)
wanted=()
for program in "${!package[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || wanted+=("${package[$program]}")
done
[ -e /usr/include/openssl/evp.h ] || wanted+=(libssl-dev)
[ -e /usr/include/stdio.h ] || wanted+=(libc6-dev)
[ "${#wanted[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests that need ${wanted[*]} will be skipped: not root, or no apt-get" >&2
  exit 0
fi
echo "installing for the tests: ${wanted[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A package's own service must not start here: the tests start what they need themselves.
guard=/usr/sbin/policy-rc.d
made=no
if [ ! -e "$guard" ]; then printf '#!/bin/sh\nexit 101\n' >"$guard"; chmod 755 "$guard"; made=yes; fi
trap '[ "$made" = no ] || rm -f "$guard"' EXIT
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${wanted[@]}" >/dev/null

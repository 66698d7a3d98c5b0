#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A whole Kubernetes node and control plane from pinned Go modules, kept outside the tree under a
# hash of all that makes it.  Prints the folder, alone on stdout; the talk goes to stderr.
#
#   lab/kubernetes/build.sh          build unless it is there already
#   lab/kubernetes/build.sh --where  only print where it belongs
#
#   bin/             kube (called as kubelet, kube-apiserver, kube-controller-manager,
#                    kube-scheduler or kubectl), etcd, runc
#   containerd/      containerd 2, its shim, ctr
#   containerd-1.7/  the same of 1.7
#   cni/             ptp, host-local, loopback
#   image/           pause and witness: what the pods run
#
# go.mod and go.sum pin every module and are never changed here (-mod=readonly).  libseccomp comes
# from Debian's packages, unpacked and not installed.  GOMODCACHE, GOCACHE and GOPROXY are the
# caller's.  Exit 69: this machine lacks what it takes, and stderr says what.
set -eu
PATH=$PATH:/usr/local/go/bin
NEEDS_GO=1.26.6

cd "$(dirname "$0")"
made_of=$(cat build.sh ./*.c ./*/go.mod ./*/go.sum ./*/*.go | sha256sum | cut -c1-16)
kept=${BREAKGLASS_CACHE:-${HOME:-/root}/.cache/breakglass}/kubernetes
folder=$kept/$made_of

say() { echo "kubernetes: $*" >&2; }
lacking() {
    say "cannot be built here: $*"
    exit 69
}

if [ "${1:-}" = --where ] || [ -d "$folder" ]; then
    echo "$folder"
    exit 0
fi
[ "$(id -u)" = 0 ] || lacking "needs root, as everything that runs it does"
command -v go >/dev/null || lacking "needs Go $NEEDS_GO or newer, there is none"
has_go=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/ .*//')
[ "$(printf '%s\n' "$NEEDS_GO" "$has_go" | sort -V | head -n 1)" = "$NEEDS_GO" ] ||
    lacking "needs Go $NEEDS_GO or newer, there is $has_go"
for tool in gcc apt-get dpkg flock; do
    command -v "$tool" >/dev/null || lacking "needs $tool, there is none"
done

mkdir -p "$kept"
exec 9>"$kept/lock"
flock 9
if [ -d "$folder" ]; then # another build made it while this one waited
    echo "$folder"
    exit 0
fi
making=$(mktemp -d "$kept/making.XXXXXX")
chmod 755 "$making"
trap 'rm -rf "$making"' EXIT
trap 'exit 1' INT TERM
mkdir "$making/bin" "$making/containerd" "$making/containerd-1.7" "$making/cni" "$making/image"

export GOTOOLCHAIN=local GOFLAGS="-mod=readonly -trimpath -buildvcs=false" CGO_ENABLED=0
# build MODULE OUT LDFLAGS PACKAGE...: go build in that module's folder, programs into OUT.
build() {
    module=$1 out=$2 flags=$3
    shift 3
    (cd "$module" && go build -ldflags "-s -w $flags" -o "$making/$out" "$@" >&2)
}
version() { (cd "$1" && go list -m -f '{{.Version}}' "$2"); }
step() { say "$1 ($(($(date +%s) - began)) s so far)"; }
began=$(date +%s)

step "kubelet, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl"
release=$(version kube k8s.io/kubernetes)
minor=${release#v*.}
stamp=k8s.io/component-base/version
build kube bin/kube "-X $stamp.gitVersion=$release -X $stamp.gitMajor=1 \
    -X $stamp.gitMinor=${minor%.*} -X $stamp.gitTreeState=clean" .
for name in kubelet kube-apiserver kube-controller-manager kube-scheduler kubectl; do
    ln -s kube "$making/bin/$name"
done

step etcd
build etcd bin/etcd "" go.etcd.io/etcd/server/v3

step "containerd 2 and 1.7"
two=github.com/containerd/containerd/v2 one=github.com/containerd/containerd
for program in containerd containerd-shim-runc-v2 ctr; do
    build containerd containerd/ "-X $two/version.Version=$(version containerd $two)" \
        "$two/cmd/$program"
    build containerd-1.7 containerd-1.7/ "-X $one/version.Version=$(version containerd-1.7 $one)" \
        "$one/cmd/$program"
done

step "CNI plugins"
plugins=github.com/containernetworking/plugins/plugins
build cni cni/ "" "$plugins/main/ptp" "$plugins/main/loopback" "$plugins/ipam/host-local"

step "runc"
# Without seccomp runc builds as well, and then no pod starts.
debian=$making/debian
mkdir "$debian"
fetch() { (cd "$debian" && apt-get -q -o APT::Sandbox::User=root download libseccomp-dev \
    libseccomp2 >&2); }
fetch || { apt-get -q update >&2 && fetch; } ||
    lacking "needs Debian's libseccomp-dev and libseccomp2, they cannot be downloaded"
for package in "$debian"/*.deb; do
    dpkg -x "$package" "$debian"
done
# Go's build cache remembers what pkg-config answered, and does not ask again when the answer would
# be another one: with this folder's path in it, the next build would look in a folder that is gone.
# CGO_CFLAGS and CGO_LDFLAGS are part of the cache's key, so the paths are there.
cat >"$debian/pkg-config" <<'ANSWER'
#!/bin/sh
case "$*" in
*--libs*) echo "-lseccomp" ;;
esac
ANSWER
chmod 755 "$debian/pkg-config"
(
    export CGO_ENABLED=1 PKG_CONFIG="$debian/pkg-config"
    export CGO_CFLAGS="-O2 -g -I$debian/usr/include"
    export CGO_LDFLAGS="-O2 -g -L$debian/usr/lib/$(gcc -print-multiarch)"
    cd runc
    go build -tags "seccomp netgo osusergo" -ldflags "-s -w -extldflags -static" \
        -o "$making/bin/runc" github.com/opencontainers/runc >&2
)
rm -rf "$debian"

step "the pods' own programs"
for program in pause witness; do
    gcc -O2 -Wall -Wextra -Werror -static -s -pthread -o "$making/image/$program" "$program.c"
done

mv -T "$making" "$folder"
step "done, $(du -sh "$folder" | cut -f1) in $folder"
echo "$folder"

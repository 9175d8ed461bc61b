#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds one program from its tree in .build/src into .build/bin:
#
#   scripts/build.sh dockerd|docker-proxy|docker-init|docker|runc|runc-stock|containerd|containerd-shim-runc-v2|ctr
#   scripts/build.sh dockerd-stock|docker-stock
#   scripts/build.sh 28/dockerd|28/docker-proxy|28/docker|28/dockerd-stock|28/docker-stock
#
# What has a folder is of the second train and comes from its own trees.
# Every fork is built in its own tree, as its own main module, with upstream's
# own pinned dependencies. All programs are static, so that the same bytes run
# on the host and in the VM. `version` shows upstream's version plus +gpu and
# the commit of this repository, which scripts/build/commit.sh put into .build/commit.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/trees.sh

name=${1##*/}
train=$(dirname "$1")
[ "$train" != . ] || train=
out=$PWD/.build/bin/$train
commit=$(cat .build/commit)
mkdir -p "$out"
# Not what the caller happens to have set: the same source gives the same bytes.
export GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOWORK=off

pin() { # the version of a module in the root go.mod, without v and +incompatible
	local v
	v=$(go list -m -f '{{.Version}}' "$1")
	v=${v#v}
	echo "${v%+incompatible}"
}

build() { # build TREE PACKAGE [go build flag...]
	local tree=$1 package=$2
	shift 2
	echo "building ${train:+$train/}$name"
	go -C ".build/src/$tree" build -trimpath "$@" -o "$out/$name" "$package"
}

moby() { # moby TREE PACKAGE SUFFIX COMMIT [linker flag...]
	local v modules
	modules "$1"
	v=$(go -C ".build/src/$1" list "${modules[@]}" -m)/dockerversion
	build "$1" "$2" "${modules[@]}" -tags netgo,osusergo,static_build \
		-ldflags "-w ${*:5} -X $v.Version=$(release "$1")$3 -X $v.GitCommit=$4 -X $v.PlatformName=gpu-cgroup -X $v.ProductName=docker"
}

# As in upstream's static build, the graph driver for btrfs and the quotas of
# overlay2 are there, which are in C. What reads journald's logs is not: it loads
# the host's libsystemd, which takes a dynamic program.
dockerd() { # dockerd TREE SUFFIX COMMIT
	CGO_ENABLED=1 moby "$1" ./cmd/dockerd "$2" "$3" -extldflags -static
}

cli() { # cli TREE SUFFIX COMMIT
	local v=github.com/docker/cli/cli/version
	CGO_ENABLED=0 build "$1" ./cmd/docker -modfile=vendor.mod -mod=readonly -tags osusergo \
		-ldflags "-w -X $v.Version=$(release "$1")$2 -X $v.GitCommit=$3 -X $v.PlatformName=gpu-cgroup"
}

runc() { # runc TREE EXTRAVERSION COMMIT
	CGO_ENABLED=1 build "$1" . -mod=readonly -tags seccomp,netgo,osusergo \
		-ldflags "-w -extldflags -static -X main.extraVersion=$2 -X main.gitCommit=$3"
}

containerd() {
	local v=github.com/containerd/containerd/v2/version
	CGO_ENABLED=0 build containerd "./cmd/$name" -mod=readonly -tags netgo,osusergo,static_build,no_btrfs \
		-ldflags "-w -X $v.Version=$(pin github.com/containerd/containerd/v2) -X $v.Revision=stock"
}

case ${train:+$train/}$name in
28/dockerd | 28/docker-proxy | 28/docker | 28/dockerd-stock | 28/docker-stock | "$name") ;;
*)
	echo "build.sh: unknown program: $1" >&2
	exit 2
	;;
esac
case $name in
dockerd) dockerd "moby$train" +gpu "$commit" ;;
dockerd-stock) dockerd "stock-moby$train" '' stock ;;
docker-proxy) CGO_ENABLED=0 moby "moby$train" ./cmd/docker-proxy +gpu "$commit" ;;
docker) cli "cli$train" +gpu "$commit" ;;
docker-stock) cli "stock-cli$train" '' stock ;;
# The version that upstream's Dockerfile pins is the one that Debian ships.
docker-init) cp "$(command -v tini-static)" "$out/docker-init" ;;
runc) runc runc +gpu "$commit" ;;
runc-stock) runc stock-runc '' stock ;;
containerd | containerd-shim-runc-v2 | ctr) containerd ;;
*)
	echo "build.sh: unknown program: $name" >&2
	exit 2
	;;
esac

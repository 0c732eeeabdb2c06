#!/bin/bash
# images.sh [DIR]
#
# Builds OCI images of wsrelay and wsreceive for amd64 and arm64 into DIR, by
# default dist: PROGRAM-VERSION.oci.tar, an OCI archive, which podman and skopeo
# read. No container engine is needed. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-dist}"
out=$(realpath "${1:-dist}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^var version = "\(.*\)"/\1/p' internal/cli/version.go)
created=$(git log -1 --format=%ct)

for arch in amd64 arm64; do
	CGO_ENABLED=0 GOARCH=$arch go build -trimpath -buildvcs=auto -ldflags "-s -w" -o "$work/$arch/" . ./cmd/wsreceive
done
(cd tools/image && go build -o "$work/image" .)
for program in wsrelay wsreceive; do
	"$work/image" -program $program -bin "$work" -version "$version" -created "$created" -to "$work/$program"
	tar --sort=name --mtime="@$created" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$work/$program" -cf "$out/$program-$version.oci.tar" .
	echo "$out/$program-$version.oci.tar: $(du -h "$out/$program-$version.oci.tar" | cut -f 1) for amd64 and arm64"
done

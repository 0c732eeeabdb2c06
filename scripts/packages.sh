#!/bin/bash
# packages.sh [DIR]
#
# Builds .deb and .rpm of wsrelay and wsreceive for amd64 and arm64 into DIR, by
# default dist. The same commit gives the same bytes. VERSION is by default
# the commit's.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-dist}"
out=$(realpath "${1:-dist}")
BUILD=$(mktemp -d)
trap 'rm -rf "$BUILD"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
VERSION=${VERSION:-0.1.0~$(git log -1 --date=format:%Y%m%d%H%M --format=%cd.%h)}
export BUILD VERSION SOURCE_DATE_EPOCH

say() { echo "packages: $*" >&2; }
say "version $VERSION into $out"
say "building the packager and what writes down the modules; this takes a minute or two the first time"
go build -modfile=tools/nfpm.mod -o "$BUILD/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
go build -modfile=tools/sbom.mod -trimpath -buildvcs=false -o "$BUILD/cyclonedx" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
for arch in amd64 arm64; do
	say "building the programs for $arch"
	CGO_ENABLED=0 GOARCH=$arch go build -trimpath -buildvcs=auto -ldflags "-s -w -X wsrelay/internal/cli.version=$VERSION" -o "$BUILD/$arch/" . ./cmd/wsreceive
	for program in wsrelay wsreceive; do # what is in it, for who looks for known faults (CycloneDX)
		"$BUILD/cyclonedx" bin -json -std -noserial -notimestamp -version "$VERSION" -output "$BUILD/$arch/$program.cdx.json" "$BUILD/$arch/$program" 2>/dev/null
	done
done
for man in wsrelay wsreceive; do
	gzip -9n <"packaging/man/$man.1" >"$BUILD/$man.1.gz"
done
# What is there to read, where it is here: so the links lead somewhere.
mkdir "$BUILD/doc"
git ls-files -z README.md docs examples syslog-ng handshake/testdata bench/results/bench.svg ':!*.go' ':!syslog-ng/websocket' | xargs -0 cp --parents -t "$BUILD/doc"
sed -i 's/(LICENSE)/(copyright)/' "$BUILD/doc/README.md"
chmod -R u=rwX,go=rX "$BUILD/doc"
cat >"$BUILD/changelog.yaml" <<END
- semver: $VERSION-1
  date: $(git log -1 --format=%cI)
  packager: wsrelay maintainers <maintainers@wsrelay.example>
  deb: {urgency: medium, distributions: [unstable]}
  changes:
    - note: see CHANGELOG.md in the source
END
scripts/copyright.sh . >"$BUILD/wsrelay.copyright"
scripts/copyright.sh ./cmd/wsreceive >"$BUILD/wsreceive.copyright"
cp -r packaging syslog-ng "$BUILD"
find "$BUILD" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

cd "$BUILD"
for arch in amd64 arm64; do
	for package in wsrelay wsreceive; do
		for kind in deb rpm; do
			say "packing $package for $arch as $kind"
			ARCH=$arch ./nfpm package --config "packaging/$package.yaml" --packager $kind --target "$out/"
		done
	done
done

#!/bin/bash
# dist.sh [DIR]
#
# Makes source packages of the last commit into DIR, by default dist:
#
#   wsrelay-VERSION.tar.gz             the sources
#   wsrelay-VERSION-vendor.tar.gz      the modules that they are built with
#   wsrelay_VERSION.orig*.tar.gz, wsrelay_VERSION-1.dsc, .debian.tar.xz
#                                      the same two, and packaging/debian, for dpkg-buildpackage
#   wsrelay.spec                       for rpmbuild
#
# The same commit gives the same bytes. The .dsc needs dpkg-dev.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-dist}"
out=$(realpath "${1:-dist}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^var version = "\(.*\)"/\1/p' internal/cli/version.go)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
name=wsrelay-$version

# pack FILE DIR
pack() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$work" -c "$2" | gzip -9n >"$out/$1"; }
git archive --prefix="$name/" HEAD | tar -x -C "$work"
pack "$name.tar.gz" "$name"
(cd "$work/$name" && go mod vendor && mv vendor "$work/vendor")
pack "$name-vendor.tar.gz" vendor
sed -e "s/@VERSION@/$version/" -e 's/^@\(.*\)@$/sed 1d \1/e' packaging/wsrelay.spec >"$out/wsrelay.spec"

if command -v dpkg-source >/dev/null; then
	cp "$out/$name.tar.gz" "$work/wsrelay_$version.orig.tar.gz"
	cp "$out/$name-vendor.tar.gz" "$work/wsrelay_$version.orig-vendor.tar.gz"
	mv "$work/vendor" "$work/$name/"
	cp -r packaging/debian "$work/$name/"
	cat >"$work/$name/debian/changelog" <<-CHANGELOG
		wsrelay ($version-1) unstable; urgency=medium

		  * See CHANGELOG.md.

		 -- wsrelay maintainers <maintainers@wsrelay.example>  $(git log -1 --format=%cD)
	CHANGELOG
	cp packaging/copyright "$work/$name/debian/copyright"
	(cd "$work" && dpkg-source -b "$name")
	mv "$work"/wsrelay_* "$out/"
fi
ls "$out"

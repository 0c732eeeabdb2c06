#!/bin/bash
# clean-debian.sh DIR RELEASE PACKAGE,...
#
# Makes DIR a clean Debian, minbase and these packages, from MIRROR, by default
# this Debian's own. What was downloaded before is taken from DEBS, by default
# apt's cache. Root only. Exit status: 69 if that fails three times.
set -euo pipefail
debs=${DEBS:-/var/cache/apt/archives}
# shellcheck disable=SC2016 # apt-get's own variable
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for try in 1 2 3; do
	rm -rf "$1"
	debootstrap --variant=minbase --include="$3" --cache-dir="$debs" "$2" "$1" "$mirror" >"$log" 2>&1 && exit
	tail -n 3 "$log" >&2
	[ $try = 3 ] || sleep $((try * 10))
done
echo "clean-debian.sh: error: debootstrap cannot make a Debian $2 from $mirror" >&2
exit 69

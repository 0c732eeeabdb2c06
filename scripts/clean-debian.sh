#!/bin/bash
# clean-debian.sh DIR
#
# Makes DIR a clean Debian with syslog-ng, out of a cache that is filled the
# first time, from MIRROR, by default this Debian's own. Root only.
set -euo pipefail
release=${RELEASE:-bookworm}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wsrelay-chroot/$release
if [ ! -e "$cache/done" ]; then
	echo "a clean Debian $release"
	rm -rf "$cache" && mkdir -p "$cache"
	# shellcheck disable=SC2016 # apt-get's own variable
	mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)}
	debootstrap --variant=minbase --include=syslog-ng-core "$release" "$cache/root" "$mirror" >"$cache/log" 2>&1 || { tail "$cache/log"; exit 1; }
	touch "$cache/done"
fi
cp -a "$cache/root" "$1"

#!/bin/sh
# need.sh PROGRAM=PACKAGE ...
#
# Makes sure that the programs, or files with their whole path, are there: on Debian and Ubuntu root gets the
# missing packages from apt-get, which may not remove others for them (rsyslog
# and syslog-ng exclude each other). Whatever is still missing is named in one
# line, and the exit status is 1.
set -u

PATH=$PATH:/usr/sbin:/sbin

missing() {
	for need in "$@"; do
		command -v "${need%%=*}" >/dev/null 2>&1 || [ -e "${need%%=*}" ] || printf '%s ' "${need#*=}"
	done
}

packages=$(missing "$@")
[ -n "$packages" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing: $packages"
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	# shellcheck disable=SC2086 # a list of words
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends --no-remove $packages; } >"$log" 2>&1 || cat "$log" >&2
	rm -f "$log"
	packages=$(missing "$@")
	[ -n "$packages" ] || exit 0
fi

echo "missing: install ${packages% }, for example with: apt-get install $packages" >&2
exit 1

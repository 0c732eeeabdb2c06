#!/bin/sh
# need.sh [PROGRAM ...]
#
# Makes sure that these programs of scripts/needs are there, by default all of
# them: on Debian and Ubuntu root gets missing packages from apt-get, which may
# not remove others for them (rsyslog and syslog-ng exclude each other). Of
# what is still missing it says what goes without; the exit status is 1 if that
# was asked for by name, or in CI.
set -u

PATH=$PATH:/usr/sbin:/sbin
table=$(dirname "$0")/needs
names=$*
strict=${names:-$(echo "${CI:-}" | grep -x true)}

# unmet: the lines of the table that are, "MARK PACKAGES PROGRAM WITHOUT".
unmet() {
	grep '^[-+] ' "$table" | while read -r mark program packages without; do
		case " ${names:-$program} " in *" $program "*) ;; *) continue ;; esac
		command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || echo "$mark $packages $program $without"
	done
}

packages=$(unmet | grep "^[+${strict:+-}]" | cut -d ' ' -f 2 | tr ',\n' '  ')
if [ -n "$packages" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing: $packages"
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	get() { apt-get install -y -qq --no-install-recommends --no-remove "$@" >"$log" 2>&1; }
	apt-get update -qq >"$log" 2>&1 || cat "$log" >&2
	# One that cannot be had is no reason to go without the others.
	# shellcheck disable=SC2086 # a list of words
	get $packages || for package in $packages; do get "$package" || cat "$log" >&2; done
	rm -f "$log"
fi

unmet | while read -r _ packages program without; do
	echo "for lack of $program (apt-get install $packages), without: $without" >&2
done
[ -z "$strict" ] || [ -z "$(unmet)" ]

#!/bin/sh
# need.sh [PROGRAM ...]
#
# Makes sure that these programs of scripts/needs are there; by default all of
# them, and Go. On Debian and Ubuntu, root gets missing packages from apt-get,
# which may not remove others for them (rsyslog and syslog-ng exclude each
# other). It says what it found, what it installs, and what is skipped without
# the rest. Exit status: 1 if a program is missing that was named, or any in CI,
# or Go.
set -u

table=$(dirname "$0")/needs
names=$*
strict=${names:-$(echo "${CI:-}" | grep -x true)}
installer=$(command -v apt-get)
PATH=${PATH:-/usr/bin:/bin}:/usr/local/go/bin:/usr/sbin:/sbin

# there PROGRAM: a name is looked up as a program, a path as a path.
there() {
	case $1 in
	*/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null 2>&1 ;;
	esac
}

# rows met|unmet: the lines of the table that are, the small ones first, as
# "MARK MB PACKAGES PROGRAM WITHOUT".
rows() {
	grep '^[-+] ' "$table" | while read -r mark program size packages without; do
		case " ${names:-$program} " in *" $program "*) ;; *) continue ;; esac
		if there "$program"; then state=met; else state=unmet; fi
		[ $state != "$1" ] || echo "$mark $size $packages $program $without"
	done | sort -k 2n
}

# column N: of the rows on stdin, as words.
column() { cut -d ' ' -f "$1" | tr ',\n' '  ' | sed 's/ $//'; }

for name in $names; do
	grep -q "^[-+] $name " "$table" || { echo "need.sh: error: $table does not have $name" >&2; exit 64; }
done

found=$(rows met | column 4)
[ -z "$found" ] || echo "found: $found"

packages=$(rows unmet | grep "^[+${strict:+-}]" | column 3)
if [ -n "$packages" ] && [ -n "$installer" ] && [ "$(id -u)" -eq 0 ]; then
	echo "installing with apt-get: $packages"
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	# thrice COMMAND: a download may fail.
	thrice() {
		for try in 1 2 3; do
			"$@" >"$log" 2>&1 && return
			[ $try = 3 ] || sleep $((try * 5))
		done
		return 1
	}
	get() { thrice apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends --no-remove "$@"; }
	thrice apt-get update -qq || cat "$log" >&2
	# One that cannot be had is no reason to go without the others.
	# shellcheck disable=SC2086 # a list of words
	get $packages || for package in $packages; do get "$package" || cat "$log" >&2; done
	rm -f "$log"
fi

missing=$(rows unmet)
if [ -n "$missing" ]; then
	if [ -n "$names" ]; then
		echo "missing: $(echo "$missing" | column 4)" >&2
	else
		echo "The tests run without these programs, and skip what needs them:" >&2
		echo "$missing" | while read -r _ size _ program without; do
			printf '  %-52s %4s MB   %s\n' "$program" "$size" "$without" >&2
		done
	fi
	echo "On Debian and Ubuntu, root installs them with: apt-get install --no-install-recommends $(echo "$missing" | column 3)" >&2
fi

# Debian's own Go may be too old to say so in plain words.
want=$(sed -n 's/^go //p' "$(dirname "$0")/../go.mod")
go=$(cd / && "${GO:-go}" env GOVERSION 2>/dev/null)
case $go in
'')
	echo "error: Go $want or newer is needed, and it is neither in PATH nor in /usr/local/go/bin. See https://go.dev/doc/install." >&2
	exit 1
	;;
go1.[0-9] | go1.[0-9].* | go1.1[0-9] | go1.1[0-9].* | go1.20*)
	echo "error: Go $want or newer is needed, and this is $go. See https://go.dev/doc/install. (From 1.21 on, Go gets the right version automatically.)" >&2
	exit 1
	;;
esac
[ -z "$strict" ] || [ -z "$missing" ]

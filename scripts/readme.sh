#!/bin/bash
# readme.sh [DEB-DIR [PAGE...]]
#
# Does what README.md and docs/operations.md say, or these pages, word for word,
# in a clean Debian: every block marked "sh", in order, as root, as in one shell.
# It has to succeed. One that a block marked "text" follows has to print that
# instead, "…" being anything, and is run again until it does, for two minutes.
# The id of a request that a block prints stands for the one in the blocks after
# it. Blocks marked "sh elsewhere" need what is not there: certificates of an
# authority, a server of another user, a clone with Go, the ids of a store that
# is in use, a user on a third host, vlogscli, podman, a cluster.
#
# DEB-DIR has the packages in the versions 0.1.0 and 0.1.1; by default they are
# built. Root only; what runs inside sees no network but its own loopback, and
# ends with us: what the pages install from Debian and PyPI is fetched before.
# Its systemd starts the services (boot.sh). There is no other host: ssh gives its
# command to a shell.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

debs=${1:-$work/debs}
if [ -z "${1:-}" ]; then
	VERSION=0.1.0 scripts/packages.sh "$debs" 2>&1 | grep -v packing
	VERSION=0.1.1 scripts/packages.sh "$debs" 2>&1 | grep -v packing
fi
pages=("${@:2}")
[ ${#pages[@]} != 0 ] || pages=(README.md docs/operations.md)
scripts/clean-debian.sh "$work/root" "${RELEASE:-bookworm}" syslog-ng-core,systemd,systemd-sysv,procps
home=$work/root/root
mkdir "$home/dist"
cp "$debs"/*.deb "$home/dist"

# What the pages install, but not their packages of ours.
packages=$(sed -n '/^apt install/{s/^apt install//; s/--[a-z-]*//g; p;}' "${pages[@]}" | grep -v dist/ || :)
cp /etc/resolv.conf "$work/root/etc/"
# shellcheck disable=SC2086 # words
chroot "$work/root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c 'apt-get update && apt-get install -dy --no-install-recommends "$@"' sh $packages >"$work/apt.log" 2>&1 ||
	{ cat "$work/apt.log"; exit 69; }
for page in "${pages[@]}"; do
	wants=$(dirname "$page")/requirements.txt
	[ -e "$wants" ] || continue
	/usr/bin/python3 -m venv "$work/venv"
	"$work/venv/bin/pip" download -q -d "$home/wheels" -r "$wants" setuptools wheel
done

mkdir "$home/steps"
awk -v to="$home/steps" '
	/^```/ && inside { inside = 0; next }
	/^```/ {
		inside = 1
		kind = substr($0, 4)
		file = ""
		if (kind == "sh") {
			file = sprintf("%s/%03d.sh", to, ++n)
			print "# " FILENAME ":" FNR >file
		} else if (kind == "text" && last == "sh")
			file = sprintf("%s/%03d.text", to, n)
		last = kind
		next
	}
	inside && file { print >file }
' "${pages[@]}"

cat >"$work/root/usr/local/bin/ssh" <<'END_OF_SSH'
#!/bin/sh
shift
exec sh -c "$*"
END_OF_SSH
echo 'APT::Get::Assume-Yes "true";' >"$work/root/etc/apt/apt.conf.d/yes" # a reader says so
echo "127.0.0.1 localhost logs.example.com web-2 $(uname -n)" >"$work/root/etc/hosts"
chmod +x "$work"/root/usr/local/bin/*

cat >"$home/inside" <<'END_OF_INSIDE'
set -eu
cd /root
systemctl start syslog-ng

# as TEXT: what was printed is as TEXT says.
# A library complains where the kernel has no PSI; HTTP ends lines with CR LF.
as() { sed -i '/exposing PSI metrics/d; s/\r$//' /root/out && perl -0e '$want = quotemeta <STDIN>; $want =~ s/\\\xe2\\\x80\\\xa6/.*/g; open F, "/root/out"; exit <F> !~ /\A$want\z/s' <"$1"; }
# in_shell STEP: as one shell would, that goes from block to block.
in_shell() { bash -euo pipefail -c 'cd "$(cat /root/at)"; . "$1"; pwd >/root/at' bash "$1" >out 2>&1 </dev/null; }
pwd >at
done_=0
for step in /root/steps/*.sh; do
	text=${step%.sh}.text ok=
	[ -z "${id:-}" ] || sed -i "s/\\b[0-9a-f]\\{32\\}\\b/$id/g" "$step"
	for _ in $(seq 240); do
		if [ -e "$text" ]; then
			in_shell "$step" || :
			! as "$text" || ok=yes
		else
			! in_shell "$step" || ok=yes
			break
		fi
		[ -z "$ok" ] || break
		sleep 0.5
	done
	id=$(sed -n 's/^X-Request-ID: \([0-9a-f]*\).*/\1/p' out | grep . || echo "${id:-}")
	if [ -z "$ok" ]; then
		echo "WRONG: $(head -n 1 "$step")"
		tail -n +2 "$step"
		echo "---- it printed" && cat out
		[ ! -e "$text" ] || { echo "---- and not" && cat "$text"; }
		journalctl --no-pager -n 40
		tail -n 20 /var/lib/syslog-ng/wsrelay/*/wsrelay.log /var/log/supervisor/*.log /var/log/shop/* 2>/dev/null || :
		exit 1
	fi
	done_=$((done_ + 1))
	[ -z "${VERBOSE:-}" ] || { echo "---- $(head -n 1 "$step")" && tail -n +2 "$step" && echo ---- && cat out; }
done
echo "$done_ blocks of $PAGES do what they say"
END_OF_INSIDE
scripts/boot.sh "$work/root" env -i VERBOSE="${VERBOSE:-}" PAGES="${pages[*]}" LANG=C.UTF-8 TMPDIR=/tmp PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels DEBIAN_FRONTEND=noninteractive \
	PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root bash /root/inside

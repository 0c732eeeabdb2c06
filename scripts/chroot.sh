#!/bin/bash
# chroot.sh [DEB-DIR]
#
# Checks, installs, upgrades under load, removes and purges the packages in a clean
# Debian, with the syslog-ng of that Debian in between. DEB-DIR has two
# versions of them; by default they are built, one of them twice, to compare the
# bytes. Root only; what runs inside sees no network but its own loopback, and
# ends with us.
set -euo pipefail
cd "$(dirname "$0")/.."
lines=${LINES_SENT:-200000}
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

debs=${1:-$work/debs}
if [ $# = 0 ]; then
	VERSION=0.1.0 scripts/packages.sh "$debs" 2>&1 | grep -v packing
	VERSION=0.1.0 scripts/packages.sh "$work/again" >/dev/null 2>&1
	for package in "$work"/again/*; do cmp "$package" "$debs/${package##*/}"; done
	echo "a second build gives the same bytes"
	VERSION=0.1.1 scripts/packages.sh "$debs" 2>&1 | grep -v packing
fi
if command -v lintian >/dev/null; then
	lintian --allow-root --fail-on error,warning "$debs"/*.deb
	echo "lintian has nothing to say"
fi
if command -v rpmlint >/dev/null; then
	rpmlint -c packaging/rpmlint.toml "$debs"/*.rpm >"$work/log" || { cat "$work/log"; exit 1; }
	echo "rpmlint has nothing to say"
fi
arch=$(dpkg --print-architecture)
if command -v systemd-analyze >/dev/null; then
	dpkg-deb -x "$(printf '%s\n' "$debs"/wsreceive_*_"$arch".deb | tail -n 1)" "$work/x"
	sed "s|/usr/bin/|$work/x&|" "$work/x/usr/lib/systemd/system/wsreceive.service" >"$work/wsreceive.service"
	systemd-analyze verify --man=no "$work/wsreceive.service" >"$work/log" 2>&1 || echo "systemd-analyze: $?" >>"$work/log"
	[ ! -s "$work/log" ] || { cat "$work/log"; exit 1; }
	echo "systemd-analyze has nothing to say"
fi
scripts/clean-debian.sh "$work/root" "${RELEASE:-bookworm}" syslog-ng-core
cp "$debs"/*_"$arch".deb "$work/root/root"
cat >"$work/root/root/inside" <<'END'
set -eu
say() { printf '%-34s %s\n' "$1" "$2"; }
fail() { say "$1" "WRONG: $2"; tail -n 20 /var/lib/syslog-ng/wsrelay/default/wsrelay.log /root/wsreceive.log 2>/dev/null || :; exit 1; }
# stored N: waits until the store has so many lines.
stored() {
	for _ in $(seq 600); do
		[ "$(wsreceive search --to logs:/root/logs --limit 100000000 --json program:app 2>/dev/null | wc -l)" -ge "$1" ] && return
		sleep 0.1
	done
	fail "delivery" "of $1 lines only $(wsreceive search --to logs:/root/logs --limit 100000000 --json program:app | wc -l) arrived"
}
mount -t proc proc /proc
perl -e 'socket($s, 2, 2, 0); $up = pack("a16s", "lo", 0x41); ioctl($s, 0x8914, $up) or die "lo: $!"'
cd /root

dpkg -i wsrelay_0.1.0*.deb wsreceive_0.1.0*.deb >dpkg.log 2>&1 || { cat dpkg.log; fail install "dpkg -i"; }
say install "$(wsrelay --version), $(wsreceive --version); user $(id -un wsreceive)"
find /usr/share/doc/wsrelay /usr/share/doc/wsreceive -name '*.md' | while read -r page; do
	grep -oE '\]\([^):]+\)' "$page" | sed 's/^..//; s/[#)].*//' | while read -r to; do
		[ -e "$(dirname "$page")/$to" ] || echo "$page: $to"
	done
done >broken
[ ! -s broken ] || fail documentation "links that lead nowhere: $(cat broken)"

cat >/etc/syslog-ng/syslog-ng.conf <<'CONF'
@version: 3.38
@include "scl.conf"
options { keep-hostname(yes); stats-freq(0); };
source s_in { unix-stream("/root/in" log-fetch-limit(1000)); };
destination d_wsrelay { websocket(url("ws://127.0.0.1:8514/relay") options("config=/etc/wsrelay/wsrelay.conf")); };
log { source(s_in); destination(d_wsrelay); flags(flow-control); };
CONF
syslog-ng -s || fail "configuration" "syslog-ng -s"
wsreceive --listen 127.0.0.1:8514 --to logs:/root/logs 2>wsreceive.log &
syslog-ng -F --no-caps &
daemon=$!
for _ in $(seq 100); do [ -S in ] && break; sleep 0.1; done
send() { for k in $(seq "$1" "$2"); do printf "%s\n" "<13>Jan  1 00:00:00 app[1]: line $k"; done | perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => "/root/in") or die $!; print $s $_ while <STDIN>; close $s'; }
send 1 1
stored 1
say "first line" "$(wsreceive search --to logs:/root/logs program:app)"

keeper=$(cat /proc/$daemon/task/*/children)
load() { # until the upgrade is over
	last=1
	until [ -e over ] && [ $last -ge "$LINES_SENT" ]; do
		send $((last + 1)) $((last + 10000))
		last=$((last + 10000))
	done
	echo $last >sent
}
load & sender=$!
sleep 0.5
dpkg -i wsrelay_0.1.1*.deb >upgrade.log 2>&1 || { cat upgrade.log; fail upgrade "dpkg -i"; }
grep -q '^upgraded' upgrade.log || { cat upgrade.log; fail upgrade "the running wsrelay did not continue as the new program"; }
touch over
wait $sender
sent=$(cat sent)
stored "$sent"
[ "$(cat /proc/$daemon/task/*/children)" = "$keeper" ] || fail upgrade "syslog-ng has another child"
wsreceive search --to logs:/root/logs --limit 100000000 --json program:app | grep -o 'line [0-9]*' | sort | uniq -c >counted
doubled=$(awk '$1 > 1' counted | wc -l) distinct=$(wc -l <counted)
say "upgrade under load" "$(grep '^upgraded' upgrade.log)"
say "" "lines $sent, lost $((sent - distinct)), doubled $doubled"
[ "$doubled" = 0 ] && [ "$distinct" = "$sent" ] || fail upgrade "see above"

dpkg -r wsrelay >remove.log 2>&1 || { cat remove.log; fail remove "dpkg -r"; }
grep -q 'syslog-ng still ships lines' remove.log || { cat remove.log; fail remove "no warning"; }
[ -e /etc/wsrelay/wsrelay.conf ] || fail remove "the configuration is gone"
! syslog-ng -s >/dev/null 2>&1 || fail remove "syslog-ng takes the configuration, and the warning says that it does not"
say remove "$(grep -m1 warn: remove.log)"
kill $daemon && wait $daemon || :
touch /etc/wsreceive/keys
dpkg -P wsrelay wsreceive >purge.log 2>&1 || { cat purge.log; fail purge "dpkg -P"; }
[ ! -e /etc/wsrelay ] || fail purge "/etc/wsrelay is there"
grep -q 'the queue /var/lib/syslog-ng/wsrelay/default/ stays' purge.log || fail purge "not a word of the queue"
grep -q '/etc/wsreceive/ stays' purge.log || fail purge "not a word of the keys"
say purge "$(grep info: purge.log)"
END
unshare --mount --pid --fork --net --kill-child env LINES_SENT="$lines" PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$work/root" sh /root/inside

#!/bin/bash
# readme.sh [DEB-DIR]
#
# Does what README.md and docs/operations.md say, word for word, in a clean
# Debian: every block marked "sh", in order, as root. It has to succeed. One
# that a block marked "text" follows has to print that instead, "…" being
# anything, and is run again until it does, for half a minute. Blocks marked "sh
# elsewhere" need what is not there.
#
# DEB-DIR has the packages in the versions 0.1.0 and 0.1.1; by default they are
# built. Root only; what runs inside sees no network but its own loopback, and
# ends with us. There is no systemd and no other host: systemctl does what the
# units say, and ssh gives its command to a shell.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

debs=${1:-$work/debs}
if [ $# = 0 ]; then
	VERSION=0.1.0 scripts/packages.sh "$debs" 2>&1 | grep -v packing
	VERSION=0.1.1 scripts/packages.sh "$debs" 2>&1 | grep -v packing
fi
scripts/clean-debian.sh "$work/root" "${RELEASE:-bookworm}" syslog-ng-core
home=$work/root/root
mkdir "$home/dist"
cp "$debs"/*.deb "$home/dist"

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
' README.md docs/operations.md

cat >"$work/root/usr/local/bin/ssh" <<'END_OF_SSH'
#!/bin/sh
shift
exec sh -c "$*"
END_OF_SSH
cat >"$work/root/usr/local/bin/systemctl" <<'END_OF_SYSTEMCTL'
#!/bin/sh
# systemctl start|stop|restart|reload|enable --now NAME
set -eu
verb=$1
shift
[ "$1" != --now ] || { verb=start && shift; }
file=/run/$1.pid
unit() { sed -n "s/^$2=//p" "/usr/lib/systemd/system/$1.service" | head -n 1; }
alive() { [ -e "$file" ] && grep -qs '^State:.[^Z]' "/proc/$(cat "$file")/status"; }

case $verb in
stop | restart)
	! alive || kill "$(cat "$file")"
	while cat /proc/[0-9]*/stat 2>/dev/null | awk -v unit="$(cat "$file")" '$6 == unit && $3 != "Z" { lives = 1 } END { exit !lives }'; do sleep 0.05; done
	;;
reload) kill -HUP "$(cat "$file")" ;;
esac
case $verb in
start | restart)
	if alive; then exit; fi
	user=$(unit "$1" User)
	[ -z "$user" ] || install -d -o "$user" -g "$user" -m 750 "/var/lib/$(unit "$1" StateDirectory)"
	# shellcheck disable=SC2086 # words
	SYSLOGNG_OPTS=--no-caps setsid setpriv ${user:+--reuid $user --regid $user --clear-groups} sh -c "exec $(unit "$1" ExecStart)" >>"/var/log/$1.out" 2>&1 </dev/null &
	echo $! >"$file"
	[ "$(unit "$1" Type)" != notify ] || until syslog-ng-ctl stats >/dev/null 2>&1; do sleep 0.05; done
	;;
esac
END_OF_SYSTEMCTL
chmod +x "$work"/root/usr/local/bin/*

cat >"$home/inside" <<'END_OF_INSIDE'
set -eu
mount -t proc proc /proc
touch /run/kmsg
mount --bind /run/kmsg /proc/kmsg # syslog-ng is not to take the host's
perl -e 'socket($s, 2, 2, 0); $up = pack("a16s", "lo", 0x41); ioctl($s, 0x8914, $up) or die "lo: $!"'
echo '127.0.0.1 localhost logs.example.com web-2' >/etc/hosts
systemctl start syslog-ng
cd /root

# as TEXT: what was printed is as TEXT says.
as() { perl -0e '$want = quotemeta <STDIN>; $want =~ s/\\\xe2\\\x80\\\xa6/.*/g; open F, "/root/out"; exit <F> !~ /\A$want\z/s' <"$1"; }
done_=0
for step in steps/*.sh; do
	text=${step%.sh}.text ok=
	for _ in $(seq 60); do
		if [ -e "$text" ]; then
			bash "$step" >out 2>&1 </dev/null || :
			! as "$text" || ok=yes
		else
			! bash -euo pipefail "$step" >out 2>&1 </dev/null || ok=yes
			break
		fi
		[ -z "$ok" ] || break
		sleep 0.5
	done
	if [ -z "$ok" ]; then
		echo "WRONG: $(head -n 1 "$step")"
		tail -n +2 "$step"
		echo "---- it printed" && cat out
		[ ! -e "$text" ] || { echo "---- and not" && cat "$text"; }
		tail -n 20 /var/lib/syslog-ng/wsrelay/*/wsrelay.log /var/log/*.out 2>/dev/null || :
		exit 1
	fi
	done_=$((done_ + 1))
	[ -z "${VERBOSE:-}" ] || { echo "---- $(head -n 1 "$step")" && tail -n +2 "$step" && echo ---- && cat out; }
done
echo "$done_ blocks of README.md and docs/operations.md do what they say"
END_OF_INSIDE
unshare --mount --pid --fork --net --kill-child env VERBOSE="${VERBOSE:-}" DEBIAN_FRONTEND=noninteractive \
	PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$work/root" bash /root/inside

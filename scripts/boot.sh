#!/bin/bash
# boot.sh ROOT COMMAND...
#
# Starts the systemd of the Debian in the directory ROOT as process 1 of
# namespaces of its own, without a network but its loopback, and runs COMMAND
# beside it. All ends with the command. Root only. Exit status: that of the
# command; 69 if systemd does not start.
set -euo pipefail
root=$(realpath "$1")
shift
name=wsrelay-boot-$$ own=()
for h in /sys/fs/cgroup /sys/fs/cgroup/*; do # of each hierarchy, a group that is the root in there
	[ -e "$h/cgroup.procs" ] || continue
	mkdir "$h/$name"
	own+=("$h/$name")
	for f in cpus mems; do # without which a cpuset takes no process
		[ ! -e "$h/cpuset.$f" ] || cat "$h/cpuset.$f" >"$h/$name/cpuset.$f"
	done
done
clean() {
	kill -KILL "$booted" 2>/dev/null || :
	wait "$booted" 2>/dev/null || :
	for g in "${own[@]}"; do
		for _ in $(seq 50); do
			find "$g" -depth -type d -exec rmdir {} + 2>/dev/null || :
			[ -e "$g" ] || break
			sleep 0.1
		done
	done
}
booted=
trap clean EXIT

# shellcheck disable=SC2016 # the inner shell's
(
	for g in "${own[@]}"; do echo $BASHPID >"$g/cgroup.procs"; done
	exec unshare --mount --pid --fork --net --ipc --cgroup --kill-child sh -euc '
		mount --make-rprivate /
		mount --bind "$1" "$1"
		cd "$1"
		mount -t proc proc proc
		mount -t sysfs sysfs sys
		mount -t tmpfs -o mode=755 tmpfs run
		mount -t tmpfs -o mode=755 tmpfs dev
		mkdir dev/pts dev/shm run/old
		mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
		mount -t tmpfs -o mode=1777 tmpfs dev/shm
		for n in null zero full random urandom tty; do touch dev/$n && mount --bind /dev/$n dev/$n; done
		ln -s pts/ptmx dev/ptmx
		ln -s /proc/self/fd dev/fd
		for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
		mount -t tmpfs tmpfs sys/fs/cgroup
		mkdir sys/fs/cgroup/systemd
		mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
		pivot_root . run/old
		umount -l /run/old
		exec env -i container=other /lib/systemd/systemd --log-target=journal' sh "$root" >/dev/null 2>&1 </dev/null
) &
booted=$!
in_it() { nsenter --target "$(pgrep -P "$booted")" --all "$@"; }
state=
for _ in $(seq 300); do
	state=$(in_it systemctl is-system-running 2>/dev/null) || :
	case $state in running | degraded) break ;; esac
	sleep 0.2
done
case $state in
running) ;;
degraded) in_it systemctl --no-pager --plain --no-legend --failed >&2 || : ;; # of a unit that a container has no use for
*)
	echo "boot.sh: error: systemd does not start in $root" >&2
	exit 69
	;;
esac
in_it "$@"

#!/bin/bash
# fresh.sh RELEASE COMMAND ...
#
# Makes a clean Debian root (minbase with git, make, ca-certificates and the Go
# toolchain of this machine), clones the last commit of this checkout into it
# and runs each COMMAND in the clone, until one fails. RELEASE is a name such
# as bookworm. Needs root, debootstrap, and the permission to make namespaces
# and mounts. Exit status: that of the command which failed, or 69 if there can
# be no such root for lack of the network.
#
# FRESH_USER=NAME   runs the commands as an ordinary user, whose clone it is; a
#                   command that begins with "@root " still runs as root
# FRESH_OWNER=UID   gives the clone to another user than the one who runs
# FRESH_DIR=PATH    is the clone's place in the root
#
# What is only a download is kept in the user's cache directory: packages,
# modules, Maven's artifacts. What is installed or built is not. Registries are
# reached as this machine is set up for it.
set -euo pipefail
cd "$(dirname "$0")/.."
release=$1
shift
user=${FRESH_USER:-root}
home=/root
[ "$user" = root ] || home=/home/$user
dir=${FRESH_DIR:-/srv/wsrelay} # not in root's home, where nginx's workers may not look
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wsrelay-fresh
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin

say() { echo "fresh: $release: $*"; }
fail() {
	echo "fresh: $release: error: $2" >&2
	exit "$1"
}
thrice() {
	for try in 1 2 3; do
		"$@" && return
		[ $try = 3 ] || { say "trying again: $*" >&2; sleep $((try * 10)); }
	done
	return 1
}

[ "$(id -u)" = 0 ] || fail 77 "a clean root needs the permissions of root"
scripts/need.sh debootstrap
unshare --mount --pid --fork mount -t tmpfs none /mnt || fail 77 "this machine does not allow namespaces, or mounts in them"

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" wsrelay-fresh.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
mkdir -p "$cache/debs" "$cache/maven" "$cache/engines"

began=$SECONDS
DEBS=$cache/debs scripts/clean-debian.sh "$root" "$release" git,make,ca-certificates || exit
# What git is to trust, of any owner.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git clone -q --no-local . "$work/clone"
[ -z "$(git status --porcelain)" ] || say "warn: what is not committed is not in the clone"
modules() { (cd "$work/clone" && go mod download && go mod download -modfile=tools/nfpm.mod && go mod download -modfile=tools/sbom.mod && go mod download -modfile=tools/victorialogs.mod); }
thrice modules || fail 69 "the Go modules cannot be downloaded"

# The host's way to registries, and nothing else of the host.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp /usr/local/share/ca-certificates/* "$root/usr/local/share/ca-certificates/" 2>/dev/null || :
chroot "$root" update-ca-certificates >/dev/null 2>&1
apt-config dump Acquire | grep -i proxy >"$root/etc/apt/apt.conf.d/00proxy" || :
[ ! -e "$HOME/.m2/settings.xml" ] || cp "$HOME/.m2/settings.xml" "$work/settings.xml"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts automatically: the root's /dev is this machine's
chmod +x "$root/usr/sbin/policy-rc.d"

[ "$user" = root ] || chroot "$root" useradd --create-home --shell /bin/bash "$user"
mkdir -p "$(dirname "$root$dir")"
mv "$work/clone" "$root$dir"
git -C "$root$dir" remote remove origin
chroot "$root" chown -R "${FRESH_OWNER:-$user}" "$dir"
say "made a clean root in $((SECONDS - began)) s: $(chroot "$root" dpkg-query -f '.' -W | wc -c) packages, $(go env GOVERSION), commit $(git -C "$root$dir" rev-parse --short HEAD)"

cat >"$work/enter" <<'IN'
set -eu
root=$1
mount --bind "$root" "$root"
bound() { mkdir -p "$root$2" && mount --"${3:-bind}" "$1" "$root$2"; }
mount -t proc proc "$root/proc"
bound /dev /dev rbind
bound /sys /sys rbind
mount -t tmpfs tmpfs "$root/dev/shm"
bound "$GO" /usr/local/go && mount -o remount,bind,ro "$root/usr/local/go"
bound "$MODULES" /var/cache/go-modules && mount -o remount,bind,ro "$root/var/cache/go-modules"
bound "$CACHE/debs" /var/cache/apt/archives
bound "$CACHE/maven" /root/.m2
bound "$CACHE/engines" /root/.cache/wsrelay-engines
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec env -u GO -u MODULES -u CACHE setsid --wait sh /run/commands </dev/null
IN
[ ! -e "$work/settings.xml" ] || cp "$work/settings.xml" "$cache/maven/"

kept=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
	[ -z "${!name:-}" ] || kept+=("$name=${!name}")
done
for name in GOSUMDB GONOSUMDB GOPRIVATE GONOPROXY GOINSECURE GOTOOLCHAIN; do
	kept+=("$name=$(go env $name)")
done
kept+=("GOPROXY=file:///var/cache/go-modules,$(go env GOPROXY)" "HOME=$home" USER="$user" SHELL=/bin/bash PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)

for command; do
	as=$user
	case $command in '@root '*) as=root command=${command#@root } ;; esac
	say "$as runs: $command"
	{
		echo "cd '$dir' || exit"
		[ "$as" = root ] && echo "exec env HOME=/root USER=root sh -c '${command//\'/\'\\\'\'}'" || echo "exec setpriv --reuid $as --regid $as --init-groups sh -c '${command//\'/\'\\\'\'}'"
	} >"$root/run/commands"
	began=$SECONDS status=0
	env -i "${kept[@]}" GO="$(go env GOROOT)" MODULES="$(go env GOMODCACHE)/cache/download" CACHE="$cache" \
		unshare --mount --propagation private --pid --fork --kill-child bash "$work/enter" "$root" || status=$?
	[ $status = 0 ] || fail $status "'$command' failed with status $status after $((SECONDS - began)) s"
	say "'$command' passed in $((SECONDS - began)) s"
done

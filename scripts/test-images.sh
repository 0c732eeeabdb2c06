#!/bin/bash
# test-images.sh
#
# Builds the OCI images twice, compares the bytes, unpacks both, starts them with
# crun, as another user than root and with a read-only root, and sends lines
# through them. Where crun may not start a container, chroot does. Root, on
# Debian; what it needs it installs. Both see this machine's loopback alone, in
# a network namespace of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/go/bin DEBIAN_FRONTEND=noninteractive
[ -n "${INSIDE:-}" ] || exec unshare --mount --pid --fork --kill-child --mount-proc env INSIDE=1 "$0"
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'umount "$work"/*/rootfs/var/lib/* 2>/dev/null || :; rm -rf --one-file-system "$work"' EXIT
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null || : # crun takes no mixture of both versions; the mount is ours alone
say() { echo "images: $*"; }

for try in 1 2 3; do
	apt-get update -qq && apt-get install -y -qq --no-install-recommends crun jq >"$work/log" 2>&1 && break
	[ $try = 3 ] && { tail "$work/log"; exit 1; }
	sleep $((try * 10))
done
mkdir "$work/a" "$work/b"
scripts/images.sh "$work/a"
scripts/images.sh "$work/b" >/dev/null
for image in "$work"/a/*; do cmp "$image" "$work/b/${image##*/}"; done
say "a second build gives the same bytes"

mkdir "$work/data" "$work/queue"
chown 65532:65532 "$work/data" "$work/queue"
# bundle PROGRAM VOLUME ARG ...: what crun wants to start the image's program with
# these arguments, in our network.
bundle() {
	local program=$1 volume=$2 layout=$work/$1-image bundle=$work/$1-bundle digest
	shift 2
	mkdir -p "$layout" "$bundle/rootfs"
	tar -C "$layout" -xf "$work"/a/"$program"-*.oci.tar
	blob() { echo "$layout/blobs/${1/://}"; }
	digest=$(jq -r '.manifests[0].digest' "$layout/index.json")
	digest=$(jq -r --arg arch "$(dpkg --print-architecture)" '.manifests[] | select(.platform.architecture == $arch).digest' "$(blob "$digest")")
	tar -C "$bundle/rootfs" -xzf "$(blob "$(jq -r '.layers[0].digest' "$(blob "$digest")")")"
	(cd "$bundle" && crun spec)
	jq --slurpfile image "$(blob "$(jq -r .config.digest "$(blob "$digest")")")" --arg to "/var/lib/$program" --arg from "$volume" \
		--argjson args "$(printf '%s\n' "$@" | jq -R . | jq -s .)" '
		$image[0].config as $c
		| .root.readonly = true | .process.terminal = false | .process.cwd = $c.WorkingDir
		| .process.args = $c.Entrypoint + ($c.Cmd // []) + $args | .process.env = ($c.Env // [])
		| ($c.User / ":" | map(tonumber)) as $u | .process.user = {uid: $u[0], gid: $u[1]}
		| .linux.namespaces |= map(select(.type != "network" and .type != "cgroup"))
		| .mounts |= map(select(.type != "cgroup")) + [{destination: $to, type: "bind", source: $from, options: ["rbind", "rw"]}]' \
		"$bundle/config.json" >"$work/config"
	mv "$work/config" "$bundle/config.json"
}
bundle wsreceive "$work/data" --listen 127.0.0.1:8514 --to file:/var/lib/wsreceive/lines
bundle wsrelay "$work/queue" --drain 20s ws://127.0.0.1:8514/relay

# run PROGRAM
run() {
	if [ -z "${chroots:-}" ]; then
		crun --root "$work/crun" --cgroup-manager disabled run --bundle "$work/$1-bundle" "$1"
		return
	fi
	mapfile -t args < <(jq -r '.process.args[]' "$work/$1-bundle/config.json")
	mount --bind "$(jq -r '.mounts[-1].source' "$work/$1-bundle/config.json")" "$work/$1-bundle/rootfs/var/lib/$1"
	# shellcheck disable=SC2046 # words
	env -i $(jq -r '.process.env[]' "$work/$1-bundle/config.json") "$(command -v chroot)" --userspec 65532:65532 "$work/$1-bundle/rootfs" "${args[@]}"
}
export -f run
cat >"$work/inside" <<'END_OF_INSIDE'
set -euo pipefail
work=$1
export work
ip link set lo up 2>/dev/null || perl -e 'socket($s, 2, 2, 0); $up = pack("a16s", "lo", 0x41); ioctl($s, 0x8914, $up) or die "lo: $!"'
run wsreceive >"$work/receive.log" 2>&1 &
for _ in $(seq 100); do grep -q listening "$work/receive.log" && break; sleep 0.1; done
grep -q listening "$work/receive.log" || exit 70
seq 1000 | run wsrelay
seq 1000 | cmp - "$work/data/lines"
END_OF_INSIDE
export chroots=
status=0
unshare --net bash "$work/inside" "$work" || status=$?
if [ $status = 70 ]; then
	cat "$work/receive.log"
	say "WARNING: crun may not start a container here; chroot instead"
	chroots=yes status=0
	unshare --net bash "$work/inside" "$work" || status=$?
fi
[ $status = 0 ] || { cat "$work/receive.log"; exit 1; }
say "1000 lines through both images${chroots:+ (in chroots)}, equal; the queue belongs to $(stat -c %u "$work/queue")"

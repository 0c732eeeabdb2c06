#!/bin/bash
# test-dist.sh
#
# Builds the source packages of the last commit twice, without a network, and
# compares the bytes; checks them with lintian and rpmlint; runs the package's
# own tests (autopkgtest); installs the rpm into a clean root. Root, on Debian;
# what it needs it installs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/local/go/bin DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf --one-file-system "$work"' EXIT
say() { echo "dist: $*"; }
same() { # DIR DIR PATTERN
	for file in "$1"/$3; do
		cmp "$file" "$2/${file##*/}" && continue
		[[ $file != *.rpm ]] || diff <(rpm -qp --xml "$file") <(rpm -qp --xml "$2/${file##*/}") | head -n 20
		return 1
	done
}

for try in 1 2 3; do
	apt-get update -qq && apt-get install -y -qq --no-install-recommends dpkg-dev build-essential debhelper lintian rpm rpmlint autopkgtest syslog-ng-core procps >"$work/log" 2>&1 && break
	[ $try = 3 ] && { tail "$work/log"; exit 1; }
	sleep $((try * 10))
done
epoch=$(git log -1 --format=%ct)
scripts/dist.sh "$work/a" >/dev/null
scripts/dist.sh "$work/b" >/dev/null
same "$work/a" "$work/b" '*'
say "the source packages are the same bytes twice: $(du -ch "$work"/a/wsrelay-*.tar.gz | tail -n 1 | cut -f 1)"

for dir in a b; do
	(cd "$work/$dir" && dpkg-source -x wsrelay_*.dsc tree && cd tree &&
		unshare --net dpkg-buildpackage -us -uc -d) >"$work/log" 2>&1 || { tail -n 30 "$work/log"; exit 1; }
	# In one place, which the package's copy of the spec file names; with one time, which the source package has.
	mkdir -p "$work/rpmbuild/SOURCES"
	cp "$work/$dir"/wsrelay-*.tar.gz "$work/rpmbuild/SOURCES"
	cp "$work/$dir/wsrelay.spec" "$work/rpmbuild"
	touch -d "@$epoch" "$work"/rpmbuild/SOURCES/* "$work/rpmbuild/wsrelay.spec"
	SOURCE_DATE_EPOCH=$epoch unshare --net rpmbuild -ba --nodeps \
		--define "_topdir $work/rpmbuild" --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
		--define "clamp_mtime_to_source_date_epoch 1" --define "_build_id_links none" "$work/rpmbuild/wsrelay.spec" >"$work/log" 2>&1 || { tail -n 30 "$work/log"; exit 1; }
	mv "$work/rpmbuild" "$work/$dir/"
done
same "$work/a" "$work/b" '*.deb'
for kind in "RPMS/$(uname -m)" SRPMS; do
	same "$work/a/rpmbuild/$kind" "$work/b/rpmbuild/$kind" '*.rpm'
done
say "built offline twice, the same bytes: $(cd "$work/a" && printf '%s ' ./*.deb ./rpmbuild/RPMS/*/*.rpm)"

lintian --allow-root --fail-on error,warning "$work"/a/*.changes
say "lintian has nothing to say"
rpmlint -c packaging/rpmlint.toml "$work"/a/rpmbuild/RPMS/*/*.rpm >"$work/log" || { cat "$work/log"; exit 1; }
say "rpmlint has nothing to say"

autopkgtest "$work"/a/*.deb "$work"/a/wsrelay_*.dsc -- null >"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
say "autopkgtest: $(grep -h '^lines ' "$work/log"), $(tail -n 1 "$work/log" | tr -s ' ')"

scripts/clean-debian.sh "$work/root" "${RELEASE:-bookworm}" passwd
cp "$work"/a/rpmbuild/RPMS/*/*.rpm "$work/root/root/"
rpm --root "$work/root" --install --nodeps "$work"/root/root/*.rpm
say "the rpm in a clean root: $(chroot "$work/root" wsrelay --version), $(chroot "$work/root" wsreceive --version), $(chroot "$work/root" stat -c '%U %a' /var/lib/wsreceive)"
rpm --root "$work/root" --erase wsrelay wsreceive
[ ! -e "$work/root/usr/bin/wsrelay" ] || { echo "the rpm leaves its program behind" >&2; exit 1; }

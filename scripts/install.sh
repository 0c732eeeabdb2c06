#!/bin/sh
# install.sh DESTDIR PREFIX SCL UNITS
#
# Puts the programs of bin/, their manuals and completions, syslog-ng's block,
# and the unit and configuration of wsreceive below DESTDIR. Without a DESTDIR it
# also makes the user and the directories that the unit wants, as the package
# does. Programs come in place by rename: at no moment syslog-ng finds half of
# one. A configuration that exists stays.
set -eu
cd "$(dirname "$0")/.."
destdir=$1 prefix=$2 scl=$3 units=$4
to=$destdir$prefix

for program in wsrelay wsreceive; do
	install -D "bin/$program" "$to/bin/.$program.new"
	mv "$to/bin/.$program.new" "$to/bin/$program"
	install -D -m 644 "packaging/man/$program.1" "$to/share/man/man1/$program.1"
	install -D -m 644 "packaging/completions/$program.bash" "$to/share/bash-completion/completions/$program"
	install -D -m 644 "packaging/completions/$program.fish" "$to/share/fish/vendor_completions.d/$program.fish"
	install -D -m 644 "packaging/completions/_$program" "$to/share/zsh/site-functions/_$program"
	install -d "$destdir/etc/$program/$program.conf.d"
	[ -e "$destdir/etc/$program/$program.conf" ] ||
		install -m 644 "packaging/$program/$program.conf" "$destdir/etc/$program/$program.conf"
done
install -d "$destdir$scl/websocket" "$destdir$units"
install -d -m 700 "$destdir/var/lib/syslog-ng/wsrelay"
sed "s|/usr/bin/wsrelay|$prefix/bin/wsrelay|" syslog-ng/websocket/plugin.conf >"$destdir$scl/websocket/plugin.conf"
sed "s|/usr/bin/wsreceive|$prefix/bin/wsreceive|" packaging/wsreceive/wsreceive.service >"$destdir$units/wsreceive.service"
[ -n "$destdir" ] || sh packaging/wsreceive/postinst configure

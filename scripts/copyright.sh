#!/bin/bash
# copyright.sh PACKAGE
#
# Prints the copyright file of a program: the project's own, and the licences of
# the modules that are linked into it.
set -euo pipefail
cd "$(dirname "$0")/.."
cat packaging/copyright
# With vendored modules, Go has no directory to name.
go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{or .Dir (print "vendor/" .Path)}}{{end}}{{end}}' "$1" | sort -u | while read -r path version dir; do
	printf '\n---- %s %s\n\n' "$path" "$version"
	if grep -qs 'Apache License' "$dir"/LICENSE*; then
		echo 'The Apache License 2.0, as above.'
		cat "$dir"/NOTICE* 2>/dev/null || :
	else
		cat "$dir"/{LICENSE,LICENCE,COPYING}* 2>/dev/null || :
	fi
done
printf '\n---- the Go standard library\n\n'
cat "$(go env GOROOT)/LICENSE"

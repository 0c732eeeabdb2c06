#!/bin/sh
# bench-compare.sh BASE
#
# The micro-benchmarks beside the code, of the revision BASE and of what is
# checked out, compared by benchstat. RUN is which of them, PACKAGES of where.
set -eu

base=${1:?"usage: bench-compare.sh REVISION"}
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
packages=${PACKAGES:-./intake ./buffer ./relay ./handshake ./receiver ./receiver/store/journal}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/base"
git archive "$base" | tar -x -C "$dir/base"

# In turn, so that what else the machine does hits both alike.
for round in 1 2 3 4 5 6; do
	for side in base here; do
		echo "round $round of 6: $side"
		(
			[ "$side" = here ] || cd "$dir/base"
			# shellcheck disable=SC2086 # a list of packages
			go test -run '^$' -bench "${RUN:-.}" -benchmem -benchtime "${TIME:-0.5s}" $packages
		) >>"$dir/$side.txt"
	done
done
go run "$benchstat" "base=$dir/base.txt" "here=$dir/here.txt"

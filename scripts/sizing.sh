#!/bin/bash
# sizing.sh [RATE ...]
#
# What a line costs on disk while the receiver is away: lines of an nginx access
# log as syslog-ng formats them, some 400 bytes, written one by one, so many a
# second, for ten seconds, to a wsrelay that reaches nobody. The faster they
# come the more of them share a block.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -o "$work/wsrelay" .

# shellcheck disable=SC2016 # perl's own variables
lines='use Time::HiRes "sleep", "time"; $| = 1; srand 1; ($rate, $began) = (shift, time);
for $k (1 .. 10 * $rate) {
	$early = $began + $k / $rate - time;
	sleep $early if $early > 0;
	@t = gmtime(1773478800 + $k / $rate);
	$at = sprintf "2026-03-14T%02d:%02d:%02d", @t[2, 1, 0];
	printf qq({"timestamp":"%s.%06d+00:00","host":"web1","program":"nginx","facility":"local7","severity":"info","priority":190,"fields":{"ip":"203.0.113.%d","host":"shop.example","path":"/orders/%d?page=%d","status":%d,"referrer":"https://shop.example/cart/%d","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0","length":%d,"generation_time_milli":%d,"date":"%s+00:00"}}\n),
		$at, rand 1e6, rand 250, rand 1e6, rand 9, (200, 200, 304, 404)[rand 4], rand 1e5, $v = 90 + rand 40, $v, rand 6e4, rand 900, $at;
}'
printf '%10s  %10s  %14s  %14s\n' lines/s lines "bytes a line" "disk bytes"
[ $# -gt 0 ] || set -- 10 100 1000 10000 50000
for rate; do
	perl -e "$lines" "$rate" | tee "$work/lines" |
		"$work/wsrelay" --queue-dir "$work/q" --drain 0s --log-level error ws://127.0.0.1:9/relay 2>"$work/log" || [ $? = 75 ]
	"$work/wsrelay" status --queue-dir "$work/q" --json >"$work/status" || [ $? = 3 ] # it does not run
	disk=$(grep -o '"backlog_bytes":[0-9]*' "$work/status" | cut -d : -f 2)
	count=$(wc -l <"$work/lines")
	printf '%10d  %10d  %14d  %14d\n' "$rate" "$count" $(($(wc -c <"$work/lines") / count)) $((disk / count))
	rm -rf "$work/q"
done

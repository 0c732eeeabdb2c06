package row

import (
	"fmt"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// kind is a kind of line, what a person types to find it, and what its row says.
type kind struct {
	name, line, query string
	level, program    string
	host              string // "" for the sender's
	time              string // "" for that of arrival
}

func kinds() []kind {
	const at = "2026-03-14T02:03:04"
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"f%d":"v%d"`, i, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	return []kind{
		// JSON of loggers
		{name: "nginx json", line: `{"time":"2026-03-14T02:03:04.005Z","ip":"10.1.2.3","path":"/cart/","status":502,"rt":0.120}`, query: `status:>=500 path:cart`, time: at + ".005Z"},
		{name: "syslog-ng json", line: `{"timestamp":"2026-03-14T02:03:04.005+00:00","host":"web1","program":"sshd","pid":"12","facility":"auth","severity":"err","priority":35,"message":"Failed password for root"}`, query: `"Failed password" program:sshd`, level: "error", host: "web1", program: "sshd", time: at + ".005Z"},
		{name: "syslog-ng format-json", line: `{"PROGRAM":"cron","PRIORITY":"notice","MESSAGE":"job done","HOST":"db1","DATE":"Mar 14 02:03:04"}`, query: `{program="cron"} done`, level: "notice", host: "db1", program: "cron", time: at + "Z"},
		{name: "journald", line: `{"__REALTIME_TIMESTAMP":"1773453784123456","PRIORITY":"3","SYSLOG_IDENTIFIER":"kernel","_HOSTNAME":"n1","MESSAGE":"oom killer"}`, query: `oom level:error`, level: "error", host: "n1", program: "kernel", time: "2026-03-14T02:03:04.123456Z"},
		{name: "pino", line: `{"level":50,"time":1773453784123,"pid":7,"hostname":"api1","msg":"payment failed","amount":12.50}`, query: `payment amount:>12.4`, level: "error", host: "api1", time: at + ".123Z"},
		{name: "bunyan", line: `{"name":"app","hostname":"h","pid":1,"level":30,"msg":"started","time":"2026-03-14T02:03:04.123Z","v":0}`, query: `level:info started`, level: "info", host: "h", time: at + ".123Z"},
		{name: "zap", line: `{"level":"warn","ts":1773453784.1234567,"caller":"a/b.go:12","msg":"slow query","elapsed":0.3}`, query: `elapsed:>0.2 slow`, level: "warn", time: at + ".1234567Z"},
		{name: "zerolog", line: `{"level":"fatal","time":1773453784,"message":"cannot bind"}`, query: `level:crit`, level: "crit", time: at + "Z"},
		{name: "logrus", line: `{"level":"warning","msg":"retry","time":"2026-03-14T02:03:04Z","attempt":3}`, query: `attempt:>2`, level: "warn", time: at + "Z"},
		{name: "slog", line: `{"time":"2026-03-14T03:03:04.123456789+01:00","level":"ERROR","msg":"boom","err":{"code":7,"what":"disk"}}`, query: `err.code:7 err.what:disk`, level: "error", time: at + ".123456789Z"},
		{name: "python-json-logger", line: `{"asctime": "2026-03-14 02:03:04,005", "levelname": "CRITICAL", "name": "app.db", "message": "caf\u00e9 closed"}`, query: `café`, level: "crit", time: at + ".005Z"},
		{name: "serilog", line: `{"@t":"2026-03-14T02:03:04.0050000Z","@l":"Warning","@m":"disk low","Disk":"C:\\data"}`, query: `Disk:data`, level: "warn", time: at + ".005Z"},
		{name: "ecs", line: `{"@timestamp":"2026-03-14T02:03:04.005Z","log.level":"ERROR","message":"x broke","service":{"name":"billing"},"host":{"name":"pod-1"}}`, query: `{program="billing"} broke`, level: "error", program: "billing", host: "pod-1", time: at + ".005Z"},
		{name: "otel", line: `{"timeUnixNano":"1773453784123456789","severityNumber":17,"severityText":"","body":"checkout failed"}`, query: `checkout`, level: "error", time: at + ".123456789Z"},
		{name: "tracing (Rust)", line: `{"timestamp":"2026-03-14T02:03:04.123456Z","level":"TRACE","fields":{"message":"tick","level":"DEBUG"},"target":"app"}`, query: `fields.message:tick`, level: "trace", time: at + ".123456Z"},
		{name: "fields.level", line: `{"fields":{"level":"error","n":1}}`, query: `level:error fields.n:1`, level: "error"},
		{name: "log4j2", line: `{"instant":{"epochSecond":1773453784,"nanoOfSecond":5000000},"level":"INFO","loggerName":"com.x.Y","message":"up"}`, query: `{program="com.x.Y"}`, level: "info", program: "com.x.Y", time: at + "Z"},
		{name: "mongodb", line: `{"t":{"$date":"2026-03-14T02:03:04.005+00:00"},"s":"W","c":"NETWORK","id":22943,"ctx":"listener","msg":"Connection accepted"}`, query: `Connection`, level: "warn", time: at + ".005Z"},
		{name: "gelf", line: `{"version":"1.1","host":"h7","short_message":"A short message","timestamp":1773453784.307,"level":4,"_user":"ann"}`, query: `_user:ann short`, level: "warn", host: "h7", time: at + ".307Z"},
		{name: "gcp", line: `{"severity":"WARNING","textPayload":"quota low","timestamp":"2026-03-14T02:03:04.005123Z"}`, query: `quota`, level: "warn", time: at + ".005123Z"},
		{name: "docker json-file", line: `{"log":"ready to serve\n","stream":"stderr","time":"2026-03-14T02:03:04.123456789Z"}`, query: `"ready to serve"`, time: at + ".123456789Z"},
		{name: "level in the message", line: `{"message":"[ERROR] no route","a":1}`, query: `level:error "no route"`, level: "error"},
		{name: "own level with another spelling", line: `{"level":"Informational","m":"x"}`, query: `level:info`, level: "info"},
		{name: "level that is none", line: `{"level":"boss","hp":9000}`, query: `level:boss`, level: "boss"},
		// odd JSON
		{name: "duplicate keys", line: `{"a":"one","a":"two","b":1}`, query: `a:two one`},
		{name: "key in two ways", line: `{"a.b":"dots","a":{"b":"nested"}}`, query: `a.b:nested`},
		{name: "1e400", line: `{"n":1e400,"m":"x"}`, query: `n:1e400`},
		{name: "minus zero", line: `{"n":-0,"odd":"minuszero"}`, query: `odd:minuszero`},
		{name: "minus zero point zero", line: `{"n":-0.0,"odd":"minuszeropoint"}`, query: `odd:minuszeropoint`},
		{name: "big integers", line: `{"n":123456789012345678901234567890,"m":18446744073709551615,"k":9007199254740993}`, query: `m:18446744073709551615`},
		{name: "inf and nan", line: `{"n":inf,"m":-nan,"odd":"infinite"}`, query: `odd:infinite`},
		{name: "many decimals", line: `{"n":0.84442185152504812,"odd":"decimals"}`, query: `odd:decimals`},
		{name: "trailing zeros", line: `{"n":1.500,"m":"2.50","odd":"zeros"}`, query: `n:1.500 m:2.50 n:<1.6`},
		{name: "escape of a letter", line: `{"m":"\u0041lpha"}`, query: `m:Alpha`},
		{name: "escaped slash", line: `{"path":"\/var\/log"}`, query: `path:"/var/log"`},
		{name: "escaped like Go", line: `{"q":"a \u003c b \u0026 c"}`, query: `q:"a < b & c"`},
		{name: "escaped like Python", line: `{"q":"gr\u00fc\u00dfe \ud83d\ude00 ende"}`, query: `q:grüße`},
		{name: "escaped like nginx", line: `{"q":"a\u001Bb\u0001"}`, query: `q:*`},
		{name: "lone surrogate", line: `{"q":"half \ud800 left"}`, query: `q:left`},
		{name: "surrogates the wrong way", line: `{"q":"\udc00\ud800 wrong"}`, query: `q:wrong`},
		{name: "nested empties", line: `{"a":{},"b":[],"c":null,"d":"","e":{"f":{}},"g":[{}],"odd":"empties"}`, query: `odd:empties`},
		{name: "only empties", line: `{"a":null,"b":"","c":{}}`, query: `wsrelay.skeleton:*`},
		{name: "empty object", line: `{}`, query: `wsrelay.sid:*`},
		{name: "empty key", line: `{"":"nameless","x":1}`, query: `nameless`},
		{name: "reserved names", line: `{"_time":"2026-03-14T02:03:04Z","_stream":"{a=b}","_stream_id":"x","odd":"reserved"}`, query: `odd:reserved`, time: at + "Z"},
		{name: "our names", line: `{"wsrelay.seq":77,"wsrelay":{"line":"forged"},"odd":"ours"}`, query: `odd:ours forged`},
		{name: "white space", line: "  { \"a\" :\t\"spaced\" , \"b\" : [ 1 , 2 ]\t} \r", query: `a:spaced`},
		{name: "array", line: `[{"a":1},"listed"]`, query: `listed`},
		{name: "string", line: `"just a quoted text"`, query: `"just a quoted"`},
		{name: "number alone", line: `1.50`, query: `1.50`},
		{name: "number with underscores", line: `1_000_000`, query: `1_000_000`},
		{name: "address with zeros", line: `010.001.02.3`, query: `010`},
		{name: "broken JSON", line: `{"a":"cut of`, query: `"cut of"`},
		{name: "trailing comma", line: `{"a":"comma",}`, query: `comma`},
		{name: "JSON and more", line: `{"a":1} trailing words`, query: `"trailing words"`},
		{name: "20,000 fields", line: many(20_000), query: `f19999 v19999`},
		{name: "1,500 fields", line: many(1500), query: `f1499 v1499`},
		{name: "800 fields", line: `{"program":"wide",` + many(800)[1:], query: `f799:v799`, program: "wide"},
		{name: "name of 64 KiB", line: `{"` + strings.Repeat("n", 64<<10) + `":"longname","odd":"x"}`, query: `longname`},
		{name: "name of 129 bytes inside", line: `{"a":{"` + strings.Repeat("n", 127) + `":"justover"},"msg":"has a message"}`, query: `wsrelay.line:justover "has a message"`},
		{name: "depth 10,000", line: strings.Repeat(`{"a":`, 10_000) + `"deepest"` + strings.Repeat("}", 10_000), query: `*:deepest`},
		{name: "arrays of depth 10,000", line: `{"a":` + strings.Repeat(`[`, 10_000) + `"deeparray"` + strings.Repeat("]", 10_000) + "}", query: `a:deeparray`},
		{name: "16 MiB JSON", line: `{"time":"2026-03-14T02:03:04Z","msg":"huge object","x":"` + strings.Repeat("abcdefg ", 2<<20) + `"}`, query: `"huge object"`, time: at + "Z"},
		{name: "16 MiB text", line: "huge text " + strings.Repeat("abcdefg ", 2<<20), query: `"huge text"`},
		{name: "1.5 MiB JSON", line: `{"msg":"large object","x":"` + strings.Repeat("abcdefg ", 190<<10) + `"}`, query: `"large object"`},
		{name: "1.5 MiB JSON twice", line: `{"msg":"large twice","x":"` + strings.Repeat("abcdefg ", 190<<10) + `","x":1}`, query: `"large twice"`},
		// bytes
		{name: "empty", line: ``, query: `wsrelay.sid:*`},
		{name: "blank", line: ` `, query: `wsrelay.sid:*`},
		{name: "NUL", line: "before\x00after", query: `before`},
		{name: "NUL in JSON", line: "{\"a\":\"nul\x00inside\"}", query: `nul`},
		{name: "escaped NUL", line: `{"a":"nul\u0000escaped"}`, query: `a:nul`},
		{name: "Latin-1", line: "caf\xe9 cr\xe8me", query: `"café crème"`},
		{name: "Latin-1 in JSON", line: "{\"a\":\"caf\xe9 latin\",\"k\xe9y\":1}", query: `a:café kéy:1`},
		{name: "replacement characters", line: "a \ufffd \xff \ufffd replaced", query: `replaced`},
		{name: "binary", line: "\x00\x01\xfe\xff\x80binary\n", query: `*`},
		{name: "BOM", line: "\ufeff{\"a\":1} bom", query: `bom`},
		{name: "BOM and syslog", line: "\ufeff<11>1 2026-03-14T02:03:04Z h p - - - \ufeffbommed", query: `bommed`, level: "error", host: "h", program: "p", time: at + "Z"},
		{name: "CR", line: "carriage return\r", query: `"carriage return"`},
		{name: "tabs", line: "a\ttabbed\tline", query: `tabbed`},
		{name: "newline inside", line: "first\nsecond", query: `second`},
		{name: "backslash first", line: `\path\to\file`, query: `path`},
		{name: "colours", line: "\x1b[31mERROR\x1b[0m disk \x1b[1;33mfull\x1b[m", query: `"ERROR disk full"`, level: "error"},
		{name: "colours in JSON", line: `{"msg":"\u001b[32mgreen\u001b[39m light"}`, query: `"green light"`},
		{name: "raw colours in JSON", line: "{\"a\":\"\x1b[32mrawgreen\x1b[39m light\"}", query: `a:"rawgreen light"`},
		{name: "link for a terminal", line: "\x1b]8;;http://x\x1b\\linked\x1b]8;;\x1b\\ text", query: `linked`},
		{name: "Chinese", line: "数据库 连接失败", query: `连接失败`},
		{name: "Chinese inside a run", line: "数据库连接失败了", query: `~"连接失败"`},
		{name: "emoji", line: "deploy 🚀 done 👩‍👩‍👧", query: `deploy`},
		{name: "right to left", line: "שגיאה חמורה خطأ", query: `חמורה`},
		{name: "combining", line: "cafe\u0301 composed", query: `composed`},
		// text
		{name: "RFC 5424", line: `<165>1 2026-03-14T02:03:04.003Z mymachine.example evntslog 8710 ID47 [ex@32473 iut="3" src="App \"q\" \]"][two x="y"] An application event`, query: `"ex@32473.iut":3 two.x:y event`, level: "notice", host: "mymachine.example", program: "evntslog", time: at + ".003Z"},
		{name: "RFC 5424 without values", line: `<14>1 - - - - - - nothing known`, query: `"nothing known"`, level: "info"},
		{name: "RFC 3164", line: `<34>Mar 14 02:03:04 mymachine su[231]: 'su root' failed for lonvick`, query: `{program="su"} pid:231`, level: "crit", host: "mymachine", program: "su", time: at + "Z"},
		{name: "RFC 3164 without priority", line: `Mar  4 02:03:04 web2 CRON[77]: (root) CMD (run)`, query: `{host="web2"} CMD`, host: "web2", program: "CRON", time: "2026-03-04T02:03:04Z"},
		{name: "rsyslog", line: `2026-03-14T02:03:04.000005+00:00 web3 sshd[9]: Accepted publickey`, query: `{program="sshd"} publickey`, host: "web3", program: "sshd", time: at + ".000005Z"},
		{name: "December in January's year", line: `Mar 12 23:59:59 h p: near`, query: `near`, host: "h", program: "p", time: "2026-03-12T23:59:59Z"},
		{name: "nginx combined", line: `203.0.113.9 - ann [14/Mar/2026:02:03:04 +0000] "GET /a b?x=1 HTTP/1.1" 503 1234 "https://shop.example/" "curl/8.1 \"x\"" "10.0.0.1"`, query: `status:>=500 client:203.0.113.9 path:"/a"`, time: at + "Z"},
		{name: "nginx combined of a fool", line: `203.0.113.9 - - [14/Mar/2026:02:03:04 +0000] "\x16\x03" 400 157 "-" "-"`, query: `status:400 request:*`, time: at + "Z"},
		{name: "apache common", line: `127.0.0.1 - - [14/Mar/2026:03:03:04 +0100] "POST /form HTTP/1.0" 200 -`, query: `method:POST status:200`, time: at + "Z"},
		{name: "nginx error", line: `2026/03/14 02:03:04 [error] 12#12: *1 open() "/x" failed (2: No such file or directory)`, query: `"No such file"`, level: "error", time: at + "Z"},
		{name: "apache error", line: `[Sat Mar 14 02:03:04.000005 2026] [core:error] [pid 1] AH00124: limit exceeded`, query: `AH00124`, time: at + ".000005Z"},
		{name: "logfmt", line: `time="2026-03-14T02:03:04Z" level=warning msg="slow \"disk\"" dur=1.2s app=vault`, query: `dur:1.2s {program="vault"}`, level: "warn", program: "vault", time: at + "Z"},
		{name: "logfmt in syslog", line: `<30>Mar 14 02:03:04 h dockerd[5]: level=error msg="no space"`, query: `{program="dockerd"} level:error`, level: "error", host: "h", program: "dockerd", time: at + "Z"},
		{name: "postgresql json", line: `{"timestamp":"2026-03-14 02:03:04.005 CET","pid":9,"error_severity":"FATAL","message":"no pg_hba entry"}`, query: `pg_hba level:crit`, level: "crit", time: at + ".005Z"},
		{name: "JSON in syslog", line: `<30>Mar 14 02:03:04 h api[5]: {"level":"error","http":{"status":503},"k\u0000":1,"msg":"upstream \u0041"}`, query: `http.status:>=500 msg:A`, level: "error", host: "h", program: "api", time: at + "Z"},
		{name: "cee", line: `<14>1 2026-03-14T02:03:04Z h app - - - @cee: {"user":"ann","n":null}`, query: `user:ann`, level: "info", host: "h", program: "app", time: at + "Z"},
		{name: "JSON of a container", line: `2026-03-14T02:03:04.123456789Z stdout F {"level":"warn","user":"bea"}`, query: `user:bea`, level: "warn", time: at + ".123456789Z"},
		{name: "postgresql", line: `2026-03-14 02:03:04.005 UTC [123] ann@shop ERROR:  deadlock detected`, query: `level:error deadlock`, level: "error", time: at + ".005Z"},
		{name: "redis", line: `1:M 14 Mar 2026 02:03:04.005 * Ready to accept connections`, query: `"accept connections"`, time: at + ".005Z"},
		{name: "python", line: `2026-03-14 02:03:04,005 - root - WARNING - low memory`, query: `level:warn "low memory"`, level: "warn", time: at + ".005Z"},
		{name: "python basic", line: `ERROR:root:it broke`, query: `"it broke"`, level: "error"},
		{name: "django", line: `INFO 2026-03-14 02:03:04,005 basehttp 12 "GET / HTTP/1.1" 200 5`, query: `basehttp`, level: "info", time: at + ".005Z"},
		{name: "klog", line: `E0314 02:03:04.123456       1 reflector.go:150] Failed to list`, query: `"Failed to list"`, level: "error", time: at + ".123456Z"},
		{name: "log4j", line: `2026-03-14 02:03:04.005 ERROR [main] c.x.Y - NullPointerException`, query: `NullPointerException`, level: "error", time: at + ".005Z"},
		{name: "traceback", line: `    File "/app/main.py", line 12, in <module>`, query: `"/app/main.py"`},
		{name: "java stack", line: "\tat com.x.Y.run(Y.java:12) ~[y.jar:1.0]", query: `"Y.java:12"`},
		{name: "kernel", line: `<4>[12345.678901] usb 1-1: reset high-speed`, query: `reset`, level: "warn"},
		{name: "cri", line: `2026-03-14T02:03:04.123456789Z stderr F panic: runtime error`, query: `panic`, level: "crit", time: at + ".123456789Z"},
		{name: "git date", line: `Sat, 14 Mar 2026 02:03:04 GMT something happened`, query: `happened`, time: at + "Z"},
		{name: "too old", line: `2016-03-14 02:03:04 old story`, query: `"old story"`},
		{name: "in the future", line: `9999-03-14 02:03:04 future story`, query: `"future story"`},
		{name: "impossible day", line: `2026-02-30 02:03:04 impossible`, query: `impossible`},
		{name: "program with control characters", line: "{\"program\":\"a\\u0007b\",\"msg\":\"bell\"}", query: `{program="ab"} bell`, program: "ab"},
		{name: "program too long", line: `{"program":"` + strings.Repeat("p", 300) + `","msg":"wordy"}`, query: `wordy`, program: strings.Repeat("p", 128)},
		{name: "host and HOST", line: `{"HOST":"outer","host":"shop.example","msg":"virtual"}`, query: `{host="outer"} virtual`, host: "outer"},
	}
}

// TestKinds_EachComesBackAndIsFound puts each kind of line into the real library.
func TestKinds_EachComesBackAndIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	all := kinds()
	if len(all) < 71 {
		t.Fatalf("%d kinds", len(all))
	}
	e, c := openLibrary(t), newTable(t, Options{}).Coder()
	var lines []string
	for _, k := range all {
		lines = append(lines, k.line)
	}
	blobs := e.put(c, lines)
	for i, k := range all {
		seq := SeqValue(uint64(i + 1))
		got := e.taken(c, "wsrelay.seq:="+seq, blobs)
		if line, ok := got[seq]; !ok || line != k.line {
			t.Errorf("%s: the line is %.200q, there %v, want %.200q", k.name, line, ok, k.line)
		}
		if _, ok := e.taken(c, k.query, blobs)[seq]; !ok {
			t.Errorf("%s: %s does not find it", k.name, k.query)
		}
		err := e.query("wsrelay.seq:="+seq, func(fields []logstorage.Field) {
			want := map[string]string{"level": k.level, "program": k.program, "host": k.host, "_time": k.time}
			if k.host == "" {
				want["host"] = "relay1"
			}
			if k.time == "" {
				want["_time"] = "2026-03-14T03:00:00.123456789Z"
			}
			for name, w := range want {
				if g := Value(fields, name); g != w {
					t.Errorf("%s: %s is %q, want %q", k.name, name, g, w)
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

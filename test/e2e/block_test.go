package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const header = "@version: current\n@include \"scl.conf\"\n"

// quote writes s as a string of a syslog-ng configuration.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "``").Replace(s) + `"`
}

func TestBlock_HandsOptionsToWsrelayByteForByte(t *testing.T) {
	need(t, "syslog-ng")
	for name, url := range map[string]string{
		"plain":    "ws://127.0.0.1:8514/relay",
		"shell":    `ws://h/it's "here" $(id) & ${HOME} $HOST x=1;y=2 | > /tmp/x # * ? ~ !`,
		"escapes":  `wss://h/back\slash\n\t\\ %20 'a' "b" ` + "`id` é €",
		"quoted":   "ws://h/'; touch pwned; '",
		"newlines": "ws://h/\n\n$(touch pwned)\n'; touch pwned; exit\n",
		"long":     "ws://h/" + strings.Repeat("long'\"", 500),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t, standIn(t))
			start(t, s, fmt.Sprintf(`%ssource s { unix-dgram(%q); };
				destination d { websocket(url(%s) instance("a'b") options("queue-limit=1GiB\nlog-level=debug")); };
				log { source(s); destination(d); };`, header, s.Path(LocalSocket), quote(url)), LocalSocket)
			want := "instance=a'b\nurl=" + url + "\ndrain=0s\nunread-dir=" + s.Path("un read") + "\nqueue-limit=1GiB\nlog-level=debug\n"
			args := waitFor(t, s, "options", func(b []byte) bool { return strings.HasSuffix(string(b), "\n\x00") })
			if _, got, _ := strings.Cut(strings.TrimSuffix(args, "\x00"), "\n\n"); got != want {
				t.Errorf("wsrelay got the options %q, want %q", got, want)
			}
			if _, err := os.Stat(s.Path("pwned")); err == nil {
				t.Error("the shell has run a value")
			}
		})
	}
}

func TestBlock_PassesLinesByteForByte(t *testing.T) {
	need(t, "syslog-ng")
	lines := []string{
		"plain", " leading and trailing ", "tab\tand\rcarriage return", `quotes " ' and \ and \n`, "$HOST ${MSG} $(echo) `id` %s %n",
		"UTF-8 é € 😀", "not UTF-8 \xff\xfe\xc0", "[]{}#;:,&|", strings.Repeat("long ", 20_000),
	}
	for _, tt := range []struct{ name, option string }{{"raw", `template("$MSG\n")`}, {"JSON", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSandbox(t, standIn(t))
			body := fmt.Sprintf(`%soptions { log-msg-size(1048576); };
				source s { unix-dgram(%q flags(no-parse) so-rcvbuf(1048576)); };
				destination d { websocket(url("ws://h/") %s); };
				log { source(s); destination(d); flags(flow-control); };`, header, s.Path(LocalSocket), tt.option)
			start(t, s, body, LocalSocket)
			sendAll(t, "unixgram", s.Path(LocalSocket), lines)
			got := waitLines(t, s, len(lines))
			for i, want := range lines {
				if tt.option == "" {
					var d struct{ Message string }
					if err := json.Unmarshal([]byte(got[i]), &d); err != nil {
						t.Errorf("not JSON: %v: %.200s", err, got[i])
					}
					got[i], want = d.Message, jsonText(want)
				}
				if got[i] != want {
					t.Errorf("got %.200q, want %.200q", got[i], want)
				}
			}
		})
	}
}

// jsonText is what syslog-ng's format-json makes of bytes that are not UTF-8.
func jsonText(s string) string {
	return strings.NewReplacer("\xff", `\xff`, "\xfe", `\xfe`, "\xc0", `\xc0`).Replace(s)
}

func TestBlock_NamesAMistake(t *testing.T) {
	need(t, "syslog-ng")
	for _, tt := range []struct{ options, want string }{
		{`instance("x")`, "'url'"},
		{`url("ws://h/") no-such-option(1)`, "plugin.conf:"}, // 3.38 also shows the option, 4.8 the place alone
	} {
		s := newSandbox(t, standIn(t))
		conf, err := s.WriteConfig(header + "destination d { websocket(" + tt.options + "); }; log { destination(d); };")
		if err != nil {
			t.Fatal(err)
		}
		out, err := syntaxOnly(t, conf)
		if err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("websocket(%s): got %v and %q, want an error with %s", tt.options, err, out, tt.want)
		}
	}
}

// syntaxOnly is syslog-ng -s.
func syntaxOnly(t *testing.T, conf string) (string, error) {
	t.Helper()
	program, err := SyslogNGPath()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "--syntax-only", "--no-caps", "--cfgfile", conf).CombinedOutput()
	return string(out), err
}

func sendAll(t *testing.T, network, path string, lines []string) {
	t.Helper()
	conn, err := net.Dial(network, path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, line := range lines {
		if _, err := conn.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
}

// The rest of the way: what the block hands over is what wsrelay dials.
func TestBlock_UrlReachesTheWireThroughWsrelay(t *testing.T) {
	need(t, "syslog-ng")
	const path, query = `/it's "here" $(id) & ${HOME};|`, `a=$(id)&b='c'&d=%22`
	dialled := make(chan url.URL, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case dialled <- *r.URL:
		default:
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(server.Close)

	s := newSandbox(t, built(t))
	target := "ws" + strings.TrimPrefix(server.URL, "http") + path + "?" + query
	start(t, s, fmt.Sprintf(`%ssource s { unix-dgram(%q); };
		destination d { websocket(url(%s)); };
		log { source(s); destination(d); };`, header, s.Path(LocalSocket), quote(target)), LocalSocket)
	sendAll(t, "unixgram", s.Path(LocalSocket), []string{"<13>hello"})
	select {
	case got := <-dialled:
		if got.Path != path || got.RawQuery != query {
			t.Errorf("wsrelay dialled %q ? %q, want %q ? %q", got.Path, got.RawQuery, path, query)
		}
	case <-time.After(20 * time.Second):
		log, err := os.ReadFile(filepath.Join(s.QueueDir(), "wsrelay.log"))
		t.Errorf("wsrelay did not dial: %s %v", log, err)
	}
}

// syslog-ng tells destinations apart by their first 256 bytes, which the block's
// shell command alone is longer than.
func TestBlock_AReloadNoticesAChangedOption(t *testing.T) {
	need(t, "syslog-ng")
	s := newSandbox(t, standIn(t))
	config := func(options string) string {
		return fmt.Sprintf(`%ssource s { unix-dgram(%q); };
			destination d { websocket(url("ws://%s/") options(%q)); };
			log { source(s); destination(d); };`, header, s.Path(LocalSocket), strings.Repeat("long.", 20), options)
	}
	p := start(t, s, config("drain=1s"), LocalSocket)
	waitFor(t, s, "options", func(b []byte) bool { return strings.Contains(string(b), "drain=1s\n") })
	_, err := s.WriteConfig(config("drain=2s"))
	must(t, err)
	must(t, p.Signal(syscall.SIGHUP))
	waitFor(t, s, "options", func(b []byte) bool { return strings.Contains(string(b), "drain=2s\n") })
}

func TestBlock_WarnsOfASecretThatEveryUserCanRead(t *testing.T) {
	need(t, "syslog-ng")
	for options, want := range map[string]bool{
		"header=Authorization=Bearer sesame": true, "proxy=http://user:sesame@127.0.0.1:1": true,
		"header=X-Tenant=7\nproxy=http://127.0.0.1:1": false,
	} {
		t.Run(options, func(t *testing.T) {
			s := newSandbox(t, built(t))
			start(t, s, fmt.Sprintf(`%ssource s { unix-dgram(%q); };
				destination d { websocket(url(%q) options(%s)); };
				log { source(s); destination(d); };`, header, s.Path(LocalSocket), nobody, strings.ReplaceAll(quote(options), "\n", `\n`)), LocalSocket)
			waitWorker(t, s.QueueDir())
			sendAll(t, "unixgram", s.Path(LocalSocket), []string{"<13>hello"})
			log := waitFor(t, s, "queue/wsrelay.log", func(b []byte) bool { return strings.Contains(string(b), "disconnected") })
			if got := strings.Contains(log, "a secret is in the arguments of a process"); got != want || strings.Contains(log, "sesame") {
				t.Errorf("%q: the log is\n%s", options, log)
			}
		})
	}
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsrelay/test/harness"
)

// Servers that know nothing of wsrelay.v1. Each appends what it takes to the
// file "lines", with a newline before it, so that a write that a kill has torn
// stays alone, and answers afterwards.

const pythonServer = `
import asyncio, sys, websockets

async def serve(ws):
    with open("lines", "ab", 0) as lines:
        async for m in ws:
            lines.write(b"\n" + (m if isinstance(m, bytes) else m.encode()) + b"\n")
            await ws.send(m)

async def main():
    host, port = sys.argv[1].split(":")
    async with websockets.serve(serve, host, int(port)):
        await asyncio.Future()

asyncio.run(main())
`

const websocketdProgram = `#!/usr/bin/python3 -u
import sys
with open("lines", "ab", 0) as lines:
    for m in sys.stdin.buffer:
        lines.write(b"\n" + m)
        sys.stdout.buffer.write(m)
        sys.stdout.buffer.flush()
`

const luaServer = `load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
%s daemon off; pid nginx.pid; error_log stderr warn;
events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    lua_socket_log_errors off;
    server {
        listen %s;
        location /logs { content_by_lua_block {
            local ws = require("nginx.websocket.server"):new { timeout = 1000, max_payload_len = 1048576 }
            local lines = io.open("%s", "ab")
            lines:setvbuf("no")
            while true do
                local m, kind, err = ws:recv_frame()
                if kind == "close" or ws.fatal then break end
                if kind == "ping" then
                    ws:send_pong(m)
                elseif kind == "text" or kind == "binary" then
                    lines:write("\n" .. m .. "\n")
                end
            end
            lines:close()
        } }
    }
}
`

// plainServer is one of them, and how to ship to it.
type plainServer struct {
	path string
	args []string
	make func(t *testing.T, s *Sandbox, addr string) (program string, args []string)
}

var plainServers = map[string]plainServer{
	"Python, receipts": {
		path: "/", args: []string{"--plain-ack", "receipt", "--plain-open", `{"last":"{uid}"}`},
		make: func(t *testing.T, s *Sandbox, addr string) (string, []string) {
			if exec.Command(debianPython, "-c", "import websockets").Run() != nil {
				harness.Lack(t, "python3-websockets is not installed")
			}
			must(t, os.WriteFile(s.Path("server.py"), []byte(pythonServer), 0o600))
			return debianPython, []string{"server.py", addr}
		},
	},
	"websocketd, receipts": {
		path: "/", args: []string{"--plain-ack", "receipt", "--plain-uid", "id", "--plain-receipt", "id"},
		make: func(t *testing.T, s *Sandbox, addr string) (string, []string) {
			need(t, "websocketd", debianPython)
			must(t, os.WriteFile(s.Path("program"), []byte(websocketdProgram), 0o700))
			host, port, _ := strings.Cut(addr, ":")
			return "websocketd", []string{"--address", host, "--port", port, s.Path("program")}
		},
	},
	"nginx with Lua, pings": {
		path: "/logs",
		make: func(t *testing.T, s *Sandbox, addr string) (string, []string) {
			need(t, "nginx")
			if _, err := os.Stat("/usr/share/lua/5.1/nginx/websocket/server.lua"); err != nil {
				harness.Lack(t, "lua-nginx-websocket is not installed")
			}
			user := map[bool]string{true: "user root;"}[os.Getuid() == 0]
			conf := fmt.Sprintf(luaServer, user, addr, s.Path("lines"))
			must(t, os.WriteFile(s.Path("nginx.conf"), []byte(conf), 0o600))
			return "nginx", []string{"-p", s.Dir, "-e", "stderr", "-c", "nginx.conf"}
		},
	},
}

func TestPlain_LosesNothingWhateverIsKilled(t *testing.T) {
	for name, server := range plainServers {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t, built(t))
			o := &other{addr: someAddr(t)}
			program, args := server.make(t, s, o.addr)
			o.start = func(t *testing.T) *Process {
				p, err := s.Start("server", program, args...)
				must(t, err)
				return p
			}
			o.run(t)
			t.Cleanup(func() { o.KillGroup() })
			shipPlain(t, s, o, server)
		})
	}
}

// shipPlain ships odd lines while everything is killed in turn, and counts.
func shipPlain(t *testing.T, s *Sandbox, o *other, server plainServer) {
	wire := newCable(t, o.addr)
	must(t, syscall.Mkfifo(s.Path("stdin"), 0o600))
	args := append([]string{
		"-c", `exec "$@" <stdin`, "sh", filepath.Join(s.bin, "wsrelay"), "ws://" + wire.Addr().String() + server.path,
		"--mode", "plain", "--ping", "1s", "--drain", "100s", "--log-file", s.QueueDir() + "/wsrelay.log",
	}, server.args...)
	relay, err := s.Start("wsrelay", "sh", args...)
	must(t, err)
	stdin, err := os.OpenFile(s.Path("stdin"), os.O_WRONLY, 0)
	must(t, err)
	stop, fed := make(chan struct{}), make(chan error, 1)
	var sent int
	go func() {
		var err error
		sent, err = oddFeed(stdin, stop)
		fed <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	more := func() {
		t.Helper()
		goal := taken(s) + 1000
		must(t, relay.waitReady(ctx, func() bool { return taken(s) >= goal }))
	}
	for range 2 {
		more()
		o.KillGroup()
		o.run(t)
		more()
		must(t, syscall.Kill(waitWorker(t, s.QueueDir()), syscall.SIGKILL))
	}
	more()
	silent := func() int { return bytes.Count(relayLog(s), []byte("stopped answering")) }
	since, before := time.Now(), silent()
	wire.mute() // a half-open connection: nobody cuts it but wsrelay
	must(t, relay.waitReady(ctx, wire.hasLost))
	must(t, relay.waitReady(ctx, func() bool { return silent() > before }))
	t.Logf("a silent connection was dropped after %v", time.Since(since).Round(time.Millisecond))
	wire.cut()
	more()
	close(stop)
	must(t, <-fed)
	select {
	case <-relay.done:
	case <-ctx.Done():
		t.Fatalf("wsrelay does not end:\n%s", relay.output())
	}
	if relay.err != nil {
		t.Fatalf("wsrelay: %v\n%s", relay.err, relayLog(s))
	}
	checkPlain(t, plainLines(s), sent)
}

// taken is how many lines the server has taken, with those sent again.
func taken(s *Sandbox) int {
	text, _ := os.ReadFile(s.Path("lines")) // not there yet: no lines
	return bytes.Count(text, []byte("\n")) / 2
}

func relayLog(s *Sandbox) []byte {
	text, _ := os.ReadFile(filepath.Join(s.QueueDir(), "wsrelay.log"))
	return text
}

// plainLines is what a server of plain mode has, as wsrelay was given it.
func plainLines(s *Sandbox) (lines [][]byte) {
	text, _ := os.ReadFile(s.Path("lines")) // checkPlain says that there are none
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		var wrapped struct {
			Message string
			Raw     []byte
		}
		if json.Unmarshal(line, &wrapped) == nil && wrapped.Message != "" {
			if line = []byte(wrapped.Message); wrapped.Raw != nil {
				line = wrapped.Raw
			}
		}
		n, err := strconv.Atoi(string(line[:min(len(line), 6)]))
		if err == nil && bytes.Equal(line, oddLine(n)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// checkPlain wants each of the lines, in order but for those sent again, and
// some sent again: else the kills have tested nothing.
func checkPlain(t *testing.T, stored [][]byte, sent int) {
	t.Helper()
	seen, next, again := make([]bool, sent), 0, 0
	for _, line := range stored {
		n, _ := strconv.Atoi(string(line[:6]))
		switch {
		case n >= sent:
			t.Fatalf("line %d was never sent", n)
		case seen[n]:
			again++
		case n > next:
			t.Fatalf("line %d came before line %d, of %d", n, next, sent)
		default:
			seen[n], next = true, n+1
		}
	}
	if next != sent {
		t.Errorf("%d lines sent, the first missing is %d", sent, next)
	}
	if again == 0 {
		t.Error("no line came twice: the kills have tested nothing")
	}
	t.Logf("%d lines, 0 lost, %d came more than once", sent, again)
}

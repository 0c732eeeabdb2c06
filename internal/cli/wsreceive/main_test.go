package wsreceive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rogpeppe/go-internal/testscript"

	"wsrelay/handshake"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"wsreceive": func() {
			usualConfig = "/no/such/file" // not that of the machine
			if s := os.Getenv("PATIENCE"); s != "" {
				openTimeout, _ = time.ParseDuration(s)
			}
			os.Exit(Main())
		},
		"send":   sendMain,
		"get":    getMain,
		"panics": panicsMain,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each program sleeps a second at its end
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"certs": makeCerts, "serial": serial,
			"waitfor": waitFor, "status": status,
		},
	})
}

// waitFor FILE PATTERN [NAME] waits until FILE holds PATTERN and sets NAME to
// its first group.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor FILE PATTERN [NAME]")
	}
	pattern := regexp.MustCompile(args[1])
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		text, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		if found := pattern.FindSubmatch(text); found != nil {
			if len(args) == 3 {
				ts.Setenv(args[2], string(found[1]))
			}
			return
		}
	}
	text, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s never said %s:\n%s", args[0], args[1], text)
}

// getMain is the program "get URL", which prints what is there, and on stderr a
// status other than 200.
func getMain() {
	resp, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = io.Copy(os.Stdout, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, resp.Status)
	}
}

// sendMain is the program "send URL SEQ LINE...": a sender of one batch. It
// prints the receipt, or why there is none. $TOKEN, if it is set, is its token.
func sendMain() {
	seq, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err == nil {
		err = send(os.Args[1], seq, os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send(url string, seq uint64, lines []string) error {
	dialer := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}}
	header := http.Header{}
	if token := os.Getenv("TOKEN"); token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	conn, _, err := dialer.DialContext(context.Background(), url, header)
	if err != nil {
		return err
	}
	defer conn.Close()
	hello := &handshake.Hello{
		V: handshake.Version, SID: "0123456789abcdef", Host: "web1", Acked: 1,
		Head: seq + uint64(len(lines)),
	}
	if err := conn.WriteMessage(websocket.TextMessage, handshake.Encode(hello)); err != nil {
		return err
	}
	payload := []byte(strings.Join(lines, "\n") + "\n")
	d := handshake.Data{
		B: 1, Seq: seq, N: len(lines), At: 1_700_000_000_000,
		Enc: handshake.EncRaw, Raw: len(payload), C: handshake.CRC(payload),
	}
	if err := conn.WriteMessage(websocket.BinaryMessage, handshake.AppendData(nil, d, payload)); err != nil {
		return err
	}
	for {
		_, msg, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		frame, err := handshake.Decode(msg)
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *handshake.Welcome, *handshake.Busy:
		case *handshake.Ack:
			fmt.Printf("ack seq=%d new=%d dup=%d\n", f.Seq, f.New, f.Dup)
			return nil
		default:
			return fmt.Errorf("%s", msg)
		}
	}
}

// status N PROGRAM ARG... runs a program that must end with status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("%s ended with status %d, want %s (%v)", args[1], got, want, err)
	}
}

func TestWithoutPassword_HidesItInEveryNode(t *testing.T) {
	for to, want := range map[string]string{
		"logs:./a@b":                  "logs:./a@b",
		"https://es:9200":             "https://es:9200",
		"https://u:pw@es:9200":        "https://u:xxxxx@es:9200",
		"http://u:pw@a,http://u:pw@b": "http://u:xxxxx@a,http://u:xxxxx@b",
		"http://u:p%zw@a":             "(not a URL)",
	} {
		if got := withoutPassword(to); got != want {
			t.Errorf("%s: got %s, want %s", to, got, want)
		}
	}
}

package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver/store/logs/row"
	"wsrelay/test/harness"
)

// remoteRig is a store whose rows a VictoriaLogs server has.
type remoteRig struct {
	*storeRig
	program, data, address string
	server                 *exec.Cmd
	stderr                 tail
}

// TestRemote_Killed kills a VictoriaLogs server, the process with the journal in
// front of it, or both, under load. The server has every line with a receipt once.
func TestRemote_Killed(t *testing.T) {
	notUnderRace(t)
	c := newCampaign(t, "remote-kill", "kills", 3, 600)
	program := victoriaLogs(t)
	met := map[string]int{}
	for c.more() {
		dir := t.TempDir()
		g := &remoteRig{
			storeRig: newStoreRig(t, filepath.Join(dir, "journal")), program: program,
			data: filepath.Join(dir, "server"), address: freeAddress(t),
		}
		g.met = met
		rounds := min(20, c.goal-c.Done)
		g.serve()
		p := g.start(nil, storeServerEnv+"=http://"+g.address)
		for range rounds {
			time.Sleep(rand.N(3 * time.Second))
			what := rand.IntN(3)
			g.met[[]string{"server", "wsreceive", "both"}[what]]++
			if what != 1 {
				harness.Must(t, g.server.Process.Kill())
			}
			if what != 0 {
				p.kill()
			}
			if what != 1 {
				_ = g.server.Wait()
				time.Sleep(rand.N(300 * time.Millisecond))
				g.serve()
			}
			if what != 0 {
				p = g.start(nil, storeServerEnv+"=http://"+g.address)
			}
		}
		p.kill()
		c.add(t, rounds, rounds, g.mustHold(t))
		_ = g.server.Process.Kill()
		_ = g.server.Wait()
		harness.Must(t, os.RemoveAll(dir))
	}
	t.Logf("killed: %v", met)
	c.end(t)
}

// mustHold lets all lines come to the server, kills it once more, and compares.
func (g *remoteRig) mustHold(t *testing.T) verdict {
	t.Helper()
	p := g.start(nil, storeServerEnv+"=http://"+g.address, storeStopEnv+"=3")
	select {
	case <-p.done:
	case <-time.After(5 * time.Minute):
	}
	if !p.is("closed")() {
		t.Fatalf("what waits does not come to the server\n%s", lastLines(p.stderr.String(), 10))
	}
	harness.Must(t, g.server.Process.Kill())
	_ = g.server.Wait()
	g.serve()
	v := g.compare(t)
	if !v.ok() {
		t.Fatalf("%s\n%s", v, lastLines(p.stderr.String(), 20))
	}
	return v
}

func (g *remoteRig) compare(t *testing.T) (v verdict) {
	t.Helper()
	res, err := http.PostForm("http://"+g.address+"/select/logsql/query", url.Values{
		"query": {`"wsrelay.sid":* | fields _msg, "wsrelay.sid", "wsrelay.seq", "wsrelay.crc", "wsrelay.line", "wsrelay.long"`},
	})
	harness.Must(t, err)
	defer res.Body.Close()
	there := map[string]int{}
	for in := json.NewDecoder(res.Body); ; {
		r := map[string]string{}
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seq, err := row.Seq(r["wsrelay.seq"])
		harness.Must(t, err)
		sid := r["wsrelay.sid"]
		if v.Delivered++; there[fmt.Sprint(sid, seq)] > 0 {
			v.Doubled++
		}
		there[fmt.Sprint(sid, seq)]++
		stream, _ := strconv.Atoi(strings.TrimLeft(sid, "0"))
		line := string(storeLine(stream-1, seq))
		got, raw := strings.CutPrefix(r["wsrelay.line"], `\`)
		if got == "" && !raw {
			got = r["_msg"]
		}
		if crc := strconv.FormatUint(uint64(sumOf(line)), 10); r["wsrelay.crc"] != crc || r["wsrelay.long"] == "" &&
			seq%8 != 2 && got != line {
			t.Logf("%s %d: %q, want %q", sid, seq, r, line)
			v.Altered++
		}
	}
	for i, next := range g.next {
		v.Promised += next - 1
		for seq := uint64(1); seq < next; seq++ {
			if there[fmt.Sprint(storeSIDs[i], seq)] == 0 {
				v.Lost++
			}
		}
	}
	v.Fed = v.Delivered
	return v
}

// victoriaLogs builds the server.
func victoriaLogs(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "victoria-logs")
	cmd := exec.Command("go", "build", "-modfile=tools/victorialogs.mod", "-o", to,
		"github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		harness.Lack(t, fmt.Sprintf("the server cannot be built: %v\n%s", err, out))
	}
	return to
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	harness.Must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// serve starts the server and waits until it answers.
func (g *remoteRig) serve() {
	g.t.Helper()
	g.server = exec.Command(g.program, "-storageDataPath="+g.data, "-httpListenAddr="+g.address,
		"-inmemoryDataFlushInterval=1s", "-retentionPeriod=100y")
	g.server.Stderr = &g.stderr
	harness.Must(g.t, g.server.Start())
	for range 600 {
		if res, err := http.Get("http://" + g.address + "/health"); err == nil {
			_ = res.Body.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	g.t.Fatalf("the server does not answer\n%s", lastLines(g.stderr.String(), 10))
}

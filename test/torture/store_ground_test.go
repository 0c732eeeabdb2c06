package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/receiver/store/logs"
	"wsrelay/test/harness"
)

// TestStore_Directory does to the directory of a log database under load what
// administrators and disks do. Whatever is lost by it is named, and nothing is
// there twice or altered.
func TestStore_Directory(t *testing.T) {
	notUnderRace(t)
	c := newCampaign(t, "store-directory", "changes", 3, 200)
	names := make([]string, 0, len(storeChanges))
	for name := range storeChanges {
		names = append(names, name)
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for c.more() {
		for _, name := range names {
			if !c.more() {
				break
			}
			t.Run(name, func(t *testing.T) {
				g := newStoreRig(t, filepath.Join(t.TempDir(), "store"))
				p := g.load(1 + rand.IntN(3))
				change := storeChanges[name]
				change.do(g, p)
				v, found := g.check(t)
				t.Logf("%s; named: %d lacking, %d missing, %d damaged, %d gaps", v, found.Lacking, found.Missing,
					len(found.Damaged), found.Gaps)
				if v.Lost > found.Lacking+found.Missing || v.Doubled+v.Altered+found.Excess > 0 || !change.loses &&
					v.Lost > 0 {
					t.Fatalf("%+v", found)
				}
				if change.loses { // what a loss was named for is no fault
					v.Cut, v.Lost, v.Astray, v.Damaged = v.Lost, 0, 0, 0
				}
				c.add(t, 1, 1, v)
			})
			if t.Failed() {
				return
			}
		}
	}
	c.end(t)
}

var storeChanges = map[string]struct {
	do    func(g *storeRig, p *storeProcess) // p has the store open; at the end nobody has
	loses bool                               // the change itself costs lines
}{
	"moved away and back":   {do: moveStore},
	"replaced and put back": {do: replaceStore},
	"restored from a backup": {loses: true, do: func(g *storeRig, p *storeProcess) {
		to := g.dir + ".backup"
		g.backup(to)
		p.more(20)
		p.kill()
		harness.Must(g.t, os.RemoveAll(g.dir))
		harness.Must(g.t, os.Rename(to, g.dir))
		g.again()
	}},
	"the database is older than the journal": {loses: true, do: func(g *storeRig, p *storeProcess) {
		g.older(p, "database")
	}},
	"the journal is older than the database": {loses: true, do: func(g *storeRig, p *storeProcess) {
		g.older(p, "CHECKPOINT", "journal")
	}},
	"the last segment is an older copy of itself": {loses: true, do: func(g *storeRig, p *storeProcess) {
		was, dir := g.t.TempDir(), filepath.Join(g.dir, "journal")
		pid := p.cmd.Process.Pid
		harness.Must(g.t, unix.Kill(pid, unix.SIGSTOP)) // or the copy has half of a record
		_, err := unix.Wait4(pid, nil, unix.WUNTRACED, nil)
		harness.Must(g.t, err)
		copyTree(g.t, dir, filepath.Join(was, "journal"))
		harness.Must(g.t, unix.Kill(pid, unix.SIGCONT))
		p.more(3)
		p.kill()
		segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
		harness.Must(g.t, err)
		last := slices.MaxFunc(segments, func(a, b string) int { return strings.Compare(number(a), number(b)) })
		if older := filepath.Join(was, "journal", filepath.Base(last)); fileExists(older) {
			harness.Must(g.t, os.Rename(older, last))
		}
		g.again()
	}},
	"the database is emptied": {loses: true, do: func(g *storeRig, p *storeProcess) {
		p.kill()
		harness.Must(g.t, os.RemoveAll(filepath.Join(g.dir, "database")))
		g.again()
	}},
	"a part is damaged": {loses: true, do: func(g *storeRig, p *storeProcess) {
		if !p.await(func() bool { return len(g.parts()) > 0 }) { // the first barrier may come before
			g.t.Fatal("no part comes to the disk")
		}
		p.kill()
		g.damage()
		g.again()
	}},
}

// number is what the name of a segment ends with, which ascends.
func number(segment string) string { return segment[strings.LastIndexByte(segment, '-'):] }

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// load starts a process and waits until it has been behind so many barriers, and each
// stream has a receipt: a store does not know what it lacks of a stream that it never had.
func (g *storeRig) load(barriers int) *storeProcess {
	g.t.Helper()
	p := g.start(nil)
	all := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !slices.Contains(p.next[:], 1)
	}
	if !p.await(all) || !p.await(p.hasSaid("behind", barriers)) {
		g.t.Fatalf("the store does not work\n%s", p.stderr.String())
	}
	return p
}

// again lets processes work on the store for a while. One that damage ends is
// started again, as a service manager does.
func (g *storeRig) again() {
	g.t.Helper()
	for range 4 {
		p := g.start(nil)
		ok := p.await(p.hasSaid("behind", 2))
		p.kill()
		if ok {
			return
		}
		g.met["started again"]++
	}
	g.t.Fatal("a crash loop")
}

// more waits for so many more receipts.
func (p *storeProcess) more(n int) {
	p.t.Helper()
	p.mu.Lock()
	finals := p.said["final"]
	p.mu.Unlock()
	if !p.await(p.hasSaid("final", finals+n)) {
		p.t.Fatalf("no more receipts come\n%s", p.stderr.String())
	}
}

// refuses waits until commits fail, and checks that none has a receipt then.
func (p *storeProcess) refuses() {
	p.t.Helper()
	if !p.await(p.hasSaid("fails", len(storeSIDs)*3)) {
		p.t.Fatalf("receipts come for a store that is not there\n%s", p.stderr.String())
	}
	p.mu.Lock()
	finals := p.said["final"]
	p.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.said["final"] != finals {
		p.t.Errorf("%d receipts came for a store that is not there", p.said["final"]-finals)
	}
}

// moveStore moves the directory under a process at work.
func moveStore(g *storeRig, p *storeProcess) {
	harness.Must(g.t, os.Rename(g.dir, g.dir+".moved"))
	p.refuses()
	harness.Must(g.t, os.Rename(g.dir+".moved", g.dir))
	p.more(20)
	p.kill()
}

// replaceStore puts another directory in its place, and takes it away again.
func replaceStore(g *storeRig, p *storeProcess) {
	harness.Must(g.t, os.Rename(g.dir, g.dir+".moved"))
	harness.Must(g.t, os.Mkdir(g.dir, 0o700))
	p.refuses()
	p.kill()
	harness.Must(g.t, os.Remove(g.dir))
	harness.Must(g.t, os.Rename(g.dir+".moved", g.dir))
	g.again()
}

// older brings parts of the store back as they were some time ago.
func (g *storeRig) older(p *storeProcess, names ...string) {
	g.t.Helper()
	p.kill()
	was := g.t.TempDir()
	for _, name := range names {
		copyTree(g.t, filepath.Join(g.dir, name), filepath.Join(was, name))
	}
	g.again()
	for _, name := range names {
		harness.Must(g.t, os.RemoveAll(filepath.Join(g.dir, name)))
		copyTree(g.t, filepath.Join(was, name), filepath.Join(g.dir, name))
	}
	g.again()
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

// backup asks the process that has the store open for a copy.
func (g *storeRig) backup(to string) {
	g.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _,
		_ string,
	) (net.Conn, error) {
		return logs.Dial(ctx, g.dir)
	}}}
	defer client.CloseIdleConnections()
	res, err := client.PostForm("http://store/store/backup", url.Values{"to": {to}})
	harness.Must(g.t, err)
	harness.Must(g.t, res.Body.Close())
	if res.StatusCode != http.StatusOK {
		g.t.Fatalf("backup: %s", res.Status)
	}
}

// parts are the files of rows and of their index.
func (g *storeRig) parts() []string {
	g.t.Helper()
	files, err := filepath.Glob(filepath.Join(g.dir, "database/partitions/*/*/*/*.bin"))
	harness.Must(g.t, err)
	return files
}

// damage alters some bytes of one of the parts.
func (g *storeRig) damage() {
	g.t.Helper()
	files := g.parts()
	rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for _, path := range files {
		b, err := os.ReadFile(path)
		harness.Must(g.t, err)
		if len(b) == 0 {
			continue
		}
		at := rand.IntN(len(b))
		for i := at; i < min(at+200, len(b)); i++ {
			b[i] ^= 0x5a
		}
		g.t.Logf("damaged: %s from %d on", path, at)
		harness.Must(g.t, os.WriteFile(path, b, 0o600))
		return
	}
	harness.Must(g.t, errors.New("no file to damage"))
}

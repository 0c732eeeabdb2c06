package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver"
)

// TestMain is also the process that is killed: it commits lines from a number on
// and prints the number that is next when it has a receipt.
func TestMain(m *testing.M) {
	path := os.Getenv("FILE_STORE")
	if path == "" {
		os.Exit(m.Run())
	}
	seq, _ := strconv.ParseUint(os.Getenv("FILE_SEQ"), 10, 64)
	s, err := Open(path, Options{})
	for err == nil {
		b := receiver.Batch{SID: sid, Seq: seq}
		for i := range 1 + rand.Uint64N(2000) {
			b.Lines = append(b.Lines, numbered(seq+i))
		}
		if _, err = s.Commit(context.Background(), []receiver.Batch{b}); err == nil {
			seq = b.End()
			fmt.Println(seq)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func numbered(seq uint64) []byte {
	return fmt.Appendf(nil, "%d %s", seq, strings.Repeat("x", int(seq%97)))
}

// The receiver is killed while it writes, the file is renamed as logrotate does it
// or copied to another place, and the sender sends again what has no receipt.
func TestKill_EachLineIsInOneFileOnce(t *testing.T) {
	kills, _ := strconv.Atoi(os.Getenv("KILLS"))
	least := 12
	if testing.Short() {
		least = 3
	}
	kills = max(kills, least)
	dir := filepath.Join(t.TempDir(), "0")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "FILE_STORE="+filepath.Join(dir, "log"),
			"FILE_SEQ="+strconv.FormatUint(next, 10))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		killed := time.AfterFunc(time.Duration(30+rand.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			// A receipt that nobody has read was lost on its way.
			if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil && rand.IntN(3) > 0 {
				next = max(next, n)
			}
		}
		killed.Stop()
		_ = cmd.Wait()
		switch i % 3 {
		case 0:
			err := os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, fmt.Sprint("log.", i)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // the kill may have come before there was a file
				t.Fatal(err)
			}
		case 1:
			to := filepath.Join(filepath.Dir(dir), strconv.Itoa(i))
			if out, err := exec.Command("cp", "-a", dir, to).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			dir = to
		}
	}
	s := openFile(t, filepath.Join(dir, "log"))
	mustCommit(t, s, receiver.Batch{SID: sid, Seq: next, Lines: [][]byte{numbered(next)}})
	s.Close()

	seen, total := map[string]int{}, 0
	files, err := filepath.Glob(filepath.Join(dir, "log*"))
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for _, name := range files {
		if ext := filepath.Ext(name); ext == ".cursor" || ext == ".lock" || ext == ".cut" || ext == ".new" {
			continue
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(readFile(t, name)), "\n"), "\n") {
			if line == "" {
				continue
			}
			seen[line]++
			total++
			n, _ := strconv.ParseUint(strings.Fields(line)[0], 10, 64)
			last = max(last, n)
		}
	}
	lost, torn := uint64(0), 0
	for seq := uint64(1); seq <= last; seq++ {
		if seen[string(numbered(seq))] == 0 {
			lost++
		}
	}
	torn = len(seen) - int(last-lost)
	t.Logf("%d kills, %d lines, %d lost, %d doubled, %d torn", kills, total, lost, total-len(seen), torn)
	if lost != 0 || total != len(seen) || torn != 0 || last < next {
		t.Errorf("the last line is %d, the sender has receipts up to %d", last, next)
	}
}

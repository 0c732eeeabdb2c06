package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"wsrelay/test/harness"
)

// children are what this test binary does when it is started as a child: it works
// in a directory, says on its standard output what it has, and is killed or ends.
var children map[string]func(dir string) int

func init() {
	children = map[string]func(string) int{
		"flood": floodChild, "read": readChild, "trickle": trickleChild,
		"queries": queriesChild,
	}
}

// child starts one, under another program if one is given.
func child(t *testing.T, what, dir string, under ...string) (cmd *exec.Cmd, said *bufio.Scanner, log *logbook) {
	t.Helper()
	log = &logbook{}
	args := append(slices.Clone(under), os.Args[0])
	cmd = exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LOGS_TEST_CHILD="+what, "LOGS_TEST_DIR="+dir, "DISABLE_FSYNC_FOR_TESTING=false") // as outside of tests
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out), log
}

func childStore(dir string) *Store {
	o := testOptions()
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := Open(dir, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	return s
}

// floodChild adds segments over three days from several goroutines, and says the
// name of each that is behind a barrier.
func floodChild(dir string) int {
	s := childStore(dir)
	run := fmt.Sprintf("%x", time.Now().UnixNano())
	for i := 0; ; i++ {
		segment := fmt.Sprintf("%s-%d", run, i)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for j := range 10 {
					if err := s.db.Add(context.Background(), segment,
						lines(uint64(i*10000+g*2500+j*250), 250,
							time.Now().Add(-time.Duration(j%3)*oneDay))); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(3)
					}
				}
			})
		}
		wg.Wait()
		if err := s.db.Barrier(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 3
		}
		fmt.Println(segment, s.repeated.Load())
	}
}

func TestBarrier_WhatIsBehindItSurvivesAKillInMidFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	dir := t.TempDir()
	var segments []string
	repeated := 0
	for round := range 6 {
		cmd, said, log := child(t, "flood", dir)
		kill := func(within time.Duration) { time.AfterFunc(rand.N(within), func() { _ = cmd.Process.Kill() }) }
		if round%2 == 1 {
			kill(time.Second) // also while it opens the store
		}
		for last, n := 0, 0; said.Scan(); n++ {
			if round%2 == 0 && n == 0 {
				kill(500 * time.Millisecond)
			}
			var segment string
			var again int
			if _, err := fmt.Sscan(said.Text(), &segment, &again); err != nil {
				t.Fatalf("%q: %v", said.Text(), err)
			}
			segments, repeated, last = append(segments, segment), repeated+again-last, again
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child exited: %v\n%s", err, log)
		}
	}
	s := open(t, dir, testOptions())
	for _, segment := range segments {
		wantCount(t, s, segment, 10000)
	}
	// The stream's name is behind the barrier, too.
	n := uint64(0)
	if err := s.db.query(t.Context(), `_stream:{host="web1"} | stats count() as n`,
		func(r map[string]string) error { n, _ = number(r, "n"); return nil }); err != nil ||
		n < uint64(10000*len(segments)) {
		t.Errorf("%d rows are found by their stream, %v; want %d", n, err, 10000*len(segments))
	}
	t.Logf("%d segments; barriers took %d snapshots more than one each", len(segments), repeated)
	if len(segments) == 0 {
		t.Error("no segment was behind a barrier")
	}
}

// The library's snapshot leaves out what a background merge holds in memory: of the
// barriers of this test about one in four meets that.
func TestBarrier_WritesWhatAMergeHoldsInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	for round := 1; round <= 80 && s.repeated.Load() < 3; round++ {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for j := range 30 {
					add(t, s, "e-1", lines(uint64(round*100000+g*3000+j*100), 100, now))
					if err := s.library.flush(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		barrier(t, s)
		if got, want := rowsOnDisk(t, s, now.UTC().Format(dayFormat)), uint64(round*8*30*100); got != want {
			t.Fatalf("%d rows are on disk behind barrier %d; want %d", got, round, want)
		}
	}
	t.Logf("%d snapshots were no barrier", s.repeated.Load())
}

// rowsOnDisk reads the parts of a day that its list names.
func rowsOnDisk(t *testing.T, s *Store, day string) (n uint64) {
	t.Helper()
	dir := filepath.Join(s.library.path, "partitions", day, "datadb")
	for range 100 {
		n = 0
		parts, err := readParts(dir)
		for _, part := range parts {
			head, headErr := readHead(filepath.Join(dir, part))
			n, err = n+head.RowsCount, errors.Join(err, headErr)
		}
		if err == nil { // else a merge replaced them
			return n
		}
	}
	t.Fatal("the parts cannot be read")
	return 0
}

// readChild reads every field of every row, queriesChild does so for ever.
func readChild(dir string) int {
	s := childStore(dir)
	if err := readAll(s); err != nil || s.Close() != nil {
		return 3
	}
	return 0
}

func queriesChild(dir string) int {
	s := childStore(dir)
	for {
		if err := readAll(s); err != nil {
			return 3
		}
		fmt.Println("read")
	}
}

func readAll(s *Store) error {
	n := 0
	err := s.library.query(context.Background(), "*", func(b *logstorage.DataBlock) error {
		for _, c := range b.GetColumns(false) {
			for _, v := range c.Values {
				n += len(v)
			}
		}
		return nil
	})
	fmt.Fprintln(os.Stderr, n, err)
	return err
}

// Sandboxes of services and containers allow a list of system calls.
func TestStore_IsReadWhereASandboxForbidsMincore(t *testing.T) {
	harness.Need(t, "strace")
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	add(t, s, "e-1", lines(1, 5000, time.Now()))
	shut(t, s)
	trace := filepath.Join(t.TempDir(), "trace")
	cmd, _, log := child(t, "read", dir, "strace", "-f", "-qq", "-o", trace, "-e", "trace=mincore",
		"-e", "inject=mincore:error=EPERM")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
	if calls, err := os.ReadFile(trace); err != nil || !strings.Contains(string(calls), "INJECTED") {
		t.Errorf("no call was forbidden: %q, %v", calls, err)
	}
}

func TestStore_DamageThatAQueryMeetsEndsTheProcessOnce(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"altered": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 200), 0)
			return errors.Join(err, f.Close())
		},
		"cut": func(path string) error { return os.Truncate(path, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, testOptions())
			now := time.Now()
			add(t, s, "e-1", lines(1, 5000, now))
			add(t, s, "e-2", lines(5001, 5000, now.Add(-3*oneDay)))
			shut(t, s)
			day := filepath.Join(dir, "database/partitions", now.UTC().Format(dayFormat), "datadb")
			parts, err := readParts(day)
			if err != nil || len(parts) == 0 {
				t.Fatal(parts, err)
			}
			cmd, said, _ := child(t, "queries", dir)
			said.Scan()
			if err := harm(filepath.Join(day, parts[0], "message_values.bin")); err != nil {
				t.Fatal(err)
			}
			for said.Scan() {
			}
			if cmd.Wait() == nil || !cmd.ProcessState.Exited() {
				t.Fatal("the child was not ended by the damage")
			}
			cmd, said, log := child(t, "queries", dir)
			for range 5 {
				if !said.Scan() {
					t.Fatalf("ended again: %v\n%s", cmd.Wait(), log)
				}
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			s = open(t, dir, testOptions())
			wantCount(t, s, "e-2", 5000)
			if damaged, err := s.damage.list(); err != nil || len(damaged) != 1 {
				t.Errorf("damaged: %v, %v; want one part", damaged, err)
			}
		})
	}
}

// damageOnce alters one file of the newest part of a day, or its list.
func TestOpen_MovesDamagedDataAsideAndServesTheRest(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		for i := range b {
			b[i] ^= 0x5a
		}
		return errors.Join(err, os.WriteFile(path, b, 0o600))
	}
	cut := func(path string) error { return os.Truncate(path, 3) }
	cases := map[string]func(day, part string) error{
		"part without values":       func(_, part string) error { return os.Remove(filepath.Join(part, "message_values.bin")) },
		"part without description":  func(_, part string) error { return os.Remove(filepath.Join(part, "metadata.json")) },
		"part is missing":           func(_, part string) error { return os.RemoveAll(part) },
		"values cut":                func(_, part string) error { return cut(filepath.Join(part, "message_values.bin")) },
		"list of parts altered":     func(day, _ string) error { return flip(filepath.Join(day, "datadb/parts.json")) },
		"list of parts missing":     func(day, _ string) error { return os.Remove(filepath.Join(day, "datadb/parts.json")) },
		"index missing":             func(day, _ string) error { return os.RemoveAll(filepath.Join(day, "indexdb")) },
		"index list altered":        func(day, _ string) error { return flip(filepath.Join(day, "indexdb/parts.json")) },
		"garbage beside the days":   func(day, _ string) error { return os.WriteFile(filepath.Join(day, "../hello"), nil, 0o600) },
		"folder with a bad name":    func(day, _ string) error { return os.Mkdir(filepath.Join(day, "../20261399"), 0o700) },
		"values altered":            func(_, part string) error { return flip(filepath.Join(part, "message_values.bin")) },
		"index of the part altered": func(_, part string) error { return flip(filepath.Join(part, "index.bin")) },
		"metaindex altered":         func(_, part string) error { return flip(filepath.Join(part, "metaindex.bin")) },
		"timestamps altered":        func(_, part string) error { return flip(filepath.Join(part, "timestamps.bin")) },
		"column names altered":      func(_, part string) error { return flip(filepath.Join(part, "column_names.bin")) },
		"columns header altered":    func(_, part string) error { return flip(filepath.Join(part, "columns_header.bin")) },
		"index's metaindex altered": func(day, _ string) error {
			list, err := filepath.Glob(filepath.Join(day, "indexdb/*/metaindex.bin"))
			for _, path := range list {
				err = errors.Join(err, flip(path))
			}
			return err
		},
		"index's items altered": func(day, _ string) error {
			list, err := filepath.Glob(filepath.Join(day, "indexdb/*/items.bin"))
			for _, path := range list {
				err = errors.Join(err, flip(path))
			}
			return err
		},
	}
	for name, harm := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at := time.Now()
			s := open(t, dir, testOptions())
			for i := range 10 {
				add(t, s, "e-1", lines(uint64(1+50*i), 50, at.Add(-time.Duration(i*i)*time.Microsecond)))
			}
			barrier(t, s)
			add(t, s, "e-2", lines(501, 500, at.Add(-3*oneDay)))
			shut(t, s)
			day := filepath.Join(dir, "database/partitions", at.UTC().Format(dayFormat))
			parts, err := readParts(filepath.Join(day, "datadb"))
			if err != nil || len(parts) == 0 {
				t.Fatal(parts, err)
			}
			if err := harm(day, filepath.Join(day, "datadb", parts[0])); err != nil {
				t.Fatal(err)
			}
			starts := 0
			for ok := false; !ok; starts++ { // as a service manager would
				cmd, said, log := child(t, "read", dir)
				for said.Scan() {
				}
				ok = cmd.Wait() == nil
				if !ok && cmd.ProcessState.ExitCode() != exitStatus {
					t.Fatalf("exit status %d\n%s", cmd.ProcessState.ExitCode(), log)
				}
				if starts == 3 {
					t.Fatalf("a crash loop:\n%s", log)
				}
			}
			s = open(t, dir, testOptions())
			wantCount(t, s, "e-2", 500)
			left, err := s.db.Count(t.Context(), "e-1")
			damaged, _ := s.damage.list()
			t.Logf("%d starts; %d of 500 rows are left; damaged: %v, %v", starts, left, damaged, err)
			if len(damaged) == 0 && name != "part is missing" && name != "index missing" {
				t.Error("nothing was quarantined")
			}
			add(t, s, "e-1", lines(1, 500-int(left), at)) // as a recovery does
			barrier(t, s)
			wantCount(t, s, "e-1", 500)
		})
	}
}

// trickleChild adds rows for ever, and says after each barrier how many there are,
// or why there is none. It holds what is not behind a barrier, as a journal would.
func trickleChild(dir string) int {
	s := childStore(dir)
	ctx := context.Background()
	n, err := s.db.Count(ctx, "e-1")
	if err != nil {
		return 3
	}
	fmt.Println("open", n)
	for {
		err := s.db.Add(ctx, "e-1", lines(n+1, 500, time.Now()))
		if err == nil {
			n += 500
			err = s.db.Barrier(ctx)
		}
		switch {
		case errors.Is(err, ErrFull):
			fmt.Println("full", n)
			time.Sleep(100 * time.Millisecond)
			if n, err = s.db.Count(ctx, "e-1"); err != nil {
				return 3
			}
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			return 3
		default:
			fmt.Println("behind", n)
		}
	}
}

func TestStore_AFullDiskIsAnErrorAndNoDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	disk := smallDisk(t)
	dir := filepath.Join(disk, "store")
	cmd, said, log := child(t, "trickle", dir)
	want := func(word string) (n uint64) {
		t.Helper()
		for said.Scan() {
			var got string
			if _, err := fmt.Sscan(said.Text(), &got, &n); err == nil && got == word {
				return n
			}
		}
		t.Fatalf("the child does not say %q: %v\n%s", word, cmd.Wait(), log)
		return 0
	}
	behind := want("behind")
	fill := filepath.Join(disk, "fill")
	for range 3 {
		fillDisk(t, fill)
		for said.Scan() { // the library may have had rows in memory that it could not write: then the process ends
			var word string
			var n uint64
			if _, err := fmt.Sscan(said.Text(), &word, &n); err == nil && word == "behind" {
				behind = n
			} else if word == "full" {
				break
			}
		}
		// It is killed while the disk is full, started again, and says that it is full.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cmd, said, log = child(t, "trickle", dir)
		if n := want("open"); n < behind {
			t.Fatalf("%d rows; %d were behind a barrier", n, behind)
		}
		want("full")
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		behind = want("behind")
	}
	if left, err := (&damage{dir: filepath.Join(dir, "damaged")}).list(); err != nil || len(left) > 0 {
		t.Errorf("damaged: %v, %v; want nothing", left, err)
	}
	if notes, err := filepath.Glob(filepath.Join(dir, "damaged", notePrefix+"*")); err != nil || len(notes) > 0 {
		t.Errorf("notes of damage: %v, %v; want none", notes, err)
	}
}

func TestRetention_FreesADiskThatHasNoByteLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	disk := smallDisk(t)
	s := open(t, filepath.Join(disk, "store"), testOptions())
	for i := range 4 {
		add(t, s, "e-1", lines(uint64(20000*i), 20000, time.Now().Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	fillDisk(t, filepath.Join(disk, "fill"))
	s.opts.RetainBytes, s.opts.Retain = 1, 30*oneDay
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	var free unix.Statfs_t
	if err := unix.Statfs(disk, &free); err != nil || free.Bavail == 0 {
		t.Errorf("%d blocks are free, %v", free.Bavail, err)
	}
	wantCount(t, s, "e-1", 20000)
}

func TestOpen_ADiskThatCannotBeWrittenIsAnError(t *testing.T) {
	disk := smallDisk(t)
	dir := filepath.Join(disk, "store")
	shut(t, open(t, dir, testOptions()))
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions()); !errors.Is(err, unix.EROFS) {
		t.Errorf("Open = %v; want %v", err, unix.EROFS)
	}
}

func smallDisk(t *testing.T) string {
	t.Helper()
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("only root can mount a small disk: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	return disk
}

// fillDisk leaves no byte.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if _, err := io.WriteString(f, "x"); err == nil {
		t.Log("a byte is left")
	}
}

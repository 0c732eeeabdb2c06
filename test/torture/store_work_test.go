package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/victorialogs"
)

// What this binary does when it is started as the process that has a store open.
var storeWork = map[string]func() int{"commit": commitWork, "check": checkWork}

const (
	storeWorkEnv   = "STORE_WORK"
	storeDirEnv    = "STORE_DIR"
	storeNextEnv   = "STORE_NEXT"    // of each stream, the first number that is not final
	storeServerEnv = "STORE_SERVER"  // of the rows; "": the store has them itself
	storeStopEnv   = "STORE_COMMITS" // of each stream; then the store is closed; "": for ever
)

// storeSIDs are the streams of a store; each has a committer of its own.
var storeSIDs = [...]string{"0000000000000001", "0000000000000002", "0000000000000003"}

// journaled is a store behind a journal.
type journaled interface {
	receiver.Store
	Wait(ctx context.Context) error
}

func openLogs() *logs.Store {
	s, err := logs.Open(os.Getenv(storeDirEnv), logs.Options{Reserve: 1 << 20, Log: storeLog()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return begin(s)
}

func storeLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// openStore opens the store in the directory: the log database, or the journal of
// a server.
func openStore() journaled {
	server := os.Getenv(storeServerEnv)
	if server == "" {
		return openLogs()
	}
	s, err := victorialogs.Open(os.Getenv(storeDirEnv), server, victorialogs.Options{Log: storeLog()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return begin(s)
}

func begin[S receiver.Store](s S) S {
	for i, next := range nexts() { // as a sender begins a session
		s.Begin(&handshake.Hello{SID: storeSIDs[i], Host: "web1", Acked: next, Head: 1 << 40})
	}
	return s
}

func nexts() (next [len(storeSIDs)]uint64) {
	for i, f := range strings.Split(os.Getenv(storeNextEnv), ",") {
		next[i], _ = strconv.ParseUint(f, 10, 64)
	}
	return next
}

// storeTime is when all lines arrived: the same in each process, for the same
// line must be the same row.
var storeTime = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// storeLine is the line under a number: of every kind, on several days.
func storeLine(stream int, seq uint64) []byte {
	switch seq % 8 {
	case 0:
		return fmt.Appendf(nil, `{"time":"%s","program":"nginx","status":%d,"path":"/a/%d","stream":%d,"took":0.%03d}`,
			storeTime.Add(-time.Duration(seq%5)*24*time.Hour).Format(time.RFC3339), 200+seq%300, seq, stream, seq%1000)
	case 1:
		return fmt.Appendf(nil, "<13>1 2026-03-14T15:09:26Z web app%d %d - - ERROR number %d", stream, seq, seq)
	case 2:
		return fmt.Appendf(nil, "caf\xe9 \x00 %d %d", stream, seq)
	case 3:
		return fmt.Appendf(nil, `{"n":%d,"n":"twice","nested":{"a":[%d,{"b":null}]},"empty":""} `, seq, stream)
	case 4:
		if seq%8192 == 4 {
			return append(fmt.Appendf(nil, "long %d %d ", stream, seq), strings.Repeat("x", 2<<20)...)
		}
	case 5:
		return fmt.Appendf(nil, "\x1b[31mred\x1b[0m %d %d 错误", stream, seq)
	case 6:
		switch seq % 64 {
		case 6:
			return nil
		case 14:
			return []byte(" ")
		}
	}
	return fmt.Appendf(nil, "%d %d plain", stream, seq)
}

// commitWork commits lines, and says "open", "final STREAM NEXT" for each receipt,
// "barrier" and "behind" around barrier and checkpoint, and "full" or "fails" for
// a commit that has no receipt and is tried again.
func commitWork() int {
	s := openStore()
	fmt.Println("open")
	commits, _ := strconv.Atoi(os.Getenv(storeStopEnv))
	var work sync.WaitGroup
	var ended atomic.Bool
	for i, seq := range nexts() {
		work.Go(func() { commitLines(s, i, seq, commits) })
	}
	var barriers sync.WaitGroup
	barriers.Go(func() {
		for !ended.Load() {
			time.Sleep(rand.N(150 * time.Millisecond))
			fmt.Println("barrier")
			_ = s.Wait(context.Background()) // what is not behind it is in the journal
			fmt.Println("behind")
		}
	})
	work.Wait()
	ended.Store(true)
	barriers.Wait()
	for s.Wait(context.Background()) != nil { // as long as the database fails
		time.Sleep(100 * time.Millisecond)
	}
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("closed")
	return 0
}

func commitLines(s journaled, stream int, seq uint64, commits int) {
	for n := 0; commits == 0 || n < commits; n++ {
		b := receiver.Batch{SID: storeSIDs[stream], Host: "web1", Seq: seq, At: storeTime}
		for range 1 + rand.IntN(200) {
			b.Lines = append(b.Lines, storeLine(stream, b.End()))
		}
		for {
			_, err := s.Commit(context.Background(), []receiver.Batch{b})
			if err == nil {
				break
			}
			if errors.Is(err, journal.ErrFull) || errors.Is(err, logs.ErrFull) {
				fmt.Println("full")
			} else {
				fmt.Println("fails", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		seq = b.End()
		fmt.Println("final", stream, seq)
		if commits == 0 {
			time.Sleep(rand.N(12 * time.Millisecond))
		}
	}
}

// storeFound is what a store that was opened again has.
type storeFound struct {
	Lines, Lost, Doubled, Altered uint64
	Missing, Excess               uint64 // rows, by what the journal says
	Lacking                       uint64 // lines that the store knows it has lost
	Gaps                          uint64
	Damaged                       []string
	Restored                      int
	Differ                        []logs.Difference // streams of which rows are missing, or in excess
}

// checkWork reads every line and says what it found.
func checkWork() int {
	s := openLogs()
	var found storeFound
	r, err := s.Verify(context.Background())
	if err == nil {
		stats := s.Stats()
		found.Damaged, found.Restored, found.Lacking = r.Damaged, stats.Restored, stats.Lacking
		for _, d := range r.Streams {
			found.Missing += d.Missing
			found.Excess += d.Excess
			found.Gaps += d.GapRows
			if d.Missing+d.Excess > 0 {
				found.Differ = append(found.Differ, d)
			}
		}
		err = found.read(s)
	}
	if err = errors.Join(err, s.Close(), json.NewEncoder(os.Stdout).Encode(found)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (f *storeFound) read(s *logs.Store) error {
	there := map[string]bool{}
	err := s.Lines(context.Background(), "*", 1<<40, func(l *logs.Found) error {
		sid, seq, err := handshake.ParseUID(l.UID)
		if err != nil { // of a gap
			return nil
		}
		if f.Lines++; there[l.UID] {
			f.Doubled++
		}
		there[l.UID] = true
		for i := range storeSIDs {
			if sid == storeSIDs[i] && string(l.Text) != string(storeLine(i, seq)) {
				f.Altered++
			}
		}
		return nil
	})
	for i, next := range nexts() {
		for seq := uint64(1); seq < next; seq++ {
			if !there[handshake.UID(storeSIDs[i], seq)] {
				f.Lost++
			}
		}
	}
	return err
}

func sumOf(line string) uint32 {
	return crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli))
}

package journal

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// FuzzOpen gives recovery an arbitrary CHECKPOINT, mark and segment. The
// checksums are right, so that what comes behind them is reached. Whatever is
// there, a journal that opens takes a line and brings it into the database.
func FuzzOpen(f *testing.F) {
	id := segmentID{1, 1}
	f.Add([]byte(`{"id":"a","number":1,"live":["`+id.String()+`"],"streams":[{"sid":"s","owner":"o"}]}`), "a - -",
		uint16(kindLines), "s", uint64(1), uint32(2), []byte("x\ny\n"), int64(0))
	f.Add([]byte(`{"id":"b","gone":[{"name":"`+id.String()+`"}]}`), "b", uint16(kindGap), "s", uint64(1), uint32(0),
		[]byte(`{"seq":1,"n":5,"why":"purged"}`), int64(9000))
	f.Add([]byte(`{"streams":[{"sid":"s","spans":[[1,0],[5,9]]}]}`), "", uint16(kindOwner), "s", uint64(0), uint32(0),
		[]byte("web-1"), int64(-1))
	f.Fuzz(func(t *testing.T, checkpoint []byte, mark string, kinds uint16, sid string, seq uint64, n uint32,
		payload []byte, cut int64,
	) {
		dir := t.TempDir()
		write := func(name string, text []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, journalDir), 0o700); err != nil {
			t.Fatal(err)
		}
		write(checkpointName, slices.Concat([]byte(handshake.CRC(checkpoint)+" "), checkpoint, newline))
		seg := (&segment{id: id, nonce: 7, prev: segmentID{uint64(cut), 0}, cut: cut}).header()
		first := (&record{
			kind: kind(kinds), sid: sid[:min(len(sid), 1000)], seq: seq, n: n, at: time.Unix(1, 0),
			payload: payload,
		}).append(nil)
		sealHead(first, 7, cut, time.Unix(1, 0))
		second := (&record{
			kind: kindLines, sid: "z", seq: 1, n: 1, at: time.Unix(1, 0),
			payload: []byte("last\n"),
		}).append(nil)
		sealHead(second, 7, int64(len(seg)), time.Unix(1, 0))
		write(journalDir+"/"+id.String()+".seg", slices.Concat(seg, first, second))

		db := newFakeDB(1)
		db.mark = mark
		d, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		j, err := Open(d, dir, db, Options{Limit: 1 << 20, retry: time.Millisecond, recent: 64})
		if err != nil {
			return
		}
		defer func() {
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got, err := j.Commit(ctx, []receiver.Batch{{
			SID: "another", Seq: 1, At: time.Now(),
			Lines: [][]byte{[]byte("new")},
		}})
		if err != nil || got[0].New+got[0].Dup != 1 {
			t.Fatalf("commit: %+v, %v", got, err)
		}
		for {
			if slices.ContainsFunc(db.all(), func(r fakeRow) bool { return r.text == "new" }) || got[0].Dup == 1 {
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				t.Fatal("the line does not come into the database")
			}
		}
	})
}

package buffer

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// modifies tells whether a call changes the file system.
func modifies(call string) bool {
	switch call {
	case "write", "create", "rename", "remove", "mkdir":
		return true
	}
	return false
}

// A disk that takes nothing for a while: what is on it is delivered, what comes
// waits, and continues automatically.
func TestQueue_OutlivesADiskThatTakesNothing(t *testing.T) {
	for name, refuse := range map[string]error{
		"full":                unix.ENOSPC,
		"quota":               unix.EDQUOT,
		"read-only":           unix.EROFS,
		"broken":              unix.EIO,
		"directory not ours":  unix.EACCES,
		"too many open files": unix.EMFILE,
	} {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{Codec: raw})
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			w.setFault(func(_ int, call, _ string) error {
				if modifies(call) {
					return refuse
				}
				return nil
			})
			w.append(5, 300)
			if w.wait() {
				t.Errorf("%s: durable on a disk that takes nothing", name)
			}
			if w.deliver(100); w.out != 6 {
				t.Errorf("%s: delivered up to %d, want 6: that was on disk before", name, w.out)
			}
			w.ack(1)
			time.Sleep(time.Hour)
			if s := w.q.Stats(); s.Trouble == nil {
				t.Errorf("%s: no trouble is reported", name)
			}
			w.setFault(nil)
			w.drain()
			w.restart()
			if s := w.q.Stats(); s.Trouble != nil || s.Head != 11 || len(w.gone) > 0 {
				t.Errorf("%s: %+v, lost %v", name, s, w.gone)
			}
		})
	}
}

// After an error that is not about space nothing more goes to that file.
func TestQueue_BelievesNoFileThatAWriteFailedIn(t *testing.T) {
	for refuse, want := range map[error]int{unix.ENOSPC: 1, unix.EDQUOT: 1, unix.EIO: 2, unix.EROFS: 2} {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{Codec: raw})
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			w.setFault(func(_ int, call, name string) error {
				if call == "write" && name == spareName { // as the segment was called when it was made
					return refuse
				}
				return nil
			})
			w.append(5, 300)
			w.setFault(nil)
			w.wait()
			if n := len(w.fs.segments()); n != want {
				t.Errorf("%v: %d segments, want %d", refuse, n, want)
			}
			w.drain()
		})
	}
}

// spaces are sizes of a file system where the queue's own limit, or half of
// that size, is what stops it.
var spaces = map[string]int64{"limit": 1 << 40, "half of the space": 6 << 20}

func TestQueue_ClosesWhileItIsFull(t *testing.T) {
	for name, space := range spaces {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{Codec: raw})
			w.fs.space = space
			w.mustStart()
			defer w.abandon()
			fillUp(w)
			if s := w.q.Stats(); s.Durable == s.Head {
				t.Fatalf("%s: nothing is in memory", name)
			}
			if !w.stop() {
				t.Fatalf("%s: what is in memory has no space", name)
			}
			w.resume(w.mustStart())
			w.drain()
		})
	}
}

func TestQueue_ReserveIsForTheRestOfTheInput(t *testing.T) {
	for name, space := range spaces {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{Codec: raw})
			w.fs.space = space
			w.mustStart()
			defer w.abandon()
			fillUp(w)
			if w.wait() {
				t.Errorf("%s: durable beyond the limit", name)
			}
			w.q.Reserve()
			w.append(10, 24<<10) // what is left in the pipe
			if !w.wait() {
				t.Errorf("%s: what comes at the end has no space: %s", name, w.q.Stats().Trouble)
			}
			w.drain()
		})
	}
}

func TestQueue_LeavesHalfOfTheSpaceToOthers(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.fs.space = 2 << 20
		w.mustStart()
		defer w.abandon()
		fillUp(w)
		held, watch := w.q.Stats().DiskBytes, NewWatch(w.q)
		if held > 1<<20 {
			t.Errorf("%d bytes of %d", held, w.fs.space)
		}
		if got := watch.Limit(); got < held || got > 1<<20 {
			t.Errorf("the limit is reported as %d, want what stopped it at %d", got, held)
		}
		w.fs.mu.Lock()
		w.fs.space = 1 << 40
		w.fs.mu.Unlock()
		if got := watch.Limit(); got != w.q.limit() {
			t.Errorf("the limit is reported as %d, want %d", got, w.q.limit())
		}
	})
}

func TestQueue_KeepsNoFileThatIsWrittenAgainAsAWhole(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300) // waits for its receipt
		w.restart()
		syncs := 0
		w.setFault(func(_ int, call, name string) error {
			if call == "sync" && name == spareName { // as the segment was called when it was made
				if syncs++; syncs == 2 { // its first block
					return errInjected
				}
			}
			return nil
		})
		w.append(5, 300)
		w.wait()
		if names := w.fs.segments(); len(names) != 2 || names[1] != segmentName(3) {
			t.Errorf("there are %v, want the first and the third", names)
		}
		w.setFault(nil)
		w.crash((*strictFS).powerCut, 0)
		w.drain()
	})
}

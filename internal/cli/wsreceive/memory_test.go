package wsreceive

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// The limit of memory gives way to what is in use, and comes back.
func TestDefaultMemory_FitsIntoTheControlGroup(t *testing.T) {
	for group, want := range map[int64]int64{0: 512 << 20, 256 << 20: 192 << 20, 1 << 30: 512 << 20} {
		if got := defaultMemory(group); got != want {
			t.Errorf("%d of %d; want %d", got, group, want)
		}
	}
}

func TestLimitMemory_LeavesTheCollectorSomethingToFree(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	const limit, used = 32 << 20, 64 << 20
	synctest.Test(t, func(t *testing.T) {
		limitMemory(t.Context(), limit)
		after := func() int64 {
			runtime.GC()
			time.Sleep(6 * time.Second)
			synctest.Wait()
			return debug.SetMemoryLimit(-1)
		}
		if got := after(); got != limit {
			t.Errorf("limit %d with nothing in use, want %d", got, limit)
		}
		b := make([]byte, used)
		if got := after(); got < used*3/2 || got > used*2 {
			t.Errorf("limit %d with %d in use", got, used)
		}
		runtime.KeepAlive(b)
		b = nil
		if got := after(); got != limit {
			t.Errorf("limit %d after that, want %d", got, limit)
		}
	})
}

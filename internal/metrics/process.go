package metrics

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is USER_HZ, in which Linux tells the times of a process on every
// architecture that Go runs on.
const ticks = 100

// Process adds what Prometheus' own client libraries tell of a process, under the
// same names, so that the usual dashboards and alerts work. What the system does
// not tell is left out.
func Process(t *Text) {
	stat, _ := os.ReadFile("/proc/self/stat")
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name, before it, may have spaces
	field := func(n int) (float64, bool) {                          // numbered as in proc(5)
		if len(fields) <= n-3 {
			return 0, false
		}
		v, err := strconv.ParseFloat(string(fields[n-3]), 64)
		return v, err == nil
	}
	user, ok1 := field(14)
	system, ok2 := field(15)
	if ok1 && ok2 {
		t.Counter("process_cpu_seconds_total", "User and system CPU time of the process.", (user+system)/ticks)
	}
	if v, ok := field(24); ok {
		t.Gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.", v*float64(os.Getpagesize()))
	}
	if v, ok := field(23); ok {
		t.Gauge("process_virtual_memory_bytes", "Address space of the process.", v)
	}
	if all, err := os.ReadDir("/proc/self/fd"); err == nil {
		t.Gauge("process_open_fds", "Open file descriptors.", float64(len(all)-1)) // without that of the directory
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		t.Gauge("process_max_fds", "The limit of open file descriptors.", float64(limit.Cur))
	}
	var up unix.Timespec
	if v, ok := field(22); ok && unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) == nil {
		age := time.Duration(up.Nano()) - time.Duration(v/ticks*float64(time.Second))
		t.Time("process_start_time_seconds", "When the process was started.",
			time.Now().Add(-age).Truncate(time.Second))
	}
}

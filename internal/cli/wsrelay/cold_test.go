package wsrelay

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkColdStart is the time from the start of the program, with a queue
// directory that is not there yet, until it has taken the line that waits in
// its pipe: keeper, worker and all. It also tells the size of the program.
func BenchmarkColdStart(b *testing.B) {
	program := filepath.Join(b.TempDir(), "wsrelay")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for b.Loop() {
		b.StopTimer()
		r, w, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.WriteString("line\n"); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(program, "--queue-dir", filepath.Join(b.TempDir(), "q"), "--drain", "1ms",
			"ws://127.0.0.1:1/relay")
		cmd.Stdin = r
		b.StartTimer()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for {
			if n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ); err != nil || n == 0 {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
		b.StopTimer()
		_ = w.Close()
		_ = cmd.Wait() // status 75: the line was not delivered
		_ = r.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/start")
	b.ReportMetric(0, "ns/op")
	if info, err := os.Stat(program); err == nil {
		b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
	}
}

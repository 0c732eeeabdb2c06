package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// cgroup is a control group of its own with a bound on CPU and memory, version
// 1 or 2 of the kernel's interface.
type cgroup struct {
	cpu, memory string // directories; the same in version 2
	unified     bool
}

// newCgroup makes a group that may use so many percent of one core and so many
// MiB, page cache included. Where the machine does not allow it, it says why.
func newCgroup(t *testing.T, percent, mib int) (*cgroup, error) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	must(t, err)
	var g cgroup
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line) // device, directory, type, options
		options := "," + words[3] + ","
		switch {
		case words[2] == "cgroup" && strings.Contains(options, ",cpu,"):
			g.cpu = words[1]
		case words[2] == "cgroup" && strings.Contains(options, ",memory,"):
			g.memory = words[1]
		case words[2] == "cgroup2" && g.cpu == "" && offers(words[1], "cpu", "memory"):
			g = cgroup{words[1], words[1], true}
		}
	}
	if g.cpu == "" || g.memory == "" {
		return nil, errors.New("no control groups for CPU and memory are mounted")
	}
	name := filepath.Base(filepath.Dir(t.TempDir())) + strconv.Itoa(os.Getpid())
	g.cpu, g.memory = filepath.Join(g.cpu, "wsrelay-"+name), filepath.Join(g.memory, "wsrelay-"+name)
	for _, dir := range []string{g.cpu, g.memory} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = os.Remove(dir) }) // after its processes
	}
	bounds := [][2]string{
		{g.cpu + "/cpu.cfs_period_us", "100000"},
		{g.cpu + "/cpu.cfs_quota_us", strconv.Itoa(percent * 1000)},
		{g.memory + "/memory.limit_in_bytes", strconv.Itoa(mib << 20)},
	}
	if g.unified {
		bounds = [][2]string{{g.cpu + "/cpu.max", fmt.Sprintf("%d 100000", percent*1000)}, {g.memory + "/memory.max", strconv.Itoa(mib << 20)}}
	}
	for _, b := range bounds {
		if err := os.WriteFile(b[0], []byte(b[1]), 0); err != nil {
			return nil, err
		}
	}
	return &g, nil
}

// offers says whether groups below the directory of version 2 have these controllers.
func offers(dir string, controllers ...string) bool {
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	for _, c := range controllers {
		if !strings.Contains(" "+strings.TrimSpace(string(text))+" ", " "+c+" ") {
			return false
		}
	}
	return true
}

// enter is the command that another one is started by to be in the group.
func (g *cgroup) enter() []string {
	return []string{"/bin/sh", "-c", fmt.Sprintf(`echo $$ >%s/cgroup.procs && echo $$ >%s/cgroup.procs && exec "$@"`, g.cpu, g.memory), "sh"}
}

// peak is the most memory that the group had, in bytes.
func (g *cgroup) peak() int {
	name := "memory.max_usage_in_bytes"
	if g.unified {
		name = "memory.peak"
	}
	text, _ := os.ReadFile(filepath.Join(g.memory, name))
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// throttled is in how many of the periods of 100 ms the group had to wait.
func (g *cgroup) throttled() (throttled, periods int) {
	text, _ := os.ReadFile(filepath.Join(g.cpu, "cpu.stat"))
	words := strings.Fields(string(text))
	for i := 0; i+1 < len(words); i += 2 {
		n, _ := strconv.Atoi(words[i+1])
		switch words[i] {
		case "nr_throttled":
			throttled = n
		case "nr_periods":
			periods = n
		}
	}
	return throttled, periods
}

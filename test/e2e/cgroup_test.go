package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cgroup is a control group of its own, with bounds on CPU and memory.
type cgroup struct {
	*testing.T
	cpu, memory string // directories; the same in version 2
	files       cgroupFiles
}

// cgroupFiles are the names of what is written and read, in one version of the
// kernel's interface. Both take the bounds as one number, and the rest is the
// same: cgroup.procs, cpu.stat, and 100 ms as the period.
type cgroupFiles struct{ quota, limit, peak, events string }

var (
	cgroupV1 = cgroupFiles{
		"cpu.cfs_quota_us", "memory.limit_in_bytes", "memory.max_usage_in_bytes",
		"memory.oom_control",
	}
	cgroupV2 = cgroupFiles{"cpu.max", "memory.max", "memory.peak", "memory.events"}
)

// newCgroup makes a group that may use so many percent of one core, or all that
// there is for 0, and so many MiB, page cache included. Where the machine does
// not allow it, it says why.
func newCgroup(t *testing.T, percent, mib int) (*cgroup, error) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	must(t, err)
	g, err := findCgroups(string(mounts))
	if err != nil {
		return nil, err
	}
	g.T = t
	name := "wsrelay-" + filepath.Base(filepath.Dir(t.TempDir())) + strconv.Itoa(os.Getpid())
	g.cpu, g.memory = filepath.Join(g.cpu, name), filepath.Join(g.memory, name)
	for _, dir := range []string{g.cpu, g.memory} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = os.Remove(dir) }) // after its processes
	}
	return g, g.bound(percent, mib)
}

// findCgroups are the directories in which groups for CPU and memory are made.
func findCgroups(mounts string) (*cgroup, error) {
	g := cgroup{files: cgroupV1}
	for line := range strings.Lines(mounts) {
		words := strings.Fields(line) // device, directory, type, options
		options := strings.Split(words[3], ",")
		if words[2] == "cgroup" && slices.Contains(options, "cpu") {
			g.cpu = words[1]
		}
		if words[2] == "cgroup" && slices.Contains(options, "memory") {
			g.memory = words[1]
		}
		if words[2] == "cgroup2" {
			text, _ := os.ReadFile(filepath.Join(words[1], "cgroup.subtree_control"))
			if has := strings.Fields(string(text)); slices.Contains(has, "cpu") && slices.Contains(has, "memory") {
				return &cgroup{cpu: words[1], memory: words[1], files: cgroupV2}, nil
			}
		}
	}
	if g.cpu == "" || g.memory == "" {
		return nil, errors.New("no control groups for CPU and memory: version 1 is not mounted, and no cgroup.subtree_control of version 2 has both")
	}
	return &g, nil
}

func (g *cgroup) bound(percent, mib int) error {
	if percent > 0 {
		if err := os.WriteFile(filepath.Join(g.cpu, g.files.quota), []byte(strconv.Itoa(percent*1000)), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(g.memory, g.files.limit), []byte(strconv.Itoa(mib<<20)), 0)
}

// enter is the command that another one is started by to be in the group.
func (g *cgroup) enter() []string {
	return []string{"/bin/sh", "-c", fmt.Sprintf(`echo $$ >%s/cgroup.procs && echo $$ >%s/cgroup.procs && exec "$@"`,
		g.cpu, g.memory), "sh"}
}

// peak is the most memory that the group had, in bytes.
func (g *cgroup) peak() int {
	g.Helper()
	return g.number(filepath.Join(g.memory, g.files.peak), "")
}

// killed is how many processes the kernel has killed because of the bound.
func (g *cgroup) killed() int {
	g.Helper()
	return g.number(filepath.Join(g.memory, g.files.events), "oom_kill ")
}

// throttled is in how many of the periods of 100 ms the group had to wait.
func (g *cgroup) throttled() (throttled, periods int) {
	g.Helper()
	stat := filepath.Join(g.cpu, "cpu.stat")
	return g.number(stat, "nr_throttled "), g.number(stat, "nr_periods ")
}

// number is the one that follows these words at the start of a line.
func (g *cgroup) number(name, words string) int {
	g.Helper()
	text, err := os.ReadFile(name)
	must(g.T, err)
	for line := range strings.Lines(string(text)) {
		if after, ok := strings.CutPrefix(line, words); ok {
			n, err := strconv.Atoi(strings.TrimSpace(after))
			must(g.T, err)
			return n
		}
	}
	g.Fatalf("%s has no %q:\n%s", name, words, text)
	return 0
}

// One machine has one version: this is for the names and forms of the other one.
func TestCgroup_BothVersionsAreUnderstood(t *testing.T) {
	const stat = "nr_periods 231\nnr_throttled 8\n"
	for name, tt := range map[string]struct {
		mounts string // %s: the directory
		files  map[string]string
		want   map[string]string // what the bounds are written to
	}{
		"version 1": {
			"cgroup %[1]s/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup %[1]s/memory cgroup rw,memory 0 0\ncgroup2 %[1]s/unified cgroup2 rw 0 0\n",
			map[string]string{
				"cpu/cpu.stat": stat + "throttled_time 12345\n", "memory/memory.max_usage_in_bytes": "17512345\n",
				"memory/memory.oom_control":      "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
				"unified/cgroup.subtree_control": "hugetlb\n",
			},
			map[string]string{"cpu/cpu.cfs_quota_us": "25000", "memory/memory.limit_in_bytes": "67108864"},
		},
		"version 2": {
			"cgroup2 %s cgroup2 rw,nosuid 0 0\n",
			map[string]string{
				"cpu.stat":               "usage_usec 99\nuser_usec 90\n" + stat + "throttled_usec 12\nnr_bursts 0\n",
				"memory.peak":            "17512345\n",
				"memory.events":          "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n",
				"cgroup.subtree_control": "cpuset cpu io memory pids\n",
			},
			map[string]string{"cpu.max": "25000", "memory.max": "67108864"},
		},
		"version 2, of which memory is not handed down": {"cgroup2 %s cgroup2 rw 0 0\n", map[string]string{"cgroup.subtree_control": "cpu io\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
				must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
			}
			g, err := findCgroups(fmt.Sprintf(tt.mounts, dir))
			if tt.want == nil {
				if err == nil {
					t.Fatalf("found %+v", g)
				}
				return
			}
			must(t, err)
			g.T = t
			for name := range tt.want {
				must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600)) // the kernel makes them
			}
			must(t, g.bound(25, 64))
			for name, want := range tt.want {
				if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			throttled, periods := g.throttled()
			if got, want := []int{g.peak(), g.killed(), throttled, periods},
				[]int{17512345, 3, 8, 231}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// The bounds hold on this machine, and are seen to.
func TestCgroup_Bounds(t *testing.T) {
	g, err := newCgroup(t, 10, 16)
	if err != nil {
		t.Skipf("this machine does not bound CPU and memory: %v", err)
	}
	run := func(script string) *exec.Cmd {
		command := slices.Concat(g.enter(), []string{"/bin/sh", "-c", script})
		cmd := exec.Command(command[0], command[1:]...)
		must(t, cmd.Start())
		return cmd
	}
	busy := run("while :; do :; done")
	must(t, poll(t.Context(), func() (bool, error) { n, _ := g.throttled(); return n > 0, nil }))
	must(t, busy.Process.Kill())
	_ = busy.Wait()
	swap, err := os.ReadFile("/proc/swaps")
	must(t, err)
	err = run(`x=1234567890123456; while [ ${#x} -lt 134217728 ]; do x=$x$x; done`).Wait()
	if strings.Count(string(swap), "\n") < 2 && (err == nil || g.killed() == 0) { // what is swapped does not count
		t.Errorf("a process that takes more and more ends with %v, the kernel says that it has killed %d", err,
			g.killed())
	}
	if peak := g.peak(); peak > 16<<20 || peak < 8<<20 {
		t.Errorf("%d bytes at most, of 16 MiB", peak)
	}
}

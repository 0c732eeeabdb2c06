package cli

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// GroupMemory is the least memory that the control groups of this process, and those
// around them, allow, in bytes; 0: there is no limit, or none to be seen.
func GroupMemory() int64 { return groupMemory("/proc/self/cgroup", "/sys/fs/cgroup") }

func groupMemory(groups, root string) (least int64) {
	text, _ := os.ReadFile(groups) // none: no groups
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // number, controllers, path
		if len(part) < 3 {
			continue
		}
		dir, file := root, "memory.max"
		if part[1] != "" {
			dir, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
			if !slices.Contains(strings.Split(part[1], ","), "memory") {
				continue
			}
		}
		for at := path.Clean("/" + part[2]); ; at = path.Dir(at) {
			value, _ := os.ReadFile(filepath.Join(dir, at, file)) // not mounted here: no limit
			n, err := strconv.ParseInt(strings.TrimSpace(string(value)), 10, 64)
			if err == nil && n > 0 && n < 1<<50 && (least == 0 || n < least) {
				least = n
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}

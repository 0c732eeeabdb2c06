package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGroupMemory_IsTheLeastOfAllGroupsAround(t *testing.T) {
	for name, tt := range map[string]struct {
		groups string
		files  map[string]string
		want   int64
	}{
		"version 2": {
			"0::/system.slice/syslog-ng.service\n",
			map[string]string{
				"system.slice/memory.max":                   "max\n",
				"system.slice/syslog-ng.service/memory.max": "33554432\n",
			},
			32 << 20,
		},
		"the slice allows less": {"0::/a/b\n", map[string]string{"a/memory.max": "1000\n", "a/b/memory.max": "2000\n"}, 1000},
		"version 1": {
			"5:cpu,cpuacct:/x\n4:memory:/y\n0::/\n",
			map[string]string{
				"memory/y/memory.limit_in_bytes": "4096\n",
				"memory/memory.limit_in_bytes":   "9223372036854771712\n",
			},
			4096,
		},
		"no limit":    {"0::/a\n", map[string]string{"a/memory.max": "max\n"}, 0},
		"a container": {"0::/../../elsewhere\n", map[string]string{"memory.max": "5000\n"}, 5000},
		"nonsense":    {"what\n", map[string]string{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			groups := filepath.Join(root, "groups")
			tt.files["groups"] = tt.groups
			for path, text := range tt.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := groupMemory(groups, root); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

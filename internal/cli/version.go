package cli

import (
	"fmt"
	"runtime/debug"
)

// version is this source's. A package's build sets another, with -ldflags -X.
var version = "0.1.0"

// Version is the version alone, as it goes to the other end of a connection.
func Version() string { return version }

// Build is what --version prints: the program, its version and, where the build
// has recorded them, the commit that it was made from and that commit's date.
func Build(program string) string {
	settings := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	line := program + " " + version
	commit, date := settings["vcs.revision"], settings["vcs.time"]
	if len(commit) < 12 || len(date) < len("2006-01-02") {
		return line
	}
	modified := ""
	if settings["vcs.modified"] == "true" {
		modified = ", modified"
	}
	return fmt.Sprintf("%s (commit %s of %s%s)", line, commit[:12], date[:len("2006-01-02")], modified)
}

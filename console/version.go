package console

import "runtime/debug"

// version is what a package's build sets, with -ldflags -X.
var version string

// Version is the package's version; without one, what the build says of itself:
// the module's version, or else the revision it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	switch {
	case version != "":
		return version
	case !ok:
		return "unknown"
	case info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

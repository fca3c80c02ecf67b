package exporter

import (
	"runtime/debug"
	"strings"

	"github.com/prometheus/common/version"
)

// Version returns what --version prints. Version and date are what the linker has set,
// else what Go records in the binary (go install, go build in a checkout), which then
// also appears in balance_exporter_build_info. The version has no leading v.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		if version.Version == "" && info.Main.Version != "(devel)" {
			version.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.time" && version.BuildDate == "" {
				version.BuildDate = s.Value
			}
		}
	}
	version.Version = strings.TrimPrefix(version.Version, "v")
	return version.Print("balance_exporter")
}

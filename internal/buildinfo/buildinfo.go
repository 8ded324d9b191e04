// Package buildinfo says which build of stripeonce a program contains.
package buildinfo

import (
	"runtime"
	"runtime/debug"
	"sync"
)

const module = "github.com/pook/stripeonce"

// version and commit are set by the linker where the go command does not record them: in a release, an image, and by make build.
var version, commit string

// Info describes a build.
type Info struct {
	Version   string `json:"version"`    // of the module, such as v1.2.3; "devel" for a build of a working copy
	Commit    string `json:"commit"`     // the revision; "unknown" for a module that was downloaded
	GoVersion string `json:"go_version"` // such as go1.26.1
}

// Read returns the build of this program.
var Read = sync.OnceValue(func() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return read(build, version, commit)
})

func read(build *debug.BuildInfo, linkedVersion, linkedCommit string) Info {
	info := Info{Version: "devel", Commit: "unknown", GoVersion: runtime.Version()}
	own := build.Main
	for _, dependency := range build.Deps { // in a host's program
		if dependency.Path == module {
			own = *dependency
		}
	}
	if own.Path == module && own.Version != "" && own.Version != "(devel)" {
		info.Version = own.Version
	}
	if linkedVersion != "" {
		info.Version = linkedVersion
	}
	if linkedCommit != "" {
		info.Commit = linkedCommit
	}
	if build.Main.Path != module { // the settings are those of the host
		return info
	}
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			info.Commit = setting.Value
		}
	}
	return info
}

func (i Info) String() string { return i.Version + " (commit " + i.Commit + ", " + i.GoVersion + ")" }

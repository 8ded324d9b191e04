package buildinfo

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	revision := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "abc"}}
	for name, c := range map[string]struct {
		build           debug.BuildInfo
		version, commit string
		want            string
	}{
		"of a working copy":       {debug.BuildInfo{Main: debug.Module{Path: module, Version: "(devel)"}, Settings: revision}, "", "", "devel (commit abc, "},
		"without version control": {debug.BuildInfo{Main: debug.Module{Path: module, Version: "(devel)"}}, "", "", "devel (commit unknown, "},
		"by make":                 {debug.BuildInfo{Main: debug.Module{Path: module}}, "", "def", "devel (commit def, "},
		"installed":               {debug.BuildInfo{Main: debug.Module{Path: module, Version: "v1.2.3"}}, "", "", "v1.2.3 (commit unknown, "},
		"of a release":            {debug.BuildInfo{Main: debug.Module{Path: module, Version: "v1.2.4-0.20261201000000-abc"}}, "v1.2.3", "def", "v1.2.3 (commit def, "},
		"in a host, whose own revision does not count": {debug.BuildInfo{
			Main: debug.Module{Path: "example.com/host", Version: "v9"}, Deps: []*debug.Module{{Path: module, Version: "v1.2.3"}}, Settings: revision,
		}, "", "", "v1.2.3 (commit unknown, "},
	} {
		if got := read(&c.build, c.version, c.commit).String(); got != c.want+runtime.Version()+")" {
			t.Errorf("%s it is %s", name, got)
		}
	}
	if Read().Version == "" {
		t.Error("this program has no version")
	}
}

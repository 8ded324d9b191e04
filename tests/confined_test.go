package tests

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
)

// confined is a folder whose programs see no other file of this machine, such as of Go or PostgreSQL, and no variable but these.
type confined struct {
	root string
	env  []string
}

// command returns a command that runs in the folder (chroot), as an unprivileged user. Only root may start it.
func (c *confined) command(settings []string, words ...string) *exec.Cmd {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env = "/", append(slices.Clone(c.env), settings...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	return cmd
}

// exits runs a command and checks its exit code and that its output has the text. It returns the output.
func (c *confined) exits(t *testing.T, settings []string, code int, says string, words ...string) string {
	t.Helper()
	cmd := c.command(settings, words...)
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), says) {
		t.Errorf("%v: want exit %d and %q, got exit %d: %s", words, code, says, got, out)
	}
	return string(out)
}

// reachable returns the URL of an empty database by TCP, for programs that do not see PostgreSQL's socket, and a function after which
// it is gone.
func reachable(t *testing.T) (url string, stop func()) {
	t.Helper()
	proxy, url := pgtest.NewProxy(t, pgtest.NewEmptyURL(t))
	return url, proxy.Close
}

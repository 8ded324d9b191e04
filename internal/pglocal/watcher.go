package pglocal

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
)

// watcher is a shell that waits for the end of a pipe that only this process holds open. The pipe ends when this process
// dies in any way. The shell then stops the server and cleans up.
type watcher struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

const watchScript = `
read -r dismissed && exit
kill -INT "$1"
[ -n "$2" ] || exit
for _ in $(seq 100); do
	[ -e "$2/data/postmaster.pid" ] || break
	sleep 0.1
done
rm -rf "$2"
`

func watch(c *Cluster, owner *owner) (*watcher, error) {
	remove := ""
	if c.temporary {
		remove = c.dir
	}
	cmd := exec.Command("/bin/sh", "-c", watchScript, "sh", strconv.Itoa(c.server.Process.Pid), remove)
	owner.apply(cmd)
	cmd.Dir = "/"
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watcher of postgres: %w", err)
	}
	return &watcher{cmd, pipe}, nil
}

// dismiss ends the watcher without stopping the server. It writes a line to the pipe first, which the end of this process
// does not do.
func (w *watcher) dismiss() {
	_, _ = io.WriteString(w.pipe, "dismissed\n")
	_ = w.pipe.Close()
	_ = w.cmd.Wait()
}

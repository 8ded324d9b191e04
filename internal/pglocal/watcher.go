package pglocal

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
)

// watcher is a shell that waits for the end of a pipe which only this process holds open. When this
// process dies, however it dies, the pipe ends, and the shell stops the server and clears up.
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

// dismiss ends the watcher without its acting: a line tells it apart from this process's death.
func (w *watcher) dismiss() {
	_, _ = io.WriteString(w.pipe, "dismissed\n")
	_ = w.pipe.Close()
	_ = w.cmd.Wait()
}

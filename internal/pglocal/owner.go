package pglocal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user that the server runs as. PostgreSQL refuses to run as root.
type owner struct {
	credential *syscall.Credential // nil: this process's own user
	name       string
}

// serverUser returns this process's user. For root it returns the user postgres, or else nobody.
func serverUser() (*owner, error) {
	if os.Geteuid() != 0 {
		return &owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &owner{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, name}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

// take changes the owner of a folder.
func (o *owner) take(dir string) error {
	if o.credential == nil {
		return nil
	}
	return os.Chown(dir, int(o.credential.Uid), int(o.credential.Gid))
}

// takeAll changes the owner of a folder and everything in it.
func (o *owner) takeAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return o.take(path)
	})
}

// canReach returns an error if the owner cannot enter a folder because a folder above it is closed.
func (o *owner) canReach(dir string) error {
	if o.credential == nil {
		return nil
	}
	cmd := exec.Command("/bin/sh", "-c", `cd "$1"`, "sh", dir)
	o.apply(cmd)
	cmd.Dir = "/"
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("root cannot run PostgreSQL itself and the user %s cannot enter %s: choose a data directory "+
			"that others can reach, such as /var/lib/stripeonce", o.name, dir)
	}
	return nil
}

// apply makes a program run as the owner. It runs in its own process group, so that Ctrl-C in the terminal does not reach
// it.
func (o *owner) apply(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: o.credential}
}

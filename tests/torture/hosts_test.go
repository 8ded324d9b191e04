package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// network is a network of hosts, which are network namespaces of this machine. The machine itself is its last address.
type network struct {
	t      *testing.T
	bridge string
	prefix string // of its addresses, such as "10.1.2."
	hosts  []*host
}

// host is one of a network's hosts, with all processes that were started in its namespace.
type host struct {
	*network
	name string // n1, n2, …
	addr string
	link string // this machine's end of the host's cable
}

// newNetwork makes a network of n hosts, and removes it when the test ends. It skips the test where this process may not.
func newNetwork(t *testing.T, n int) *network {
	t.Helper()
	needs(t, "ip", "setpriv")
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	net := &network{t: t, bridge: fmt.Sprintf("so%05x", rand.N(1<<20)), prefix: fmt.Sprintf("10.%d.%d.", 64+rand.N(128), rand.N(256))}
	if out, err := exec.Command("ip", "link", "add", net.bridge, "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("this machine does not allow a network of its own: %v: %s", err, out)
	}
	t.Cleanup(func() { net.ip("link del " + net.bridge) })
	net.ip("addr add " + net.prefix + "254/24 dev " + net.bridge)
	net.ip("link set " + net.bridge + " up")
	for i := range n {
		h := &host{network: net, name: fmt.Sprintf("n%d", i+1), addr: fmt.Sprintf("%s%d", net.prefix, i+1)}
		h.link = net.bridge + h.name
		net.hosts = append(net.hosts, h)
		net.ip("netns add " + h.namespace())
		t.Cleanup(func() {
			h.kill()
			net.ip("netns del " + h.namespace())
		})
		net.ip("link add " + h.link + " type veth peer name eth0 netns " + h.namespace())
		net.ip("link set " + h.link + " master " + net.bridge + " up")
		net.ip("-n " + h.namespace() + " addr add " + h.addr + "/24 dev eth0")
		net.ip("-n " + h.namespace() + " link set eth0 up")
		net.ip("-n " + h.namespace() + " link set lo up")
	}
	return net
}

// needs skips the test if a program is not installed.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
}

// ip runs the command ip.
func (n *network) ip(arguments string) {
	n.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		n.t.Errorf("ip %s: %v: %s", arguments, err, out)
	}
}

func (h *host) namespace() string { return h.link }

// start starts a program on the host, as the user of PostgreSQL's server, with its output in a file.
func (h *host) start(log string, command ...string) {
	h.t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		h.t.Fatal(err)
	}
	defer file.Close()
	as := new(exec.Cmd)
	if err := pglocal.AsServer(as); err != nil {
		h.t.Fatal(err)
	}
	user, group := strconv.Itoa(int(as.SysProcAttr.Credential.Uid)), strconv.Itoa(int(as.SysProcAttr.Credential.Gid))
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.namespace(), "setpriv", "--reuid", user, "--regid", group, "--clear-groups"}, command...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
}

// processes returns the ids of the host's processes.
func (h *host) processes() (ids []int) {
	h.t.Helper()
	out, err := exec.Command("ip", "netns", "pids", h.namespace()).Output()
	if err != nil {
		h.t.Errorf("the processes of %s: %v", h.name, err)
	}
	for _, field := range strings.Fields(string(out)) {
		id, err := strconv.Atoi(field)
		if err != nil {
			h.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// signal sends a signal to all processes of the host.
func (h *host) signal(signal syscall.Signal) {
	h.t.Helper()
	for _, id := range h.processes() {
		_ = syscall.Kill(id, signal) // it may have ended
	}
}

// signalOnly sends a signal to the host's processes whose command line begins with a program, or with its interpreter.
func (h *host) signalOnly(program string, signal syscall.Signal) {
	h.t.Helper()
	found := false
	for _, id := range h.processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id))
		if err != nil {
			continue // it has ended
		}
		for _, word := range strings.SplitN(string(line), "\x00", 3)[:min(2, strings.Count(string(line), "\x00"))] {
			if filepath.Base(word) == program {
				found = true
				_ = syscall.Kill(id, signal)
			}
		}
	}
	if !found {
		h.t.Errorf("%s does not run on %s", program, h.name)
	}
}

// kill ends all processes of the host at once, and waits until there is none.
func (h *host) kill() {
	h.t.Helper()
	pgtest.Await(h.t, "no process is left on "+h.name, func() bool {
		h.signal(syscall.SIGKILL)
		return len(h.processes()) == 0
	})
}

// unplug separates the host from all others, without any of them being told.
func (h *host) unplug() { h.ip("link set " + h.link + " nomaster") }

// plug undoes unplug.
func (h *host) plug() { h.ip("link set " + h.link + " master " + h.bridge) }

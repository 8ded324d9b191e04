package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pglocal"
)

// Patroni's timing. A leader whose host is lost is replaced when its lock expires, after ttl.
const (
	patroniTTL   = 20 * time.Second
	patroniLoop  = 2 * time.Second
	patroniRetry = 4 * time.Second
	// clusterLimit bounds each wait for the cluster.
	clusterLimit = 4 * time.Minute
)

// patroni is a cluster of three hosts, each with etcd and with PostgreSQL under Patroni, behind HAProxy and PgBouncer on this machine.
type patroni struct {
	*network
	dir      string
	bin      string // the folder of PostgreSQL's programs
	store    string // Patroni's section of etcd: etcd3, or etcd for its older API
	settings string // of the cluster, as lines of Patroni's dcs section
	client   http.Client
	proxy    string // HAProxy's address, which leads to the leader
	url      string // of the database, through PgBouncer in transaction mode
}

// member is a PostgreSQL server as Patroni reports it.
type member struct{ Name, Role, State string }

func newPatroni(t *testing.T, store, settings string) *patroni {
	t.Helper()
	needs(t, "etcd", "patroni", "haproxy", "pgbouncer")
	bin, err := pglocal.FindBinaries("")
	if err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("/tmp", "stripeonce-patroni-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the hosts' processes have ended
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	p := &patroni{network: newNetwork(t, 3), dir: dir, bin: bin, store: store, settings: settings, client: http.Client{Timeout: time.Second}}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, h := range p.hosts {
		if err := pglocal.TakeFolder(p.folder(h)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.file(h, "patroni.yml"), []byte(p.config(h)), 0o644); err != nil {
			t.Fatal(err)
		}
		p.startEtcd(h)
	}
	for _, h := range p.hosts {
		p.await("etcd of "+h.name+" is healthy", func() bool { return strings.Contains(p.get(h, ":2379/health"), `"true"`) })
	}
	p.startPatroni(p.hosts[0])
	p.await("the first leader", func() bool { return p.leader() != nil })
	p.startPatroni(p.hosts[1])
	p.startPatroni(p.hosts[2])
	p.awaitWhole()
	p.startHAProxy()
	p.url = startPgBouncer(t, "host=127.0.0.1 port="+portOf(p.proxy), "transaction") + "&default_query_exec_mode=exec&connect_timeout=2"
	return p
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func (p *patroni) folder(h *host) string            { return filepath.Join(p.dir, h.name) }
func (p *patroni) file(h *host, name string) string { return filepath.Join(p.folder(h), name) }

func (p *patroni) await(what string, holds func() bool) {
	p.t.Helper()
	for end := time.Now().Add(clusterLimit); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("timed out after %s: %s; the members are %+v; the logs are in %s", clusterLimit, what, p.members(), p.dir)
		}
	}
}

func (p *patroni) startEtcd(h *host) {
	var peers []string
	for _, other := range p.hosts {
		peers = append(peers, other.name+"=http://"+other.addr+":2380")
	}
	h.start(p.file(h, "etcd.log"), "etcd", "--name", h.name, "--data-dir", p.file(h, "etcd"), "--initial-cluster", strings.Join(peers, ","),
		"--listen-peer-urls", "http://"+h.addr+":2380", "--initial-advertise-peer-urls", "http://"+h.addr+":2380",
		"--listen-client-urls", "http://"+h.addr+":2379", "--advertise-client-urls", "http://"+h.addr+":2379",
		"--enable-v2", "--heartbeat-interval", "250", "--election-timeout", "2500")
}

func (p *patroni) startPatroni(h *host) {
	h.start(p.file(h, "patroni.log"), "patroni", p.file(h, "patroni.yml"))
}

// config is a host's patroni.yml.
func (p *patroni) config(h *host) string {
	return fmt.Sprintf(`scope: torture
name: %[1]s
restapi: {listen: '%[2]s:8008', connect_address: '%[2]s:8008'}
%[11]s: {hosts: ['%[3]s1:2379', '%[3]s2:2379', '%[3]s3:2379']}
bootstrap:
  dcs:
    ttl: %[4]d
    loop_wait: %[5]d
    retry_timeout: %[6]d
%[7]s
    postgresql:
      use_pg_rewind: true
      parameters: {wal_log_hints: 'on', max_connections: 100, wal_receiver_timeout: 5s, wal_sender_timeout: 5s}
  initdb: [encoding: UTF8, locale: C, data-checksums]
  pg_hba: ['host all all %[3]s0/24 trust', 'host replication all %[3]s0/24 trust', 'local all all trust']
postgresql:
  listen: '%[2]s:5432'
  connect_address: '%[2]s:5432'
  data_dir: %[8]s
  bin_dir: %[9]s
  pgpass: %[8]s.pgpass
  parameters: {unix_socket_directories: '%[10]s'}
  authentication: {superuser: {username: stripeonce}, replication: {username: replicator}}
`, h.name, h.addr, p.prefix, int(patroniTTL.Seconds()), int(patroniLoop.Seconds()), int(patroniRetry.Seconds()), p.settings, p.file(h, "data"), p.bin, p.folder(h), p.store)
}

// startHAProxy starts HAProxy, which sends connections to the host whose Patroni says that it is the leader, and closes those to another.
func (p *patroni) startHAProxy() {
	p.t.Helper()
	p.proxy = freeAddr()
	config := fmt.Sprintf(`global
  maxconn 500
defaults
  mode tcp
  timeout connect 2s
  timeout client 30m
  timeout server 30m
  timeout check 2s
listen leader
  bind %s
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
`, p.proxy)
	for _, h := range p.hosts {
		config += fmt.Sprintf("  server %s %s:5432 check port 8008\n", h.name, h.addr)
	}
	file := filepath.Join(p.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command("haproxy", "-q", "-db", "-f", file)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	inARow := 0 // it leads to every host until it has checked each
	p.await("HAProxy leads to the leader alone", func() bool {
		if inARow++; !p.leads() {
			inARow = 0
		}
		return inARow >= 3*len(p.hosts)
	})
}

// leads reports whether HAProxy leads to the leader.
func (p *patroni) leads() (toLeader bool) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, "postgres://stripeonce@"+p.proxy+"/postgres?sslmode=disable")
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `SELECT NOT pg_is_in_recovery()`).Scan(&toLeader)
	return err == nil && toLeader
}

// get requests a host's address, and returns the body of a 200, else "".
func (p *patroni) get(h *host, path string) string {
	resp, err := p.client.Get("http://" + h.addr + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// leader returns the host whose Patroni says that it is the leader; nil: none does.
func (p *patroni) leader() *host {
	for _, h := range p.hosts {
		if p.get(h, ":8008/primary") != "" {
			return h
		}
	}
	return nil
}

// members are the servers as the first Patroni that answers knows them.
func (p *patroni) members() []member {
	for _, h := range p.hosts {
		var cluster struct{ Members []member }
		if text := p.get(h, ":8008/cluster"); json.Unmarshal([]byte(text), &cluster) == nil {
			return cluster.Members
		}
	}
	return nil
}

// awaitWhole waits until there is a leader, with a synchronous standby if the settings ask for one, and with every host in service.
func (p *patroni) awaitWhole() {
	p.t.Helper()
	p.await("a leader and two standbys", func() bool {
		roles := map[string]int{}
		for _, m := range p.members() {
			if m.State == "running" || m.State == "streaming" {
				roles[m.Role]++
			}
		}
		standbys := roles["replica"] + roles["sync_standby"]
		return roles["leader"] == 1 && standbys == 2 && (roles["sync_standby"] > 0 || !strings.Contains(p.settings, "synchronous_mode"))
	})
}

// switchOver has the leader hand over to a standby, which Patroni refuses while none is in sync.
func (p *patroni) switchOver(leader *host) {
	p.t.Helper()
	client := http.Client{Timeout: clusterLimit}
	last := ""
	p.await("the switchover is accepted", func() bool {
		resp, err := client.Post("http://"+leader.addr+":8008/switchover", "application/json", strings.NewReader(`{"leader": "`+leader.name+`"}`))
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		last = fmt.Sprintf("%d %s", resp.StatusCode, text)
		return resp.StatusCode == http.StatusOK
	})
	p.t.Logf("the switchover is answered %s", last)
}

// revive starts what a killed host ran.
func (p *patroni) revive(h *host) {
	p.startEtcd(h)
	p.startPatroni(h)
}

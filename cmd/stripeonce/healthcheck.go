package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
)

// healthTimeout is longer than the time within which /readyz answers, so that its reason is printed.
const healthTimeout = 4 * time.Second

type healthFlags struct {
	addr    string
	timeout time.Duration
	live    bool
}

func newHealthcheck() *cobra.Command {
	f := &healthFlags{}
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Check whether a running receiver is ready, for container health checks",
		Long: `Requests /readyz of the receiver at ADDR. The exit code is 0 if the receiver can apply
deliveries. It is 1, with the reason, if the receiver cannot or does not answer within
--timeout. If ADDR has no host, such as :4242 or 0.0.0.0:4242, the request goes to this
machine. It uses plain HTTP, as serve does, and no proxy. It needs neither a shell nor curl.

--live requests /healthz instead, which succeeds if the process answers, even without a
database. Use --live where an unhealthy container is restarted: a restart does not repair
the database.`,
		Example: "  ADDR=0.0.0.0:4242 stripeonce healthcheck\n  stripeonce healthcheck --addr 127.0.0.1:4242 --timeout 2s",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := f.ask(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), answer)
			return nil
		},
	}
	cmd.Flags().StringVar(&f.addr, "addr", envOr("ADDR", "127.0.0.1:4242"), "the `address` on which serve listens (ADDR)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", healthTimeout, "the maximum `duration` of the request")
	cmd.Flags().BoolVar(&f.live, "live", false, "check whether the process answers, not whether it is ready")
	return cmd
}

// ask returns the status that the receiver reports, or why it is not ready.
func (f *healthFlags) ask(ctx context.Context) (status string, err error) {
	addresses, err := loopback(f.addr)
	if err != nil {
		return "", err
	}
	if f.timeout <= 0 {
		return "", cli.Usage("--timeout must be positive, such as %s", healthTimeout)
	}
	path := "/readyz"
	if f.live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, http.NoBody) // dialAny connects to addresses
	if err != nil {
		return "", err
	}
	client := &http.Client{
		Transport:     &http.Transport{DialContext: dialAny(addresses), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return "", f.noAnswer(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", f.noAnswer(err)
	}
	var reply struct{ Status, Error string }
	if json.Unmarshal(body, &reply) == nil {
		switch {
		case response.StatusCode == http.StatusOK && reply.Status != "":
			return cli.OneLine(reply.Status), nil
		case response.StatusCode == http.StatusServiceUnavailable && reply.Error != "":
			return "", fmt.Errorf("not ready: %s", cli.OneLine(strings.TrimPrefix(reply.Error, "unavailable: ")))
		}
	}
	return "", fmt.Errorf("%s answers GET %s with %d, unlike 'stripeonce serve', which serves plain HTTP: "+
		"set the address of the receiver with ADDR or --addr", f.addr, path, response.StatusCode)
}

// noAnswer says why there was no answer, without the text of net/http.
func (f *healthFlags) noAnswer(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer within %s (--timeout)", f.addr, f.timeout)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens on %s: is 'stripeonce serve' running, with the same ADDR?", f.addr)
	}
	return fmt.Errorf("%s did not answer: %w: is it the address of 'stripeonce serve'? Set it with ADDR or --addr", f.addr, errors.Unwrap(err))
}

// loopback returns the addresses to connect to for an address to listen on: of this machine itself if that names no host.
func loopback(addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || strings.Contains(host, "/") {
		return nil, cli.Usage("ADDR %q is not host:port, such as 127.0.0.1:4242 or [::1]:4242", addr)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return nil, cli.Usage("ADDR %q has no port from 1 to 65535: set the port on which serve listens", addr)
	}
	name, _, _ := strings.Cut(host, "%")
	ip := net.ParseIP(name)
	switch {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() == nil:
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	case ip != nil && ip.IsUnspecified():
		return []string{net.JoinHostPort("127.0.0.1", port)}, nil
	}
	return []string{addr}, nil
}

// dialAny returns a function that connects to the first of the addresses on which something listens.
func dialAny(addresses []string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		var dialer net.Dialer
		var first error
		for _, address := range addresses {
			if conn, err = dialer.DialContext(ctx, network, address); err == nil {
				return conn, nil
			}
			if first == nil {
				first = err
			}
		}
		return nil, first
	}
}

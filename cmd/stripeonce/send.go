package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/server"
)

type sendFlags struct {
	to          string
	times       int
	concurrency int
}

func newSend() *cobra.Command {
	f := &sendFlags{}
	cmd := &cobra.Command{
		Use:   "send FILE…",
		Short: "Sign event files and send them to a receiver",
		Long: `Signs each event file (- is standard input) with the first secret in STRIPE_WEBHOOK_SECRET,
posts it to --to, and prints each reply. Use it to test a receiver. The exit code is 1 if a
reply is not a 2xx.`,
		Example: `  # the same event fifty times, ten concurrently: it takes effect once
  stripeonce send event.json --times 50 --concurrency 10`,
		Args: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return cli.Usage("name a file that holds an event, or - for standard input\nsee '%s --help'", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			return f.run(cmd.Context(), files, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&f.to, "to", "http://"+envOr("ADDR", "127.0.0.1:4242")+server.WebhookPath, "the `URL` of the receiver")
	cmd.Flags().IntVar(&f.times, "times", 1, "the `number` of times to send each file")
	cmd.Flags().IntVar(&f.concurrency, "concurrency", 1, "the maximum `number` of concurrent deliveries")
	return cmd
}

func (f *sendFlags) run(ctx context.Context, files []string, stdin io.Reader, stdout io.Writer) error {
	signing, err := senderSecret()
	if err != nil {
		return err
	}
	if f.times < 1 || f.concurrency < 1 {
		return cli.Usage("--times and --concurrency must be at least 1")
	}
	if err := cli.HTTPURL("--to", f.to); err != nil {
		return err
	}
	var bodies [][]byte
	for _, file := range files {
		body, err := readEvent(file, stdin)
		if err != nil {
			return err
		}
		bodies = append(bodies, body)
	}
	return f.sendAll(ctx, bodies, signing, stdout)
}

// readEvent reads a file. It returns an error if the file is not a JSON object.
func readEvent(file string, stdin io.Reader) (body []byte, err error) {
	if file == "-" {
		file = "standard input"
		body, err = io.ReadAll(stdin)
	} else {
		body, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, cli.Usage("%w: name a file that holds an event, or - for standard input", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, cli.Usage("%s is empty: an event is a JSON object with id, type and data.object", file)
	}
	var event map[string]json.RawMessage
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(body, &event); {
	case errors.As(err, &syntax):
		return nil, cli.Usage("%s is not JSON (%w at byte %d): an event is a JSON object with id, type and data.object", file, err, syntax.Offset)
	case err != nil || event == nil:
		return nil, cli.Usage("%s is not a JSON object: an event is a JSON object with id, type and data.object", file)
	}
	return body, nil
}

// sendAll sends each body --times times, in order, with --concurrency deliveries in flight.
func (f *sendFlags) sendAll(ctx context.Context, bodies [][]byte, secret string, stdout io.Writer) error {
	sender := delivery.NewSender(f.to, secret, f.concurrency)
	defer sender.Close()
	queue := make(chan []byte)
	go func() {
		defer close(queue)
		for _, body := range bodies {
			for range f.times {
				queue <- body
			}
		}
	}()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed int
		first  string // the reason of the first failure
	)
	for range f.concurrency {
		wg.Go(func() {
			for body := range queue {
				reply, err := sender.Send(ctx, body)
				mu.Lock()
				if err != nil {
					fmt.Fprintln(stdout, err)
				} else {
					fmt.Fprintln(stdout, reply)
				}
				if !reply.OK() {
					failed++
					first = cmp.Or(first, f.reason(reply, err))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed > 0 {
		return fmt.Errorf("%d of %d deliveries failed: %s", failed, len(bodies)*f.times, first)
	}
	return nil
}

// reason returns why a delivery failed and how to fix it.
func (f *sendFlags) reason(reply delivery.Reply, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("no response: %v: is a receiver running there? Start one with 'stripeonce serve', or set its URL with --to", err)
	case reply.Status == http.StatusBadRequest && bytes.Contains(reply.Body, []byte("signature")):
		return "the receiver answers " + cli.OneLine(reply.String()) + ": is " + envSecret + " one of that receiver's secrets?"
	case reply.Status == http.StatusBadRequest, reply.Status == http.StatusRequestEntityTooLarge:
		return "the receiver answers " + cli.OneLine(reply.String())
	case reply.Status == http.StatusInternalServerError:
		return "the receiver answers 500: the reason is in its log and in 'stripeonce failures'"
	case reply.Status == http.StatusServiceUnavailable:
		return "the receiver answers " + cli.OneLine(reply.String()) + ": the reason is in its log and at /readyz"
	}
	return fmt.Sprintf("%s answers %d: is it the URL of the route, such as http://127.0.0.1:4242%s? Set another with --to", f.to, reply.Status, server.WebhookPath)
}

package main

import (
	"context"
	"fmt"
	"io"
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
		Short: "Sign event files as Stripe would and deliver them",
		Long: `Signs each event file (- is standard input) with the first secret in
STRIPE_WEBHOOK_SECRET, as Stripe would, posts it, and prints each reply. It exits
with 1 if any reply is not a 2xx.`,
		Example: `  # the same event fifty times, ten at once: one takes effect
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
	cmd.Flags().StringVar(&f.to, "to", "http://"+envOr("ADDR", "127.0.0.1:4242")+server.WebhookPath, "the `URL` to post to")
	cmd.Flags().IntVar(&f.times, "times", 1, "how often to send each file")
	cmd.Flags().IntVar(&f.concurrency, "concurrency", 1, "how many deliveries at once")
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
		body, err := readFile(file, stdin)
		if err != nil {
			return cli.Usage("%w", err)
		}
		bodies = append(bodies, body)
	}
	return f.sendAll(ctx, bodies, signing, stdout)
}

func readFile(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

// sendAll sends each body --times times, in order, --concurrency at once.
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
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed > 0 {
		return fmt.Errorf("%d of %d deliveries failed: the reason of an answer that is not a 2xx is in the receiver's log, and that of a 500 in 'stripeonce failures'", failed, len(bodies)*f.times)
	}
	return nil
}

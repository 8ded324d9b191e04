package webhooks_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// maxFrames is how many calls may lie between a delivery and its COMMIT, both included: somebody has to read them.
const maxFrames = 15

// The way of a delivery from ServeHTTP, or from the goroutine that runs a handler of the host's, to the write of COMMIT is
// short, and passes every step once.
func TestFramesToCommit(t *testing.T) {
	t.Parallel()
	for name, handlers := range map[string]func() *webhooks.Handlers{
		"a handler of the host's": func() *webhooks.Handlers { return counting(succeed) },
		"a projection, in a batch": func() *webhooks.Handlers {
			h := webhooks.NewHandlers()
			subscriptions.Register(h, nil)
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacks := &commitStacks{}
			host := hooktest.On(t, pgtest.ConnectBy(t, pgtest.NewURL(t), stacks.dial), handlers(), nil)
			pgtest.Exec(t, host.Pool, `CREATE TABLE IF NOT EXISTS counter (n int)`)
			for _, ev := range [][]byte{
				hooktest.Event("evt_1", "test.event", 1, `{"id":"obj_1"}`),
				hooktest.Event("evt_2", "customer.subscription.created", 1, `{"id":"sub_1","object":"subscription","status":"active","customer":"cus_1"}`),
			} {
				stacks.last.Store(nil)
				host.Send(t, ev)
				stack := stacks.last.Load()
				if stack == nil {
					t.Fatal("no COMMIT was written")
				}
				t.Logf("%d frames: %s", len(*stack), strings.Join(*stack, " < "))
				if len(*stack) > maxFrames {
					t.Errorf("there are %d frames, want at most %d", len(*stack), maxFrames)
				}
			}
		})
	}
}

// commitStacks keeps the stack of the last write of COMMIT: of stripeonce's own functions, the innermost first.
type commitStacks struct{ last atomic.Pointer[[]string] }

func (s *commitStacks) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return commitWatch{conn, s}, err
}

type commitWatch struct {
	net.Conn
	stacks *commitStacks
}

func (w commitWatch) Write(message []byte) (int, error) {
	w.stacks.note()
	return w.Conn.Write(message)
}

// note keeps the stack if the message is a COMMIT, which pgpipe writes past pgx.
func (s *commitStacks) note() {
	var callers [64]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	var names []string
	for {
		frame, more := frames.Next()
		_, own, _ := strings.Cut(frame.Function, "pook/stripeonce/")
		if own == "" || len(names) == 0 && own != "internal/pgpipe.send" {
			break
		}
		names = append(names, own)
		if !more || strings.HasSuffix(own, ".ServeHTTP") {
			break
		}
	}
	if len(names) > 0 {
		s.last.Store(&names)
	}
}

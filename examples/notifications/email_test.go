package notifications

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/webhooks"
)

// mailServer is an SMTP server.
type mailServer struct {
	startTLS *tls.Config // nil: it does not offer STARTTLS
	silent   bool        // it does not speak
	got      chan letter
}

// letter is an e-mail that arrived.
type letter struct {
	encrypted bool
	user      string // with the password
	from, to  string // of the envelope
	message   string
}

// listen returns the server's address.
func (s *mailServer) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if s.silent {
				_, _ = io.Copy(io.Discard, conn)
			} else {
				s.serve(textproto.NewConn(conn), conn)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// serve speaks SMTP until the client quits.
func (s *mailServer) serve(c *textproto.Conn, conn net.Conn) {
	var in letter
	_ = c.PrintfLine("220 mail.example.com")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch command, argument, _ := strings.Cut(line, " "); command {
		case "EHLO":
			if s.startTLS != nil && !in.encrypted {
				_ = c.PrintfLine("250-mail.example.com\r\n250 STARTTLS")
			} else {
				_ = c.PrintfLine("250-mail.example.com\r\n250 AUTH PLAIN")
			}
		case "STARTTLS":
			_ = c.PrintfLine("220 go")
			encrypted := tls.Server(conn, s.startTLS)
			c, in.encrypted = textproto.NewConn(encrypted), true
		case "AUTH":
			secret, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(argument, "PLAIN "))
			in.user = strings.ReplaceAll(string(secret), "\x00", " ")
			_ = c.PrintfLine("235 welcome")
		case "MAIL":
			in.from = argument
			_ = c.PrintfLine("250 ok")
		case "RCPT":
			in.to += argument
			_ = c.PrintfLine("250 ok")
		case "DATA":
			_ = c.PrintfLine("354 go")
			message, _ := io.ReadAll(c.DotReader())
			in.message = string(message)
			s.got <- in
			_ = c.PrintfLine("250 ok")
		case "QUIT":
			_ = c.PrintfLine("221 bye")
			return
		default:
			_ = c.PrintfLine("502 what?")
		}
	}
}

// certificate returns a server's configuration with a certificate of 127.0.0.1, and the roots that trust it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{Certificates: server.TLS.Certificates}, roots
}

func TestEmail(t *testing.T) {
	config, roots := certificate(t)
	for name, startTLS := range map[string]*tls.Config{"with STARTTLS": config, "without STARTTLS": nil} {
		t.Run(name, func(t *testing.T) {
			server := &mailServer{startTLS: startTLS, got: make(chan letter, 10)}
			m := Mail{Addr: server.listen(t), From: "alerts@example.com", To: "ops@example.com", RootCAs: roots}
			m.Auth = smtp.PlainAuth("", "alerts", "password", "127.0.0.1")
			r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
				c.OnFailure, c.OnParked = Email(m, logger), Email(m, logger)
			})
			r.fail("evt_1")
			r.stop()
			if len(server.got) != 1 || r.logs.Len() > 0 {
				t.Fatalf("%d e-mails came; the log has %q", len(server.got), r.logs)
			}
			in := <-server.got
			if in.encrypted != (startTLS != nil) || in.user != " alerts password" || !strings.HasPrefix(in.from, "FROM:<alerts@example.com>") || in.to != "TO:<ops@example.com>" {
				t.Errorf("the e-mail came as %+v", in)
			}
			checkMessage(t, in.message, "Error: "+handlerOf+plainError)
		})
	}
}

func TestEmailOfAParkedEvent(t *testing.T) {
	server := &mailServer{got: make(chan letter, 10)}
	m := Mail{Addr: server.listen(t), From: "alerts@example.com", To: "ops@example.com"}
	r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) { c.OnParked = Email(m, logger) })
	r.park("evt_1")
	r.stop()
	if len(server.got) != 1 || r.logs.Len() > 0 {
		t.Fatalf("%d e-mails came; the log has %q", len(server.got), r.logs)
	}
	checkMessage(t, (<-server.got).message, "Error: "+handlerOf+"parked: "+plainError)
}

// checkMessage checks that the event's type and error are in the subject and the body, and nowhere else.
func checkMessage(t *testing.T, text, wantError string) {
	t.Helper()
	message, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject"))
	if want := "Stripe event not processed: " + strings.ReplaceAll(plainType, "=?", "= ?"); err != nil || subject != want {
		t.Errorf("the subject is %q, want %q, %v", subject, want, err)
	}
	if len(message.Header) != 8 || message.Header.Get("Bcc") != "" {
		t.Errorf("the headers are %v", message.Header)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(message.Body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Event: evt_1", "Type: " + plainType, "Attempts: 1", wantError} {
		if !strings.Contains("\n"+string(body), "\n"+line+"\n") {
			t.Errorf("the body lacks %q: %q", line, body)
		}
	}
	if strings.Contains(string(body), "jenny") {
		t.Errorf("the body has the payload: %s", body)
	}
}

func TestEmailIsNotSent(t *testing.T) {
	config, _ := certificate(t)
	for want, server := range map[string]*mailServer{
		"certificate signed by unknown authority": {startTLS: config},
		"i/o timeout": {silent: true},
	} {
		t.Run(want, func(t *testing.T) {
			server.got = make(chan letter, 10)
			m := Mail{Addr: server.listen(t), From: "alerts@example.com", To: "ops@example.com"}
			r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
				c.OnFailure = Email(m, logger)
				if server.silent {
					c.NotifyTimeout = 50 * time.Millisecond
				}
			})
			r.fail("evt_1")
			r.stop()
			r.wantLog(want)
			if len(server.got) > 0 {
				t.Errorf("an e-mail came: %+v", <-server.got)
			}
		})
	}
}

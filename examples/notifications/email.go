package notifications

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"strings"
	"time"

	"github.com/pook/stripeonce/webhooks"
)

// Mail says how e-mails are sent.
type Mail struct {
	Addr     string         // the server's host:port, usually with port 587
	Auth     smtp.Auth      // such as smtp.PlainAuth, which refuses to send the password without TLS; nil: none
	From, To string         // addresses, such as alerts@example.com
	RootCAs  *x509.CertPool // that sign the server's certificate; nil: the system's
}

// Email returns a function that sends notices by e-mail, with TLS where the server offers STARTTLS.
func Email(m Mail, logger *slog.Logger) func(ctx context.Context, n webhooks.Notice) {
	return func(ctx context.Context, n webhooks.Notice) {
		if err := m.send(ctx, m.message(n)); err != nil {
			logger.ErrorContext(ctx, "could not send an e-mail about an event", "event_id", n.EventID, "error", err)
		}
	}
}

func (m *Mail) send(ctx context.Context, message []byte) error {
	host, _, err := net.SplitHostPort(m.Addr)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok { // net/smtp takes no context
		_ = conn.SetDeadline(deadline)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if offered, _ := c.Extension("STARTTLS"); offered {
		if err := c.StartTLS(&tls.Config{ServerName: host, RootCAs: m.RootCAs}); err != nil {
			return err
		}
	}
	if m.Auth != nil {
		if err := c.Auth(m.Auth); err != nil {
			return err
		}
	}
	if err := c.Mail(m.From); err != nil {
		return err
	}
	if err := c.Rcpt(m.To); err != nil {
		return err
	}
	data, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := data.Write(message); err != nil {
		return err
	}
	if err := data.Close(); err != nil { // the server has accepted the e-mail, or not
		return err
	}
	return c.Quit()
}

// message returns the e-mail. The error's text is in its body alone, and a line break in an event's type begins no header.
func (m *Mail) message(n webhooks.Notice) []byte {
	subject := OneLine("Stripe event not processed: "+n.EventType, 150)
	subject = strings.ReplaceAll(subject, "=?", "= ?") // else a mail reader decodes what follows
	var b bytes.Buffer
	for _, header := range [][2]string{
		{"From", m.From}, {"To", m.To}, {"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", time.Now().Format(time.RFC1123Z)}, {"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", header[0], header[1])
	}
	b.WriteString("\r\n")
	body := quotedprintable.NewWriter(&b)
	_, _ = io.WriteString(body, Describe(n))
	_ = body.Close()
	return b.Bytes()
}

package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pook/stripeonce/internal/pgpipe"
)

// What stores need to read and write columns.

// UTC returns a time in UTC, or nil for nil.
func UTC(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	inUTC := at.UTC()
	return &inUTC
}

// OrZero returns the value of a nullable column, or the zero value.
func OrZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// JSON returns a text that is JSON or empty as JSON, or nil.
func JSON(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// NilIfEmpty returns a text for a nullable column.
func NilIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// DigestAt returns a digest as it is stored: with the revision of its row. An earlier version, which in a rolling deployment
// writes the row without a digest, increases the revision, so that the digest no longer matches.
func DigestAt(digest []byte, revision int64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(digest), uint64(revision))
}

// StoredDigest returns the digest of a row, or nil if it belongs to another revision.
func StoredDigest(stored []byte, revision int64) []byte {
	digest, found := bytes.CutSuffix(stored, DigestAt(nil, revision))
	if !found {
		return nil
	}
	return digest
}

// Wrap adds what a query was doing to its error. While queries are recorded, their error is not one.
func Wrap(err error, doing string, args ...any) error {
	if err == nil || errors.Is(err, pgpipe.ErrRecording) {
		return err
	}
	return fmt.Errorf(doing+": %w", append(args, err)...)
}

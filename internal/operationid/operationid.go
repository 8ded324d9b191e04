// Package operationid makes and recognizes the ids of package operations: those of runs, and the keys of groups of failures.
package operationid

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// NewRun returns the id of a run that starts at a time, run_…. Ids sort by that time.
func NewRun(at time.Time) string { return FirstRun(at) + strings.ToLower(rand.Text()[:8]) }

// FirstRun returns a text that sorts before the id of every run that starts at a time or later, and after all others. It is no run's
// id.
func FirstRun(at time.Time) string { return fmt.Sprintf("run_%011x", at.UnixMilli()) }

// groupKey matches what GroupKey returns.
var groupKey = regexp.MustCompile(`^[0-9a-f]{12}$`)

// GroupKey returns the key of the group of failures of a type of events whose errors have a normalized text.
func GroupKey(eventType, text string) string {
	sum := sha256.Sum256([]byte(eventType + "\n" + text))
	return hex.EncodeToString(sum[:6])
}

// IsGroupKey reports whether a text may be the key of a group.
func IsGroupKey(text string) bool { return groupKey.MatchString(text) }

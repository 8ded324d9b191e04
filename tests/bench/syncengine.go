package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// syncEngine is Supabase's stripe-sync-engine, an npm package. Its tables hold the same objects, without a ledger, an order
// within a second, or a transaction for an event.
const syncEngine = "stripe-sync-engine 0.48.5"

const (
	goalSyncEngine           = "≥ 4"
	goalSyncEngineDuplicates = "≥ 8"
)

// overSyncEngine compares stripeonce with stripe-sync-engine, where npm is installed: in new events, then in the same again.
func (b *stand) overSyncEngine() error {
	folder, err := installSyncEngine()
	if err != nil {
		progress("without %s: %v", syncEngine, err)
		return nil
	}
	defer func() { _ = os.RemoveAll(folder) }()
	b.syncEngine = folder
	for _, c := range []comparison{{projectionOnly, *connections, 0.3, ""}, {billing, *connections, 0.1, ""}} {
		of := map[string]*measurements{syncEngine: {}, ours: {}}
		for round := range *rounds {
			list := requests(uint64(round+1), int(float64(*lives)*c.subscriptions), c.load)
			if err := b.roundOfSyncEngine(of, c, list); err != nil {
				return fmt.Errorf("%s: %w", c.what(), err)
			}
			progress("round %d, %s, against %s: new events %.2f ×, duplicates %.2f ×", round+1, c.what(), syncEngine,
				last(of[ours].fresh)/last(of[syncEngine].fresh), last(of[ours].duplicates)/last(of[syncEngine].duplicates))
		}
		b.add("new events/s, against "+syncEngine+": "+c.load.what, of[syncEngine].fresh, of[ours].fresh, goalSyncEngine)
		b.rows[len(b.rows)-1].hand = "the engine: " + b.rows[len(b.rows)-1].hand
		b.add("duplicates/s, against "+syncEngine+": "+c.load.what, of[syncEngine].duplicates, of[ours].duplicates, goalSyncEngineDuplicates)
		b.rows[len(b.rows)-1].hand = "the engine: " + b.rows[len(b.rows)-1].hand
	}
	return nil
}

func (b *stand) roundOfSyncEngine(of map[string]*measurements, c comparison, list [][]byte) error {
	all, stop, err := b.contestants([]string{syncEngine, ours}, c, list, directly)
	defer stop()
	if err != nil {
		return err
	}
	measured, err := warm(all, list, c.inFlight)
	if err != nil {
		return err
	}
	for _, duplicates := range []bool{false, true} {
		took, err := b.takeTurns(all, measured, c.inFlight)
		if err != nil {
			return err
		}
		for i, one := range all {
			if m := of[one.kind]; duplicates {
				m.duplicates = append(m.duplicates, took[i].rate())
			} else {
				m.fresh = append(m.fresh, took[i].rate())
			}
		}
	}
	return nil
}

// installSyncEngine installs the package, as its lock file has it, into a new folder.
func installSyncEngine() (folder string, err error) {
	if folder, err = os.MkdirTemp("", "stripeonce-bench-"); err != nil {
		return "", err
	}
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("tests", "bench", "syncengine"))); err != nil {
		return folder, err
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = folder
	if output, err := install.CombinedOutput(); err != nil {
		return folder, fmt.Errorf("npm ci: %w: %s", err, output)
	}
	return folder, nil
}

// syncEngineCommand returns the command of its receiver.
func (b *stand) syncEngineCommand(databaseURL string, connections int) *exec.Cmd {
	cmd := exec.Command("node", filepath.Join(b.syncEngine, "server.cjs"))
	cmd.Env = append(os.Environ(), envURL+"="+databaseURL, fmt.Sprintf("BENCH_CONNECTIONS=%d", connections), "BENCH_SECRET="+secret)
	return cmd
}

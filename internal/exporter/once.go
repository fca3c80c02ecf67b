package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

const progressInterval = 500 * time.Millisecond

var errSourcesFailed = errors.New("some sources failed")

// once refreshes every source, and writes the metrics to stdout and a summary for a
// person to stderr.
func (e *Exporter) once(ctx context.Context, stdout, stderr io.Writer) error {
	work, done := context.WithCancel(ctx)
	var g errgroup.Group
	if file, ok := stderr.(*os.File); ok && isTerminal(file) {
		g.Go(func() error { e.showProgress(work, stderr); return nil })
	}
	e.cache.RefreshAll(ctx)
	done()
	_ = g.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	if err := e.metrics.WriteText(stdout, exposition.Parts{Kinds: providers.Kinds(), Own: true}); err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	if failed := summarize(stderr, e.cache.Status()); failed {
		return errSourcesFailed
	}
	return nil
}

// summarize writes a line for each source, and reports whether any failed.
func summarize(w io.Writer, accounts []snapshot.Account) (failed bool) {
	for _, a := range accounts {
		for _, s := range a.Sources {
			text := "ok"
			switch {
			case s.Fleet != nil && s.Fleet.Fresh < s.Fleet.Total():
				text = "failed in part"
				if !s.Up {
					text = "failed"
				}
				failed = true
			case !s.Up:
				text, failed = "failed", true
			}
			if f := s.Fleet; f != nil {
				text += fmt.Sprintf(", subscribers: %d fresh, %d stale, %d failed, %d pending", f.Fresh, f.Stale, f.Failed, f.Pending)
			}
			if s.Failure != nil {
				text += fmt.Sprintf(", %s: %s", s.Failure.Reason, s.Failure.Message)
			}
			if !a.CooldownUntil.IsZero() {
				text += fmt.Sprintf(", cool-down until %s (%s)", a.CooldownUntil.UTC().Format(time.RFC3339), a.CooldownReason)
			}
			_, _ = fmt.Fprintf(w, "%s/%s %s: %s\n", a.Provider, a.Account, s.Part.Kind, text)
		}
	}
	return failed
}

// showProgress rewrites one line until ctx ends.
func (e *Exporter) showProgress(ctx context.Context, w io.Writer) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			_, _ = fmt.Fprint(w, "\r\x1b[K")
			return
		case <-ticker.C:
		}
		done, total := 0, 0
		for _, a := range e.cache.Status() {
			for _, s := range a.Sources {
				if f := s.Fleet; f != nil {
					done, total = done+f.Total()-f.Pending, total+f.Total()
					continue
				}
				total++
				if !s.LastTry.IsZero() {
					done++
				}
			}
		}
		_, _ = fmt.Fprintf(w, "\r\x1b[Kread %d of %d sources", done, total)
	}
}

// isTerminal reports whether a person may be looking. The null device, too, is a
// character device.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

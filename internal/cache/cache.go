// Package cache keeps the newest snapshot of every source and decides what is
// asked when: a source is asked when a scrape finds it due, never twice at once,
// at most once in its interval, and after a failure only when its back-off is
// over. A fetch belongs to the process, not to the scrape that started it.
//
// [Cache.Refresh] is called by a scrape before it reads. Each account works for
// itself, so that a slow one delays no other.
package cache

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Account is one account to be read.
type Account struct {
	Provider, Name string
	// ID names the remote account in kept state.
	ID string
	// Digest changes with anything in the account's configuration.
	Digest  string
	Parts   []providers.Part
	Sources []providers.Source
	// Gate is the account's own; the cache makes it go on from kept state.
	Gate *httpapi.Gate
}

// Options configure a [Cache]. All fields are required.
type Options struct {
	Store  state.Store
	Logger log.Logger
	// MaxWait is how long a scrape waits for refreshes when every source has a
	// value to serve meanwhile.
	MaxWait time.Duration
}

// Cache holds accounts. Create one with [New].
type Cache struct {
	opts  Options
	epoch time.Time // due times count from here, on the clock that no step touches
	ctx   context.Context
	stop  context.CancelFunc

	replacing sync.Mutex               // held while accounts change
	retired   map[string]*httpapi.Gate // of accounts that are gone, by id; guarded by replacing

	mu       sync.RWMutex // guards the slice, not the accounts
	accounts []*account
}

// New returns a cache without accounts; [Cache.Replace] brings them.
func New(opts Options) *Cache {
	ctx, stop := context.WithCancel(context.Background())
	return &Cache{opts: opts, epoch: time.Now(), ctx: ctx, stop: stop, retired: map[string]*httpapi.Gate{}}
}

// Replace makes accounts the ones to be read. An account that has not changed goes
// on undisturbed. One that has changed ends its fetches, and goes on with its
// values, quota and cool-downs as far as they still fit. An account that is gone is
// forgotten, once nothing of its quota is spent and it is not held: who takes an
// account out and puts it back in does not get its quota twice.
func (c *Cache) Replace(accounts []Account) {
	c.replacing.Lock()
	defer c.replacing.Unlock()
	old := map[string]*account{}
	for _, a := range c.list() {
		old[a.ID] = a
	}
	ids := make([]string, 0, len(accounts))
	next := make([]*account, 0, len(accounts))
	var changed []*account
	for _, spec := range accounts {
		ids = append(ids, spec.ID)
		before := old[spec.ID]
		if before != nil && before.Digest == spec.Digest {
			next = append(next, before)
			delete(old, spec.ID)
			continue
		}
		a := newAccount(c, spec)
		if before != nil {
			a.before = before
			delete(old, spec.ID)
		}
		next = append(next, a)
		changed = append(changed, a)
	}
	for _, a := range old {
		a.close()
		c.retired[a.ID] = a.Gate
	}
	for _, a := range changed {
		if a.before != nil {
			a.before.close()
		}
		a.open()
	}
	c.mu.Lock()
	c.accounts = next
	c.mu.Unlock()
	for id, gate := range c.retired {
		switch {
		case slices.Contains(ids, id), gate.Idle():
			delete(c.retired, id)
		default:
			ids = append(ids, id)
		}
	}
	if err := c.opts.Store.Retain(ids); err != nil {
		_ = level.Warn(c.opts.Logger).Log("msg", "cannot remove old accounts from the state", "err", err)
	}
}

// Close ends all fetches and waits for them.
func (c *Cache) Close() {
	c.stop()
	for _, a := range c.list() {
		a.close()
	}
}

func (c *Cache) list() []*account {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.accounts
}

// now is the time since the epoch.
func (c *Cache) now() time.Duration { return time.Since(c.epoch) }

// Refresh starts the refresh of every source of the given kinds that is due, and
// waits: until ctx ends for those that have nothing to serve yet, and at most
// MaxWait for the others. What it has started goes on after it.
func (c *Cache) Refresh(ctx context.Context, kinds []providers.Kind) {
	waits := c.start(kinds)
	brief, cancel := context.WithTimeout(ctx, c.opts.MaxWait)
	defer cancel()
	for _, w := range waits {
		if w.empty {
			select {
			case <-w.idle:
			case <-ctx.Done():
			}
		}
	}
	for _, w := range waits {
		select {
		case <-w.idle:
		case <-brief.Done():
		}
	}
}

// RefreshAll starts the refresh of everything that is due and waits for all of
// it, or for ctx.
func (c *Cache) RefreshAll(ctx context.Context) {
	for _, w := range c.start(providers.Kinds()) {
		select {
		case <-w.idle:
		case <-ctx.Done():
		}
	}
}

// wait is what a scrape has to wait for in one part of one account.
type wait struct {
	idle  <-chan struct{} // closed when nothing that is due is left
	empty bool            // nothing to serve meanwhile
}

func (c *Cache) start(kinds []providers.Kind) []wait {
	var waits []wait
	for _, a := range c.list() {
		waits = append(waits, a.start(kinds)...)
	}
	return waits
}

// Groups returns what is known, of every account. A group that is the same as at
// the last call has not changed, but for values that end by time.
func (c *Cache) Groups() []*snapshot.Group {
	var groups []*snapshot.Group
	for _, a := range c.list() {
		groups = a.groups(groups)
	}
	return groups
}

// Status returns the state of every account.
func (c *Cache) Status() []snapshot.Account {
	accounts := c.list()
	out := make([]snapshot.Account, len(accounts))
	for i, a := range accounts {
		out[i] = a.status()
	}
	return out
}

// has reports whether kinds has kind.
func has(kinds []providers.Kind, kind providers.Kind) bool { return slices.Contains(kinds, kind) }

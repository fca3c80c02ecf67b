// Package cache holds the newest snapshot of every source and decides when a source
// is fetched: when a scrape finds it due, never twice at once, at most once per
// interval, and after a failure not before its back-off has passed. A fetch belongs
// to the process, not to the scrape that started it.
//
// A scrape calls [Cache.Refresh] before it reads. Accounts are independent, so that
// a slow one delays no other.
package cache

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"

	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Account is one account to read.
type Account struct {
	Provider, Name string
	// ID names the remote account in the store. It is unique.
	ID string
	// Digest changes with anything in the account's configuration.
	Digest  string
	Parts   []providers.Part
	Sources []providers.Source
	// Secrets are the credentials; a change ends the block for refused ones.
	Secrets []*secret.Value
	// OneReader lets one process at a time read the account; see
	// [providers.Account].
	OneReader bool
	Gate      *gate.Gate
}

// Options configure a [Cache]. All fields are required.
type Options struct {
	Store  state.Store
	Logger log.Logger
	// MaxWait is how long a scrape waits for the refresh of a source that has a
	// value to serve meanwhile, and of a fleet.
	MaxWait time.Duration
}

// Cache holds accounts. Create one with [New].
type Cache struct {
	opts  Options
	epoch time.Time // due times count from here, on the clock that no step touches
	ctx   context.Context
	stop  context.CancelFunc

	replacing sync.Mutex // held while accounts change

	mu       sync.RWMutex // guards the slice, not the accounts
	accounts []*account
}

// New returns a cache without accounts; [Cache.Replace] adds them.
func New(opts Options) *Cache {
	ctx, stop := context.WithCancel(context.Background())
	return &Cache{opts: opts, epoch: time.Now(), ctx: ctx, stop: stop}
}

// Replace makes accounts the ones to read. An account that has not changed goes on
// undisturbed. One that has changed ends its fetches, and goes on with the stored
// values, quota and cool-downs that still fit. Of a removed one the store holds the
// quota: adding it again does not reset that. After Close, Replace does nothing.
func (c *Cache) Replace(accounts []Account) {
	c.replacing.Lock()
	defer c.replacing.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	old := map[string]*account{}
	for _, a := range c.list() {
		old[a.ID] = a
	}
	next := make([]*account, len(accounts))
	var changed []int
	for i, spec := range accounts {
		if a := old[spec.ID]; a != nil && a.Digest == spec.Digest {
			next[i] = a
			delete(old, spec.ID)
		} else {
			changed = append(changed, i)
		}
	}
	for _, a := range old {
		a.cancel() // of all, before the wait for each
	}
	for _, i := range changed {
		before := old[accounts[i].ID]
		delete(old, accounts[i].ID)
		if before != nil {
			before.close()
		}
		next[i] = newAccount(c, accounts[i])
		next[i].open(before)
	}
	for _, a := range old {
		a.close()
		a.drop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accounts = next
}

// Close ends all fetches and waits for them.
func (c *Cache) Close() {
	c.stop()
	c.replacing.Lock()
	defer c.replacing.Unlock()
	for _, a := range c.list() {
		a.close()
	}
}

func (c *Cache) list() []*account {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.accounts
}

// now is the time since the epoch, on the clock that is never set.
func (c *Cache) now() time.Duration { return time.Since(c.epoch) }

// Refresh starts the refresh of every source of the given kinds of the given accounts
// that is due (nil for all accounts), and waits for it: until ctx ends for a source that has no value to serve, and at most
// MaxWait for the others and for fleets. A refresh goes on after it.
func (c *Cache) Refresh(ctx context.Context, kinds []providers.Kind, accounts []snapshot.Name) {
	waits := c.start(kinds, accounts)
	brief, cancel := context.WithTimeout(ctx, c.opts.MaxWait)
	defer cancel()
	for _, w := range waits {
		if w.urgent {
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

// RefreshAll starts the refresh of every source that is due and waits for all of
// them, or for ctx.
func (c *Cache) RefreshAll(ctx context.Context) {
	for _, w := range c.start(providers.Kinds(), nil) {
		select {
		case <-w.idle:
		case <-ctx.Done():
		}
	}
}

// wait is what a scrape has to wait for in one part of one account.
type wait struct {
	idle   <-chan struct{} // closed when no source is due or in flight
	urgent bool            // there is no value to serve meanwhile
}

func (c *Cache) start(kinds []providers.Kind, accounts []snapshot.Name) []wait {
	var waits []wait
	for _, a := range c.list() {
		if accounts == nil || slices.Contains(accounts, a.name()) {
			waits = append(waits, a.start(kinds)...)
		}
	}
	return waits
}

// Names returns the names of all accounts, in the order of the configuration.
func (c *Cache) Names() []snapshot.Name {
	accounts := c.list()
	names := make([]snapshot.Name, len(accounts))
	for i, a := range accounts {
		names[i] = a.name()
	}
	return names
}

// Groups returns the snapshots of every account. A group that is the same pointer as
// at the last call has not changed, except for values that have expired.
func (c *Cache) Groups() []*snapshot.Group {
	var groups []*snapshot.Group
	for _, a := range c.list() {
		groups = a.groups(groups)
	}
	return groups
}

// Subscribers returns at most most of the lowest balances of an account's subscribers,
// relative to their thresholds, and of its subscribers that fail.
func (c *Cache) Subscribers(name snapshot.Name, most int) (lowest, failing []snapshot.Subscriber) {
	for _, a := range c.list() {
		if a.name() == name {
			return a.subscribers(most)
		}
	}
	return nil, nil
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

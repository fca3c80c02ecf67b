// Package state persists what must survive a restart: the quota record of every
// account and the newest snapshot of every source.
package state

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/go-kit/log"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// Retention is how long a record is stored after its last write. Older ones are
// deleted when the store is opened.
const Retention = 30 * 24 * time.Hour

// Store holds quota records and snapshots. An account is named by an id that
// changes whenever another remote account is meant, a source by a key that is
// unique within its account. A Store is safe for concurrent use. Records that
// have not been written for [Retention] may be forgotten.
type Store interface {
	// Update replaces the account's quota record by change(record, now) in one
	// atomic step and returns the new one. An account without a record has the
	// zero value. change is pure and may run more than once; now is the store's
	// clock. When Update returns, the end of the process cannot undo it, so
	// that quota is reserved before it is spent. An error means that the quota
	// is not known: nothing may be sent. Only a store that is shared with other
	// processes returns one; a file that cannot be written is logged, reported to
	// the [Observer], and written as soon as possible; the record in memory counts.
	Update(ctx context.Context, id string, change func(record quota.Account, now time.Time) quota.Account) (quota.Account, error)
	// Load calls fn for each stored snapshot of the account, or for those of the keys if
	// they are not nil, without its Roster, and with its version. The memory that it
	// needs does not grow with their number. While another process publishes, a source
	// may come again, with the same or a higher version. A record that cannot be read is
	// left out and reported. fn may use the store.
	Load(ctx context.Context, id string, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) error
	// Newer is Load for those of the sources of which another process has stored a
	// newer snapshot. In a store of one process there are none. It reports whether the
	// store has lost snapshots since the last call: then the caller publishes again
	// what it has.
	Newer(ctx context.Context, id string, sources []Source, fn func(key string, s *snapshot.Snapshot, version uint64)) (lost bool, err error)
	// Claim asks for the right to fetch sources, and answers for each in the same
	// order. With whole, one process at a time has the right to all sources of the
	// account. In a store of one process every claim is granted.
	Claim(ctx context.Context, id string, whole bool, sources []Source) ([]Claim, error)
	// Publish stores the outcomes of claimed fetches and releases their claims.
	// It reports for each, in the same order, whether it was accepted: an
	// outcome whose claim was lost is dropped. An accepted outcome survives
	// the end of the process, with the same exception as Update: an outcome that is
	// lost would be fetched again. So Publish waits for the store, for some
	// milliseconds, and concurrent calls share that time.
	Publish(ctx context.Context, id string, outcomes []Outcome) ([]bool, error)
	// Shared reports whether other processes may use the store at the same time.
	Shared() bool
	// Ready returns nil once the store was reached; else it tries to, and returns
	// why it cannot. Only a shared store returns an error.
	Ready(ctx context.Context) error
	// Close writes what is pending and ends the use of the store. Its error says
	// what a restart will not know. Closing again does nothing.
	Close() error
}

// Options are the options of [Open].
type Options struct {
	Logger   log.Logger
	Observer Observer // nil for none

	// The rest is for redis: URLs.

	// Password is that of the user in the URL; nil for none. It is read again for
	// each new connection.
	Password *secret.Value
	// Prefix begins the name of each key.
	Prefix string
	// Dial replaces the dialer of tests; nil for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Observer gets the result of every operation; a consumer contract for the
// exporter's metrics. It is called concurrently.
type Observer interface {
	// Operation reports that an operation ("update", "load", "claim" or
	// "publish") took some time. err is its failure, also one that the store
	// hides from its caller because it continues from memory; else nil.
	Operation(op string, took time.Duration, err error)
	// Claimed reports the answer to one claim, or the loss of a granted one, as
	// [ClaimResult.String] spells it.
	Claimed(result string)
}

// The names of the operations.
const (
	opUpdate  = "update"
	opLoad    = "load"
	opClaim   = "claim"
	opPublish = "publish"
)

var errClosed = errors.New("state store is closed")

// Open opens the store at a URL: "memory:", "sqlite:PATH", or a server as [ParseURL]
// describes. It fails if the URL cannot work: no such directory, no permission, a
// file in use by another process. A damaged file is logged, renamed to
// PATH.damaged-TIME and replaced; a full disk is logged, and the store works in
// memory until there is space. A server that cannot be reached is logged, and the
// store returns errors until it can.
func Open(url string, opts Options) (Store, error) {
	if opts.Observer == nil {
		opts.Observer = noObserver{}
	}
	u, err := ParseURL(url)
	switch {
	case err != nil:
		return nil, err
	case u.server != nil:
		return openRedis(u.server, opts), nil
	case u.path != "":
		return openSQLite(u.path, opts)
	}
	return newMemory(opts.Observer), nil
}

type noObserver struct{}

func (noObserver) Operation(string, time.Duration, error) {}
func (noObserver) Claimed(string)                         {}

// ClaimResult is the answer to a claim.
type ClaimResult int

// The answers to a claim.
const (
	// Granted: fetch the source, then Publish with the claim's Token.
	Granted ClaimResult = iota
	// Shared: another process has fetched the source since; Snapshot is its
	// outcome.
	Shared
	// Held: another process is fetching the source; claim again after Retry.
	Held
	// Lost: a granted claim ended before its outcome was published. No answer to
	// Claim is Lost.
	Lost
)

// String returns the value of the label `result`.
func (r ClaimResult) String() string { return [...]string{"granted", "shared", "held", "lost"}[r] }

// Source names a source, and what the caller knows of it.
type Source struct {
	Key string
	// Version is that of the newest snapshot that the caller has; 0 for none. Versions
	// of one source increase.
	Version uint64
}

// Claim is the answer to one claim.
type Claim struct {
	Result ClaimResult
	// Token is that of a granted claim, and becomes the version of its outcome.
	Token uint64
	// Lost is closed when a granted claim is lost: the fetch must end. Nil in a store
	// of one process.
	Lost     <-chan struct{}
	Snapshot *snapshot.Snapshot // of a shared claim
	Version  uint64             // of Snapshot
	Retry    time.Duration      // of a held claim
}

// Outcome is what became of one claimed fetch.
type Outcome struct {
	Key   string
	Token uint64 // of the claim; 0 to forget a source without one
	// Snapshot is stored; nil forgets the source.
	Snapshot *snapshot.Snapshot
	// Again publishes what the store has lost. Token is the version of Snapshot. It
	// needs no claim, and gives way to a newer snapshot.
	Again bool
	// Abandoned releases the claim and leaves what is stored, because nothing
	// was sent.
	Abandoned bool
}

// Package state persists what must survive a restart: the quota record of every
// account and the newest snapshot of every source.
package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-kit/log"

	"github.com/balance-exporter/balance_exporter/internal/quota"
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
	// Load calls fn for each stored snapshot of the account, without its Roster. A
	// record that cannot be read is left out and reported. fn may use the store.
	Load(ctx context.Context, id string, fn func(key string, s *snapshot.Snapshot)) error
	// Claim asks for the right to fetch sources, and answers for each key in
	// the same order. In a store of one process every claim is granted.
	Claim(ctx context.Context, id string, keys []string) ([]Claim, error)
	// Publish stores the outcomes of claimed fetches and releases their claims.
	// It reports for each, in the same order, whether it was accepted: an
	// outcome whose claim was lost is dropped. An accepted outcome survives
	// the end of the process, with the same exception as Update.
	Publish(ctx context.Context, id string, outcomes []Outcome) ([]bool, error)
	// Close writes what is pending and ends the use of the store. Its error says
	// what a restart will not know. Closing again does nothing.
	Close() error
}

// Options are the options of [Open].
type Options struct {
	Logger   log.Logger
	Observer Observer // nil for none
}

// Observer gets the result of every operation; a consumer contract for the
// exporter's metrics. It is called concurrently.
type Observer interface {
	// Operation reports that an operation ("update", "load", "claim" or
	// "publish") took some time. err is its failure, also one that the store
	// hides from its caller because it continues from memory; else nil.
	Operation(op string, took time.Duration, err error)
}

// The names of the operations.
const (
	opUpdate  = "update"
	opLoad    = "load"
	opClaim   = "claim"
	opPublish = "publish"
)

var errClosed = errors.New("state store is closed")

// Open opens the store at a URL: "memory:" or "sqlite:PATH". It fails if the URL
// cannot work: no such directory, no permission, a file in use by another
// process. A damaged file is logged, renamed to PATH.damaged-TIME and replaced; a
// full disk is logged, and the store works in memory until there is space.
func Open(url string, opts Options) (Store, error) {
	if opts.Observer == nil {
		opts.Observer = noObserver{}
	}
	// An error does not quote what follows the scheme: it may hold a password.
	switch scheme, path, _ := strings.Cut(url, ":"); {
	case url == "memory:":
		return newMemory(opts.Observer), nil
	case scheme == "memory":
		return nil, errors.New("expected memory:, without a path")
	case scheme == "sqlite" && path == "":
		return nil, errors.New("expected sqlite:PATH with the path of a file")
	case scheme == "sqlite":
		return openSQLite(path, opts)
	default:
		return nil, fmt.Errorf("unknown scheme %q, expected memory: or sqlite:PATH", scheme)
	}
}

type noObserver struct{}

func (noObserver) Operation(string, time.Duration, error) {}

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
)

// Claim is the answer to one claim.
type Claim struct {
	Result   ClaimResult
	Token    uint64             // of a granted claim
	Snapshot *snapshot.Snapshot // of a shared claim
	Retry    time.Duration      // of a held claim
}

// Outcome is what became of one claimed fetch.
type Outcome struct {
	Key   string
	Token uint64 // of the claim
	// Snapshot is stored; nil forgets the source.
	Snapshot *snapshot.Snapshot
	// Abandoned releases the claim and leaves what is stored, because nothing
	// was sent.
	Abandoned bool
}

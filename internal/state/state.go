// Package state keeps what must survive a restart: snapshots, spent quota and
// cool-downs. It never holds a secret or a token.
//
// There are two stores, chosen by URL: `memory:` for one process's life, and
// `bolt:PATH` for a file. Both pass the suite in package statetest. The second is in
// bolt.go, what it opens in boltfile.go and boltcheck.go, how it writes snapshots in
// boltwrite.go, and the accounts' own file in accounts.go.
package state

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-kit/log"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Account is what is kept of an account as a whole. The zero value is an account
// that has sent nothing yet.
type Account struct {
	Quota quota.State `json:"quota"`
	// Reason is why Quota.BlockedUntil was set.
	Reason providers.Reason `json:"reason,omitempty"`
	// Limited counts answers "too many requests" in a row, Refused answers
	// "unauthorized" in a row.
	Limited int `json:"limited,omitempty"`
	Refused int `json:"refused,omitempty"`
	// LimitedAt is when the last answer "too many requests" came.
	LimitedAt time.Time `json:"limited_at,omitzero"`
}

// Store keeps accounts and the snapshots of their sources. Accounts are named by
// an id that changes whenever another remote account is meant. A Store is safe
// for concurrent use.
type Store interface {
	// LoadAccount returns what was kept of an account; the zero value if nothing
	// was.
	LoadAccount(id string) (Account, error)
	// SaveAccount keeps a. When it returns, the end of the process cannot undo
	// it, so that quota is reserved before it is spent.
	SaveAccount(id string, a Account) error
	// LoadSources calls fn for each kept snapshot of the account. A record that
	// cannot be read is left out.
	LoadSources(id string, fn func(key string, s *snapshot.Snapshot)) error
	// SaveSource keeps the snapshot of one source. It does not wait: the end of
	// the process may undo what was saved within the last second.
	SaveSource(id, key string, s *snapshot.Snapshot)
	// DropSources forgets sources. Like SaveSource it does not wait.
	DropSources(id string, keys []string)
	// Retain forgets every account that is not named.
	Retain(ids []string) error
	// Close writes what is waiting, and ends the use of the store.
	Close() error
}

// Open returns the store that a URL names: `memory:` or `bolt:PATH`. What it
// mends by itself, such as setting a damaged file aside, goes to logger.
func Open(storeURL string, logger log.Logger) (Store, error) {
	scheme, rest, ok := strings.Cut(storeURL, ":")
	if !ok {
		return nil, fmt.Errorf("state URL %q: expected memory: or bolt:PATH", storeURL)
	}
	switch scheme {
	case "memory":
		if rest != "" {
			return nil, fmt.Errorf("state URL %q: memory: takes no path", storeURL)
		}
		return NewMemory(), nil
	case "bolt":
		if rest == "" {
			return nil, fmt.Errorf("state URL %q: expected bolt:PATH with the path of a file", storeURL)
		}
		return OpenBolt(rest, logger)
	}
	return nil, fmt.Errorf("state URL %q: unknown kind %q, expected memory: or bolt:PATH", storeURL, scheme)
}

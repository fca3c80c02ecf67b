package flolive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// listingInterval is how often subscribers are looked for.
	listingInterval = 24 * time.Hour
	// chunk is how many records are asked for at a time. More would be allowed,
	// but a subscriber may have many identifiers, and an answer has 1 MiB.
	chunk = 500
	// maxPaged is how many records paging reaches.
	maxPaged = 10_000
	// maxChunks bounds the answers of one listing: two million records.
	maxChunks = 4000
	// keepAlive is for how many minutes the provider keeps a cursor. It is the
	// most that it allows, because the next request may have to wait for the
	// account's quota.
	keepAlive = 30
)

// errUnpaged ends the listing by pages where only the one by cursor will do.
var errUnpaged = errors.New("the listing cannot be read by pages")

// listing finds the active subscribers of a customer: by pages, or by a cursor if
// there are more than those reach. See
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Subscribers.htm and
// https://kb.flolive.net/Content/API/Customer/Get%20All%20Customer%20Subscribers.htm
type listing struct {
	account  *account
	customer string
	records  atomic.Int64 // in the last listing
}

func newListing(a *account, customer string) *listing {
	return &listing{account: a, customer: customer}
}

// Key implements [providers.Source].
func (l *listing) Key() string {
	return "listing-" + identity{value: l.customer}.hashed().keyText()
}

// Kind implements [providers.Source].
func (l *listing) Kind() providers.Kind { return providers.KindSubscribers }

// Interval implements [providers.Source].
func (l *listing) Interval() time.Duration { return listingInterval }

// Requests implements [providers.Source]: as many as the last listing needed.
func (l *listing) Requests() int { return max(1, int((l.records.Load()+chunk-1)/chunk)) }

// Known implements [providers.Lister]. Nobody is known without asking; what an
// earlier listing has found comes by Restore.
func (l *listing) Known() []providers.Source { return nil }

// Fetch returns the active subscribers, all of them or an error: a part would end
// the values of the others.
func (l *listing) Fetch(ctx context.Context) (providers.Reading, error) {
	found, err := l.byPages(ctx)
	if errors.Is(err, errUnpaged) {
		found, err = l.byCursor(ctx)
		if expired(err) {
			found, err = l.byCursor(ctx)
		}
	}
	if err != nil {
		failure := *providers.AsError(err)
		failure.Message = "listing the customer's subscribers: " + withoutNumbers(failure.Message)
		return providers.Reading{}, &failure
	}
	kept, err := json.Marshal(found.values)
	if err != nil {
		return providers.Reading{}, providers.Errorf(providers.ReasonInternal, "listing: %w", err)
	}
	l.records.Store(int64(found.records))
	reading := providers.Reading{Kept: kept, Roster: l.account.subscribers(found.ids)}
	if found.incomplete > 0 {
		reading.Dropped = map[providers.DropReason]int{providers.DropIncomplete: found.incomplete}
	}
	return reading, nil
}

// Restore implements [providers.Keeper]: it returns the subscribers of before.
func (l *listing) Restore(kept []byte) ([]providers.Source, error) {
	var values map[string][]string
	if err := json.Unmarshal(kept, &values); err != nil {
		return nil, err
	}
	found := l.newFound()
	for _, kind := range kinds {
		for _, value := range values[kind] {
			id, fault := newIdentity(kind, value, "", nil)
			if fault != nil {
				return nil, fmt.Errorf("%s %s", fault.field, fault.text)
			}
			id.found = true
			found.add([]identity{id})
		}
	}
	l.records.Store(int64(len(found.ids)))
	return l.account.subscribers(found.ids), nil
}

func (l *listing) path() string {
	return "/api/v2/customer/" + url.PathEscape(l.customer) + "/subscriber"
}

// byPages returns errUnpaged if there is more than pages reach, or if an answer
// does not say clearly that it is the page that was asked for.
func (l *listing) byPages(ctx context.Context) (*found, error) {
	found := l.newFound()
	size := chunk
	for number := 0; number*size < maxPaged; number++ {
		done := false
		call := providers.Call{Path: l.path(), Query: pageQuery(number, size)}
		err := l.account.ask(ctx, call, func(e envelope) error {
			entries, err := e.entries()
			if err != nil {
				return err
			}
			at, told := e.page()
			switch {
			case len(entries) == 0:
				done = true
				return nil
			case !told || at.number != number || at.elements > maxPaged || at.size == 0 && at.pages > 1:
				return &providers.Error{Reason: providers.ReasonBadRequest, Message: errUnpaged.Error()}
			}
			for _, entry := range entries {
				found.take(entry)
			}
			done = number+1 >= at.pages
			size = max(1, at.size) // the provider may have its own idea of it
			return nil
		})
		switch {
		case err == nil && done:
			return found, nil
		case err == nil:
		case providers.AsError(err).Reason == providers.ReasonBadRequest, number > 0 && codeOf(err) == codeCustomerFailed:
			return nil, errUnpaged
		default:
			return nil, err
		}
	}
	return nil, errUnpaged
}

// byCursor reads chunk after chunk. A request is never sent twice: each one moves
// the cursor on.
func (l *listing) byCursor(ctx context.Context) (*found, error) {
	found := l.newFound()
	cursor := ""
	for range maxChunks {
		body, err := json.Marshal(map[string]any{"pitId": cursor, "pitKeepAlive": keepAlive, "size": chunk})
		if err != nil {
			return nil, err
		}
		done := false
		call := providers.Call{
			Method: http.MethodPost,
			Path:   l.path() + "-all",
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   body,
		}
		err = l.account.ask(ctx, call, func(e envelope) error {
			entries, err := e.entries()
			if err != nil {
				return err
			}
			for _, entry := range entries {
				found.take(entry)
			}
			total, told := e.TotalRecordAmount.count()
			done = len(entries) == 0 || told && found.records >= total
			if e.PitID.value != "" {
				cursor = e.PitID.value
			}
			if !done && cursor == "" {
				return errors.New(`"pitId" is missing, and there is more to read`)
			}
			return nil
		})
		if err != nil {
			if cursor != "" && (codeOf(err) == codeCustomerFailed || providers.AsError(err).Reason == providers.ReasonBadRequest) {
				err = &lostCursorError{err}
			}
			return nil, err
		}
		if done {
			return found, nil
		}
	}
	return nil, providers.Errorf(providers.ReasonBadResponse, "there is no end after %d answers", maxChunks)
}

// lostCursorError is an error that may mean that the provider no longer has the cursor.
type lostCursorError struct{ error }

// Unwrap returns the error itself.
func (e *lostCursorError) Unwrap() error { return e.error }

func expired(err error) bool {
	var lost *lostCursorError
	return errors.As(err, &lost)
}

// found gathers the subscribers of one listing, each once.
type found struct {
	taken      *taken
	records    int // of any status
	incomplete int // active, and without an identifier
	ids        []identity
	values     map[string][]string // of ids, by type of identifier
	seen       map[string]bool
}

func (l *listing) newFound() *found {
	return &found{taken: &l.account.taken, values: map[string][]string{}, seen: map[string]bool{}}
}

// take takes one record of an answer.
func (f *found) take(entry json.RawMessage) {
	f.records++
	var r record
	if json.Unmarshal(entry, &r) != nil {
		f.incomplete++
		return
	}
	if r.active() && !f.add(r.identifiers()) {
		f.incomplete++
	}
}

// add takes a subscriber by the first usable one of its identifiers. It does
// nothing for one that is configured, by whichever identifier, or was there
// already: a list that changes while it is read may tell one twice. It returns
// false if no identifier can be used.
func (f *found) add(identifiers []identity) bool {
	for _, id := range identifiers {
		if f.taken.has(id.value) {
			return true
		}
	}
	for _, id := range identifiers {
		checked, fault := newIdentity(id.kind.String(), id.value, "", nil)
		if fault != nil {
			continue
		}
		if !f.seen[id.value] {
			f.seen[id.value] = true
			checked.found = true
			f.ids = append(f.ids, checked.hashed())
			f.values[id.kind.String()] = append(f.values[id.kind.String()], id.value)
		}
		return true
	}
	return false
}

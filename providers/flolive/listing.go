package flolive

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

const (
	// listingInterval is how often subscribers are listed.
	listingInterval = 24 * time.Hour
	// chunk is how many records are requested at a time. The API allows more, but a
	// subscriber may have many identifiers, and an answer has at most 1 MiB.
	chunk = 500
	// maxRecords and maxChunks bound one listing by cursor.
	maxRecords = 2_000_000
	maxChunks  = maxRecords / chunk
	// keepAlive is for how many minutes the provider keeps a cursor. It is the
	// maximum, because the next request may have to wait for the account's quota.
	keepAlive = 30
)

// listing finds the active subscribers of a customer: by pages, or by a cursor if
// there are more than pages reach or the pages are not whole. See
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Subscribers.htm and
// https://kb.flolive.net/Content/API/Customer/Get%20All%20Customer%20Subscribers.htm
type listing struct {
	account  *account
	customer string
	records  int // of any status, in the last listing
	size     int // of the roster
}

// Describe implements [providers.Source]. Fetch sends as many requests as the last
// listing needed.
func (l *listing) Describe() providers.Description {
	return providers.Description{
		Key:  "listing-" + identity{value: l.customer}.key(),
		Kind: providers.KindSubscribers, Interval: listingInterval,
		Requests: max(1, (l.records+chunk-1)/chunk),
		Lists:    true, Restore: l.restore,
	}
}

// Fetch returns the active subscribers, all of them or an error: a part would end
// the values of the others.
func (l *listing) Fetch(ctx context.Context) (providers.Reading, error) {
	list, err := l.read(ctx)
	if err != nil {
		failure := *providers.AsError(err)
		failure.Message = "listing the customer's subscribers: " + withoutNumbers(failure.Message)
		return providers.Reading{}, &failure
	}
	roster, kept := l.roster(list.values)
	l.account.warnIfShrunk("customer_id", l.size, roster.Len())
	l.records, l.size = len(list.seen), roster.Len()
	var dropped drops
	dropped.add(providers.DropIncomplete, list.unusable)
	return providers.Reading{Kept: kept, Roster: roster, Dropped: dropped}, nil
}

// restore returns the subscribers of an earlier listing.
func (l *listing) restore(kept []byte) (providers.Roster, error) {
	var found []identifier
	for len(kept) > 0 {
		k := kind(kept[0])
		value, rest, ok := kit.CutText(kept[1:])
		if !ok || int(k) >= len(kinds) || checkIdentifier(value) != "" {
			return nil, errors.New("the identifier of a subscriber cannot be used")
		}
		if kept = rest; !l.account.configured.has(value) {
			found = append(found, identifier{k, value})
		}
	}
	roster, _ := l.roster(found)
	l.records, l.size = roster.Len(), roster.Len()
	return roster, nil
}

// roster returns the subscribers with identifiers, without repetitions and empty ones,
// and their persisted form: a byte for the kind and a compact text for each.
func (l *listing) roster(found []identifier) (r roster, kept []byte) {
	all := newNames()
	var record []byte
	for i, id := range found {
		if id.value == "" {
			continue
		}
		record = identity{kind: id.kind, value: id.value, found: true}.record(record[:0])
		if _, _, ok := all.taken(record); !ok {
			all.add(record, i)
			kept = kit.AppendText(append(kept, byte(id.kind)), id.value)
		}
	}
	return roster{l.account, all.subscribers}, kept
}

func (l *listing) path() string {
	return "/api/v2/customer/" + url.PathEscape(l.customer) + "/subscriber"
}

// read lists by pages, and by cursor where pages will not do.
func (l *listing) read(ctx context.Context) (*tally[identifier], error) {
	pages, err := readPages(ctx, l.account, l.path(), chunk, &unpaged{}, l.decode)
	lied := errors.Is(err, errNotWhole)
	refused := err != nil && (providers.AsError(err).Reason == providers.ReasonBadRequest || errors.Is(err, errFailed) && len(pages.seen) > 0)
	if !lied && !refused {
		return pages, err
	}
	list, byCursor := l.byCursor(ctx)
	if errors.Is(byCursor, errCursorEnded) {
		list, byCursor = l.byCursor(ctx)
	}
	switch least := len(pages.seen); {
	case byCursor == nil && (len(list.seen) < least || lied && len(list.seen) == 0):
		return nil, notWhole("the cursor has %d records after pages with %d", len(list.seen), least)
	case byCursor == nil || !lied:
		return list, byCursor
	}
	switch providers.AsError(byCursor).Reason {
	case providers.ReasonBadRequest, providers.ReasonNotFound:
		return nil, err // the API may have no cursor
	}
	return nil, byCursor
}

// errCursorEnded is an error that may mean that the provider has dropped the cursor.
var errCursorEnded = errors.New("the cursor may have ended")

// byCursor reads chunk after chunk. A request is never sent twice: each one moves
// the cursor on. The list ends at its total; without a total, at an empty chunk.
func (l *listing) byCursor(ctx context.Context) (*tally[identifier], error) {
	t := newTally(maxRecords, l.decode)
	cursor := ""
	for range maxChunks {
		body, err := json.Marshal(map[string]any{"pitId": cursor, "pitKeepAlive": keepAlive, "size": chunk})
		if err != nil {
			return nil, providers.Errorf(providers.ReasonInternal, "listing: %w", err)
		}
		e, err := l.account.ask(ctx, providers.Call{
			Method: http.MethodPost,
			Path:   l.path() + "-all",
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   body,
		})
		if failure := providers.AsError(err); failure != nil {
			if cursor != "" && (errors.Is(err, errFailed) || failure.Reason == providers.ReasonBadRequest) {
				failure.Err = errCursorEnded
			}
			return nil, failure
		}
		n, fresh, err := t.add(e.records, e.TotalRecordAmount)
		if err != nil {
			return nil, err
		}
		amount, _ := e.RecordAmount.Count()
		switch {
		case amount > max(n, len(t.seen)):
			return nil, notWhole("a chunk states %d records and has %d", amount, n)
		case len(t.seen) == t.total, t.total < 0 && n == 0:
			return t, t.check()
		case fresh == 0:
			return nil, notWhole("a chunk has no new record after %d", len(t.seen))
		}
		if e.PitID.Value != "" {
			cursor = e.PitID.Value
		}
		if cursor == "" {
			return nil, notWhole(`"pitId" is missing after %d records`, len(t.seen))
		}
	}
	return nil, notWhole("it has no end after %d chunks", maxChunks)
}

// decode implements [decoder] for the records of both listings. It returns an
// active subscriber by the first of its identifiers that can be used. A subscriber
// that is not active, or that is configured by any of its identifiers, has no value.
func (l *listing) decode(raw kit.Raw) (id identifier, key string, ok bool) {
	var r record
	_ = kit.Unmarshal(raw, &r) // a record of another type has no status
	active, known := r.active()
	if !known || !active {
		return identifier{}, r.key(), known
	}
	identifiers := r.identifiers()
	for _, id := range identifiers {
		if l.account.configured.has(id.value) {
			return identifier{}, r.key(), true
		}
	}
	for _, id := range identifiers {
		if checkIdentifier(id.value) == "" {
			return id, r.key(), true
		}
	}
	return identifier{}, r.key(), false
}

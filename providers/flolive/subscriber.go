package flolive

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

// maxBalances bounds the series of one subscriber, who has a few.
const maxBalances = 1000

// subscriber reads the balances of one subscriber:
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm
type subscriber struct {
	account *account
	identity
	offers atomic.Pointer[offers] // nil while they were not asked for
}

// Key implements [providers.Source].
func (s *subscriber) Key() string { return s.keyText() }

// Kind implements [providers.Source].
func (s *subscriber) Kind() providers.Kind { return providers.KindSubscribers }

// Interval implements [providers.Source].
func (s *subscriber) Interval() time.Duration { return s.account.interval }

// Requests implements [providers.Source]: one for each balance id, as far as they
// are known.
func (s *subscriber) Requests() int {
	ids := s.ids
	if o := s.offers.Load(); ids == "" && o != nil {
		return max(1, len(o.ids))
	}
	return 1 + strings.Count(ids, " ")
}

// Fetch returns the balances of all balance ids together.
func (s *subscriber) Fetch(ctx context.Context) (providers.Reading, error) {
	reading, err := s.read(ctx)
	if err != nil {
		return providers.Reading{}, s.told(err)
	}
	return reading, nil
}

func (s *subscriber) read(ctx context.Context) (providers.Reading, error) {
	if s.found && s.account.taken.has(s.value) {
		// The file has this one by now, and the next listing leaves it out.
		return providers.Reading{AskAfter: listingInterval}, nil
	}
	ids, fresh, err := s.idsToAsk(ctx)
	if err != nil {
		return providers.Reading{}, err
	}
	var list balances
	for _, id := range ids {
		if err := s.account.list(ctx, s.path()+"/balance/"+url.PathEscape(id), list.add); err != nil {
			if !fresh {
				s.doubt(err)
			}
			return providers.Reading{}, err
		}
	}
	reading := providers.Reading{Subscriber: s.label(), Balances: list.rows, Dropped: list.dropped}
	if o := s.offers.Load(); o != nil {
		reading.Kept = o.kept
	}
	return reading, nil
}

func (s *subscriber) path() string {
	return "/api/v2/subscriber/" + s.kind.String() + "/" + url.PathEscape(s.value)
}

// told returns err so that it names the subscriber as it may be shown. Of one with
// a name, no identifier is left, not even one that the provider has echoed.
func (s *subscriber) told(err error) error {
	failure := *providers.AsError(err)
	if s.name != "" {
		failure.Message = withoutNumbers(strings.ReplaceAll(failure.Message, s.value, "…"))
	}
	failure.Message = "subscriber " + s.label() + ": " + failure.Message
	return &failure
}

// balances gathers the rows of one Fetch, each series once.
type balances struct {
	rows    []providers.SubscriberBalance
	seen    map[providers.SubscriberBalance]bool // without values
	dropped map[providers.DropReason]int
}

// add takes one entry of an answer. A row with a missing or wrong part costs only
// itself.
func (b *balances) add(entry json.RawMessage) {
	row, ok := decodeBalance(entry)
	series := row
	series.Value = 0
	switch {
	case !ok:
		b.drop(providers.DropIncomplete)
	case b.seen[series]:
		b.drop(providers.DropDuplicate)
	case len(b.rows) >= maxBalances:
		b.drop(providers.DropMaxSeries)
	default:
		if b.seen == nil {
			b.seen = map[providers.SubscriberBalance]bool{}
		}
		b.seen[series] = true
		b.rows = append(b.rows, row)
	}
}

func (b *balances) drop(reason providers.DropReason) {
	if b.dropped == nil {
		b.dropped = map[providers.DropReason]int{}
	}
	b.dropped[reason]++
}

package flolive

import (
	"context"
	"net/url"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
)

// maxBalances bounds the series of one subscriber, who has a few.
const maxBalances = 1000

// subscriber reads the balances of one subscriber:
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm
type subscriber struct {
	account *account
	identity
	sourceKey string  // of identity
	offers    *offers // nil until they are read
}

// Describe implements [providers.Source]. Fetch sends one request for each balance
// id that is known, or as many as the last list of balances took.
func (s *subscriber) Describe() providers.Description {
	requests := len(s.ids)
	if s.offers != nil {
		requests = len(s.offers.ids)
	}
	return providers.Description{
		Key: s.sourceKey, Name: s.label(), Kind: providers.KindSubscribers, Interval: s.account.interval,
		Requests: max(1, requests) * s.account.balances.requests(), Restore: s.restore,
	}
}

// Fetch returns the balances of all balance ids together.
func (s *subscriber) Fetch(ctx context.Context) (providers.Reading, error) {
	reading, err := s.read(ctx)
	if err != nil {
		return providers.Reading{}, s.named(err)
	}
	return reading, nil
}

func (s *subscriber) read(ctx context.Context) (providers.Reading, error) {
	if s.found && s.account.configured.has(s.value) {
		// The file has had this one since the listing, and the next listing drops it.
		return providers.Reading{AskAfter: listingInterval}, nil
	}
	var dropped drops
	ids, fresh, err := s.idsToAsk(ctx, &dropped)
	if err != nil {
		return providers.Reading{}, err
	}
	var all []providers.SubscriberBalance
	for _, id := range ids {
		list, err := readPages(ctx, s.account, s.path()+"/balance/"+url.PathEscape(id), 0, &s.account.balances, decodeBalance)
		if err != nil {
			if !fresh {
				err = s.doubt(err)
			}
			return providers.Reading{}, err
		}
		dropped.add(providers.DropIncomplete, list.unusable)
		all = append(all, list.values...)
	}
	reading := providers.Reading{Subscriber: s.label(), SubscriberBalances: distinct(all, &dropped)}
	reading.Dropped = dropped
	if s.offers != nil {
		reading.Kept = s.offers.kept()
	}
	return reading, nil
}

func (s *subscriber) path() string {
	return "/api/v2/subscriber/" + s.kind.String() + "/" + url.PathEscape(s.value)
}

// named returns err with the label of the subscriber. The error of a named subscriber
// has no identifier, not even one that the provider echoes.
func (s *subscriber) named(err error) error {
	failure := *providers.AsError(err)
	if s.name != "" {
		failure.Message = withoutNumbers(strings.ReplaceAll(failure.Message, s.value, "…"))
	}
	failure.Message = "subscriber " + s.label() + ": " + failure.Message
	return &failure
}

// distinct returns the first row of each series, at most maxBalances, and counts the
// others in dropped.
func distinct(rows []providers.SubscriberBalance, dropped *drops) []providers.SubscriberBalance {
	seen := map[providers.SubscriberBalance]bool{} // without values
	n := 0
	for _, row := range rows {
		series := row
		series.Value = 0
		switch {
		case seen[series]:
			dropped.add(providers.DropDuplicate, 1)
		case n == maxBalances:
			dropped.add(providers.DropMaxSeries, 1)
		default:
			seen[series] = true
			rows[n] = row
			n++
		}
	}
	return rows[:n:n]
}

// drops counts the rows that a Reading leaves out; nil for none.
type drops map[providers.DropReason]int

func (d *drops) add(reason providers.DropReason, n int) {
	if n == 0 {
		return
	}
	if *d == nil {
		*d = drops{}
	}
	(*d)[reason] += n
}

package flolive

import (
	"context"
	"net/url"

	"github.com/balance-exporter/balance_exporter/providers"
)

// maxBalances bounds the series of one subscriber, who has a few.
const maxBalances = 1000

// subscriber reads the balances of one subscriber:
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm
type subscriber struct {
	account *account
	record  []byte  // of a roster
	offers  *offers // nil until they are read
}

// Describe implements [providers.Source]. Fetch sends one request for each balance
// id that is known, or as many as the last list of balances took.
func (s *subscriber) Describe() providers.Description {
	label, requests := summary(s.record)
	if s.offers != nil {
		requests = len(s.offers.ids)
	}
	return providers.Description{
		Key: keyOf(s.record), Name: label, Kind: providers.KindSubscribers, Interval: s.account.interval,
		Requests: max(1, requests) * s.account.balances.requests(), Restore: s.restore,
	}
}

// Fetch returns the balances of all balance ids together.
func (s *subscriber) Fetch(ctx context.Context) (providers.Reading, error) {
	id := identityOf(s.record)
	reading, err := s.read(ctx, id)
	if err != nil {
		return providers.Reading{}, id.named(err)
	}
	return reading, nil
}

func (s *subscriber) read(ctx context.Context, id identity) (providers.Reading, error) {
	if id.found && s.account.configured.has(id.value) {
		// The file has had this one since the listing, and the next listing drops it.
		return providers.Reading{AskAfter: listingInterval}, nil
	}
	var dropped drops
	ids, fresh, err := s.idsToAsk(ctx, id, &dropped)
	if err != nil {
		return providers.Reading{}, err
	}
	var all []providers.SubscriberBalance
	for _, balance := range ids {
		list, err := readPages(ctx, s.account, id.path()+"/balance/"+url.PathEscape(balance), 0, &s.account.balances, decodeBalance)
		if err != nil {
			if !fresh {
				err = s.doubt(err)
			}
			return providers.Reading{}, err
		}
		dropped.add(providers.DropIncomplete, list.unusable)
		all = append(all, list.values...)
	}
	reading := providers.Reading{Subscriber: id.label(), SubscriberBalances: distinct(all, &dropped)}
	reading.Dropped = dropped
	if s.offers != nil {
		reading.Kept = s.offers.kept()
	}
	return reading, nil
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

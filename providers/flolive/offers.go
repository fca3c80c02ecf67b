package flolive

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

const (
	// offersAge is how long the offers of a subscriber are cached.
	offersAge = 24 * time.Hour
	// maxOffers bounds the requests of one Fetch.
	maxOffers = 100
)

// offers are the offers of a subscriber that have balances.
type offers struct {
	at  time.Time // when they were read, in seconds
	ids []string
}

// kept returns the persisted form of o: the Unix time as a varint, and the compact
// texts of the ids.
func (o offers) kept() []byte {
	kept := binary.AppendVarint(nil, o.at.Unix())
	for _, id := range o.ids {
		kept = kit.AppendText(kept, id)
	}
	return kept
}

// keptOffers returns the offers in their persisted form.
func keptOffers(kept []byte) (offers, error) {
	at, n := binary.Varint(kept)
	if n <= 0 {
		return offers{}, errors.New("the time of the offers is missing")
	}
	o := offers{at: time.Unix(at, 0)}
	for kept = kept[n:]; len(kept) > 0; {
		id, rest, ok := kit.CutText(kept)
		if !ok || checkID(id) != "" {
			return offers{}, errors.New("the id of an offer cannot be used")
		}
		o.ids, kept = append(o.ids, id), rest
	}
	return o, nil
}

// idsToAsk returns the balance ids, and whether they have just been read. What the
// {id} of a balance is, is not documented: the ids of offers fit best, because the
// answer is a list of balances with ids of their own. Offers that cannot be used
// are counted in dropped.
func (s *subscriber) idsToAsk(ctx context.Context, id identity, dropped *drops) (ids []string, fresh bool, err error) {
	if len(id.ids) > 0 {
		return id.ids, false, nil
	}
	if o := s.offers; o != nil && time.Since(o.at) < offersAge {
		return o.ids, false, nil
	}
	list, err := readPages(ctx, s.account, id.path()+"/offer", 0, &s.account.offers, decodeOffer)
	if err != nil {
		return nil, false, err
	}
	for _, o := range list.values {
		if o.hasBalances && !slices.Contains(ids, o.id) {
			ids = append(ids, o.id)
		}
	}
	if len(ids) > maxOffers {
		return nil, false, providers.Errorf(providers.ReasonBadResponse,
			"there are %d offers with balances, and at most %d are read; set balance_ids", len(ids), maxOffers)
	}
	dropped.add(providers.DropIncomplete, list.unusable)
	s.offers = &offers{at: time.Unix(time.Now().Unix(), 0), ids: ids}
	return ids, true, nil
}

// doubt returns err. If it may mean that one of the offers has ended, the next Fetch
// reads them again.
func (s *subscriber) doubt(err error) error {
	failure := *providers.AsError(err)
	if s.offers != nil && (errors.Is(err, errFailed) || failure.Reason == providers.ReasonBadRequest || failure.Reason == providers.ReasonNotFound) {
		s.offers, failure.Forget = nil, true
	}
	return &failure
}

// restore takes the offers of an earlier Fetch.
func (s *subscriber) restore(kept []byte) (providers.Roster, error) {
	if len(kept) == 0 {
		return nil, nil // of a subscriber with balance ids of its own
	}
	o, err := keptOffers(kept)
	if err == nil && !o.at.After(time.Now()) { // else the clock has been set back
		s.offers = &o
	}
	return nil, err
}

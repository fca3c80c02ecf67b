package flolive

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// offersAge is how long the offers of a subscriber are cached.
	offersAge = 24 * time.Hour
	// maxOffers bounds the requests of one Fetch.
	maxOffers = 100
)

// offers are the offers of a subscriber that have balances.
type offers struct {
	At   int64    `json:"at"` // when they were read, in Unix time; 0 to read them again
	IDs  []string `json:"ids"`
	kept []byte   // their persisted form
}

// idsToAsk returns the balance ids, and whether they have just been read. What the
// {id} of a balance is, is not documented: the ids of offers fit best, because the
// answer is a list of balances with ids of their own. Offers that cannot be used
// are counted in dropped.
func (s *subscriber) idsToAsk(ctx context.Context, dropped *drops) (ids []string, fresh bool, err error) {
	if s.ids != "" {
		return s.balanceIDs(), false, nil
	}
	if o := s.offers; o != nil && time.Since(time.Unix(o.At, 0)) < offersAge {
		return o.IDs, false, nil
	}
	list, err := readPages(ctx, s.account, s.path()+"/offer", 0, &s.account.offers, decodeOffer)
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
	o := &offers{At: time.Now().Unix(), IDs: ids}
	if o.kept, err = json.Marshal(o); err != nil {
		return nil, false, err
	}
	s.offers = o
	return ids, true, nil
}

// doubt makes the next Fetch read the offers again if err may mean that one of them
// has ended.
func (s *subscriber) doubt(err error) {
	reason := providers.AsError(err).Reason
	if s.offers != nil && (errors.Is(err, errFailed) || reason == providers.ReasonBadRequest || reason == providers.ReasonNotFound) {
		s.offers.At = 0
	}
}

// restore takes the offers that an earlier process has read.
func (s *subscriber) restore(kept []byte) (providers.Roster, error) {
	if len(kept) == 0 {
		return nil, nil // of a subscriber with balance ids of its own
	}
	o := &offers{kept: kept}
	if err := json.Unmarshal(kept, o); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(o.IDs, func(id string) bool { return checkID(id) != "" }) {
		return nil, errors.New("the id of an offer cannot be used")
	}
	if o.At > time.Now().Unix() {
		o.At = 0 // the clock has been set back
	}
	s.offers = o
	return nil, nil
}

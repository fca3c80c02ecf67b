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
	// offersAge is how long the offers of a subscriber are taken for the current
	// ones.
	offersAge = 24 * time.Hour
	// maxOffers bounds the requests that one Fetch makes.
	maxOffers = 100
)

// offers are the offers of a subscriber that have balances. They are never changed.
type offers struct {
	ids  []string
	at   time.Time // when they were asked for; zero if they are in doubt
	kept []byte    // for after a restart
}

// keptOffers is offers as they are kept.
type keptOffers struct {
	At  int64    `json:"at"` // Unix time
	IDs []string `json:"ids"`
}

// idsToAsk returns the balance ids, and whether they were asked for just now. What
// the {id} of a balance is, is not documented: the ids of offers fit best, as the
// answer is a list of balances with ids of their own.
func (s *subscriber) idsToAsk(ctx context.Context) (ids []string, fresh bool, err error) {
	if s.ids != "" {
		return s.balanceIDs(), false, nil
	}
	if o := s.offers.Load(); o != nil && time.Since(o.at) < offersAge {
		return o.ids, false, nil
	}
	err = s.account.list(ctx, s.path()+"/offer", func(entry json.RawMessage) {
		if id, ok := decodeOffer(entry); ok && !slices.Contains(ids, id) && len(ids) < maxOffers {
			ids = append(ids, id)
		}
	})
	if err != nil {
		return nil, false, err
	}
	now := time.Now()
	kept, err := json.Marshal(keptOffers{At: now.Unix(), IDs: ids})
	if err != nil {
		return nil, false, err
	}
	s.offers.Store(&offers{ids: ids, at: now, kept: kept})
	return ids, true, nil
}

// doubt makes the next Fetch ask for the offers again, if err may mean that one has
// ended since.
func (s *subscriber) doubt(err error) {
	o := s.offers.Load()
	if o == nil {
		return
	}
	reason := providers.AsError(err).Reason
	if codeOf(err) == codeSubscriberFailed || reason == providers.ReasonBadRequest || reason == providers.ReasonNotFound {
		s.offers.Store(&offers{ids: o.ids, kept: o.kept})
	}
}

// Restore implements [providers.Keeper]: it takes the offers of before.
func (s *subscriber) Restore(kept []byte) ([]providers.Source, error) {
	if len(kept) == 0 {
		return nil, nil // of a subscriber with balance ids of its own
	}
	var k keptOffers
	if err := json.Unmarshal(kept, &k); err != nil {
		return nil, err
	}
	for _, id := range k.IDs {
		if checkID(id) != "" {
			return nil, errors.New("an offer has no usable id")
		}
	}
	at := time.Unix(k.At, 0)
	if at.After(time.Now()) {
		at = time.Time{} // by a clock that was set back since
	}
	s.offers.Store(&offers{ids: k.IDs, at: at, kept: kept})
	return nil, nil
}

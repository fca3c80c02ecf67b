package kit

import (
	"fmt"

	"github.com/balance-exporter/balance_exporter/providers"
)

// PriceSet collects the prices of one Fetch: each series once, and no more of them
// than allowed. Its memory is in proportion to the rows that it accepts and to
// their different texts: a row holds numbers of texts, which takes less than a
// third of a [providers.Price].
type PriceSet struct {
	max     int
	rows    []priceRow
	seen    map[priceLabels]struct{}
	numbers map[string]uint32 // of texts
	texts   []string
	dropped map[providers.DropReason]int

	asked func(providers.Price) bool // in Answer
	// complete counts the prices that were complete, dropped or not, and matching
	// those of them that were asked for.
	complete, matching int
}

type priceRow struct {
	labels priceLabels
	amount float64
}

// priceLabels is the identity of a price, its labels, as numbers of texts.
type priceLabels struct {
	subAccount, country, mcc, mnc, operator, numberType, direction, currency uint32
}

// NewPriceSet returns an empty set that accepts at most maxSeries prices.
func NewPriceSet(maxSeries int) *PriceSet {
	return &PriceSet{
		max:     maxSeries,
		seen:    map[priceLabels]struct{}{},
		numbers: map[string]uint32{},
		dropped: map[providers.DropReason]int{},
	}
}

// Add adds a price. One that is not complete lacks a part, and counts as
// DropIncomplete. Texts become label values (see [providers.Label]). Of prices with
// the same labels the first one stays, and the others count as DropDuplicate.
// Prices beyond the maximum count as DropMaxSeries, each time that they are added.
func (s *PriceSet) Add(p providers.Price, complete bool) {
	if !complete {
		s.dropped[providers.DropIncomplete]++
		return
	}
	s.complete++
	if s.asked == nil || s.asked(p) {
		s.matching++
	}
	labels := priceLabels{
		subAccount: s.number(p.SubAccount),
		country:    s.number(p.Country),
		mcc:        s.number(p.MCC),
		mnc:        s.number(p.MNC),
		operator:   s.number(p.Operator),
		numberType: s.number(p.NumberType),
		direction:  s.number(string(p.Direction)),
		currency:   s.number(p.Currency),
	}
	if _, ok := s.seen[labels]; ok {
		s.dropped[providers.DropDuplicate]++
		return
	}
	if len(s.rows) >= s.max {
		s.dropped[providers.DropMaxSeries]++
		return
	}
	s.seen[labels] = struct{}{}
	s.rows = append(s.rows, priceRow{labels, p.Amount})
}

// Answer calls read, which adds the prices of one answer. asked reports a price that
// the request asks for; nil means every price. An answer with rows of which none has
// all its parts, or none was asked for, is an error: the provider has changed the
// form of its rows or answers another request, and has not withdrawn its prices.
func (s *PriceSet) Answer(asked func(providers.Price) bool, read func() error) error {
	s.asked = asked
	complete, matching, incomplete := s.complete, s.matching, s.dropped[providers.DropIncomplete]
	if err := read(); err != nil {
		return err
	}
	complete, matching, incomplete = s.complete-complete, s.matching-matching, s.dropped[providers.DropIncomplete]-incomplete
	switch {
	case complete == 0 && incomplete > 0:
		return fmt.Errorf("none of its prices can be used: %d lack a part or have one of a wrong type", incomplete)
	case complete > 0 && matching == 0:
		return fmt.Errorf("none of its %d prices was asked for", complete)
	}
	return nil
}

// Reading returns the prices in the order in which they were added. The set must
// not be used after it.
func (s *PriceSet) Reading() providers.Reading {
	s.seen, s.numbers = nil, nil // memory for the prices
	var reading providers.Reading
	if len(s.dropped) > 0 {
		reading.Dropped = s.dropped
	}
	if len(s.rows) == 0 {
		return reading
	}
	reading.Prices = make([]providers.Price, len(s.rows))
	for i, r := range s.rows {
		reading.Prices[i] = providers.Price{
			SubAccount: s.texts[r.labels.subAccount],
			Country:    s.texts[r.labels.country],
			MCC:        s.texts[r.labels.mcc],
			MNC:        s.texts[r.labels.mnc],
			Operator:   s.texts[r.labels.operator],
			NumberType: s.texts[r.labels.numberType],
			Direction:  providers.Direction(s.texts[r.labels.direction]),
			Amount:     r.amount,
			Currency:   s.texts[r.labels.currency],
		}
	}
	return reading
}

// number returns the number of a text as a label value.
func (s *PriceSet) number(text string) uint32 {
	text = providers.Label(text)
	n, ok := s.numbers[text]
	if !ok {
		n = uint32(len(s.texts)) //nolint:gosec // a body of 64 MiB has fewer texts
		s.numbers[text] = n
		s.texts = append(s.texts, text)
	}
	return n
}

package eightxeight

import "github.com/balance-exporter/balance_exporter/providers"

// priceList gathers the prices of one Fetch, each series once and no more than
// allowed. Texts repeat from row to row, so that rows are kept as numbers of texts
// until the list is complete: less than a third of the memory.
type priceList struct {
	texts texts
	rows  rowSet
	// incomplete counts series that lack a part.
	incomplete int
}

func newPriceList(maxSeries int) *priceList {
	return &priceList{texts: texts{numbers: map[string]uint32{}}, rows: rowSet{max: maxSeries}}
}

// row is a price; its texts are numbers in a table.
type row struct {
	identity identity
	amount   float64
}

// identity is what makes a price a series of its own: all labels.
type identity struct {
	subAccount, country, mcc, mnc, operator, numberType, direction, currency uint32
}

func (l *priceList) row(p providers.Price) row {
	return row{
		identity: identity{
			subAccount: l.texts.number(p.SubAccount),
			country:    l.texts.number(p.Country),
			mcc:        l.texts.number(p.MCC),
			mnc:        l.texts.number(p.MNC),
			operator:   l.texts.number(p.Operator),
			numberType: l.texts.number(p.NumberType),
			direction:  l.texts.number(string(p.Direction)),
			currency:   l.texts.number(p.Currency),
		},
		amount: p.Amount,
	}
}

func (l *priceList) price(r row) providers.Price {
	return providers.Price{
		SubAccount: l.texts.list[r.identity.subAccount],
		Country:    l.texts.list[r.identity.country],
		MCC:        l.texts.list[r.identity.mcc],
		MNC:        l.texts.list[r.identity.mnc],
		Operator:   l.texts.list[r.identity.operator],
		NumberType: l.texts.list[r.identity.numberType],
		Direction:  providers.Direction(l.texts.list[r.identity.direction]),
		Amount:     r.amount,
		Currency:   l.texts.list[r.identity.currency],
	}
}

// addNamed adds the rows of a sub-account whose id came after them.
func (l *priceList) addNamed(subAccount string, unnamed rowSet) {
	number := l.texts.number(subAccount)
	for _, r := range unnamed.rows {
		r.identity.subAccount = number
		l.rows.add(r)
	}
	l.rows.duplicate += unnamed.duplicate
	l.rows.beyond += unnamed.beyond
}

// reading returns what was gathered. The list must not be used after it.
func (l *priceList) reading() providers.Reading {
	// The tables for finding rows and texts again would only be in the way.
	l.rows.seen, l.texts.numbers = nil, nil

	var reading providers.Reading
	if len(l.rows.rows) > 0 {
		reading.Prices = make([]providers.Price, len(l.rows.rows))
		for i, r := range l.rows.rows {
			reading.Prices[i] = l.price(r)
		}
	}
	for reason, n := range map[providers.DropReason]int{
		providers.DropDuplicate:  l.rows.duplicate,
		providers.DropIncomplete: l.incomplete,
		providers.DropMaxSeries:  l.rows.beyond,
	} {
		if n == 0 {
			continue
		}
		if reading.Dropped == nil {
			reading.Dropped = map[providers.DropReason]int{}
		}
		reading.Dropped[reason] = n
	}
	return reading
}

// rowSet holds up to max rows of different identity, in the order in which they
// came.
type rowSet struct {
	max  int
	rows []row
	seen map[identity]struct{}

	duplicate int // rows that were there already; the first one stays
	// beyond counts rows for which there was no room. Such a row is not
	// remembered: it counts each time it comes.
	beyond int
}

func (s *rowSet) add(r row) {
	if _, ok := s.seen[r.identity]; ok {
		s.duplicate++
		return
	}
	if len(s.rows) >= s.max {
		s.beyond++
		return
	}
	if s.seen == nil {
		s.seen = map[identity]struct{}{}
	}
	s.seen[r.identity] = struct{}{}
	s.rows = append(s.rows, r)
}

// texts is a table of different texts, numbered in the order in which they came.
type texts struct {
	numbers map[string]uint32
	list    []string
}

func (t *texts) number(s string) uint32 {
	n, ok := t.numbers[s]
	if !ok {
		n = uint32(len(t.list)) //nolint:gosec // a body of 64 MiB has fewer texts
		t.numbers[s] = n
		t.list = append(t.list, s)
	}
	return n
}

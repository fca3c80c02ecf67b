package flolivesim

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// Subscribers are all subscribers of the customer, in the order of listings.
// [Fleet] makes many and [Listed] holds a few.
type Subscribers interface {
	// Len returns how many there are.
	Len() int
	// At returns one of them as it is at a moment; i is less than Len.
	At(i int, now time.Time) Subscriber
	// Find returns the index of the one with an identifier of the type
	// imsi, iccid, msisdn or imei.
	Find(kind, value string) (i int, found bool)
}

// Subscriber is a SIM. Fields are as at
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Subscribers.htm.
type Subscriber struct {
	ID    string
	ICCID string
	IMEI  string // may be empty
	Pairs []Pair
	// Status is ACTIVE, SUSPEND, INACTIVE or TERMINATED; empty is ACTIVE.
	Status string
	Offers []Offer
}

// Pair is one IMSI with its telephone number.
type Pair struct {
	IMSI, MSISDN string
}

// Offer is a plan as one subscriber has it.
type Offer struct {
	ID   string // of the offer instance, not of the plan
	Name string
	// Type is USAGE, MONEY or RATE. RATE plans have no balances.
	Type string
	// Cost is JSON text, in units of Currency; empty leaves both out.
	Cost     string
	Currency string
	Balances []Balance
}

// Balance is what is left of an offer.
type Balance struct {
	ID string
	// Unit is the documented field currency: a currency of ISO 4217, a count
	// of messages ("SMS"), KB, MB, GB, or anything else.
	Unit string
	// Value is JSON text and is sent as it stands, in Unit.
	Value string
}

// Listed are subscribers given one by one.
type Listed []Subscriber

// Len returns how many there are.
func (l Listed) Len() int { return len(l) }

// At returns one of them, which does not change with time.
func (l Listed) At(i int, _ time.Time) Subscriber { return l[i] }

// Find returns the first one with an identifier.
func (l Listed) Find(kind, value string) (i int, found bool) {
	for i, subscriber := range l {
		if subscriber.is(kind, value) {
			return i, true
		}
	}
	return 0, false
}

func (s Subscriber) is(kind, value string) bool {
	switch kind {
	case "iccid":
		return s.ICCID == value
	case "imei":
		return s.IMEI == value
	}
	for _, pair := range s.Pairs {
		if kind == "imsi" && pair.IMSI == value || kind == "msisdn" && pair.MSISDN == value {
			return true
		}
	}
	return false
}

func (s *Server) subscriber(to route, query url.Values, now time.Time) simulate.Answer {
	switch to.by {
	case "imsi", "iccid", "msisdn", "imei":
	default:
		return s.failed(CodeInvalid)
	}
	if s.options.Subscribers == nil {
		return s.failed(CodeNoSubscriber)
	}
	i, found := s.options.Subscribers.Find(to.by, to.value)
	if !found {
		return s.failed(CodeNoSubscriber)
	}
	subscriber := s.options.Subscribers.At(i, now)
	switch to.kind {
	case KindBalance:
		return s.balances(subscriber, to.id, query)
	case KindOffers:
		return s.offers(subscriber, query)
	default:
		return s.details(subscriber)
	}
}

// balances answers GET …/balance/{id}. What an unknown id is answered with is
// not documented; an error about the subscriber's details is assumed.
func (s *Server) balances(subscriber Subscriber, id string, query url.Values) simulate.Answer {
	balances, found := s.owned(subscriber, id)
	if !found {
		return s.failed(CodeSubscriberFailed)
	}
	if s.options.EmptyContent {
		balances = nil
	}
	return s.paged(len(balances), query, func(i int) string {
		field := "balanceId"
		if s.options.BalanceIDField == BalanceIDTable || s.options.BalanceIDField == BalanceIDMixed && i%2 == 0 {
			field = "balanceID"
		}
		value := balances[i].Value
		if s.options.ValueAsString {
			value = `"` + strings.Trim(value, `"`) + `"`
		}
		return fmt.Sprintf(`{"%s":%s,"currency":%s,"value":%s}`, field, simulate.Quote(balances[i].ID), simulate.Quote(balances[i].Unit), value)
	})
}

// owned returns the subscriber's balances that {id} stands for.
func (s *Server) owned(subscriber Subscriber, id string) ([]Balance, bool) {
	for _, offer := range subscriber.Offers {
		if !s.options.BalanceByID {
			if offer.ID == id {
				return offer.Balances, true
			}
			continue
		}
		for _, balance := range offer.Balances {
			if balance.ID == id {
				return []Balance{balance}, true
			}
		}
	}
	return nil, false
}

func (s *Server) offers(subscriber Subscriber, query url.Values) simulate.Answer {
	return s.paged(len(subscriber.Offers), query, func(i int) string {
		offer := subscriber.Offers[i]
		cost := ""
		if offer.Cost != "" {
			cost = fmt.Sprintf(`"cost":%s,"currency":%s,`, offer.Cost, simulate.Quote(offer.Currency))
		}
		return fmt.Sprintf(`{"id":%s,"name":%s,"type":%s,"subscriberId":%s,"customerId":%s,"customerName":%s,%s`+
			`"attachTimestamp":"2025-01-15 08:30:00.0","priority":%d,"isIncludingAccessFee":false}`,
			simulate.Quote(offer.ID), simulate.Quote(offer.Name), simulate.Quote(offer.Type), simulate.Quote(subscriber.ID),
			simulate.Quote(s.customerID()), simulate.Quote(defaultCustomerName), cost, i+1)
	})
}

func (s *Server) details(subscriber Subscriber) simulate.Answer {
	return s.success([]string{fmt.Sprintf(
		`{"subscriberIdentifiers":{"iccid":%s,"imsiMsisdnPairs":%s},"customerId":%s,"customerName":%s,"subsStatus":%s,"alias":""}`,
		simulate.Quote(subscriber.ICCID), subscriber.pairs(), simulate.Quote(s.customerID()), simulate.Quote(defaultCustomerName), simulate.Quote(subscriber.status()),
	)}, `""`)
}

// record is a subscriber in a listing.
func (s *Server) record(subscriber Subscriber) string {
	imei := ""
	if subscriber.IMEI != "" {
		imei = `"imei":` + simulate.Quote(subscriber.IMEI) + `,`
	}
	return fmt.Sprintf(`{"subscriberId":%s,"iccid":%s,"status":%s,"imsiMsisdnPairs":%s,%s"customerId":%s,"customerName":%s}`,
		simulate.Quote(subscriber.ID), simulate.Quote(subscriber.ICCID), simulate.Quote(subscriber.status()), subscriber.pairs(), imei,
		simulate.Quote(s.customerID()), simulate.Quote(defaultCustomerName))
}

func (s Subscriber) status() string {
	if s.Status == "" {
		return "ACTIVE"
	}
	return s.Status
}

func (s Subscriber) pairs() string {
	entries := make([]string, len(s.Pairs))
	for i, pair := range s.Pairs {
		active := strconv.FormatBool(i == len(s.Pairs)-1)
		entries[i] = `{"imsi":` + simulate.Quote(pair.IMSI) + `,"msisdn":` + simulate.Quote(pair.MSISDN) + `,"isLastActive":` + active + `}`
	}
	return "[" + strings.Join(entries, ",") + "]"
}

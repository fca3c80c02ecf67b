package flolive

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"unique"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// The structs of this file are those of the documentation's bodies, as far as they
// are needed. Keys that differ in case are accepted: the documentation spells one
// key in two ways.

// envelope is what every answer of the API has in common. Content and Pageable
// are empty strings in the answer to a failure.
type envelope struct {
	ErrorCode    kit.Text `json:"errorCode"`
	ErrorMessage kit.Text `json:"errorMessage"`
	Status       kit.Text `json:"status"` // not documented
	Content      kit.Raw  `json:"content"`
	Pageable     pageable `json:"pageable"`

	// What the listing by cursor has instead of Pageable.
	PitID             kit.Text         `json:"pitId"`
	RecordAmount      kit.QuotedNumber `json:"recordAmount"`
	TotalRecordAmount kit.QuotedNumber `json:"totalRecordAmount"`

	records iter.Seq[kit.Raw] // the elements of Content; nil unless it is a success
}

// pageable says which part of a list an answer is. The zero value says nothing.
type pageable struct {
	Page          kit.QuotedNumber `json:"page"` // from 0
	Size          kit.QuotedNumber `json:"size"`
	TotalPages    kit.QuotedNumber `json:"totalPages"`
	TotalElements kit.QuotedNumber `json:"totalElements"`
}

// decodeEnvelope returns the envelope in a body. A body without any sign of one is
// an error.
func decodeEnvelope(body []byte) (envelope, error) {
	var e envelope
	if err := kit.Unmarshal(body, &e); err != nil {
		return envelope{}, err
	}
	switch {
	case e.ErrorCode.Present && !e.ErrorCode.OK:
		return envelope{}, errors.New(`"errorCode" is not a string`)
	case !e.ErrorCode.Present && e.Content == nil:
		return envelope{}, errors.New(`"errorCode" and "content" are missing`)
	}
	return e, nil
}

// code returns the error code; empty for success.
func (e envelope) code() string { return strings.TrimSpace(e.ErrorCode.Value) }

// contentRecords returns the elements of content: those of a list, or an object as
// the only one. A list may be empty. Missing content, null and an empty text are
// errors: they do not say that there is nothing.
func (e envelope) contentRecords() (iter.Seq[kit.Raw], error) {
	if records, ok := e.Content.Elements(); ok {
		return records, nil
	}
	var t kit.Text
	_ = t.UnmarshalJSON(e.Content) // never fails
	switch {
	case e.Content.Null(), t.OK && strings.TrimSpace(t.Value) == "":
		return nil, errors.New("the answer is a success without content")
	case e.Content[0] == '{':
		return slices.Values([]kit.Raw{e.Content}), nil
	}
	return nil, errors.New(`"content" is neither a list nor an object`)
}

// decodeBalance implements [decoder] for
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm.
func decodeBalance(record kit.Raw) (b providers.SubscriberBalance, key string, ok bool) {
	var wire struct {
		ID       kit.Text         `json:"balanceId"` // and balanceID
		Currency kit.Text         `json:"currency"`
		Value    kit.QuotedNumber `json:"value"`
	}
	if kit.Unmarshal(record, &wire) != nil || wire.ID.Value == "" || !wire.Value.OK {
		return b, "", false
	}
	b.ID, b.Value = wire.ID.Value, wire.Value.Value
	b.Currency, b.Unit = unitOf(wire.Currency.Value)
	if b.Currency == "" && b.Unit == "" {
		return b, "", false
	}
	return b, b.ID + "\x00" + b.Currency + b.Unit, true
}

// unitOf distinguishes money from allowances. The API's field for both is
// `currency`: an ISO 4217 code, or a word that begins with SMS, or KB, MB or GB.
// Anything else becomes a unit as it is. Whether KB, MB and GB count 1000 or 1024
// is not documented, so nothing is converted. A fleet has few different units; each
// is in memory once.
func unitOf(s string) (currency, unit string) {
	s = strings.TrimSpace(s)
	switch upper := strings.ToUpper(s); {
	case strings.HasPrefix(upper, "SMS"):
		return "", "SMS"
	case upper == "KB" || upper == "MB" || upper == "GB":
		return "", unique.Make(upper).Value()
	}
	if code, ok := kit.Currency(s); ok {
		return unique.Make(code).Value(), ""
	}
	return "", unique.Make(s).Value()
}

// offerTypes are the known types of offer, and whether they have balances:
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm.
var offerTypes = map[string]bool{"USAGE": true, "MONEY": true, "RATE": false, "POOL": false}

// offer is an offer of a subscriber.
type offer struct {
	id          string
	hasBalances bool
}

// decodeOffer implements [decoder]. An offer of an unknown type cannot be used.
func decodeOffer(record kit.Raw) (o offer, key string, ok bool) {
	var wire struct {
		ID   kit.Digits `json:"id"`
		Type kit.Text   `json:"type"`
	}
	_ = kit.Unmarshal(record, &wire) // a record of another type has no id
	hasBalances, known := offerTypes[strings.ToUpper(wire.Type.Value)]
	return offer{wire.ID.Value, hasBalances}, wire.ID.Value, known && checkID(wire.ID.Value) == ""
}

// record is a subscriber in a listing:
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Subscribers.htm
type record struct {
	ID     kit.Digits `json:"subscriberId"`
	ICCID  kit.Digits `json:"iccid"`
	Status kit.Text   `json:"status"`
	IMEI   kit.Digits `json:"imei"`
	Pairs  []pair     `json:"imsiMsisdnPairs"`
}

// pair is one IMSI with its telephone number.
type pair struct {
	IMSI       kit.Digits `json:"imsi"`
	MSISDN     kit.Digits `json:"msisdn"`
	LastActive kit.True   `json:"isLastActive"`
}

// key returns what identifies the record in its list; "" if nothing does.
func (r record) key() string {
	if r.ID.Value != "" {
		return "id " + r.ID.Value
	}
	for _, id := range r.identifiers() {
		return id.kind.String() + " " + id.value
	}
	return ""
}

// statuses are the known statuses of a subscriber. Only an active one can have a
// balance worth reading.
var statuses = []string{"ACTIVE", "SUSPEND", "INACTIVE", "TERMINATED"}

// active reports a subscriber that is active; ok is false if the status is not known.
func (r record) active() (active, ok bool) {
	i := slices.Index(statuses, strings.ToUpper(r.Status.Value))
	return i == 0, i >= 0
}

// identifiers returns every identifier of the subscriber, the best one to ask for
// first: an ICCID is the card itself, and reveals the least about its user.
func (r record) identifiers() []identifier {
	var all []identifier
	add := func(k kind, id kit.Digits) {
		if id.Value != "" {
			all = append(all, identifier{k, id.Value})
		}
	}
	add(iccid, r.ICCID)
	for _, active := range []kit.True{true, false} {
		for _, p := range r.Pairs {
			if p.LastActive == active {
				add(imsi, p.IMSI)
			}
		}
	}
	for _, p := range r.Pairs {
		add(msisdn, p.MSISDN)
	}
	add(imei, r.IMEI)
	return all
}

// decodeToken returns the token in the content of an answer to a login. Public code
// finds it at content[0].token; the other names and an object are guesses.
func decodeToken(records iter.Seq[kit.Raw]) (string, error) {
	for record := range records {
		var wire struct {
			Token       kit.Text `json:"token"`
			AccessToken kit.Text `json:"accessToken"`
			OAuth       kit.Text `json:"access_token"`
		}
		_ = kit.Unmarshal(record, &wire) // a record of another type has no token
		for _, t := range []kit.Text{wire.Token, wire.AccessToken, wire.OAuth} {
			if token := strings.TrimSpace(t.Value); token != "" {
				return token, nil
			}
		}
	}
	return "", errors.New("the answer has no token")
}

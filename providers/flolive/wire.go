package flolive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unique"

	"github.com/balance-exporter/balance_exporter/providers"
)

// The structs of this file are those of the documentation's bodies, as far as they
// are needed. One of a wrong type must cost no more than its row; so the leaves
// never fail and say whether they are ok. Keys are compared without regard to
// case, as encoding/json does: the documentation spells one key in two ways.

// text is a JSON string; its invalid UTF-8 is replaced.
type text struct {
	value string
	given bool // there is something other than null
	ok    bool // and it is a text
}

// UnmarshalJSON takes a string and leaves anything else not ok.
func (t *text) UnmarshalJSON(b []byte) error {
	*t = text{given: string(b) != "null"}
	if len(b) > 0 && b[0] == '"' {
		t.ok = json.Unmarshal(b, &t.value) == nil
	}
	return nil
}

// identifier is a text that may come as a JSON number. Its digits are never
// touched.
type identifier struct{ text }

// UnmarshalJSON takes a string as it is, and the digits of a whole number.
func (i *identifier) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && !bytes.ContainsFunc(b, func(r rune) bool { return r < '0' || r > '9' }) {
		i.text = text{value: string(b), given: true, ok: true}
		return nil
	}
	return i.text.UnmarshalJSON(b)
}

// number is a JSON number, or one in quotes, that a float64 can hold.
type number struct {
	value float64
	ok    bool
}

// UnmarshalJSON takes a number and leaves anything else not ok.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number{}
	if len(b) > 0 && b[0] == '"' {
		var quoted string
		if err := json.Unmarshal(b, &quoted); err != nil {
			return nil //nolint:nilerr // a leaf does not fail
		}
		b = []byte(strings.TrimSpace(quoted))
	}
	// strconv alone would take more: hexadecimal, infinities, names.
	if len(b) == 0 || b[0] != '-' && (b[0] < '0' || b[0] > '9') || !json.Valid(b) {
		return nil
	}
	if value, err := strconv.ParseFloat(string(b), 64); err == nil {
		*n = number{value: value, ok: true}
	}
	return nil
}

// count returns n as a whole number from 0; ok is false for anything else.
func (n number) count() (count int, ok bool) {
	if !n.ok || n.value < 0 || n.value > math.MaxInt32 || n.value != math.Trunc(n.value) {
		return 0, false
	}
	return int(n.value), true
}

// envelope is what every answer of the API has in common. Content and Pageable
// are empty strings in the answer to a failure.
type envelope struct {
	ErrorCode    text            `json:"errorCode"`
	ErrorMessage text            `json:"errorMessage"`
	Content      json.RawMessage `json:"content"`
	Pageable     json.RawMessage `json:"pageable"`

	// What the listing by cursor has instead of Pageable.
	PitID             text   `json:"pitId"`
	RecordAmount      number `json:"recordAmount"`
	TotalRecordAmount number `json:"totalRecordAmount"`
}

// decodeEnvelope returns the envelope in a body. A body without any sign of one is
// an error: taken for success without content, it would end values.
func decodeEnvelope(body []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return envelope{}, err
	}
	switch {
	case e.ErrorCode.given && !e.ErrorCode.ok:
		return envelope{}, errors.New(`"errorCode" is no text`)
	case !e.ErrorCode.given && e.Content == nil:
		return envelope{}, errors.New(`neither "errorCode" nor "content" is there`)
	}
	return e, nil
}

// code returns the error code; empty for success.
func (e envelope) code() string { return strings.TrimSpace(e.ErrorCode.value) }

// entries returns the elements of content: those of an array, an object as the
// only one, none for what is missing, null or an empty text.
func (e envelope) entries() ([]json.RawMessage, error) {
	content := bytes.TrimSpace(e.Content)
	if len(content) == 0 || string(content) == "null" {
		return nil, nil
	}
	switch content[0] {
	case '[':
		var entries []json.RawMessage
		err := json.Unmarshal(content, &entries)
		return entries, err
	case '{':
		return []json.RawMessage{content}, nil
	case '"':
		var t text
		if _ = t.UnmarshalJSON(content); t.ok && strings.TrimSpace(t.value) == "" {
			return nil, nil
		}
	}
	return nil, errors.New(`"content" is neither a list nor an object`)
}

// page is which part of a list an answer says it is.
type page struct{ number, size, pages, elements int }

// page returns the page of an answer; ok is false where it does not say.
func (e envelope) page() (p page, ok bool) {
	var wire struct {
		Page          number `json:"page"`
		Size          number `json:"size"`
		TotalPages    number `json:"totalPages"`
		TotalElements number `json:"totalElements"`
	}
	if json.Unmarshal(e.Pageable, &wire) != nil {
		return page{}, false
	}
	p.number, ok = wire.Page.count()
	p.size, _ = wire.Size.count()
	p.pages, _ = wire.TotalPages.count()
	p.elements, _ = wire.TotalElements.count()
	return p, ok
}

// decodeBalance returns one entry of the content of
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm;
// ok is false if a part is missing or of a wrong type.
func decodeBalance(entry json.RawMessage) (b providers.SubscriberBalance, ok bool) {
	var wire struct {
		ID       text   `json:"balanceId"` // and balanceID
		Currency text   `json:"currency"`
		Value    number `json:"value"`
	}
	if json.Unmarshal(entry, &wire) != nil || wire.ID.value == "" || !wire.Value.ok {
		return b, false
	}
	b.ID, b.Value = wire.ID.value, wire.Value.value
	b.Currency, b.Unit = unitOf(wire.Currency.value)
	return b, b.Currency != "" || b.Unit != ""
}

// unitOf tells money from allowances. The API's field for both is `currency`: an
// ISO 4217 code, or a word that begins with SMS, or KB, MB or GB. Anything else
// is passed through as a unit. What KB, MB and GB are, 1000 or 1024, is not
// documented, so nothing is converted.
func unitOf(s string) (currency, unit string) {
	s = strings.TrimSpace(s)
	upper := strings.ToUpper(s)
	switch {
	case strings.HasPrefix(upper, "SMS"):
		return "", "SMS"
	case upper == "KB" || upper == "MB" || upper == "GB":
		return "", unique.Make(upper).Value()
	case len(upper) == 3 && !strings.ContainsFunc(upper, func(r rune) bool { return r < 'A' || r > 'Z' }):
		return unique.Make(upper).Value(), "" // a fleet has few of these
	}
	return "", unique.Make(s).Value()
}

// Types of offer that have balances, from
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm.
const (
	offerUsage = "USAGE"
	offerMoney = "MONEY"
)

// decodeOffer returns the id of an offer; ok is false if the offer has no balances
// or no usable id.
func decodeOffer(entry json.RawMessage) (id string, ok bool) {
	var wire struct {
		ID   identifier `json:"id"`
		Type text       `json:"type"`
	}
	if json.Unmarshal(entry, &wire) != nil || checkID(wire.ID.value) != "" {
		return "", false
	}
	return wire.ID.value, strings.EqualFold(wire.Type.value, offerUsage) || strings.EqualFold(wire.Type.value, offerMoney)
}

// record is a subscriber in a listing:
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Subscribers.htm
type record struct {
	ICCID  identifier `json:"iccid"`
	Status text       `json:"status"`
	IMEI   identifier `json:"imei"`
	Pairs  pairs      `json:"imsiMsisdnPairs"`
}

// pair is one IMSI with its telephone number.
type pair struct {
	IMSI       identifier `json:"imsi"`
	MSISDN     identifier `json:"msisdn"`
	LastActive truth      `json:"isLastActive"`
}

// pairs is a list that may be of a wrong type.
type pairs []pair

// UnmarshalJSON takes a list. An element of a wrong type has nothing in it.
func (p *pairs) UnmarshalJSON(b []byte) error {
	*p = nil
	if len(b) > 0 && b[0] == '[' {
		_ = json.Unmarshal(b, (*[]pair)(p))
	}
	return nil
}

// truth is true for the JSON true and for nothing else.
type truth bool

// UnmarshalJSON takes everything.
func (t *truth) UnmarshalJSON(b []byte) error {
	*t = string(b) == "true"
	return nil
}

// active reports a subscriber that can have a balance worth reading.
func (r record) active() bool { return strings.EqualFold(r.Status.value, "ACTIVE") }

// identifiers returns every identifier of the subscriber, the best one to ask for
// first: an ICCID is the card itself, and tells the least about who uses it.
func (r record) identifiers() []identity {
	var all []identity
	add := func(k kind, i identifier) {
		if i.value != "" {
			all = append(all, identity{kind: k, value: i.value, found: true})
		}
	}
	add(iccid, r.ICCID)
	for _, active := range []truth{true, false} {
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

// decodeToken returns the token in the answer to a login. It was seen at
// content[0].token; the other names and the object are a guess at what else there
// may be.
func decodeToken(e envelope) (string, error) {
	entries, err := e.entries()
	if err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	for _, entry := range entries {
		var wire struct {
			Token       text `json:"token"`
			AccessToken text `json:"accessToken"`
			OAuth       text `json:"access_token"`
		}
		if json.Unmarshal(entry, &wire) != nil {
			continue
		}
		for _, t := range []text{wire.Token, wire.AccessToken, wire.OAuth} {
			if token := strings.TrimSpace(t.value); token != "" {
				return token, checkHeader(token)
			}
		}
	}
	return "", errors.New("login: the answer has no token")
}

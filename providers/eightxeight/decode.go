package eightxeight

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
)

// decodeBalance reads the body of a balance. Both parts have to be there: a 0 for
// a missing amount would wake somebody.
func decodeBalance(r io.Reader) (*providers.Balance, error) {
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("balance: %w", err)
	}
	var wire balanceBody
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("balance: %w", err)
	}
	switch {
	case !wire.Balance.ok:
		return nil, errors.New(`balance: "balance" is missing or is no number`)
	case !wire.Currency.given():
		return nil, errors.New(`balance: "currency" is missing or is no text`)
	}
	return &providers.Balance{Amount: wire.Balance.value, Currency: currency(wire.Currency)}, nil
}

// decodePrices adds the prices of one body to list. Where structure ends and rows
// begin decides what a fault costs: a list or an object that is something else is
// an error, for nobody knows how many rows it stands for; a faulty operator,
// network or number type costs only its own series.
//
// An empty list of sub-accounts is an empty price list. One that is missing or
// null is an error: taking the prices of an account away needs a clear word.
func decodePrices(r io.Reader, list *priceList) error {
	d := &priceDecoder{json: json.NewDecoder(r), prices: list}
	if err := d.body(); err != nil {
		return fmt.Errorf("price list, at byte %d: %w", d.json.InputOffset(), err)
	}
	return nil
}

// priceDecoder walks the tokens of a price list down to a country and from there
// on decodes one operator or number type at a time, so that a body takes little
// more memory than its rows. The walk is a few levels deep, whatever the body is;
// encoding/json bounds the depth of the rest.
//
// A key may come before or after those it belongs to, as in {"outbound": …,
// "subAccountId": …}. Keys are compared like encoding/json does, without regard
// to case.
type priceDecoder struct {
	json   *json.Decoder
	prices *priceList
}

func (d *priceDecoder) body() error {
	if err := d.open('{', "the answer"); err != nil {
		return err
	}
	found := false
	err := d.members(func(key string) error {
		if !strings.EqualFold(key, "subAccounts") {
			return d.skip()
		}
		found = true
		if err := d.open('[', "subAccounts"); err != nil {
			return err
		}
		return d.elements(d.subAccount)
	})
	if err != nil {
		return err
	}
	if !found {
		return errors.New("subAccounts is missing")
	}
	if _, err := d.json.Token(); err != io.EOF { //nolint:errorlint // Token returns it bare
		if err == nil {
			err = errors.New("something follows the end")
		}
		return err
	}
	return nil
}

// subAccount reads one of subAccounts.
func (d *priceDecoder) subAccount() error {
	if err := d.open('{', "a sub-account"); err != nil {
		return err
	}
	var id text
	// unnamed has the rows that come before the id. As many as the list may have
	// are enough: what is dropped here would find no room there.
	unnamed := rowSet{max: d.prices.rows.max}
	emit := func(p providers.Price) {
		if id.given() {
			p.SubAccount = id.value
			d.prices.rows.add(d.prices.row(p))
		} else {
			unnamed.add(d.prices.row(p))
		}
	}
	err := d.members(func(key string) error {
		switch {
		case strings.EqualFold(key, "subAccountId") && !id.given():
			err := d.value(&id)
			if id.given() {
				d.prices.addNamed(id.value, unnamed)
				unnamed = rowSet{}
			}
			return err
		case strings.EqualFold(key, "outbound"):
			return d.countries(providers.Outbound, emit)
		case strings.EqualFold(key, "inbound"):
			return d.countries(providers.Inbound, emit)
		}
		return d.skip()
	})
	d.prices.incomplete += len(unnamed.rows) + unnamed.duplicate + unnamed.beyond
	return err
}

// countries reads the value of outbound or inbound. Schema and examples of the
// documentation contradict each other, so there are four forms, and all mean the
// same: nothing or null, {"countries": […]}, [{"countries": […]}, …] and
// [country, …].
func (d *priceDecoder) countries(direction providers.Direction, emit func(providers.Price)) error {
	token, err := d.token()
	if err != nil {
		return err
	}
	switch token {
	case nil:
		return nil
	case json.Delim('{'):
		return d.country(direction, true, emit)
	case json.Delim('['):
		return d.elements(func() error {
			if err := d.open('{', "an element of "+string(direction)); err != nil {
				return err
			}
			return d.country(direction, true, emit)
		})
	}
	return fmt.Errorf("%s is %s, neither a list nor an object", direction, kindOf(token))
}

// country reads the members of an object: a country or, if wrapped, perhaps one
// that wraps a list of countries.
func (d *priceDecoder) country(direction providers.Direction, wrapped bool, emit func(providers.Price)) error {
	var (
		alpha2      text
		operators   []operator   // that come before the country's code
		numberTypes []numberType // the same
	)
	err := d.members(func(key string) error {
		switch {
		case wrapped && strings.EqualFold(key, "countries"):
			return d.list("countries", func() error {
				if err := d.open('{', "a country"); err != nil {
					return err
				}
				return d.country(direction, false, emit)
			})
		case strings.EqualFold(key, "alpha2Code") && !alpha2.given():
			return d.value(&alpha2)
		case direction == providers.Outbound && strings.EqualFold(key, "operators"):
			return d.list("operators", func() error {
				var o operator
				err := d.value(&o)
				if alpha2.given() {
					d.prices.incomplete += o.prices(alpha2, emit)
				} else {
					operators = append(operators, o)
				}
				return err
			})
		case direction == providers.Inbound && strings.EqualFold(key, "numberTypes"):
			return d.list("numberTypes", func() error {
				var t numberType
				err := d.value(&t)
				if alpha2.given() {
					d.prices.incomplete += t.prices(alpha2, emit)
				} else {
					numberTypes = append(numberTypes, t)
				}
				return err
			})
		}
		return d.skip()
	})
	for _, o := range operators {
		d.prices.incomplete += o.prices(alpha2, emit)
	}
	for _, t := range numberTypes {
		d.prices.incomplete += t.prices(alpha2, emit)
	}
	return err
}

// list reads a list that may be missing: null is none.
func (d *priceDecoder) list(name string, element func() error) error {
	token, err := d.token()
	switch {
	case err != nil:
		return err
	case token == nil:
		return nil
	case token != json.Delim('['):
		return notA('[', name, token)
	}
	return d.elements(element)
}

// elements calls element for each element of the list that is open, and closes
// it.
func (d *priceDecoder) elements(element func() error) error {
	for d.json.More() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := d.token()
	return err
}

// members calls member with the key of each member of the object that is open,
// and closes it. member has to read the value.
func (d *priceDecoder) members(member func(key string) error) error {
	for d.json.More() {
		key, err := d.token()
		if err != nil {
			return err
		}
		name, _ := key.(string) // the decoder takes nothing else for a key
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := d.token()
	return err
}

// open reads the beginning of a list or of an object.
func (d *priceDecoder) open(delim json.Delim, name string) error {
	token, err := d.token()
	if err == nil && token != delim {
		err = notA(delim, name, token)
	}
	return err
}

func (d *priceDecoder) token() (json.Token, error) {
	token, err := d.json.Token()
	return token, inside(err)
}

// value decodes the next value. One of a wrong type is no error; v stays as it
// is.
func (d *priceDecoder) value(v any) error {
	err := d.json.Decode(v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return nil
	}
	return inside(err)
}

func (d *priceDecoder) skip() error { return d.value(&ignored{}) }

// inside is the error of a read before the end of the body: the end comes too
// early there.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func notA(delim json.Delim, name string, token json.Token) error {
	wanted := "an object"
	if delim == '[' {
		wanted = "a list"
	}
	return fmt.Errorf("%s is %s, not %s", name, kindOf(token), wanted)
}

// kindOf names what a token begins.
func kindOf(token json.Token) string {
	switch token {
	case nil:
		return "null"
	case json.Delim('{'):
		return "an object"
	case json.Delim('['):
		return "a list"
	}
	switch token.(type) {
	case string:
		return "a text"
	case float64:
		return "a number"
	case bool:
		return "true or false"
	}
	return "out of place"
}

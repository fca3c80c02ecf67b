package yeastar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// envelope is around every answer:
// https://help.yeastar.com/en/pp-ptr/developer-guide/response-results.html
type envelope struct {
	Code      text   `json:"code"` // "success", or what is wrong
	Detail    text   `json:"detailMessage"`
	RequestID text   `json:"requestId"`
	Status    number `json:"status"` // the HTTP status
	// Result depends on the request, and on an error it is a detail of that. It is
	// not to be decoded before the answer is known to be a success.
	Result json.RawMessage `json:"result"`

	// Error and ErrorDescription stand for code and detailMessage where the token
	// server answers by itself.
	Error            text `json:"error"`
	ErrorDescription text `json:"error_description"`
}

// isSuccess reports whether the body says so. The HTTP status has to say it too.
func (e envelope) isSuccess() bool {
	return strings.EqualFold(string(e.Code), "success") &&
		(!e.Status.given || e.Status.ok && e.Status.value >= 200 && e.Status.value < 300)
}

func (e envelope) errorStatus() (status int, ok bool) {
	if !e.Status.ok || e.Status.value < 400 || e.Status.value >= 600 {
		return 0, false
	}
	return int(e.Status.value), true
}

// text is a JSON string or number as text, and empty for anything else.
type text string

// UnmarshalJSON never fails: a text is only ever shown or compared.
func (t *text) UnmarshalJSON(b []byte) error {
	*t = ""
	switch {
	case b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = text(s)
	case isNumber(b):
		*t = text(b)
	}
	return nil
}

// number is a JSON number, or a string that holds one.
type number struct {
	value float64
	ok    bool // value is what the provider sent
	given bool // there is something, number or not
}

// UnmarshalJSON leaves what is no number, or none that a float64 can hold, not ok.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number{given: string(b) != "null"}
	if b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		b = []byte(strings.TrimSpace(s))
	}
	if !isNumber(b) {
		return nil
	}
	if value, err := strconv.ParseFloat(string(b), 64); err == nil {
		n.value, n.ok = value, true
	}
	return nil
}

// isNumber reports a number by the grammar of JSON, which has no NaN, no infinity
// and no hexadecimal digits.
func isNumber(b []byte) bool {
	return len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9') && json.Valid(b)
}

// decodeResult reads the result of a success into dst.
func decodeResult(r io.Reader, dst any) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	if err := json.Unmarshal(e.Result, dst); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}

// decodeBalance returns the balance. It has to be there: a 0 for a missing amount
// would wake somebody.
func decodeBalance(r io.Reader) (float64, error) {
	var result struct {
		AccountBalance number `json:"accountBalance"`
	}
	if err := decodeResult(r, &result); err != nil {
		return 0, fmt.Errorf("balance: %w", err)
	}
	if !result.AccountBalance.ok {
		return 0, errors.New(`balance: "accountBalance" is missing or is no number`)
	}
	return result.AccountBalance.value, nil
}

// issuedToken is the result of a request for a token. Its tokenHead, with or
// without a space at its end, is not needed.
type issuedToken struct {
	access  string
	refresh string // empty: none
	life    time.Duration
}

func decodeToken(r io.Reader) (issuedToken, error) {
	var result struct {
		Token        text   `json:"token"`
		RefreshToken text   `json:"refreshToken"`
		ExpiresIn    number `json:"expiresIn"` // seconds, documented as a string
	}
	if err := decodeResult(r, &result); err != nil {
		return issuedToken{}, fmt.Errorf("token: %w", err)
	}
	t := issuedToken{
		access:  strings.TrimSpace(string(result.Token)),
		refresh: string(result.RefreshToken),
		life:    life(result.ExpiresIn),
	}
	switch {
	case t.access == "":
		return issuedToken{}, errors.New(`token: "token" is missing or is no text`)
	case strings.ContainsFunc(t.access, func(r rune) bool { return r <= ' ' || r > unicode.MaxASCII || r == 0x7f }):
		return issuedToken{}, errors.New(`token: "token" has characters that cannot be sent in a header`)
	}
	return t, nil
}

// life returns how long a token is valid, which may be less than the documented
// time if it was issued before.
func life(expiresIn number) time.Duration {
	if !expiresIn.ok || expiresIn.value < 0 {
		return accessLife
	}
	return time.Duration(min(expiresIn.value, refreshLife.Seconds()) * float64(time.Second))
}

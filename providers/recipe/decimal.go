package recipe

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxDigits bounds the text of a number, and number its exponent, because exact
// division takes memory in proportion to both.
const maxDigits = 100

var number = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?0*[0-9]{1,3})?$`)

// isNumber reports whether text is a JSON number.
func isNumber(text string) bool { return len(text) <= maxDigits && number.MatchString(text) }

// amount returns a JSON number, or a text that holds one, divided in decimal: only the
// result is rounded, to the nearest float64. A number that the expression itself has
// made is refused, because the provider did not send it.
func amount(v any, divide int64) (float64, error) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	case nil:
		return 0, errors.New("is null or missing")
	case int, float64, *big.Int:
		return 0, errors.New("is a number of the expression, not one of the answer")
	default:
		return 0, errors.New("is " + kindOf(v) + ", not a number")
	}
	if !isNumber(text) {
		return 0, errors.New("is a text that is not a number")
	}
	var result float64
	if divide == 1 {
		result, _ = strconv.ParseFloat(text, 64) // beyond the range it is infinite
	} else {
		exact, _ := new(big.Rat).SetString(text) // the form has been checked
		result, _ = exact.Quo(exact, new(big.Rat).SetInt64(divide)).Float64()
	}
	if math.IsInf(result, 0) {
		return 0, errors.New("is a number out of range")
	}
	return result, nil
}

// moment returns a time that is Unix seconds, RFC 3339, or of a layout as in package
// time, in UTC. Null, an empty text and 0 are no time.
func moment(v any, layout string) (time.Time, error) {
	var text string
	switch v := v.(type) {
	case nil:
	case string:
		text = strings.TrimSpace(v)
	case json.Number:
		text = v.String()
	default:
		return time.Time{}, errors.New("is " + kindOf(v) + ", not a time")
	}
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	if isNumber(text) {
		if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < maxUnix {
			return time.UnixMilli(int64(seconds * 1000)).UTC(), nil
		}
		return time.Time{}, errors.New("is a number that is no Unix time in seconds")
	}
	if layout == "" {
		layout = time.RFC3339
	}
	at, err := time.Parse(layout, text)
	if err != nil {
		return time.Time{}, errors.New("is a text that is no time of the form " + layout)
	}
	return at.UTC(), nil
}

// maxUnix is the end of the year 9999; more than that are milliseconds.
const maxUnix = 253402300800

package flolive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/balance-exporter/balance_exporter/providers"
)

// kind is a type of identifier, one of those that the API takes:
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm
type kind uint8

const (
	iccid kind = iota
	imsi
	msisdn
	imei
)

// kinds has the types as the API spells them.
var kinds = []string{iccid: "iccid", imsi: "imsi", msisdn: "msisdn", imei: "imei"}

// String returns the type as the API spells it.
func (k kind) String() string { return kinds[k] }

const (
	maxValue = 64  // bytes; an ICCID, the longest, has 20 digits
	maxName  = 256 // bytes, as of every label
	maxID    = 200 // bytes; a UUID has 36
	hashSize = 8   // bytes of the hash in a key
)

// identifier is one of the identifiers of a subscriber.
type identifier struct {
	kind  kind
	value string
}

// identity is a subscriber as configured or found. A fleet has many, and keeps each as a
// record.
type identity struct {
	kind  kind
	found bool     // by a listing
	value string   // of the identifier; personal data
	name  string   // shown instead of value; may be empty
	ids   []string // of balances; may be empty
}

// fault is what is wrong with a subscriber. It never shows an identifier.
type fault struct {
	field string // as in the configuration
	text  string
}

// newIdentity returns a checked identity.
func newIdentity(kindName, value, name string, ids []string) (identity, *fault) {
	k := slices.Index(kinds, strings.ToLower(kindName))
	switch {
	case k < 0:
		return identity{}, &fault{"type", "must be one of " + strings.Join(kinds, ", ")}
	case checkIdentifier(value) != "":
		return identity{}, &fault{"value", checkIdentifier(value)}
	case len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.TrimSpace(name) != name:
		return identity{}, &fault{"name", fmt.Sprintf("must be one line of text of at most %d bytes, without spaces around it", maxName)}
	}
	for i, id := range ids {
		text := checkID(id)
		if slices.Contains(ids[:i], id) {
			text = "is listed twice"
		}
		if text != "" {
			return identity{}, &fault{fmt.Sprintf("balance_ids[%d]", i), text}
		}
	}
	return identity{kind: kind(k), value: value, name: name, ids: ids}, nil //nolint:gosec // an index of four
}

// checkIdentifier returns what is wrong with the value of an identifier; "" for
// nothing.
func checkIdentifier(value string) string {
	switch {
	case value == "":
		return "is missing: the identifier of the subscriber"
	case len(value) > maxValue || strings.ContainsFunc(value, notInIdentifier):
		return fmt.Sprintf("must be the digits of an identifier, at most %d", maxValue)
	}
	return ""
}

// notInIdentifier reports a character that no identifier has. Letters are for ICCIDs, which may
// have hexadecimal digits, and the plus for telephone numbers.
func notInIdentifier(r rune) bool {
	return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && r != '+'
}

// checkID returns what is wrong with the id of a balance; "" for nothing. The form of
// an id is not documented, so it only has to fit into a path.
func checkID(id string) string {
	switch {
	case id == "":
		return "must not be empty"
	case len(id) > maxID || id == "." || id == ".." || !utf8.ValidString(id) || strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Sprintf("must be one word of at most %d bytes", maxID)
	}
	return ""
}

// key returns the key of the subscriber's source, a hash in hexadecimal digits in
// which nothing can be recognised. A subscriber of a listing has another key than the
// same subscriber of the configuration, because the two come and go independently.
func (id identity) key() string {
	hash := id.hash()
	return hex.EncodeToString(hash[:])
}

func (id identity) hash() [hashSize]byte {
	text := append(make([]byte, 0, 160), id.kind.String()...)
	if id.found {
		text = append(text, "\x00found"...)
	}
	text = append(append(text, 0), id.value...)
	text = append(append(text, 0), id.name...)
	ids := id.ids
	if len(ids) > 1 {
		ids = slices.Sorted(slices.Values(ids))
	}
	for _, balance := range ids {
		text = append(append(text, 0), balance...)
	}
	sum := sha256.Sum256(text)
	return [hashSize]byte(sum[:])
}

// label returns the label `subscriber`.
func (id identity) label() string {
	if id.name != "" {
		return id.name
	}
	return id.value
}

// path returns the path of the subscriber in the API.
func (id identity) path() string {
	return "/api/v2/subscriber/" + id.kind.String() + "/" + url.PathEscape(id.value)
}

// named returns err with the label of the subscriber. The error of a named subscriber
// has no identifier, not even one that the provider echoes.
func (id identity) named(err error) error {
	failure := *providers.AsError(err)
	if id.name != "" {
		failure.Message = withoutNumbers(strings.ReplaceAll(failure.Message, id.value, "…"))
	}
	failure.Message = "subscriber " + id.label() + ": " + failure.Message
	return &failure
}

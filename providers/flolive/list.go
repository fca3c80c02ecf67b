package flolive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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
	maxID    = 200 // bytes; a UUID has 36
)

// identity is a subscriber as configured or found. Fleets have many, so it is
// small: the balance ids share one string.
type identity struct {
	key   [8]byte // of all the rest
	kind  kind
	found bool   // by listing
	value string // of the identifier; personal data
	name  string // shown instead of value; may be empty
	ids   string // balance ids, with a space between two; may be empty
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
	case value == "":
		return identity{}, &fault{"value", "is missing: the identifier of the subscriber"}
	case len(value) > maxValue || strings.ContainsFunc(value, notInIdentifier):
		return identity{}, &fault{"value", fmt.Sprintf("must be the digits of an identifier, at most %d", maxValue)}
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.TrimSpace(name) != name:
		return identity{}, &fault{"name", "must be one line of text, without spaces around it"}
	}
	for i, id := range ids {
		field := fmt.Sprintf("balance_ids[%d]", i)
		if text := checkID(id); text != "" {
			return identity{}, &fault{field, text}
		}
		if slices.Contains(ids[:i], id) {
			return identity{}, &fault{field, "is listed twice"}
		}
	}
	return identity{kind: kind(k), value: value, name: name, ids: strings.Join(ids, " ")}.hashed(), nil //nolint:gosec // an index of four
}

// notInIdentifier reports what no identifier has. Letters are for ICCIDs, which may
// have hexadecimal digits, and the plus for telephone numbers.
func notInIdentifier(r rune) bool {
	return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && r != '+'
}

// checkID says what is wrong with the id of a balance; "" for nothing. What an id
// looks like is not documented, so it only has to fit into a path.
func checkID(id string) string {
	switch {
	case id == "":
		return "must not be empty"
	case len(id) > maxID || id == "." || id == ".." || !utf8.ValidString(id) || strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Sprintf("must be one word of at most %d bytes", maxID)
	}
	return ""
}

// hashed returns id with its key, in which nothing can be recognised. A subscriber
// that was found has another one than the same subscriber by configuration: the
// two come and go independently.
func (id identity) hashed() identity {
	ids := id.balanceIDs()
	slices.Sort(ids)
	text := make([]byte, 0, 160)
	text = append(text, id.kind.String()...)
	if id.found {
		text = append(text, "\x00found"...)
	}
	for _, s := range append([]string{id.value, id.name}, ids...) {
		text = append(append(text, 0), s...)
	}
	sum := sha256.Sum256(text)
	copy(id.key[:], sum[:])
	return id
}

// balanceIDs returns the ids apart.
func (id identity) balanceIDs() []string { return strings.Fields(id.ids) }

// label returns what is shown of the subscriber.
func (id identity) label() string {
	if id.name != "" {
		return id.name
	}
	return id.value
}

// keyText returns the key in hexadecimal digits.
func (id identity) keyText() string { return hex.EncodeToString(id.key[:]) }

// names are the names and identifiers of subscribers, and where each was given:
// an index or a number of a line. Both are in one namespace, because both become
// the label `subscriber`, whatever the type of the identifier.
type names map[string]int

// holder returns which part of id is taken already, and by whom.
func (n names) holder(id identity) (part string, where int, held bool) {
	if where, held = n[id.name]; held && id.name != "" {
		return "name", where, true
	}
	where, held = n[id.value]
	return "identifier", where, held
}

func (n names) add(id identity, where int) {
	n[id.value] = where
	if id.name != "" {
		n[id.name] = where
	}
}

// taken is what the configuration has said about subscribers, which goes before
// what a listing finds: that is how some subscribers of a customer get a name. It
// is only kept where there is a listing.
type taken struct {
	list names
	file atomic.Pointer[names]
}

// has reports an identifier that is configured.
func (t *taken) has(value string) bool {
	_, held := t.list[value]
	if file := t.file.Load(); !held && file != nil {
		_, held = (*file)[value]
	}
	return held
}

// subscribers returns the sources of identities.
func (a *account) subscribers(ids []identity) []providers.Source {
	sources := make([]providers.Source, len(ids))
	for i, id := range ids {
		sources[i] = &subscriber{account: a, identity: id}
	}
	return sources
}

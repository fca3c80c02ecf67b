package providertest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

// failure checks what holds for every error, and returns it. The case, as the
// others below, is for the message of a failed check.
func (w *world) failure(err error, in ...any) providers.Error {
	w.t.Helper()
	require.Error(w.t, err, fmt.Sprint(in...))
	var e *providers.Error
	require.ErrorAs(w.t, err, &e, fmt.Sprint(in...))
	require.Contains(w.t, providers.Reasons(), e.Reason, fmt.Sprint(in...))
	require.NotEmpty(w.t, e.Message, fmt.Sprint(in...))
	require.GreaterOrEqual(w.t, e.RetryAfter, 0*timeout, fmt.Sprint(in...))
	for _, text := range []string{e.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		require.True(w.t, utf8.ValidString(text), "%q in %v", text, in)
		w.hides(text)
	}
	for cause := error(e); cause != nil; cause = errors.Unwrap(cause) {
		w.hides(cause.Error())
	}
	return *e
}

// fails checks that err is an error for one of the reasons.
func (w *world) fails(err error, reasons []providers.Reason, in ...any) providers.Error {
	w.t.Helper()
	e := w.failure(err, in...)
	require.Contains(w.t, reasons, e.Reason, "%v: %s", in, err)
	return e
}

func because(reasons ...providers.Reason) []providers.Reason { return reasons }

// recognisable is how many characters of a secret give it away.
const recognisable = 8

// hides checks that no part of a secret is recognisable in text.
func (w *world) hides(text string) {
	w.t.Helper()
	for _, s := range w.secrets() {
		quoted := strconv.Quote(s)
		for _, form := range []string{
			s, url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1],
			base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
		} {
			for start := 0; start+recognisable <= len(form); start++ {
				part := form[start : start+recognisable]
				require.False(w.t, strings.Contains(text, part), "%q of the secret %q is in %q", part, s, text)
			}
		}
	}
}

// value is one number of a reading.
type value struct {
	identity string
	amount   float64
}

// values returns the numbers of a reading in the order of their identities.
func values(r providers.Reading) []value {
	var all []value
	if b := r.Balance; b != nil {
		all = append(all, value{"balance " + b.Currency, b.Amount})
	}
	for _, p := range r.Prices {
		amount := p.Amount
		p.Amount = 0
		all = append(all, value{fmt.Sprintf("price %+v", p), amount})
	}
	for _, b := range r.Balances {
		amount := b.Value
		b.Value = 0
		all = append(all, value{fmt.Sprintf("subscriber %q %+v", r.Subscriber, b), amount})
	}
	slices.SortFunc(all, func(a, b value) int { return strings.Compare(a.identity, b.identity) })
	return all
}

// sound checks what holds for every reading. sent are the numbers that the provider
// has sent; nil if they are not known.
func (w *world) sound(r providers.Reading, sent map[float64]bool, in ...any) {
	w.t.Helper()
	seen := map[string]bool{}
	for _, v := range values(r) {
		require.False(w.t, seen[v.identity], "twice: %s %v", v.identity, in)
		seen[v.identity] = true
		require.True(w.t, utf8.ValidString(v.identity), "%q %v", v.identity, in)
		require.False(w.t, math.IsNaN(v.amount) || math.IsInf(v.amount, 0), "%v %v", v, in)
		if sent != nil {
			require.True(w.t, sent[v.amount], "%v was never sent: %v", v, in)
		}
	}
	if r.Balance != nil {
		require.NotEmpty(w.t, r.Balance.Currency, fmt.Sprint(in...))
	}
	for _, p := range r.Prices {
		require.Contains(w.t, []providers.Direction{providers.Outbound, providers.Inbound}, p.Direction, fmt.Sprint(in...))
		require.NotEmpty(w.t, p.Currency, fmt.Sprint(in...))
	}
	for _, b := range r.Balances {
		require.True(w.t, (b.Currency == "") != (b.Unit == ""), "either currency or unit: %+v %v", b, in)
		require.NotEmpty(w.t, r.Subscriber, fmt.Sprint(in...))
	}
	for reason, n := range r.Dropped {
		require.Contains(w.t, providers.DropReasons(), reason, fmt.Sprint(in...))
		require.GreaterOrEqual(w.t, n, 0, fmt.Sprint(in...))
	}
	require.Contains(w.t, []providers.Billing{"", providers.BillingUnknown, providers.BillingPrepaid, providers.BillingPostpaid}, r.Billing, fmt.Sprint(in...))
	require.GreaterOrEqual(w.t, r.AskAfter, 0*timeout, fmt.Sprint(in...))
	w.hides(string(r.Kept))
	distinct(w.t, r.Roster)
}

func distinct(t *testing.T, sources []providers.Source) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range sources {
		require.NotEmpty(t, s.Key())
		require.False(t, seen[s.Key()], "the key %q is there twice", s.Key())
		seen[s.Key()] = true
	}
}

// numbers adds the numbers of a JSON text to sent, those in strings included.
func numbers(body []byte, sent map[float64]bool) {
	walk(decode(body), func(node any) {
		var text string
		switch node := node.(type) {
		case json.Number:
			text = string(node)
		case string:
			text = strings.TrimSpace(node)
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			sent[f] = true
		}
	})
}

// decode returns the nodes of a JSON text; nil if it is none.
func decode(body []byte) any {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var root any
	if d.Decode(&root) != nil {
		return nil
	}
	return root
}

func walk(node any, visit func(node any)) {
	visit(node)
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			walk(child, visit)
		}
	case map[string]any:
		for _, child := range node {
			walk(child, visit)
		}
	}
}

// absent stands for a node that is left out.
var absent any = struct{}{}

// edit returns a copy of the tree with each node replaced by what change returns.
// Nodes are visited in a fixed order, children after their parents were changed.
func edit(node any, change func(node any) any) any {
	switch node := change(node).(type) {
	case []any:
		edited := make([]any, 0, len(node))
		for _, child := range node {
			if child = edit(child, change); child != absent {
				edited = append(edited, child)
			}
		}
		return edited
	case map[string]any:
		edited := make(map[string]any, len(node))
		keys := make([]string, 0, len(node))
		for key := range node {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if child := edit(node[key], change); child != absent {
				edited[key] = child
			}
		}
		return edited
	default:
		return node
	}
}

// encode is the opposite of decode. The text invalid becomes bytes that are no
// UTF-8.
func encode(t *testing.T, root any) []byte {
	t.Helper()
	body, err := json.Marshal(root)
	require.NoError(t, err)
	return bytes.ReplaceAll(body, []byte(invalid), []byte("\xff\xc0\xaf"))
}

const invalid = "invalid-UTF-8-goes-here"

package providertest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Bounds on what an error says, in characters.
const (
	maxMessage = 1000
	maxID      = 100
)

// failure checks what holds for every error, and returns it. The case, as the
// others below, is for the message of a failed check.
func (w *world) failure(err error, in ...any) providers.Error {
	w.t.Helper()
	require.Error(w.t, err, about(in))
	var e *providers.Error
	require.ErrorAs(w.t, err, &e, about(in))
	require.Contains(w.t, providers.Reasons(), e.Reason, about(in))
	require.NotEmpty(w.t, e.Message, about(in))
	require.LessOrEqual(w.t, utf8.RuneCountInString(e.Message), maxMessage, "the message is too long: %.200q… in %v", e.Message, in)
	require.LessOrEqual(w.t, utf8.RuneCountInString(e.ID), maxID, "the id is too long: %.200q… in %v", e.ID, in)
	require.GreaterOrEqual(w.t, e.RetryAfter, 0*timeout, about(in))
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
	require.Contains(w.t, reasons, e.Reason, "%s: %s", about(in), err)
	return e
}

// about returns the case of a check as text.
func about(in []any) string { return strings.TrimSpace(fmt.Sprintln(in...)) }

func because(reasons ...providers.Reason) []providers.Reason { return reasons }

// recognisable is how many characters of a secret give it away.
const recognisable = 8

// hides checks that no part of a secret is recognisable in text.
func (w *world) hides(text string) {
	w.t.Helper()
	for _, s := range w.secrets() {
		quoted := strconv.Quote(s)
		forms := []string{s, url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1]}
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			// Three forms, because 3 bytes are 4 characters, as in "user:secret".
			forms = append(forms, encoding.EncodeToString([]byte(s)),
				encoding.EncodeToString([]byte("x" + s))[4:], encoding.EncodeToString([]byte("xx" + s))[4:])
		}
		for _, form := range forms {
			for start := 0; start+recognisable <= len(form); start++ {
				if part := form[start : start+recognisable]; strings.Contains(text, part) {
					require.Fail(w.t, "a secret shows", "%q of the secret %q is in %q", part, s, text)
				}
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
	for _, b := range r.Balances {
		all = append(all, value{fmt.Sprintf("balance %s %q", b.Currency, b.Wallet), b.Amount})
	}
	for _, p := range r.Prices {
		amount := p.Amount
		p.Amount = 0
		all = append(all, value{fmt.Sprintf("price %+v", p), amount})
	}
	for _, b := range r.SubscriberBalances {
		amount := b.Value
		b.Value = 0
		all = append(all, value{fmt.Sprintf("subscriber %q %+v", r.Subscriber, b), amount})
	}
	slices.SortFunc(all, func(a, b value) int { return strings.Compare(a.identity, b.identity) })
	return all
}

// contents returns what a reading holds: its values, and the keys of its roster.
func contents(r providers.Reading) []string {
	var all []string
	for _, v := range values(r) {
		all = append(all, fmt.Sprintf("%s = %v", v.identity, v.amount))
	}
	for s := range providers.Sources(r.Roster) {
		all = append(all, "source "+s.Describe().Key)
	}
	slices.Sort(all)
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
	for _, b := range r.Balances {
		require.NotEmpty(w.t, b.Currency, about(in))
	}
	for _, p := range r.Prices {
		require.Contains(w.t, []providers.Direction{providers.Outbound, providers.Inbound}, p.Direction, about(in))
		require.NotEmpty(w.t, p.Currency, about(in))
	}
	for _, b := range r.SubscriberBalances {
		require.True(w.t, (b.Currency == "") != (b.Unit == ""), "either currency or unit: %+v %v", b, in)
		require.NotEmpty(w.t, r.Subscriber, about(in))
	}
	for reason, n := range r.Dropped {
		require.Contains(w.t, providers.DropReasons(), reason, about(in))
		require.GreaterOrEqual(w.t, n, 0, about(in))
	}
	require.Contains(w.t, []providers.Billing{"", providers.BillingUnknown, providers.BillingPrepaid, providers.BillingPostpaid}, r.Billing, about(in))
	require.GreaterOrEqual(w.t, r.AskAfter, 0*timeout, about(in))
	w.hides(string(r.Kept))
	roster(w.t, r.Roster)
}

// roster checks the contract of [providers.Roster].
func roster(t *T, r providers.Roster) {
	t.Helper()
	sources := slices.Collect(providers.Sources(r))
	distinct(t, sources)
	for i, s := range sources {
		d, first := s.Describe(), sources[0].Describe()
		require.Equal(t, r.Key(i), d.Key)
		require.Equal(t, first.Kind, d.Kind, "the sources of a roster are of one kind")
		require.Equal(t, first.Interval, d.Interval, "the sources of a roster have one interval")
	}
}

// whole checks that a reading has the contents of good, unless there is an error.
func (w *world) whole(good, got providers.Reading, err error, in ...any) {
	w.t.Helper()
	if err != nil {
		w.failure(err, in...)
		return
	}
	require.Equal(w.t, contents(good), contents(got), about(in))
}

func distinct(t *T, sources []providers.Source) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range sources {
		key := s.Describe().Key
		require.NotEmpty(t, key)
		require.False(t, seen[key], "the key %q is there twice", key)
		seen[key] = true
	}
}

package providertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

// testSources: sources are told apart by keys that are stable, unique and show no
// secret, and opening an account sends nothing.
func testSources(t *testing.T, h Harness) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, h, generous)
		require.Zero(t, w.requests.Len(), "opening sends nothing")
		require.NotEmpty(t, w.config.Identity())
		w.hides(w.config.Identity())
		w.hides(fmt.Sprintf("%v %+v %#v", w.config, w.config, w.config))

		kinds := map[providers.Kind]bool{}
		for _, p := range w.config.Parts() {
			require.Contains(t, providers.Kinds(), p.Kind)
			require.False(t, kinds[p.Kind], "%s is there twice", p.Kind)
			kinds[p.Kind] = true
			require.Positive(t, p.Interval)
			require.GreaterOrEqual(t, p.MaxAge, p.Interval)
		}

		keys := func(sources []providers.Source) []string {
			distinct(t, sources)
			var keys []string
			for _, s := range sources {
				keys = append(keys, s.Key())
				require.True(t, kinds[s.Kind()], "%s is turned off", s.Kind())
				require.Positive(t, s.Interval())
				require.Positive(t, s.Requests())
			}
			return keys
		}
		require.Equal(t, keys(w.account.Sources()), keys(newWorld(t, h, generous).account.Sources()))
		first := keys(w.sources())
		require.NotEmpty(t, first)
		require.Equal(t, first, keys(newWorld(t, h, generous).sources()))
		for _, key := range first {
			w.hides(key)
		}
	})
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		_, s := open()
		keeper, ok := s.(providers.Keeper)
		if !ok {
			return
		}
		reading, err := keeper.Fetch(t.Context())
		require.NoError(t, err)
		_, s = open()
		roster, err := s.(providers.Keeper).Restore(reading.Kept)
		require.NoError(t, err)
		require.Len(t, roster, len(reading.Roster))
		for i, found := range reading.Roster {
			require.Equal(t, found.Key(), roster[i].Key())
		}
		_, s = open()
		_, err = s.(providers.Keeper).Restore([]byte("\x00no state"))
		require.Error(t, err)
	})
}

// testGoodAnswer: a good reading has all values, each as it was sent, and the next
// one has them too.
func testGoodAnswer(t *testing.T, h Harness) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, h, generous)
		sent := map[float64]bool{}
		w.faults.Set(rewriting(func(body []byte) []byte {
			numbers(body, sent)
			return body
		}))
		total := 0
		for _, s := range w.sources() {
			reading, err := s.Fetch(t.Context())
			require.NoError(t, err, s.Key())
			w.sound(reading, sent, s.Key())
			require.Empty(t, reading.Dropped)
			total += len(values(reading))
			again, err := s.Fetch(t.Context())
			require.NoError(t, err, s.Key())
			require.Equal(t, values(reading), values(again))
		}
		require.Equal(t, h.Values, total)
		w.hides(w.log.String())
	})
}

// testRequests: a fetch sends as many requests as the source tells, logins apart,
// and they are all observed.
func testRequests(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		w, s := open()
		for _, which := range []string{"first", "second"} {
			w.requests.Reset()
			before := w.observed.requests()
			_, err := s.Fetch(t.Context())
			require.NoError(t, err)
			data, logins := w.sent()
			require.Equal(t, s.Requests(), data, "%s fetch", which)
			require.Equal(t, data+logins, w.observed.requests()-before)
		}
	})
}

// testFaultyAnswers: what is no answer of the API becomes bad_response.
func testFaultyAnswers(t *testing.T, h Harness) {
	changed := func(change func(body string) string) simulate.Fault {
		return rewriting(func(body []byte) []byte { return []byte(change(string(body))) })
	}
	resized := func(delta int) simulate.Fault {
		return intercepting(func(w http.ResponseWriter, r *http.Request, body []byte) {
			simulate.WrongContentLength(int64(len(body)+delta))(simulate.Body(string(body))(nil)).ServeHTTP(w, r)
		})
	}
	faults := map[string]simulate.Fault{
		"HTML":                 simulate.HTML(http.StatusOK),
		"empty":                simulate.Body(""),
		"no content":           simulate.Status(http.StatusNoContent, "", "", nil),
		"white space":          simulate.Body(" \n"),
		"text":                 simulate.Body("service restarting"),
		"zero bytes":           simulate.Body("\x00\x00\x00\x00"),
		"a number":             simulate.Body("0"),
		"a string":             simulate.Body(`"0"`),
		"true":                 simulate.Body("true"),
		"half an object":       simulate.Body("{"),
		"deep":                 simulate.DeepJSON(100_000),
		"trailing text":        changed(func(body string) string { return body + "x" }),
		"twice":                changed(func(body string) string { return body + body }),
		"trailing bracket":     changed(func(body string) string { return body + "}" }),
		"longer than declared": resized(-1),
		"less than declared":   resized(+1),
	}
	// Whether nothing can be the answer is for the provider to say.
	nothing := map[string]simulate.Fault{
		"null":      simulate.Body("null"),
		"no object": simulate.Body("[]"),
		"no member": simulate.Body("{}"),
	}
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, at := range places {
			for name, fault := range faults {
				w, s := open()
				w.spoil(s, at, fault)
				_, err := s.Fetch(t.Context())
				w.fails(err, because(providers.ReasonBadResponse), name, at.name)
				w.bounded(s, name, at.name)
			}
			for name, fault := range nothing {
				w, s := open()
				w.spoil(s, at, fault)
				reading, err := s.Fetch(t.Context())
				if err != nil {
					w.fails(err, because(providers.ReasonBadResponse), name, at.name)
					continue
				}
				require.Empty(t, values(reading), "%s: %s", name, at.name)
			}
		}
		for name, big := range map[string]func(int64) simulate.Fault{"huge": simulate.Huge, "bomb": simulate.GzipBomb} {
			w, s := open()
			_, err := s.Fetch(t.Context())
			require.NoError(t, err)
			if w.http.maxBody() > 8<<20 && testing.Short() {
				continue
			}
			w.spoil(s, where{}, big(w.http.maxBody()+1))
			_, err = s.Fetch(t.Context())
			w.fails(err, because(providers.ReasonBadResponse), name)
		}
	})
}

// maxCuts is in how many places an answer is cut, at most.
const maxCuts = 100

// testCutAnswers: wherever an answer ends too early, it is an error.
func testCutAnswers(t *testing.T, h Harness) {
	cuts := map[string]struct {
		fault   func(n int) simulate.Fault
		reasons []providers.Reason
	}{
		"truncated": {func(n int) simulate.Fault {
			return rewriting(func(body []byte) []byte { return body[:min(n, len(body)-1)] })
		}, because(providers.ReasonBadResponse)},
		"reset":  {simulate.ResetAfter, because(providers.ReasonBadResponse, providers.ReasonUnavailable)},
		"closed": {simulate.CloseEarly, because(providers.ReasonBadResponse, providers.ReasonUnavailable)},
	}
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, a := range answers(open) {
			for name, cut := range cuts {
				for n := 0; n < len(a.body); n += 1 + len(a.body)/maxCuts {
					w, s := open()
					w.spoilOne(a, cut.fault(n))
					_, err := s.Fetch(t.Context())
					w.fails(err, cut.reasons, fmt.Sprintf("%s: %s after %d bytes of %d", a, name, n, len(a.body)))
				}
			}
		}
	})
}

// wrong are values that take the place of each part of an answer in turn.
var wrong = []any{
	absent, nil, true, "", "text", invalid, json.Number("-7.25"), json.Number("1e999"), "12.5", "NaN", "Infinity", "0x10", "1,5",
	[]any{}, []any{nil}, []any{[]any{}}, map[string]any{}, map[string]any{"value": "x"},
}

// maxParts is how many parts of one answer are mutated, at most.
const maxParts = 80

// testMutatedAnswers: whichever part of an answer is something else or missing, the
// reading is sound or there is an error, and there is never a number that was not
// sent.
func testMutatedAnswers(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		try := func(a answer, part int, value any) {
			w, s := open()
			sent := map[float64]bool{}
			w.faults.Set(rewriting(func(body []byte) []byte {
				numbers(body, sent)
				return body
			}))
			w.spoilOne(a, rewriting(func(body []byte) []byte {
				i := -1
				body = encode(t, edit(decode(body), func(node any) any {
					if i++; i == part {
						return value
					}
					return node
				}))
				numbers(body, sent)
				return body
			}))
			reading, err := s.Fetch(t.Context())
			if err != nil {
				w.failure(err)
				return
			}
			w.sound(reading, sent, fmt.Sprintf("%s: part %d is %v", a, part, value))
		}
		for _, a := range answers(open) {
			parts := 0
			edit(decode(a.body), func(node any) any {
				parts++
				return node
			})
			for part := range min(parts, maxParts) {
				for _, value := range wrong {
					try(a, part, value)
				}
			}
		}
	})
}

// testRepeatedElements: an element that comes twice is a row that counts once.
func testRepeatedElements(t *testing.T, h Harness) {
	synctest.Test(t, func(t *testing.T) {
		good, w := newWorld(t, h, generous), newWorld(t, h, generous)
		sources := good.sources()
		rows, dropped := false, 0
		w.sources() // lists of sources are repeated below, and logins are known
		w.faults.Add(simulate.Rule{Match: w.isData, Fault: rewriting(func(body []byte) []byte {
			return encode(t, edit(decode(body), func(node any) any {
				if list, ok := node.([]any); ok {
					rows = rows || len(list) > 0
					return append(append([]any{}, list...), list...)
				}
				return node
			}))
		})})
		for _, s := range sources {
			once, err := s.Fetch(t.Context())
			require.NoError(t, err)
			twice, err := w.source(s.Key()).Fetch(t.Context())
			require.NoError(t, err)
			w.sound(twice, nil, s.Key())
			require.Equal(t, values(once), values(twice), s.Key())
			require.Len(t, twice.Roster, len(once.Roster))
			dropped += twice.Dropped[providers.DropDuplicate]
		}
		if rows {
			require.Positive(t, dropped, "duplicates are counted")
		}
	})
}

// testInvalidUTF8: strings become valid UTF-8, or the answer is an error.
func testInvalidUTF8(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, at := range places {
			w, s := open()
			w.spoil(s, at, rewriting(func(body []byte) []byte {
				return encode(t, edit(decode(body), func(node any) any {
					if text, ok := node.(string); ok && !strings.Contains(text, invalid) {
						return text + invalid
					}
					return node
				}))
			}))
			reading, err := s.Fetch(t.Context())
			if err != nil {
				w.failure(err, at.name)
				continue
			}
			w.sound(reading, nil, at.name)
		}
	})
}

package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

// checkSources: sources have keys that are stable, unique and show no secret, and
// opening an account sends nothing.
func checkSources(t *T, s subject) {
	w := newWorld(t, s, options{})
	require.Zero(t, w.requests.Len(), "opening sends nothing")
	w.hides(w.checked.Identity)
	w.hides(fmt.Sprintf("%v %+v %#v", w.checked.Parts, w.checked.Secrets, w.opened))

	kinds := map[providers.Kind]bool{}
	for _, p := range w.checked.Parts {
		require.Contains(t, providers.Kinds(), p.Kind)
		require.False(t, kinds[p.Kind], "%s is there twice", p.Kind)
		kinds[p.Kind] = true
		require.Equal(t, interval, p.Interval)
		require.Equal(t, maxAge, p.MaxAge)
	}

	keys := func(sources []providers.Source) []string {
		distinct(t, sources)
		var keys []string
		for _, s := range sources {
			d := s.Describe()
			keys = append(keys, d.Key)
			require.True(t, kinds[d.Kind], "%s is turned off", d.Kind)
			require.Positive(t, d.Interval)
			require.Positive(t, d.Requests)
			require.True(t, d.Lists || d.Known == nil, "only a list has known sources")
			roster(t, d.Known)
		}
		return keys
	}
	require.Equal(t, keys(w.opened), keys(newWorld(t, s, options{}).opened))
	first := keys(w.sources())
	require.NotEmpty(t, first)
	require.Equal(t, first, keys(newWorld(t, s, options{}).sources()))
	for _, key := range first {
		w.hides(key)
	}
}

// checkRestore: what a list has found comes back after a restart, and a source that
// learns what it has kept reads the same.
func checkRestore(t *T, open opener) {
	w, s := open()
	if s.Describe().Restore == nil {
		return
	}
	reading := w.fetch(s)
	_, s = open()
	roster, err := s.Describe().Restore(reading.Kept)
	require.NoError(t, err)
	require.Equal(t, contents(providers.Reading{Roster: reading.Roster}), contents(providers.Reading{Roster: roster}))
	if w, again := open(); len(reading.Kept) > 0 {
		_, err = again.Describe().Restore(reading.Kept)
		require.NoError(t, err)
		require.Equal(t, contents(reading), contents(w.fetch(again)))
	}
	_, s = open()
	_, err = s.Describe().Restore([]byte("\x00no state"))
	require.Error(t, err)
}

// checkGoodAnswer: a good reading has all values, each as it was sent, and the next
// one has them too.
func checkGoodAnswer(t *T, s subject) {
	for _, o := range []options{{}, {https: true}} {
		w := newWorld(t, s, o)
		total := 0
		for _, source := range w.sources() {
			w.mark = len(w.exchanges)
			reading := w.fetch(source)
			w.sound(reading, w.numbers(), source.Describe().Key)
			require.Empty(t, reading.Dropped)
			total += len(values(reading))
			require.Equal(t, contents(reading), contents(w.fetch(source)))
		}
		require.Equal(t, s.Values, total)
		w.hides(w.log.String())
		w.close()
	}
}

// numbers returns the numbers of all answers since mark.
func (w *world) numbers() map[float64]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := map[float64]bool{}
	for _, e := range w.exchanges[w.mark:] {
		numbers(e.body, sent)
		if w.subject.AmountInText {
			numbersInText(e.body, sent)
		}
	}
	for f := range maps.Clone(sent) {
		if w.subject.Divide > 0 {
			sent[f/float64(w.subject.Divide)] = true
		}
	}
	return sent
}

// checkRequests: a fetch sends as many requests as the source describes, logins
// apart, and they are all observed. The first fetch may send a few more, for what
// is read less often, and a list as many as it has pages.
func checkRequests(t *T, open opener) {
	w, s := open()
	for _, which := range []string{"first", "second"} {
		w.requests.Reset()
		before := w.observed.requests()
		w.fetch(s)
		data, logins := w.sent()
		described := s.Describe().Requests
		require.GreaterOrEqual(t, data, described, "the %s fetch sends fewer requests than it describes", which)
		if !s.Describe().Lists {
			require.LessOrEqual(t, data, described+map[string]int{"first": 2}[which], "the %s fetch sends more requests than it describes", which)
		}
		require.Equal(t, data+logins, w.observed.requests()-before)
	}
}

// checkGzip: an answer in gzip is read, whether it was asked for or not, and so is
// an error. Another coding is bad_response.
func checkGzip(t *T, open opener) {
	w, s := open()
	good := w.fetch(s)
	for _, at := range places {
		w, s := open()
		w.spoil(s, at, simulate.Gzip())
		require.Equal(t, contents(good), contents(w.fetch(s)), at.name)

		w, s = open()
		w.spoil(s, at, func(http.Handler) http.Handler {
			return simulate.Gzip()(simulate.Status(429, "application/json", `{"message":"try again in 11 second(s)"}`, nil)(nil))
		})
		_, err := s.Fetch(t.Context())
		require.Equal(t, stated, w.fails(err, because(providers.ReasonRateLimited), at.name).RetryAfter)

		w, s = open()
		w.spoil(s, at, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Encoding", "br")
				next.ServeHTTP(rw, r)
			})
		})
		_, err = s.Fetch(t.Context())
		require.Contains(t, w.fails(err, because(providers.ReasonBadResponse), at.name).Message, "br")
	}
}

// checkFaultyAnswers: what is no answer of the API becomes bad_response.
func checkFaultyAnswers(t *T, open opener) {
	changed := func(change func(body string) string) simulate.Fault {
		return rewriting(func(body []byte) []byte { return []byte(change(string(body))) })
	}
	resized := func(delta int) simulate.Fault {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				good := httptest.NewRecorder()
				next.ServeHTTP(good, r)
				body := bytes.TrimSpace(good.Body.Bytes())
				simulate.WrongContentLength(len(body)+delta)(simulate.Body(string(body))(nil)).ServeHTTP(rw, r)
			})
		}
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
		"null":                 simulate.Body("null"),
		"no member":            simulate.Body("{}"),
		"half an object":       simulate.Body("{"),
		"deep":                 simulate.DeepJSON(20_000),
		"garbage":              simulate.Raw("garbage\r\n\r\n"),
		"endless header":       simulate.EndlessHeader(),
		"trailing text":        changed(func(body string) string { return body + "x" }),
		"twice":                changed(func(body string) string { return body + body }),
		"trailing bracket":     changed(func(body string) string { return body + "}" }),
		"longer than declared": resized(-1),
		"less than declared":   resized(+1),
	}
	w, s := open()
	if w.subject.PlainText {
		delete(faults, "longer than declared")
	}
	good := w.answers(s)
	if len(good) > 0 && bytes.HasPrefix(good[len(good)-1].body, []byte("{")) {
		faults["no object"] = simulate.Body("[]")
	}
	n := 0
	for _, at := range places {
		for _, name := range slices.Sorted(maps.Keys(faults)) {
			if n++; !sampled(n, 4) {
				continue
			}
			w, s := open()
			w.spoil(s, at, faults[name])
			_, err := s.Fetch(t.Context())
			w.fails(err, because(providers.ReasonBadResponse), name, at.name)
			w.bounded(s, name, at.name)
		}
	}
	w, s = open()
	w.fetch(s)
	bound := w.http.maxBody()
	if bound > 8<<20 && (w.subject.quick || !longForm) {
		return
	}
	for name, fault := range map[string]simulate.Fault{"endless": simulate.Huge(math.MaxInt64), "bomb": simulate.GzipBomb(bound + 1)} {
		w, s := open()
		w.fetch(s)
		w.spoil(s, where{}, fault)
		_, err := s.Fetch(t.Context())
		w.fails(err, because(providers.ReasonBadResponse), name)
	}
}

// checkNotWhole: a success that is not the whole answer is bad_response, however
// good its body looks.
func checkNotWhole(t *T, open opener) {
	for _, status := range []int{202, 204, 205, 206} {
		for _, at := range places {
			w, s := open()
			w.spoil(s, at, simulate.Rewrite(func(_ *http.Request, a simulate.Answer) simulate.Answer {
				a.Status = status
				return a
			}))
			_, err := s.Fetch(t.Context())
			w.fails(err, because(providers.ReasonBadResponse), "HTTP status", status, "for", at.name)
			w.bounded(s, status, at.name)
		}
	}
}

// maxCuts is in how many places an answer is cut, at most.
var maxCuts = inLongForm(50, 7)

// checkCutAnswers: wherever an answer ends too early, it is an error.
func checkCutAnswers(t *T, open opener) {
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
	w, s := open()
	good := w.fetch(s)
	w, s = open()
	if w.subject.PlainText {
		delete(cuts, "truncated")
	}
	for _, a := range w.answers(s) {
		for name, cut := range cuts {
			size := len(bytes.TrimSpace(a.body))
			for n := 0; n < size; n += 1 + size/maxCuts {
				w, s := open()
				w.spoilOne(a, cut.fault(n))
				in := fmt.Sprintf("%s: %s after %d bytes of %d", a, name, n, size)
				reading, err := s.Fetch(t.Context())
				if err == nil && name == "reset" && n == 0 {
					w.whole(good, reading, err, in) // a reused connection: the request was sent again
					continue
				}
				w.fails(err, cut.reasons, in)
			}
		}
	}
}

// wrong are values that take the place of each part of an answer in turn.
var wrong = []any{
	absent, nil, true, "", "text", invalid, json.Number("-7.25"), json.Number("1e999"), "12.5", "NaN", "Infinity", "0x10", "1,5",
	[]any{}, []any{nil}, []any{[]any{}}, map[string]any{}, map[string]any{"value": "x"},
}

// maxParts is how many parts of one answer are mutated, at most.
const maxParts = 80

// everyMutation is one of how many mutations the short form tries. Each part gets a few of
// the wrong values, and each value is tried at many parts: it has no divisor in common
// with the number of values.
const everyMutation = 11

// checkMutatedAnswers: whichever part of an answer is something else or missing, the
// reading is sound or there is an error, and there is never a number that was not
// sent. Only an empty list ends all values.
func checkMutatedAnswers(t *T, open opener) {
	w, s := open()
	good := contents(w.fetch(s))
	w, s = open()
	n := 0
	for _, a := range w.answers(s) {
		var parts []string
		walk(decode(a.body), func(path string, _ any) { parts = append(parts, path) })
		for _, part := range parts[:min(len(parts), maxParts)] {
			for _, value := range wrong {
				if n++; !sampled(n, everyMutation) {
					continue
				}
				w, s := open()
				w.spoilOne(a, replaceAt(t, part, value))
				in := fmt.Sprintf("%s: %s is %s", a, orRoot(part), shown(value))
				reading, err := s.Fetch(t.Context())
				if err != nil {
					w.failure(err, in)
					continue
				}
				w.sound(reading, w.numbers(), in)
				if list, ok := value.([]any); (!ok || len(list) > 0) && len(good) > 0 && !w.documentedEmpty(part, value) {
					require.NotEmpty(t, contents(reading), "all values end: %s", in)
				}
			}
		}
	}
}

// documentedEmpty reports whether a documented answer without values has this part.
func (w *world) documentedEmpty(part string, value any) bool {
	return slices.ContainsFunc(w.subject.Empty, func(body string) bool {
		found := absent
		walk(decode([]byte(body)), func(path string, node any) {
			if path == part {
				found = node
			}
		})
		return found != absent && reflect.DeepEqual(found, value)
	})
}

func orRoot(path string) string {
	if path == "" {
		return "the body"
	}
	return path
}

func shown(value any) string {
	if value == absent {
		return "missing"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// checkDriftedAnswers: if the API changes so that no row can be used, the values
// stay.
func checkDriftedAnswers(t *T, open opener) {
	w, s := open()
	good := w.fetch(s)
	names := map[string]bool{}
	for _, a := range w.exchanges {
		walk(decode(a.body), func(_ string, node any) {
			if object, ok := node.(map[string]any); ok {
				for key := range object {
					names[key] = true
				}
			}
		})
	}
	drifts := map[string]func(node any) any{
		"numbers are text": func(node any) any {
			if _, ok := node.(json.Number); ok {
				return "n/a"
			}
			return node
		},
	}
	for name := range names {
		drifts[name+" is renamed"] = func(node any) any {
			if object, ok := node.(map[string]any); ok && object[name] != nil {
				renamed := map[string]any{}
				for key, child := range object {
					renamed[key+map[bool]string{true: "Renamed"}[key == name]] = child
				}
				return renamed
			}
			return node
		}
	}
	for name, drift := range drifts {
		w, s := open()
		w.spoil(s, where{}, rewriting(func(body []byte) []byte {
			return encode(t, edit(decode(body), "", func(_ string, node any) any { return drift(node) }))
		}))
		reading, err := s.Fetch(t.Context())
		if err != nil {
			w.failure(err, name)
			continue
		}
		w.sound(reading, w.numbers(), name)
		if len(contents(good)) > 0 {
			require.NotEmpty(t, contents(reading), "all values end: %s", name)
		}
	}
}

// checkKeysThatDifferInCase: of keys that differ only in case the exact one counts,
// in either order.
func checkKeysThatDifferInCase(t *T, open opener) {
	w, s := open()
	if w.subject.AnyKey {
		return
	}
	good := w.fetch(s)
	for _, first := range []bool{true, false} {
		for name, spell := range map[string]func(string) string{"upper": strings.ToUpper, "lower": strings.ToLower, "title": title} {
			w, s := open()
			w.faults.Set(rewriting(func(body []byte) []byte {
				root := decode(body)
				if root == nil {
					return body
				}
				var b bytes.Buffer
				encodeWithDecoys(&b, root, first, spell)
				return b.Bytes()
			}))
			require.Equal(t, contents(good), contents(w.fetch(s)), "%s case, the other key comes first: %t", name, first)
		}
	}
}

// checkOneBadRow: an element of a list that is no row costs no other one. What is
// lost without one element, and what is lost without another, has nothing in
// common; otherwise the provider stops at the bad one.
func checkOneBadRow(t *T, open opener) {
	w, s := open()
	good := w.fetch(s)
	w, s = open()
	type bad struct {
		answer answer
		path   string
		lost   []string
	}
	for _, value := range []any{nil, "x", json.Number("0"), map[string]any{}, []any{}} {
		var all []bad
		for _, a := range w.dataAnswers(s) {
			for _, l := range lists(decode(a.body)) {
				for i := range l.elements {
					w, s := open()
					path := fmt.Sprintf("%s[%d]", l.path, i)
					w.spoilOne(a, replaceAt(t, path, value))
					reading, err := s.Fetch(t.Context())
					if err != nil {
						w.failure(err, a, path)
						continue
					}
					got := contents(reading)
					lost := slices.DeleteFunc(contents(good), func(c string) bool { return slices.Contains(got, c) })
					for _, other := range all {
						if other.answer.nth == a.nth && (strings.HasPrefix(path, other.path) || strings.HasPrefix(other.path, path)) {
							continue // one is part of the other
						}
						for _, c := range lost {
							require.NotContains(t, other.lost, c, "%s: %s is %s: it costs the rows of %s as well",
								other.answer, other.path, shown(value), path)
						}
					}
					all = append(all, bad{a, path, lost})
				}
			}
		}
		w, s = open()
	}
}

// checkRepeatedRows: an element that comes twice is a row that counts once.
func checkRepeatedRows(t *T, s subject) {
	good, w := newWorld(t, s, options{}), newWorld(t, s, options{})
	sources := good.sources()
	rows, dropped := false, 0
	w.sources() // lists of sources are repeated below, and logins are known
	w.faults.Add(simulate.Rule{Match: w.isData, Fault: rewriting(func(body []byte) []byte {
		return encode(t, edit(decode(body), "", func(_ string, node any) any {
			if list, ok := node.([]any); ok {
				rows = rows || len(list) > 0
				return append(slices.Clone(list), list...)
			}
			return node
		}))
	})})
	failed := false
	for _, source := range sources {
		once := good.fetch(source)
		twice, err := w.source(source.Describe().Key).Fetch(t.Context())
		if err != nil { // such as a total that is wrong now
			w.fails(err, because(providers.ReasonBadResponse))
			failed = true
			continue
		}
		w.sound(twice, nil, source.Describe().Key)
		require.Equal(t, contents(once), contents(twice))
		dropped += twice.Dropped[providers.DropDuplicate]
	}
	if rows && !failed {
		require.Positive(t, dropped, "duplicates are counted")
	}
}

// checkPromisedRows: where an answer says how many rows there are, everything that
// was promised arrives, or nothing changes.
func checkPromisedRows(t *T, open opener) {
	w, s := open()
	good := w.fetch(s)
	w, s = open()
	for path, pages := range paged(w.dataAnswers(s)) {
		for i, a := range pages {
			elements, _ := at(decode(a.body), path).([]any)
			var faults []simulate.Fault
			var names []string
			add := func(name string, fault simulate.Fault) {
				names, faults = append(names, name), append(faults, fault)
			}
			add("a row is missing", replaceAt(t, fmt.Sprintf("%s[%d]", path, len(elements)-1), absent))
			add("the rows are missing", replaceAt(t, path, []any{}))
			for j, other := range pages {
				if j == i {
					continue
				}
				others, _ := at(decode(other.body), path).([]any)
				add("a row is that of another page", replaceAt(t, path+"[0]", others[0]))
				add("it is another page", simulate.Body(string(other.body)))
				add("its rows are those of another page", replaceAt(t, path, others))
			}
			for n, fault := range faults {
				w, s := open()
				w.spoilOne(a, fault)
				got, err := s.Fetch(t.Context())
				w.whole(good, got, err, fmt.Sprintf("%s: %s", a, names[n]))
			}
		}
	}
}

// paged returns the answers that have a list, by the path of the list, if they say
// how many elements it has in all.
func paged(answers []answer) map[string][]answer {
	counts, pages := map[string]int{}, map[string][]answer{}
	for _, a := range answers {
		for _, l := range lists(decode(a.body)) {
			if l.elements > 0 {
				id := a.path + " " + l.path
				counts[id] += l.elements
				pages[id] = append(pages[id], a)
			}
		}
	}
	found := map[string][]answer{}
	for id, all := range pages {
		_, path, _ := strings.Cut(id, " ")
		for at, text := range leaves(decode(all[0].body)) {
			if counts[id] > 1 && text == fmt.Sprint(counts[id]) && !strings.HasPrefix(at, path) {
				found[path] = all
			}
		}
	}
	return found
}

// maxRequests is how many requests one fetch may send, whatever the answers say.
const maxRequests = 200

// checkEndlessLists: no list makes a fetch send requests without end, whether the
// same answer comes for ever or a number promises more than there is.
func checkEndlessLists(t *T, open opener) {
	w, s := open()
	type endless struct {
		name  string
		fault simulate.Fault
	}
	var all []endless
	for _, a := range w.dataAnswers(s) {
		all = append(all, endless{a.String() + " comes for ever", simulate.Body(string(a.body))})
		for path, text := range leaves(decode(a.body)) {
			if _, isNumber := at(decode(a.body), path).(json.Number); isNumber && !strings.Contains(text, ".") {
				all = append(all, endless{path + " is 1000000", replaceAt(t, path, json.Number("1000000"))})
			}
		}
	}
	for _, e := range all {
		w, s := open()
		ctx, cancel := context.WithCancel(t.Context())
		w.spoil(s, where{}, func(next http.Handler) http.Handler {
			if w.requests.Len() > maxRequests {
				cancel()
			}
			return e.fault(next)
		})
		if _, err := s.Fetch(ctx); err != nil {
			w.failure(err, e.name)
		}
		cancel()
		require.LessOrEqual(t, w.requests.Len(), maxRequests, e.name)
	}
}

// checkAnotherAnswer: an answer that says that it is about something else than was
// asked is an error.
func checkAnotherAnswer(t *T, s subject) {
	w := newWorld(t, s, options{})
	type asked struct {
		key    string
		answer answer
	}
	var all []asked
	for _, source := range w.sources() {
		for _, a := range w.dataAnswers(source) {
			all = append(all, asked{source.Describe().Key, a})
		}
	}
	for _, a := range all {
		for _, b := range all {
			if !identifies(a.answer, b.answer) {
				continue
			}
			t.close()
			w := newWorld(t, s, options{})
			source := w.source(a.key)
			w.spoilOne(a.answer, simulate.Body(string(b.answer.body)))
			_, err := source.Fetch(t.Context())
			w.fails(err, because(providers.ReasonBadResponse), fmt.Sprintf("%s is answered as %s", a.answer.request, b.answer.request))
		}
	}
}

// checkInvalidUTF8: strings become valid UTF-8, or the answer is an error.
func checkInvalidUTF8(t *T, open opener) {
	for _, at := range places {
		w, s := open()
		w.spoil(s, at, rewriting(func(body []byte) []byte {
			return encode(t, edit(decode(body), "", func(_ string, node any) any {
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
}

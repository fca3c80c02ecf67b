package flolive_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
)

// Ways to state how long a list is.
const (
	statesAll     = "pages and total"
	statesFloor   = "pages rounded down and total"
	statesTotal   = "total"
	statesPages   = "pages"
	statesPage    = "page and size"
	statesNothing = "nothing"
	changesMidway = "a total that changes midway"
	tooManyPages  = "more pages than the total needs"
)

// Ways to answer with the records of a list.
const (
	tells      = "the records"
	overlaps   = "records of the answer before as well"
	shifts     = "the window moved back"
	misses     = "one record missing"
	repeats    = "the answer before again"
	endsEarly  = "no records before the end"
	doubles    = "each record twice"
	otherPage  = "the number of another page"
	firstPage  = "always the first page"
	spoilsOne  = "a record that cannot be used"
	noContent  = "no content"
	nullAnswer = "null as content"
	emptyText  = "an empty text as content"
	accepted   = "HTTP status 202"
	inProgress = "a status of work in progress"
)

// liar serves lists of n records in pages or chunks. content names the lie in the
// answers from number at on, and states the form of the totals in all answers.
type liar struct {
	n, size, at     int
	states, content string
	cursor          *liar // of the listing by cursor; nil if the API has none

	requests int
	next     int // of the cursor
}

func record(i int) string {
	return fmt.Sprintf(`{"balanceId":"%d","currency":"KB","value":%d,"subscriberId":"id-%d","iccid":"%d","status":"ACTIVE","id":"%d","type":"USAGE"}`, i, i, i, i, i)
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.requests++
	if strings.HasSuffix(r.URL.Path, "-all") {
		if l.cursor == nil {
			http.Error(w, "No static resource.", http.StatusInternalServerError)
			return
		}
		var request struct {
			PitID string `json:"pitId"`
		}
		_ = json.NewDecoder(r.Body).Decode(&request)
		if request.PitID == "" {
			l.cursor.next = 0
		}
		l.cursor.answer(w, l.cursor.next, true)
		l.cursor.next++
		return
	}
	number, _ := strconv.Atoi(r.URL.Query().Get("page"))
	l.answer(w, number, false)
}

func (l *liar) answer(w http.ResponseWriter, number int, cursor bool) {
	content := tells
	if number >= l.at {
		content = l.content
	}
	named := number
	switch content {
	case firstPage:
		number, named = 0, 0
	case otherPage:
		named++
	case repeats:
		number = max(0, number-1)
	}
	first := min(number*l.size, l.n)
	last := min(first+l.size, l.n)
	switch content {
	case overlaps:
		first = max(0, first-1)
	case shifts:
		first, last = max(0, first-1), max(0, last-1)
	case misses:
		first = min(first+1, last)
	case endsEarly:
		last = first
	}
	var records []string
	for i := first; i < last; i++ {
		records = append(records, record(i))
		if content == doubles {
			records = append(records, record(i))
		}
	}
	if content == spoilsOne && first == l.at*l.size && len(records) > 0 {
		records[0] = `{"spoilt":true}`
	}
	body := `"content":[` + strings.Join(records, ",") + `]`
	switch content {
	case noContent:
		body = `"other":[]`
	case nullAnswer:
		body = `"content":null`
	case emptyText:
		body = `"content":""`
	case inProgress:
		body += `,"status":"IN_PROGRESS"`
	case accepted:
		w.WriteHeader(http.StatusAccepted)
	}
	pages := (l.n + l.size - 1) / l.size
	total := l.n
	states := l.states
	switch states {
	case statesFloor:
		pages, states = l.n/l.size, statesAll
	case tooManyPages:
		pages, states = pages+1, statesAll
	case changesMidway:
		if number > 0 {
			total--
		}
		states = statesAll
	}
	var fields []string
	add := func(name string, value int, in ...string) {
		if slices.Contains(in, states) {
			fields = append(fields, fmt.Sprintf(`"%s":%d`, name, value))
		}
	}
	if cursor {
		add("totalRecordAmount", total, statesAll, statesTotal)
		add("recordAmount", len(records), statesAll, statesPage)
		_, _ = fmt.Fprintf(w, `{"errorCode":"",%s}`, strings.Join(append(fields, body, `"pitId":"pit"`), ","))
		return
	}
	add("page", named, statesAll, statesTotal, statesPages, statesPage)
	add("size", l.size, statesAll, statesTotal, statesPages, statesPage)
	add("totalPages", pages, statesAll, statesPages)
	add("totalElements", total, statesAll, statesTotal)
	pageable := `""`
	if len(fields) > 0 {
		pageable = "{" + strings.Join(fields, ",") + "}"
	}
	_, _ = fmt.Fprintf(w, `{"errorCode":"",%s,"pageable":%s}`, body, pageable)
}

// honest reports that every answer is what it seems.
func (l *liar) honest() bool {
	return l.content == tells && l.states != changesMidway && l.states != tooManyPages
}

// undetectable reports that answers look like a whole list although they are not:
// without a total, an early end is an end.
func (l *liar) undetectable() bool {
	noTotal := !slices.Contains([]string{statesAll, statesFloor, statesTotal, changesMidway, tooManyPages}, l.states)
	return noTotal && slices.Contains([]string{misses, shifts, endsEarly}, l.content) ||
		l.states == statesNothing && slices.Contains([]string{firstPage, repeats}, l.content)
}

// promised returns the numbers of the records that a whole list has.
func (l *liar) promised() []string {
	all := []string{}
	for i := range l.n {
		if l.content != spoilsOne || i != l.at*l.size {
			all = append(all, strconv.Itoa(i))
		}
	}
	return all
}

// eachLiar calls test with every combination of lies.
func eachLiar(t *testing.T, test func(t *testing.T, l liar)) {
	t.Helper()
	for _, states := range []string{statesAll, statesFloor, statesTotal, statesPages, statesPage, statesNothing, changesMidway, tooManyPages} {
		for _, content := range []string{
			tells, overlaps, shifts, misses, repeats, endsEarly, doubles, otherPage, firstPage, spoilsOne,
			noContent, nullAnswer, emptyText, accepted, inProgress,
		} {
			t.Run(content+" with "+states, func(t *testing.T) {
				for _, n := range []int{0, 1, 2, 3, 5, 8} {
					for _, size := range []int{1, 2, 3, 10} {
						for at := range 3 {
							if at > 0 && (content == tells || at*size > n) {
								continue // nothing is asked for from there on
							}
							l := liar{n: n, size: size, at: at, states: states, content: content}
							if !l.undetectable() {
								test(t, l)
							}
						}
					}
				}
			})
		}
	}
}

// openLiar opens an account in front of a liar.
func openLiar(t *testing.T, l *liar, configured providers.Account) *world {
	t.Helper()
	w := &world{t: t, faults: simulate.NewSwitch(l)}
	w.openConfigured(configured, "")
	return w
}

// whole checks the outcome of a fetch: it has what the list promises, or it is a
// bad response. Lists without a lie are read.
func whole(t *testing.T, l *liar, honest bool, got []string, err error) {
	t.Helper()
	require.LessOrEqual(t, l.requests, 40, "%+v", *l)
	if err != nil {
		require.False(t, honest, "%+v: %s", *l, err)
		require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason, "%+v: %s", *l, err)
		return
	}
	require.NotContains(t, []string{noContent, nullAnswer, emptyText, accepted, inProgress}, l.contentServed(), "%+v", *l)
	require.ElementsMatch(t, l.promised(), got, "%+v", *l)
}

// contentServed returns the lie if an answer has had it.
func (l *liar) contentServed() string {
	if l.cursor == nil && l.requests > l.at {
		return l.content
	}
	return ""
}

// TestListsAreWholeOrRefused is the promise that only a whole answer ends a value,
// against a server that lies about pages in every way, for lists of balances.
func TestListsAreWholeOrRefused(t *testing.T) {
	configured := configure(t, "", "token: the-token", oneData)
	eachLiar(t, func(t *testing.T, l liar) {
		w := openLiar(t, &l, configured)
		reading, err := w.fetch()
		var got []string
		for _, b := range reading.SubscriberBalances {
			require.Equal(t, b.ID, fmt.Sprint(b.Value))
			got = append(got, b.ID)
		}
		whole(t, &l, l.honest(), got, err)
	})
}

// TestOffersAreWholeOrRefused is the same for offers, each of which then has one
// balance of the same number.
func TestOffersAreWholeOrRefused(t *testing.T) {
	configured := configure(t, "", "token: the-token", strings.Replace(oneTruck, ", balance_ids: [data, mixed]", "", 1))
	eachLiar(t, func(t *testing.T, l liar) {
		w := openLiar(t, &l, configured)
		w.faults.Add(simulate.Rule{Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/balance/") }, Fault: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprintf(rw, `{"content":[{"balanceId":%q,"currency":"KB","value":1}],"pageable":{"totalElements":1}}`, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
			})
		}})
		reading, err := w.fetch()
		var got []string
		for _, b := range reading.SubscriberBalances {
			got = append(got, b.ID)
		}
		whole(t, &l, l.honest(), got, err)
	})
}

// TestListingIsWholeOrRefused is the same for the listing of subscribers, by pages
// without a cursor to fall back to, and with a cursor that lies as the pages do.
func TestListingIsWholeOrRefused(t *testing.T) {
	roster := func(w *world) (got []string, err error) {
		reading, err := w.fetch()
		if err != nil {
			return nil, err
		}
		require.NotNil(w.t, reading.Roster)
		return namesOf(reading.Roster), nil
	}
	configured := configure(t, "", "token: the-token", byCustomer)
	eachLiar(t, func(t *testing.T, l liar) {
		hasTotal := slices.Contains([]string{statesAll, statesFloor, statesTotal}, l.states)
		pages := l
		got, err := roster(openLiar(t, &pages, configured))
		whole(t, &pages, pages.honest() && (hasTotal || l.n == 0), got, err)

		both, cursor := l, l
		both.cursor = &cursor
		got, err = roster(openLiar(t, &both, configured))
		whole(t, &both, both.honest(), got, err)

		honest := l
		honest.cursor = &liar{n: l.n, size: l.size, states: statesAll, content: tells}
		if got, err = roster(openLiar(t, &honest, configured)); err == nil && l.content != spoilsOne {
			whole(t, &honest, false, got, err)
		}
	})
}

// TestSuccessWithoutContent: what the provider sends after a good answer does not
// end values unless it is an empty list.
func TestSuccessWithoutContent(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		empty  bool // the list is empty and says so
	}{
		"missing":               {200, `{"errorCode":"","errorMessage":""}`, false},
		"empty text":            {200, `{"errorCode":"","content":"","pageable":""}`, false},
		"white space":           {200, `{"errorCode":"","content":" ","pageable":""}`, false},
		"null":                  {200, `{"errorCode":"","content":null}`, false},
		"a number":              {200, `{"errorCode":"","content":0}`, false},
		"true":                  {200, `{"errorCode":"","content":true}`, false},
		"empty object":          {200, `{"errorCode":"","content":{}}`, false},
		"accepted":              {202, `{"errorCode":"","content":[],"pageable":{"totalElements":0}}`, false},
		"accepted, no body":     {202, ``, false},
		"no content":            {204, ``, false},
		"partial":               {206, `{"errorCode":"","content":[]}`, false},
		"in progress":           {200, `{"errorCode":"","status":"IN_PROGRESS","content":[]}`, false},
		"pending":               {200, `{"errorCode":"","status":"pending","content":[],"pageable":{"totalElements":0}}`, false},
		"code of progress":      {200, `{"errorCode":"IN_PROGRESS","content":[]}`, false},
		"total":                 {200, `{"errorCode":"","content":[],"pageable":{"totalElements":3}}`, false},
		"pages":                 {200, `{"errorCode":"","content":[],"pageable":{"totalPages":2}}`, false},
		"another page":          {200, `{"errorCode":"","content":[{"balanceId":"a","currency":"KB","value":1,"iccid":"1","status":"ACTIVE"}],"pageable":{"page":1,"totalElements":1}}`, false},
		"no usable row":         {200, `{"errorCode":"","content":[{"id":"x","amount":1},{}],"pageable":{"totalElements":2,"totalPages":1}}`, false},
		"empty":                 {200, `{"errorCode":"","content":[],"pageable":{"page":0,"size":10,"totalPages":0,"totalElements":0}}`, true},
		"empty without a total": {200, `{"errorCode":"","content":[]}`, true},
		"empty, with a status":  {200, `{"errorCode":"","status":"SUCCESS","content":[]}`, true},
		"empty on one page":     {200, `{"errorCode":"","content":[],"pageable":{"page":0,"totalPages":1,"totalElements":0}}`, true},
	} {
		answer := simulate.Status(tt.status, "application/json", tt.body, nil)
		check := func(t *testing.T, w *world, gone func(providers.Reading) int) {
			before, err := w.fetch()
			require.NoError(t, err)
			require.Positive(t, gone(before))
			w.faults.Set(answer)
			reading, err := w.fetch()
			if tt.empty {
				require.NoError(t, err)
				require.Zero(t, gone(reading))
				return
			}
			require.Error(t, err)
			require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			require.Zero(t, reading)
		}
		bubble(t, "balances, "+name, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{StaticToken: "x"}, oneData)
			check(t, w, func(r providers.Reading) int { return len(r.SubscriberBalances) })
		})
		bubble(t, "listing, "+name, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{Subscribers: flolivesim.Fleet(20, 1)}, byCustomer)
			check(t, w, func(r providers.Reading) int { return len(keysOf(r.Roster)) })
		})
	}
}

// TestShrunkListing: a listing that is whole is accepted however small it is.
func TestShrunkListing(t *testing.T) {
	const warning = "a list of subscribers has shrunk by more than half list customer_id before 19 after 8"
	large, small := flolivesim.Fleet(20, 1), flolivesim.Fleet(9, 1)
	bubble(t, "in one process", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Subscribers: large}, byCustomer)
		require.Len(t, keysOf(w.mustFetch().Roster), 19)
		require.Len(t, keysOf(w.mustFetch().Roster), 19)
		require.Empty(t, w.warnings)
		w.sim.Change(func(o *flolivesim.Options) { o.Subscribers = small })
		for range 2 {
			require.Len(t, keysOf(w.mustFetch().Roster), 8)
			require.Equal(t, []string{warning}, w.warnings)
		}
	})
	bubble(t, "over a restart", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Subscribers: large}, byCustomer)
		kept := w.mustFetch().Kept
		w.sim.Change(func(o *flolivesim.Options) { o.Subscribers = small })
		w.open(user, password, byCustomer)
		_, err := w.source(0).Describe().Restore(kept)
		require.NoError(t, err)
		require.Len(t, keysOf(w.mustFetch().Roster), 8)
		require.Equal(t, []string{warning}, w.warnings)
	})
}

// TestEndlessListing: whatever a listing does, the number of requests and of
// records is bounded.
func TestEndlessListing(t *testing.T) {
	records := func(from, n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`{"iccid":"%d","status":"ACTIVE"}`, from+i)
		}
		return strings.Join(all, ",")
	}
	for name, tt := range map[string]struct {
		page, chunk func(number int) string
		requests    int // at most
	}{
		"pages": {page: func(i int) string {
			return fmt.Sprintf(`{"content":[%s],"pageable":{"page":%d,"totalElements":9999}}`, records(i, 1), i)
		}, requests: 101},
		"chunks of one": {chunk: func(i int) string {
			return fmt.Sprintf(`{"content":[%s],"pitId":"x"}`, records(i, 1))
		}, requests: 4001},
		"the same chunk": {chunk: func(int) string {
			return fmt.Sprintf(`{"content":[%s],"pitId":"x"}`, records(0, 500))
		}, requests: 3},
		"a large total": {chunk: func(i int) string {
			return fmt.Sprintf(`{"content":[%s],"pitId":"x","totalRecordAmount":2000001}`, records(i*500, 500))
		}, requests: 2},
		"chunks without end of records that cannot be used": {chunk: func(i int) string {
			return fmt.Sprintf(`{"content":[{"n":%d}],"pitId":"x"}`, i)
		}, requests: 4001},
		"a chunk that states more records than it has, and an end": {chunk: func(i int) string {
			return fmt.Sprintf(`{"content":[%s],"pitId":"x","recordAmount":%d}`, records(0, 1-i), 2*(1-i))
		}, requests: 2},
		"chunks without records and a total": {chunk: func(int) string {
			return `{"content":[],"pitId":"x","totalRecordAmount":1}`
		}, requests: 2},
	} {
		t.Run(name, func(t *testing.T) {
			pages, chunks := 0, 0
			w := &world{t: t, dir: t.TempDir(), faults: simulate.NewSwitch(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodGet && tt.page != nil:
					_, _ = rw.Write([]byte(tt.page(pages)))
					pages++
				case r.Method == http.MethodPost && tt.chunk != nil:
					_, _ = rw.Write([]byte(tt.chunk(chunks)))
					chunks++
				default:
					rw.WriteHeader(http.StatusBadRequest)
				}
			}))}
			w.open("token: the-token", byCustomer)
			_, err := w.fetch()
			require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			require.LessOrEqual(t, w.requests.Len(), tt.requests)
		})
	}
}

// TestExactKeyWins: a key that differs in case is another one if the exact key is
// there, in either order.
func TestExactKeyWins(t *testing.T) {
	for _, row := range []string{
		`{"balanceId":"a","currency":"KB","value":5,"VALUE":9,"CURRENCY":"USD","BALANCEID":"b"}`,
		`{"BALANCEID":"b","CURRENCY":"USD","VALUE":9,"balanceId":"a","currency":"KB","value":5}`,
	} {
		bubble(t, row, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{}, oneData)
			w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Body: `{"content":[` + row + `],"pageable":{"totalElements":1}}`})
			require.Equal(t, []providers.SubscriberBalance{{ID: "a", Unit: "KB", Value: 5}}, w.mustFetch().SubscriberBalances)
		})
	}
}

package flolive_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

var (
	data  = providers.SubscriberBalance{ID: "e7fcef24-5c03-41dd-9e33-995b7d6f32b1", Unit: "KB", Value: 50.3}
	money = providers.SubscriberBalance{ID: "0f0e0d0c-0000-4000-8000-000000000001", Currency: "USD", Value: 12.75}
	sms   = providers.SubscriberBalance{ID: "0f0e0d0c-0000-4000-8000-000000000002", Unit: "SMS", Value: 40}
)

// TestDocumentedBodies compares the reading of each body of the documentation, and
// of some that are like them, with a golden one.
func TestDocumentedBodies(t *testing.T) {
	bodies, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	for _, path := range bodies {
		if strings.HasSuffix(path, ".golden.json") {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		bubble(t, name, func(t *testing.T) {
			body, err := os.ReadFile(path)
			require.NoError(t, err)
			w := newWorld(t, flolivesim.Options{}, strings.Replace(oneTruck, "data, mixed", "data", 1))
			w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Body: string(body)})
			var got any
			reading, err := w.fetch()
			got = golden(reading)
			if err != nil {
				got = map[string]any{
					"reason": providers.AsError(err).Reason, "message": providers.AsError(err).Message,
					"gone": providers.AsError(err).Gone,
				}
			}
			text, err := json.MarshalIndent(got, "", "  ")
			require.NoError(t, err)
			file := strings.TrimSuffix(path, ".json") + ".golden.json"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				require.NoError(t, os.WriteFile(file, append(text, '\n'), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(text))
		})
	}
}

// golden returns the form of a reading in golden files.
func golden(r providers.Reading) any {
	type balance struct {
		ID       string  `json:"id"`
		Currency string  `json:"currency"`
		Unit     string  `json:"unit"`
		Value    float64 `json:"value"`
	}
	g := struct {
		Subscriber string                       `json:"subscriber"`
		Balances   []balance                    `json:"balances,omitempty"`
		Dropped    map[providers.DropReason]int `json:"dropped,omitempty"`
	}{Subscriber: r.Subscriber, Dropped: r.Dropped}
	for _, b := range r.SubscriberBalances {
		g.Balances = append(g.Balances, balance(b))
	}
	return g
}

func TestBalances(t *testing.T) {
	all := []providers.SubscriberBalance{data, money, sms}
	for name, tt := range map[string]struct {
		options flolivesim.Options
		ids     string
		want    []providers.SubscriberBalance
		dropped map[providers.DropReason]int
	}{
		"spelled as in the sample":    {flolivesim.Options{BalanceIDField: flolivesim.BalanceIDSample}, "data, mixed", all, nil},
		"spelled as in the table":     {flolivesim.Options{BalanceIDField: flolivesim.BalanceIDTable}, "data, mixed", all, nil},
		"spelled in both ways":        {flolivesim.Options{BalanceIDField: flolivesim.BalanceIDMixed}, "data, mixed", all, nil},
		"values as strings":           {flolivesim.Options{ValueAsString: true}, "data, mixed", all, nil},
		"content as an object":        {flolivesim.Options{ContentObject: true}, "data, mixed", all, nil},
		"ids of balances":             {flolivesim.Options{BalanceByID: true}, data.ID + ", " + sms.ID, []providers.SubscriberBalance{data, sms}, nil},
		"pages of one":                {flolivesim.Options{PageSize: 1}, "data, mixed", all, nil},
		"pages smaller than asked":    {flolivesim.Options{PageSize: 10, MaxPageSize: 1}, "data, mixed", all, nil},
		"success without any balance": {flolivesim.Options{EmptyContent: true}, "data, mixed", nil, nil},
		"the same offer by two names": {flolivesim.Options{}, "data, mixed, data2", append(all[:3:3], providers.SubscriberBalance{ID: "other", Unit: "MINUTES", Value: 5}), map[providers.DropReason]int{"duplicate": 1, "incomplete": 1}},
	} {
		bubble(t, name, func(t *testing.T) {
			again := truck
			again.Offers = append(truck.Offers[:3:3], flolivesim.Offer{ID: "data2", Balances: []flolivesim.Balance{
				truck.Offers[0].Balances[0], {ID: "other", Unit: "MINUTES", Value: "5"}, {ID: "wrong", Unit: "KB", Value: `"much"`},
			}})
			tt.options.Subscribers = flolivesim.Listed{again}
			w := newWorld(t, tt.options, strings.Replace(oneTruck, "data, mixed", tt.ids, 1))
			for range 2 {
				require.Equal(t, providers.Reading{Subscriber: "truck-12", SubscriberBalances: tt.want, Dropped: tt.dropped}, w.mustFetch())
			}
			require.Equal(t, 1, w.sim.Logins())
		})
	}
}

func TestTypesOfIdentifier(t *testing.T) {
	for kind, value := range map[string]string{
		"iccid": truck.ICCID, "imsi": truck.Pairs[0].IMSI, "msisdn": truck.Pairs[1].MSISDN, "imei": truck.IMEI,
	} {
		bubble(t, kind, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{}, fmt.Sprintf("subscribers: {list: [{type: %s, value: %s, balance_ids: [data]}]}", kind, value))
			require.Equal(t, providers.Reading{Subscriber: value, SubscriberBalances: []providers.SubscriberBalance{data}}, w.mustFetch())
			require.Equal(t, []string{"POST /auth/token", "GET /subscriber/" + kind + "/" + value + "/balance/data"}, w.paths())
		})
	}
}

func TestErrors(t *testing.T) {
	const path = iccidPath + "/balance/data"
	for name, tt := range map[string]struct {
		fault flolivesim.Fault
		want  providers.Error // with HTTP 4xx or 5xx
		ok    providers.Error // with HTTP 200; zero: the same but for the status
	}{
		"unknown subscriber": {fault: flolivesim.Fault{Code: flolivesim.CodeNoSubscriber}, want: providers.Error{
			Reason: providers.ReasonNotFound, Status: 404, Gone: true, AskAfter: 24 * time.Hour,
			Message: "floLIVE does not find what the request asks for (HTTP status 404, code SUBSCRIBER_1002): \"Subscriber does not exist\"",
		}},
		"details fail": {fault: flolivesim.Fault{Code: flolivesim.CodeSubscriberFailed}, want: providers.Error{
			Reason: providers.ReasonUnavailable, Status: 500,
			Message: "floLIVE is unavailable (HTTP status 500, code SUBSCRIBER_1006): \"Failed to retrieve subscriber details\"",
		}},
		"out of order": {fault: flolivesim.Fault{Code: flolivesim.CodeUnavailable}, want: providers.Error{
			Reason: providers.ReasonUnavailable, Status: 503,
			Message: "floLIVE is unavailable (HTTP status 503, code GLOBAL_1001): \"Service unavailable. Please try again\"",
		}},
		"out of order, for a time": {fault: flolivesim.Fault{Code: flolivesim.CodeUnavailable, RetryAfter: 9 * time.Second}, want: providers.Error{
			Reason: providers.ReasonUnavailable, Status: 503, RetryAfter: 9 * time.Second,
			Message: "floLIVE is unavailable (HTTP status 503, code GLOBAL_1001): \"Service unavailable. Please try again\"",
		}},
		"customer": {fault: flolivesim.Fault{Code: flolivesim.CodeNoCustomer}, want: providers.Error{
			Reason: providers.ReasonNotFound, Status: 404, AskAfter: 24 * time.Hour,
			Message: "floLIVE does not find what the request asks for (HTTP status 404, code CUSTOMER_1002): \"Customer does not exist\"",
		}},
		"a code of the general list": {
			fault: flolivesim.Fault{Code: flolivesim.CodeInvalid},
			want: providers.Error{
				Reason: providers.ReasonBadRequest, Status: 400,
				Message: "floLIVE refuses the request as invalid (HTTP status 400, code GLOBAL_1400): \"Invalid request\"",
			},
			ok: providers.Error{
				Reason: providers.ReasonBadResponse, Status: 200,
				Message: "floLIVE gives an unexpected answer (HTTP status 200, code GLOBAL_1400): \"Invalid request\"",
			},
		},
	} {
		for _, ok := range []bool{false, true} {
			bubble(t, fmt.Sprintf("%s/%t", name, ok), func(t *testing.T) {
				w := newWorld(t, flolivesim.Options{ErrorsWithOK: ok}, oneTruck)
				w.sim.Fail(path, tt.fault)
				want := tt.want
				if ok && tt.ok.Status != 0 {
					want = tt.ok
				} else if ok {
					want.Message = strings.Replace(want.Message, fmt.Sprint(want.Status), "200", 1)
					want.Status = 200
				}
				want.Message = "subscriber truck-12: " + want.Message
				require.Equal(t, want, w.fails())
				require.Equal(t, []string{"POST /auth/token", "GET " + strings.TrimPrefix(path, "/api/v2")}, w.paths(), "nothing is tried twice")
			})
		}
	}
}

func TestUnmappedRoute(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		bubble(t, fmt.Sprint("JSON: ", asJSON), func(t *testing.T) {
			w := openWorld(t, t.TempDir(), flolivesim.Options{UnmappedJSON: asJSON, StaticToken: "the-token"},
				"token: the-token", "base_url: https://floportal.flolive.net/wrong", oneTruck)
			require.Equal(t, providers.Error{
				Reason: providers.ReasonBadRequest, Status: 500, AskAfter: time.Hour,
				Message: `subscriber truck-12: floLIVE refuses the request as invalid (HTTP status 500): "No static resource"; check base_url and the balance ids`,
			}, w.fails())
			require.Equal(t, 1, w.requests.Len())
		})
	}
}

// TestNamesHideIdentifiers lets the provider say every identifier of a subscriber.
func TestNamesHideIdentifiers(t *testing.T) {
	body := fmt.Sprintf(`{"errorCode":"X_%s","errorMessage":"no %s, no %s and no %s","content":"","pageable":""}`,
		truck.ICCID, truck.ICCID, truck.Pairs[0].IMSI, truck.Pairs[1].MSISDN)
	bubble(t, "named", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, oneTruck)
		for _, status := range []int{200, 404} {
			w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Body: body, Status: status})
			_, err := w.fetch()
			require.ErrorContains(t, err, "subscriber truck-12: ")
			require.ErrorContains(t, err, `code X_…): "no …, no … and no …"`)
			require.NotRegexp(t, `\d{5}`, err.Error())
			require.NotRegexp(t, `\d{5}`, fmt.Sprintf("%+v", *providers.AsError(err)))
		}
		require.NotContains(t, w.source(0).Describe().Key, "truck")
		require.NotContains(t, fmt.Sprintf("%v %+v", w.mask, w.config), "correct-horse")
	})
	bubble(t, "unnamed", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, strings.Replace(oneTruck, "name: truck-12, ", "", 1))
		w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Code: flolivesim.CodeNoSubscriber})
		_, err := w.fetch()
		require.ErrorContains(t, err, "subscriber "+truck.ICCID+": ")
		require.NotContains(t, w.source(0).Describe().Key, truck.ICCID)
	})
}

func TestKeyFollowsWhatIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := func(subscriber string) string {
			return newWorld(t, flolivesim.Options{}, "subscribers: {list: [{"+subscriber+"}]}").source(0).Describe().Key
		}
		require.Equal(t, key("type: imsi, value: 1, balance_ids: [a, b]"), key("type: imsi, value: 1, balance_ids: [b, a]"))
		seen := map[string]string{}
		for _, subscriber := range []string{
			"type: imsi, value: 1", "type: imei, value: 1", "type: imsi, value: 2", "type: imsi, value: 1, name: a",
			"type: imsi, value: 1, balance_ids: [a]", "type: imsi, value: 1, balance_ids: [a, b]", "type: imsi, value: 1, balance_ids: [ab]",
			"type: imsi, value: 1, name: a, balance_ids: [a]", "type: imsi, value: 1, name: a a",
		} {
			k := key(subscriber)
			require.Regexp(t, "^[0-9a-f]{16}$", k)
			require.Empty(t, seen[k], subscriber)
			seen[k] = subscriber
		}
	})
}

func TestOffers(t *testing.T) {
	found := strings.Replace(oneTruck, ", balance_ids: [data, mixed]", "", 1)
	const offer, balance = "GET /subscriber/iccid/8944501234567890123/offer", "GET /subscriber/iccid/8944501234567890123/balance/"
	all := []providers.SubscriberBalance{data, money, sms}
	bubble(t, "are asked for once a day", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{PageSize: 2}, found)
		require.Equal(t, 1, w.source(0).Describe().Requests)
		reading := w.mustFetch()
		require.Equal(t, all, reading.SubscriberBalances)
		require.Equal(t, []string{"POST /auth/token", offer, offer, balance + "data", balance + "mixed"}, w.paths())
		require.Equal(t, 2, w.source(0).Describe().Requests)
		time.Sleep(24*time.Hour - 1)
		require.Equal(t, reading, w.mustFetch())
		require.Equal(t, []string{"POST /auth/token", balance + "data", balance + "mixed"}, w.paths())
		time.Sleep(time.Nanosecond)
		require.NotEqual(t, reading.Kept, w.mustFetch().Kept)
		require.Equal(t, []string{offer, offer, balance + "data", balance + "mixed"}, w.paths())
	})
	bubble(t, "survive a restart", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, found)
		kept := w.mustFetch().Kept
		w.open(user, password, found)
		w.paths()
		roster, err := w.source(0).Describe().Restore(kept)
		require.NoError(t, err)
		require.Empty(t, roster)
		require.Equal(t, 2, w.source(0).Describe().Requests)
		require.Equal(t, all, w.mustFetch().SubscriberBalances)
		require.Equal(t, []string{"POST /auth/token", balance + "data", balance + "mixed"}, w.paths())
		require.LessOrEqual(t, len(kept), 20)
		for _, wrong := range []string{"\x80", "[]", "\x00\x00", "\x00\x0ca b", "\x00\x04a\x04", `{"ids":["a b"]}`} {
			_, err := w.source(0).Describe().Restore([]byte(wrong))
			require.Error(t, err, wrong)
		}
	})
	bubble(t, "of a clock that is set back are asked for again", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, found)
		_, err := w.source(0).Describe().Restore(kit.AppendText(binary.AppendVarint(nil, time.Now().Add(time.Hour).Unix()), "old"))
		require.NoError(t, err)
		require.Equal(t, all, w.mustFetch().SubscriberBalances)
	})
	bubble(t, "that have ended are asked for again", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, found)
		w.mustFetch()
		moved := truck
		moved.Offers = truck.Offers[:1]
		w.sim.Change(func(o *flolivesim.Options) { o.Subscribers = flolivesim.Listed{moved} })
		failure := w.fails()
		require.Equal(t, providers.ReasonUnavailable, failure.Reason)
		require.True(t, failure.Forget)
		require.Equal(t, []providers.SubscriberBalance{data}, w.mustFetch().SubscriberBalances)
	})
	bubble(t, "are in what a source keeps, and nowhere else", func(t *testing.T) {
		w := openFile(t, "type,value,name\niccid,"+truck.ICCID+",truck-12\n")
		w.sim.Change(func(o *flolivesim.Options) { o.Subscribers = flolivesim.Listed{truck} })
		roster := list(t, w.source(0)).Known
		// fetch reads a source that is made for it.
		fetch := func(kept []byte) (reading providers.Reading, requests int, err error) {
			s := roster.Source(0)
			require.Equal(t, 1, s.Describe().Requests)
			_, err = s.Describe().Restore(kept)
			require.NoError(t, err)
			w.requests.Reset()
			reading, err = s.Fetch(t.Context())
			return reading, w.requests.Len(), err
		}
		first, requests, err := fetch(nil)
		require.NoError(t, err)
		require.Equal(t, 4, requests, "a login, the offers and two balances")
		second, requests, err := fetch(first.Kept)
		require.NoError(t, err)
		require.Equal(t, 2, requests)
		require.Equal(t, first, second)
		moved := truck
		moved.Offers = truck.Offers[:1]
		w.sim.Change(func(o *flolivesim.Options) { o.Subscribers = flolivesim.Listed{moved} })
		_, _, err = fetch(first.Kept)
		require.True(t, providers.AsError(err).Forget)
		third, _, err := fetch(nil)
		require.NoError(t, err)
		require.Equal(t, []providers.SubscriberBalance{data}, third.SubscriberBalances)
		w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Code: flolivesim.CodeUnavailable})
		_, _, err = fetch(third.Kept)
		require.False(t, providers.AsError(err).Forget, "an outage is not about the offers")
		_, _, err = fetch(nil)
		require.False(t, providers.AsError(err).Forget, "they have just been read")
	})
	bubble(t, "that fail fail all", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, found)
		w.sim.Fail(string(flolivesim.KindOffers), flolivesim.Fault{Code: flolivesim.CodeNoSubscriber})
		require.True(t, w.fails().Gone)
	})
	bubble(t, "may be none", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Subscribers: flolivesim.Listed{{ICCID: truck.ICCID}}}, found)
		reading := w.mustFetch()
		require.Equal(t, "truck-12", reading.Subscriber)
		require.Empty(t, reading.SubscriberBalances)
	})
	bubble(t, "of odd forms are left out", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, found)
		w.sim.Fail(string(flolivesim.KindOffers), flolivesim.Fault{Body: `{"content":[7,null,{"id":null,"type":"USAGE"},{"id":"..","type":"USAGE"},{"id":"a b","type":"USAGE"},
			{"id":"mixed","type":"money"},{"id":"mixed","type":"MONEY"},{"id":"data","type":"POOL"},{"id":"rate"}]}`})
		require.Equal(t, []providers.SubscriberBalance{money, sms}, w.mustFetch().SubscriberBalances)
	})
}

// silent is a server whose answers do not say which page they are.
type silent struct {
	size   int    // of a page
	beyond string // what page it answers beyond the last: empty, last, or any: it ignores pages
	record func(id string) int
}

func (s silent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.record(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
	first, size := 0, s.size
	switch page, _ := strconv.Atoi(r.URL.Query().Get("page")); s.beyond {
	case "any":
		size = n
	case "last":
		first = size * min(page, max(0, (n-1)/size))
	default:
		first = size * page
	}
	var records []string
	for i := min(first, n); i < min(first+size, n); i++ {
		records = append(records, record(i))
	}
	_, _ = fmt.Fprintf(w, `{"errorCode":"","content":[%s]}`, strings.Join(records, ","))
}

// TestAnswersThatDoNotSayWhichPageTheyAre: the documented ones do. Otherwise a list
// takes a second request until the account knows that the first answer is all of it.
func TestAnswersThatDoNotSayWhichPageTheyAre(t *testing.T) {
	const two = `subscribers: {list: [{type: iccid, value: 1, balance_ids: [a]}, {type: iccid, value: 2, balance_ids: [b]}]}`
	open := func(t *testing.T, s silent) *world {
		w := &world{t: t, faults: simulate.NewSwitch(s)}
		w.openConfigured(configure(t, "", "token: the-token", two), "")
		return w
	}
	// fetched checks that a source has n values, and returns how many requests that
	// took and how many the source describes.
	fetched := func(w *world, source, n int) (sent, described int) {
		w.t.Helper()
		w.requests.Reset()
		reading, err := w.source(source).Fetch(w.t.Context())
		require.NoError(w.t, err)
		require.Len(w.t, reading.SubscriberBalances, n)
		return w.requests.Len(), w.source(source).Describe().Requests
	}
	check := func(w *world, source, n, wantSent, wantDescribed int) {
		w.t.Helper()
		sent, described := fetched(w, source, n)
		require.Equal(w.t, []int{wantSent, wantDescribed}, []int{sent, described})
	}
	counts := map[string]int{}
	byID := func(id string) int { return counts[id] }
	for _, beyond := range []string{"any", "last"} {
		bubble(t, "because there are no pages, or the last one stands for those beyond: "+beyond, func(t *testing.T) {
			counts["a"], counts["b"] = 2, 2
			w := open(t, silent{10, beyond, byID})
			require.Equal(t, 1, w.source(0).Describe().Requests)
			check(w, 0, 2, 2, 2)
			require.Equal(t, 2, w.source(1).Describe().Requests)
			check(w, 1, 2, 1, 1)
			check(w, 0, 2, 1, 1)
			counts["b"] = 3
			check(w, 1, 3, 2, 2)
			check(w, 1, 3, 1, 1)
			check(w, 0, 2, 1, 1)
			counts["b"] = 0
			check(w, 1, 0, 1, 1)
			time.Sleep(24*time.Hour - 1)
			check(w, 0, 2, 1, 1)
			time.Sleep(time.Nanosecond)
			check(w, 0, 2, 2, 2)
			check(w, 0, 2, 1, 1)
			counts["b"] = 10
			check(w, 1, 10, 2, 2)
			check(w, 1, 10, 2, 2)
		})
	}
	bubble(t, "although there are pages", func(t *testing.T) {
		counts["a"], counts["b"] = 3, 2
		w := open(t, silent{3, "empty", byID})
		check(w, 0, 3, 2, 2)
		check(w, 0, 3, 2, 2)
		check(w, 1, 2, 1, 1)
		counts["b"] = 7
		check(w, 1, 7, 4, 2)
		check(w, 0, 3, 2, 2)
	})
	bubble(t, "and then do", func(t *testing.T) {
		counts["a"] = 2
		w := open(t, silent{10, "any", byID})
		check(w, 0, 2, 2, 2)
		w.faults.Set(simulate.Body(`{"content":[],"pageable":{"totalElements":0}}`))
		check(w, 0, 0, 1, 1)
	})
	t.Run("are whole whatever was learned", func(t *testing.T) {
		for seed := range uint64(100) {
			r := rand.New(rand.NewPCG(seed, 0))
			// Pages are as large as the documented ones, or end with an empty one.
			s := silent{10 + r.IntN(4), []string{"any", "last", "empty"}[r.IntN(3)], byID}
			if s.beyond == "empty" {
				s.size = 1 + r.IntN(12)
			}
			w := open(t, s)
			for range 20 {
				counts["a"], counts["b"] = r.IntN(30), r.IntN(5)
				source := r.IntN(2)
				fetched(w, source, counts[[]string{"a", "b"}[source]])
			}
		}
	})
}

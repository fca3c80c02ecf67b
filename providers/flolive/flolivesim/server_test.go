package flolivesim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const (
	loginPath   = "/api/v2/auth/token"
	listingPath = "/api/v2/customer/" + DefaultCustomerID + "/subscriber"
	cursorPath  = listingPath + "-all"

	credentials = `{"username":"api@example.com","password":"secret"}`
)

// truck has the balances of the samples.
var truck = Subscriber{
	ID:    "0f0e0d0c-0000-4000-8000-00000000000a",
	ICCID: "8944501234567890123",
	IMEI:  "350000000000006",
	Pairs: []Pair{{IMSI: "234500000000001", MSISDN: "447000000001"}, {IMSI: "234500000000002", MSISDN: "447000000002"}},
	Offers: []Offer{
		{ID: "data", Name: "Data", Type: "USAGE", Cost: "4.5", Currency: "EUR", Balances: []Balance{
			{ID: "e7fcef24-5c03-41dd-9e33-995b7d6f32b1", Unit: "KB", Value: "50.3"},
		}},
		{ID: "mixed", Name: "Mixed", Type: "MONEY", Balances: []Balance{
			{ID: "0f0e0d0c-0000-4000-8000-000000000001", Unit: "USD", Value: "12.75"},
			{ID: "0f0e0d0c-0000-4000-8000-000000000002", Unit: "SMS", Value: `"40"`},
		}},
		{ID: "rate", Name: "Rate", Type: "RATE"},
	},
}

func do(s *Server, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func post(s *Server, body string) *httptest.ResponseRecorder {
	return do(s, http.MethodPost, loginPath, body, "Content-Type", "application/json")
}

// get asks with the static token of open.
func get(s *Server, path string) *httptest.ResponseRecorder {
	return do(s, http.MethodGet, path, "", "Authorization", "Bearer static")
}

func chunk(s *Server, body string) *httptest.ResponseRecorder {
	return do(s, http.MethodPost, cursorPath, body, "Authorization", "Bearer static")
}

// open returns a simulator that needs no login.
func open(options Options) *Server {
	options.StaticToken = "static"
	return New(options)
}

func balancePath(id string) string {
	return "/api/v2/subscriber/iccid/" + truck.ICCID + "/balance/" + id
}

func token(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct{ Content []struct{ Token string } }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body)
	require.Len(t, body.Content, 1)
	return body.Content[0].Token
}

func TestSamplesAreAnswered(t *testing.T) {
	s := open(Options{Subscribers: Listed{truck}, BalanceIDField: BalanceIDMixed})
	assert.Equal(t, SampleMixed, get(s, balancePath("mixed")).Body.String())
	s.Change(func(o *Options) { o.BalanceIDField = BalanceIDSample })
	assert.Equal(t, SampleBalance, get(s, balancePath("data")).Body.String())
	s.Fail(string(KindBalance), Fault{Code: CodeSubscriberFailed})
	assert.Equal(t, SampleFailure, get(s, balancePath("data")).Body.String())
	s.Fail(string(KindBalance), Fault{Code: CodeUnavailable})
	assert.Equal(t, SampleUnavailable, get(s, balancePath("data")).Body.String())
	login := post(s, credentials)
	assert.Equal(t, SampleLogin, strings.Replace(login.Body.String(), token(t, login), "eyJ.a.x", 1))
	assert.Equal(t, 4, s.Requests(KindBalance))
	assert.Equal(t, 1, s.Logins())
}

func TestLogin(t *testing.T) {
	for _, test := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"good", "application/json; charset=utf-8", credentials, 200},
		{"a form", "application/x-www-form-urlencoded", credentials, 400},
		{"no type", "", credentials, 400},
		{"no JSON", "application/json", "username=api", 400},
		{"no password", "application/json", `{"username":"api@example.com"}`, 400},
		{"wrong password", "application/json", `{"username":"api@example.com","password":"a"}`, 401},
		{"wrong user", "application/json", `{"username":"a","password":"secret"}`, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New(Options{Username: "api@example.com", Password: "secret"})
			w := do(s, http.MethodPost, loginPath, test.body, "Content-Type", test.contentType)
			assert.Equal(t, test.status, w.Code, w.Body)
			assert.Equal(t, 1, s.Logins())
		})
	}
}

func TestShapesOfALoginsAnswer(t *testing.T) {
	s := New(Options{TokenField: "access_token", ContentObject: true, OpaqueToken: true})
	w := post(s, credentials)
	assert.Regexp(t, `^{"errorCode":"","errorMessage":"","content":{"access_token":"[\w-]+"},"pageable":""}$`, w.Body.String())
	assert.NotEqual(t, w.Body.String(), post(s, credentials).Body.String())
}

func TestLifeOfTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Subscribers: Listed{truck}})
		ask := func(token string) int {
			return do(s, http.MethodGet, balancePath("data"), "", "Authorization", "Bearer "+token).Code
		}
		first := token(t, post(s, credentials))
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(first, ".")[1])
		require.NoError(t, err)
		assert.JSONEq(t, fmt.Sprintf(`{"sub":"api@example.com","exp":%d,"jti":"1"}`, time.Now().Add(10*time.Minute).Unix()), string(claims))
		time.Sleep(10*time.Minute - 1)
		assert.Equal(t, 200, ask(first))
		time.Sleep(time.Nanosecond)
		assert.Equal(t, 401, ask(first))

		s.Change(func(o *Options) { o.TokenLife = time.Second })
		second := token(t, post(s, credentials))
		assert.Equal(t, 200, ask(second))
		s.ExpireTokens()
		assert.Equal(t, 401, ask(second))
	})
}

func TestRefusedTokens(t *testing.T) {
	const body = `{"errorCode":"GLOBAL_1401","errorMessage":"Token is missing or expired","content":"","pageable":""}`
	for failure, status := range map[AuthFailure]int{AuthUnauthorized: 401, AuthForbidden: 403, AuthErrorCode: 200} {
		s := open(Options{Subscribers: Listed{truck}, AuthFailure: failure})
		for _, authorization := range []string{"", "static", "Bearer", "Bearer ", "Bearer  static", "Bearer other"} {
			w := do(s, http.MethodGet, balancePath("data"), "", "Authorization", authorization)
			assert.Equal(t, status, w.Code, authorization)
			assert.Equal(t, body, w.Body.String())
		}
	}
}

func TestAnotherHeader(t *testing.T) {
	s := open(Options{Subscribers: Listed{truck}, AuthHeader: "X-Token", AuthPrefix: ""})
	assert.Equal(t, 401, get(s, balancePath("data")).Code)
	assert.Equal(t, 200, do(s, http.MethodGet, balancePath("data"), "", "X-Token", "static").Code)
}

func TestBalances(t *testing.T) {
	const (
		prefix   = `{"errorCode":"","errorMessage":"","content":`
		kilobyte = `{"balanceId":"e7fcef24-5c03-41dd-9e33-995b7d6f32b1","currency":"KB","value":50.3}`
		quoted   = `{"balanceId":"e7fcef24-5c03-41dd-9e33-995b7d6f32b1","currency":"KB","value":"50.3"}`
		table    = `{"balanceID":"e7fcef24-5c03-41dd-9e33-995b7d6f32b1","currency":"KB","value":50.3}`
		one      = `,"pageable":{"page":0,"size":10,"totalPages":1,"totalElements":1}}`
		none     = `,"pageable":{"page":0,"size":10,"totalPages":0,"totalElements":0}}`
		noSuch   = `{"errorCode":"SUBSCRIBER_1002","errorMessage":"Subscriber does not exist","content":"","pageable":""}`
	)
	base := "/api/v2/subscriber/"
	for _, test := range []struct {
		name    string
		options Options
		path    string
		status  int
		body    string
	}{
		{"by iccid", Options{}, balancePath("data"), 200, prefix + "[" + kilobyte + "]" + one},
		{"by imei", Options{}, base + "imei/350000000000006/balance/data", 200, prefix + "[" + kilobyte + "]" + one},
		{"by imsi", Options{}, base + "imsi/234500000000002/balance/data", 200, prefix + "[" + kilobyte + "]" + one},
		{"by msisdn", Options{}, base + "msisdn/447000000001/balance/data", 200, prefix + "[" + kilobyte + "]" + one},
		{"by another type", Options{}, base + "eid/1/balance/data", 400, string(failure(CodeInvalid, "Invalid request"))},
		{"unknown subscriber", Options{}, base + "iccid/1/balance/data", 404, noSuch},
		{"unknown subscriber with HTTP 200", Options{ErrorsWithOK: true}, base + "iccid/1/balance/data", 200, noSuch},
		{"unknown id", Options{}, balancePath("other"), 500, SampleFailure},
		{"balance id where an offer's is due", Options{}, balancePath("e7fcef24-5c03-41dd-9e33-995b7d6f32b1"), 500, SampleFailure},
		{"balance id", Options{BalanceByID: true}, balancePath("e7fcef24-5c03-41dd-9e33-995b7d6f32b1"), 200, prefix + "[" + kilobyte + "]" + one},
		{"offer id where a balance's is due", Options{BalanceByID: true}, balancePath("data"), 500, SampleFailure},
		{"rate plan", Options{}, balancePath("rate"), 200, prefix + "[]" + none},
		{"empty content", Options{EmptyContent: true}, balancePath("data"), 200, prefix + "[]" + none},
		{"content as an object", Options{ContentObject: true}, balancePath("data"), 200, prefix + kilobyte + one},
		{"value as a string", Options{ValueAsString: true}, balancePath("data"), 200, prefix + "[" + quoted + "]" + one},
		{"the table's spelling", Options{BalanceIDField: BalanceIDTable}, balancePath("data"), 200, prefix + "[" + table + "]" + one},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.options.Subscribers = Listed{truck}
			w := get(open(test.options), test.path)
			assert.Equal(t, test.status, w.Code)
			assert.Equal(t, test.body, w.Body.String())
		})
	}
	assert.Equal(t, noSuch, get(open(Options{}), balancePath("data")).Body.String(), "no subscribers at all")
}

func TestPages(t *testing.T) {
	many := truck
	many.Offers = []Offer{{ID: "many", Type: "USAGE"}}
	for i := range 5 {
		many.Offers[0].Balances = append(many.Offers[0].Balances, Balance{ID: fmt.Sprint("b", i), Unit: "MB", Value: "1"})
	}
	for _, test := range []struct {
		query   string
		options Options
		want    string // ids, then pageable
	}{
		{"", Options{}, "b0 b1 b2 b3 b4 page 0 size 10 of 1 with 5"},
		{"", Options{PageSize: 2}, "b0 b1 page 0 size 2 of 3 with 5"},
		{"?page=1&size=2", Options{}, "b2 b3 page 1 size 2 of 3 with 5"},
		{"?page=2&size=2", Options{}, "b4 page 2 size 2 of 3 with 5"},
		{"?page=3&size=2", Options{}, "page 3 size 2 of 3 with 5"},
		{"?page=9223372036854775807&size=2", Options{}, "page 9223372036854775807 size 2 of 3 with 5"},
		{"?size=9223372036854775807", Options{}, "b0 b1 b2 b3 b4 page 0 size 9223372036854775807 of 1 with 5"},
		{"?page=1&size=100", Options{MaxPageSize: 3}, "b3 b4 page 1 size 3 of 2 with 5"},
		{"?page=1&size=2", Options{PageIgnored: true}, "b0 b1 page 0 size 2 of 3 with 5"},
		{"?page=-1", Options{}, "GLOBAL_1400"},
		{"?page=a", Options{}, "GLOBAL_1400"},
		{"?size=0", Options{}, "GLOBAL_1400"},
	} {
		t.Run(test.query, func(t *testing.T) {
			test.options.Subscribers = Listed{many}
			w := get(open(test.options), balancePath("many")+test.query)
			if w.Code != http.StatusOK {
				assert.Contains(t, w.Body.String(), test.want)
				return
			}
			var body struct {
				Content  []struct{ BalanceID string }
				Pageable struct{ Page, Size, TotalPages, TotalElements int }
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			got := ""
			for _, balance := range body.Content {
				got += balance.BalanceID + " "
			}
			p := body.Pageable
			got += fmt.Sprintf("page %d size %d of %d with %d", p.Page, p.Size, p.TotalPages, p.TotalElements)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestOffersAndDetails(t *testing.T) {
	s := open(Options{Subscribers: Listed{truck}})
	assert.Equal(t, `{"errorCode":"","errorMessage":"","content":[{"id":"data","name":"Data","type":"USAGE",`+
		`"subscriberId":"0f0e0d0c-0000-4000-8000-00000000000a","customerId":"e7fcef24-5c03-41dd-9e33-995b7d6f47b5",`+
		`"customerName":"Customer A","cost":4.5,"currency":"EUR","attachTimestamp":"2025-01-15 08:30:00.0","priority":1,`+
		`"isIncludingAccessFee":false}],"pageable":{"page":0,"size":1,"totalPages":3,"totalElements":3}}`,
		get(s, "/api/v2/subscriber/iccid/"+truck.ICCID+"/offer?size=1").Body.String())
	assert.Equal(t, `{"errorCode":"","errorMessage":"","content":[{"subscriberIdentifiers":{"iccid":"8944501234567890123",`+
		`"imsiMsisdnPairs":[{"imsi":"234500000000001","msisdn":"447000000001","isLastActive":false},`+
		`{"imsi":"234500000000002","msisdn":"447000000002","isLastActive":true}]},`+
		`"customerId":"e7fcef24-5c03-41dd-9e33-995b7d6f47b5","customerName":"Customer A","subsStatus":"ACTIVE","alias":""}],"pageable":""}`,
		get(s, "/api/v2/subscriber/iccid/"+truck.ICCID).Body.String())
	assert.Equal(t, 1, s.Requests(KindOffers))
	assert.Equal(t, 1, s.Requests(KindDetails))
}

func TestUnmappedRoutes(t *testing.T) {
	s := open(Options{})
	for _, path := range []string{"/", "/api/v2/subscriber", "/api/v2/subscriber/iccid/1/balance/", "/api/v2/subscriber/iccid/1/balance", "/api/v1/auth/token"} {
		w := get(s, path)
		assert.Equal(t, 500, w.Code)
		assert.Equal(t, "No static resource "+path[1:]+".", w.Body.String())
	}
	s.Change(func(o *Options) { o.UnmappedJSON = true })
	assert.JSONEq(t, `{"status":500,"error":"Internal Server Error","message":"No static resource api/v2/a.","path":"/api/v2/a"}`,
		get(s, "/api/v2/a").Body.String())
	assert.Equal(t, 500, do(s, http.MethodPost, listingPath, "", "Authorization", "Bearer static").Code, "a wrong method")
	assert.Equal(t, 7, s.Requests(KindUnmapped))
}

func TestListing(t *testing.T) {
	s := open(Options{Subscribers: Listed{truck}})
	assert.Equal(t, `{"errorCode":"","errorMessage":"","content":[{"subscriberId":"0f0e0d0c-0000-4000-8000-00000000000a",`+
		`"iccid":"8944501234567890123","status":"ACTIVE","imsiMsisdnPairs":[{"imsi":"234500000000001","msisdn":"447000000001","isLastActive":false},`+
		`{"imsi":"234500000000002","msisdn":"447000000002","isLastActive":true}],"imei":"350000000000006",`+
		`"customerId":"e7fcef24-5c03-41dd-9e33-995b7d6f47b5","customerName":"Customer A"}],`+
		`"pageable":{"page":0,"size":10,"totalPages":1,"totalElements":1}}`, get(s, listingPath).Body.String())
	assert.Equal(t, string(failure(CodeNoCustomer, "Customer does not exist")), get(s, "/api/v2/customer/a/subscriber").Body.String())
	s.Change(func(o *Options) { o.CustomerID, o.Subscribers = "a", nil })
	assert.Contains(t, get(s, "/api/v2/customer/a/subscriber").Body.String(), `"content":[]`)
}

func TestPagingReaches10000Records(t *testing.T) {
	s := open(Options{Subscribers: Fleet(12_000, 1)})
	for query, status := range map[string]int{
		"?page=9&size=1000": 200, "?page=10&size=1000": 500, "?page=999": 200, "?page=1000": 500,
		"?size=10000": 200, "?size=10001": 500, "?page=2&size=3000": 200, "?page=3&size=3000": 500,
		"?page=9223372036854775807": 500, "?size=0": 400,
	} {
		assert.Equal(t, status, get(s, listingPath+query).Code, query)
	}
}

type chunkBody struct {
	ErrorCode                       string
	Content                         json.RawMessage
	PitID                           string
	RecordAmount, TotalRecordAmount int
}

func readChunk(t *testing.T, w *httptest.ResponseRecorder) chunkBody {
	t.Helper()
	var body chunkBody
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body)
	return body
}

func TestCursorReachesEveryRecordOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		s := open(Options{Subscribers: Fleet(2_500, 1), RotatePitID: rotate})
		seen, id, ids := map[string]bool{}, "", map[string]bool{}
		for {
			body := readChunk(t, chunk(s, `{"pitId":"`+id+`"}`))
			var records []struct{ ICCID string }
			require.NoError(t, json.Unmarshal(body.Content, &records))
			assert.Len(t, records, body.RecordAmount)
			assert.Equal(t, 2_500, body.TotalRecordAmount)
			if len(records) == 0 {
				break
			}
			for _, record := range records {
				seen[record.ICCID] = true
			}
			id = body.PitID
			ids[id] = true
		}
		assert.Len(t, seen, 2_500)
		assert.Equal(t, 4, s.Requests(KindCursor))
		assert.Len(t, ids, map[bool]int{false: 1, true: 3}[rotate])
	}
}

func TestCursorExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(Options{Subscribers: Fleet(10, 1)})
		id := readChunk(t, chunk(s, `{"size":1}`)).PitID
		time.Sleep(time.Minute - 1)
		body := readChunk(t, chunk(s, `{"size":1,"pitKeepAlive":2,"pitId":"`+id+`"}`))
		assert.Equal(t, 1, body.RecordAmount)
		time.Sleep(2*time.Minute - 1)
		assert.Equal(t, 8, readChunk(t, chunk(s, `{"pitId":"`+id+`"}`)).RecordAmount)
		time.Sleep(time.Minute)
		w := chunk(s, `{"pitId":"`+id+`"}`)
		assert.Equal(t, 500, w.Code)
		assert.Equal(t, CodeCustomerFailed, readChunk(t, w).ErrorCode)
	})
}

func TestRefusedChunks(t *testing.T) {
	s := open(Options{})
	for body, code := range map[string]string{
		`{"size":0}`: CodeInvalid, `{"size":10001}`: CodeInvalid, `{"pitKeepAlive":0}`: CodeInvalid,
		`{"pitKeepAlive":31}`: CodeInvalid, `[]`: CodeInvalid, `{"pitId":"other"}`: CodeCustomerFailed, ``: "",
	} {
		assert.Equal(t, code, readChunk(t, chunk(s, body)).ErrorCode, body)
	}
}

func TestFaults(t *testing.T) {
	const date = "Sat, 01 Jan 2000 00:01:30 GMT" // A bubble's time starts at midnight.
	for _, test := range []struct {
		name       string
		fault      Fault
		status     int
		retryAfter string
		body       string
	}{
		{"service unavailable", Fault{Code: CodeUnavailable}, 503, "", SampleUnavailable},
		{"a code of one's own", Fault{Code: "A"}, 500, "", `"errorCode":"A"`},
		{"forbidden", Fault{Status: 403}, 403, "", "Forbidden"},
		{"unavailable with a time", Fault{Status: 503, RetryAfter: 3 * time.Second}, 503, "3", "Service Unavailable"},
		{"429 in seconds", Fault{Status: 429, RetryAfter: 1500 * time.Millisecond}, 429, "2", `"Too many requests."`},
		{"429 as a date", Fault{Status: 429, RetryAfter: 90 * time.Second, Hint: simulate.HintDate}, 429, date, `"Too many requests."`},
		{"429 in the body", Fault{Status: 429, RetryAfter: 7 * time.Second, Hint: simulate.HintBody}, 429, "", `Please try again in 7 second(s).`},
		{"429 without a time", Fault{Status: 429, Hint: simulate.HintNone}, 429, "", `"errorMessage":"Too many requests."`},
		{"a raw body", Fault{Body: SampleMixed}, 200, "", SampleMixed},
		{"a raw 502", Fault{Status: 502, Body: "<html>", ContentType: "text/html"}, 502, "", "<html>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(Options{Subscribers: Listed{truck}})
				s.Fail(balancePath("data"), test.fault)
				w := get(s, balancePath("data"))
				assert.Equal(t, test.status, w.Code)
				assert.Equal(t, test.retryAfter, w.Header().Get("Retry-After"))
				assert.Contains(t, w.Body.String(), test.body)
				assert.Equal(t, 200, get(s, balancePath("mixed")).Code)

				s.Fail(balancePath("data"), Fault{})
				assert.Equal(t, 200, get(s, balancePath("data")).Code)
			})
		})
	}
}

func TestErrorCodesWithAndWithoutHTTP200(t *testing.T) {
	for code, status := range map[string]int{
		CodeUnavailable: 503, CodeNoSubscriber: 404, CodeSubscriberFailed: 500, CodeNoCustomer: 404, CodeCustomerFailed: 500,
	} {
		s := open(Options{})
		s.Fail("", Fault{Code: code})
		w := get(s, listingPath)
		assert.Equal(t, status, w.Code)
		s.Change(func(o *Options) { o.ErrorsWithOK = true })
		same := get(s, listingPath)
		assert.Equal(t, 200, same.Code)
		assert.Equal(t, w.Body.String(), same.Body.String())
	}
}

func TestTheNarrowestFaultApplies(t *testing.T) {
	s := open(Options{Subscribers: Listed{truck}})
	s.Fail("", Fault{Status: 500, Times: 2})
	s.Fail(string(KindBalance), Fault{Status: 502})
	s.Fail(balancePath("data"), Fault{Status: 503, Times: 1})
	assert.Equal(t, 503, get(s, balancePath("data")).Code)
	assert.Equal(t, 502, get(s, balancePath("data")).Code)
	assert.Equal(t, 500, get(s, listingPath).Code)
	assert.Equal(t, 500, post(s, credentials).Code)
	assert.Equal(t, 200, get(s, listingPath).Code)
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(Options{Subscribers: Listed{truck}, Quota: simulate.Quota{Requests: 2, Per: time.Second, Burst: 2}})
		assert.Equal(t, 200, post(s, credentials).Code)
		assert.Equal(t, 200, get(s, listingPath).Code)
		w := get(s, listingPath)
		assert.Equal(t, 429, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		for range 5 {
			time.Sleep(500 * time.Millisecond)
			assert.Equal(t, 200, get(s, listingPath).Code)
		}
		assert.Equal(t, 1, s.Violations())
		time.Sleep(500*time.Millisecond - 1)
		assert.Equal(t, 429, get(s, listingPath).Code)
		assert.Equal(t, 2, s.Violations())
	})
}

func TestOversizedBodyIsRefused(t *testing.T) {
	assert.Equal(t, 400, post(New(Options{}), strings.Repeat(" ", maxBody+1)).Code)
}

func TestConcurrentUse(t *testing.T) {
	s := New(Options{Subscribers: Fleet(1_000, 1)})
	server := httptest.NewServer(s)
	defer server.Close()
	bearer := token(t, post(s, credentials))
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			s.Change(func(o *Options) { o.PageSize = i + 1 })
			s.Fail(string(KindListing), Fault{Status: 500, Times: 1})
			r, err := http.NewRequest(http.MethodGet, server.URL+listingPath, nil)
			if !assert.NoError(t, err) {
				return
			}
			r.Header.Set("Authorization", "Bearer "+bearer)
			post(s, credentials)
			answer, err := http.DefaultClient.Do(r)
			if assert.NoError(t, err) {
				_, err = io.Copy(io.Discard, answer.Body)
				assert.NoError(t, err)
				assert.NoError(t, answer.Body.Close())
			}
			_, _ = s.Violations(), s.Logins()
		})
	}
	group.Wait()
	assert.Equal(t, 8, s.Requests(KindListing))
}

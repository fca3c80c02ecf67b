package eightxeightsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// Options are the options of [New]. The zero value is a server without
// accounts.
type Options struct {
	Accounts []Account
	// Quota limits every account for itself; the zero value allows everything.
	Quota simulate.Quota
	// Shape is that of price lists, until SetShape.
	Shape Shape
}

// Account is a customer of 8x8.
type Account struct {
	ID       string // GUID; dashes and case do not matter
	APIKey   string
	Currency string // of the balance; empty leaves it out
	Balance  Balance
	Prices   Prices // nil: none
	// Postpaid accounts have no balance: 403 "Account not in prepaid mode".
	Postpaid bool
}

// Server is the simulated API, a handler. It is safe for concurrent use.
type Server struct {
	// Faults are met by requests that are within the quota.
	Faults *simulate.Switch
	// Requests records all requests.
	Requests *simulate.Recorder

	quota   simulate.Quota
	handler http.Handler

	mu       sync.Mutex
	shape    Shape
	accounts map[string]Account         // by normalized ID
	meters   map[string]*simulate.Meter // likewise
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{
		Requests: &simulate.Recorder{},
		quota:    o.Quota,
		shape:    o.Shape,
		accounts: map[string]Account{},
		meters:   map[string]*simulate.Meter{},
	}
	for _, a := range o.Accounts {
		s.SetAccount(a)
	}
	api := http.NewServeMux()
	api.HandleFunc("GET /api/v1/accounts/{account}/balance", s.authorized(s.balance))
	api.HandleFunc("GET /api/v1/accounts/{account}/prices", s.authorized(s.prices))
	api.Handle("/", NotFound()(nil))
	s.Faults = simulate.NewSwitch(api)

	limited := http.NewServeMux()
	limited.HandleFunc("/api/v1/accounts/{account}/", s.limited(s.Faults))
	limited.Handle("/", s.Faults)
	s.handler = s.Requests.Wrap(limited)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// SetAccount adds an account, or changes the one of this ID.
func (s *Server) SetAccount(a Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[normalize(a.ID)] = a
}

// SetShape changes how price lists are put into JSON from now on.
func (s *Server) SetShape(shape Shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shape = shape
}

// Violations returns how many requests went beyond the quota.
func (s *Server) Violations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, m := range s.meters {
		n += m.Violations
	}
	return n
}

func normalize(accountID string) string {
	return strings.ToLower(strings.ReplaceAll(accountID, "-", ""))
}

// limited returns next behind the account's quota.
func (s *Server) limited(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if wait := s.take(normalize(r.PathValue("account"))); wait > 0 {
			writeQuotaExceeded(w, s.quota.Hint, wait)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// take spends the quota of one request, or returns how long to wait.
func (s *Server) take(id string) (wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	meter := s.meters[id]
	if meter == nil {
		meter = &simulate.Meter{}
		s.meters[id] = meter
	}
	return meter.Take(s.quota, time.Now())
}

// authorized returns a handler that serves the account of the path if the key
// is the account's. That somebody else's key is told apart from a wrong one is
// an assumption.
func (s *Server) authorized(serve func(http.ResponseWriter, *http.Request, Account)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		account, known, valid := s.lookUp(normalize(r.PathValue("account")), key)
		switch {
		case !strings.EqualFold(scheme, "Bearer") || key == "" || !valid:
			Unauthorized()(nil).ServeHTTP(w, r)
		case !known:
			NotFound()(nil).ServeHTTP(w, r)
		case account.APIKey != key:
			Forbidden()(nil).ServeHTTP(w, r)
		default:
			serve(w, r, account)
		}
	}
}

// lookUp returns the account of the normalized id, and whether the key is any
// account's.
func (s *Server) lookUp(id, key string) (a Account, known, valid bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.accounts {
		valid = valid || other.APIKey == key
	}
	a, known = s.accounts[id]
	return a, known, valid
}

func (s *Server) balance(w http.ResponseWriter, r *http.Request, a Account) {
	if a.Postpaid {
		NotPrepaid()(nil).ServeHTTP(w, r)
		return
	}
	var body struct {
		Balance  json.Number `json:"balance,omitempty"`
		Currency string      `json:"currency,omitempty"`
	}
	body.Currency = a.Currency
	if a.Balance != nil {
		body.Balance = a.Balance.At(time.Now())
	}
	writeJSON(w, http.StatusOK, body)
}

func (s *Server) prices(w http.ResponseWriter, r *http.Request, a Account) {
	var list []SubAccount
	if a.Prices != nil {
		list = a.Prices(time.Now())
	}
	f, code, message := parseQuery(r, list)
	if code != 0 {
		writeError(w, http.StatusBadRequest, code, message)
		return
	}
	s.mu.Lock()
	shape := s.shape
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, render(list, f, shape))
}

// parseQuery returns what the query selects, or a code and message. Which
// mistake has which code is an assumption, but for their meaning.
func parseQuery(r *http.Request, list []SubAccount) (f filter, code int, message string) {
	const invalidParameter, invalidSubAccount, invalidCountry, outOfRange = 1000, 1001, 1009, 1010
	q := r.URL.Query()
	f = filter{subAccount: q.Get("subAccountId"), direction: q.Get("direction"), country: q.Get("country")}

	if q.Has("country") {
		if len(f.country) != 2 || strings.Trim(f.country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return f, invalidCountry, "Invalid country code"
		}
	}
	if q.Has("direction") && f.direction != "outbound" && f.direction != "inbound" {
		return f, invalidParameter, "Invalid direction"
	}
	if q.Has("subAccountId") {
		known := false
		for _, sub := range list {
			known = known || sub.ID == f.subAccount
		}
		if !known {
			return f, invalidSubAccount, "Invalid subAccountId"
		}
	}
	if q.Has("mcc") != q.Has("mnc") {
		return f, invalidParameter, "mcc and mnc must be given together"
	}
	if f.network = q.Has("mcc"); f.network {
		var errMCC, errMNC error
		f.mcc, errMCC = strconv.Atoi(q.Get("mcc"))
		f.mnc, errMNC = strconv.Atoi(q.Get("mnc"))
		if errMCC != nil || errMNC != nil {
			return f, invalidParameter, "mcc and mnc must be integers"
		}
		if f.mcc < 0 || f.mcc > 999 || f.mnc < 0 || f.mnc > 999 {
			return f, outOfRange, "mcc or mnc out of range"
		}
	}
	return f, 0, ""
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	// The body is made first, so that one that cannot be made is not half an
	// answer.
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
}

// Package flolivesim simulates the floLIVE Public API as far as subscribers'
// balances need it: login, balances, offers, details and both listings of a
// customer's subscribers.
//
// It is built from the provider's documentation and from what was observed in
// public code, and shares nothing with a client, so that a misreading on one
// side shows as a failure and not as an agreement. Where the facts are silent,
// the behaviour is an option, and the zero option the likeliest behaviour.
//
// Sources:
//   - https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm
//   - https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Subscribers.htm
//   - https://kb.flolive.net/Content/API/Customer/Get%20All%20Customer%20Subscribers.htm
//
// The login is not in the public documentation: its path, its request and the
// place of the token in the answer were observed, the rest is assumed.
package flolivesim

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// The customer whose subscribers are listed where [Options] name none.
const (
	DefaultCustomerID   = "e7fcef24-5c03-41dd-9e33-995b7d6f47b5"
	defaultCustomerName = "Customer A"
)

// DefaultTokenLife is the life of a token where [Options] name none. The real
// one is not known.
const DefaultTokenLife = 10 * time.Minute

// maxBody is the most that is read of a request, in bytes.
const maxBody = 1 << 20

// Options are the simulator's behaviour. All of it can be changed while
// requests run, by [Server.Change].
type Options struct {
	// Subscribers are all there are; nil is none.
	Subscribers Subscribers
	// CustomerID is the one customer, to whom all subscribers belong; empty is
	// [DefaultCustomerID].
	CustomerID string

	// Username and Password are the credentials accepted; an empty one accepts
	// anything but an empty value.
	Username, Password string
	// StaticToken is accepted without a login and never expires; empty is none.
	StaticToken string
	// AuthHeader is the request header with the token; empty is Authorization.
	AuthHeader string
	// AuthPrefix stands before the token in AuthHeader. If AuthHeader is
	// empty, it is "Bearer " whatever is set here.
	AuthPrefix string
	// TokenLife is the life of tokens issued from now on; zero is
	// [DefaultTokenLife].
	TokenLife time.Duration
	// TokenField is the name of the token's field in a login's answer; empty
	// is the observed one, token.
	TokenField string
	// OpaqueToken issues tokens that are no JWTs and so do not tell their end.
	OpaqueToken bool
	// AuthFailure is the answer to a missing, wrong or expired token and to
	// wrong credentials.
	AuthFailure AuthFailure

	// ErrorsWithOK answers an error code with HTTP 200; otherwise with a
	// status of 400 or more that fits the code.
	ErrorsWithOK bool
	// UnmappedJSON answers an unmapped route with JSON; otherwise with text.
	UnmappedJSON bool

	// BalanceByID takes {id} in …/balance/{id} for the id of a balance;
	// otherwise for that of an offer, whose balances are all answered.
	BalanceByID bool
	// BalanceIDField is the spelling of the field.
	BalanceIDField BalanceIDField
	// ValueAsString puts a balance's value between quotes.
	ValueAsString bool
	// EmptyContent answers every request for balances with success and none.
	EmptyContent bool
	// ContentObject answers a single entry as an object and not as an array.
	ContentObject bool

	// PageSize is the size of a page for which none was asked; zero is 10, as
	// in the documented sample.
	PageSize int
	// MaxPageSize limits the size asked for, silently; zero is no limit.
	MaxPageSize int
	// PageIgnored answers the first page, and says so, whatever page was
	// asked for.
	PageIgnored bool
	// RotatePitID answers every chunk of the subscriber-all listing with a new
	// pitId, which voids the one before.
	RotatePitID bool

	// Quota is enforced over all requests; the zero value allows everything.
	Quota simulate.Quota
}

// AuthFailure is a way to refuse a token.
type AuthFailure int

const (
	// AuthUnauthorized is HTTP 401.
	AuthUnauthorized AuthFailure = iota
	// AuthForbidden is HTTP 403.
	AuthForbidden
	// AuthErrorCode is HTTP 200 with the errorCode [CodeUnauthorized].
	AuthErrorCode
)

// BalanceIDField is a spelling of a balance's id. The documentation has one in
// the sample and another in the table.
type BalanceIDField int

const (
	// BalanceIDSample is "balanceId".
	BalanceIDSample BalanceIDField = iota
	// BalanceIDTable is "balanceID".
	BalanceIDTable
	// BalanceIDMixed is "balanceID" and "balanceId" in turn.
	BalanceIDMixed
)

// Kind is what a request asks for.
type Kind string

// The kinds of request.
const (
	KindLogin    Kind = "login"    // POST /api/v2/auth/token
	KindBalance  Kind = "balance"  // GET /api/v2/subscriber/{type}/{value}/balance/{id}
	KindOffers   Kind = "offers"   // GET /api/v2/subscriber/{type}/{value}/offer
	KindDetails  Kind = "details"  // GET /api/v2/subscriber/{type}/{value}
	KindListing  Kind = "listing"  // GET /api/v2/customer/{id}/subscriber
	KindCursor   Kind = "cursor"   // POST /api/v2/customer/{id}/subscriber-all
	KindUnmapped Kind = "unmapped" // everything else
)

// Server is the simulator. It is safe for concurrent use; make it with [New].
type Server struct {
	mu       sync.Mutex
	options  Options
	faults   map[string]Fault
	meter    simulate.Meter
	tokens   map[string]time.Time // until when each is valid
	cursors  map[string]cursor
	issued   int
	requests map[Kind]int
}

// New returns a simulator without tokens, cursors or faults.
func New(options Options) *Server {
	return &Server{
		options:  options,
		faults:   map[string]Fault{},
		tokens:   map[string]time.Time{},
		cursors:  map[string]cursor{},
		requests: map[Kind]int{},
	}
}

// Change alters the behaviour between two requests. The function must not call
// the server.
func (s *Server) Change(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.options)
}

// Requests returns the requests of a kind received so far, refused ones
// included.
func (s *Server) Requests(kind Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[kind]
}

// Logins returns the logins received so far, refused ones included.
func (s *Server) Logins() int {
	return s.Requests(KindLogin)
}

// Violations returns how many requests came in excess of [Options.Quota].
func (s *Server) Violations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meter.Violations
}

// ExpireTokens makes every token issued so far invalid, but not
// [Options.StaticToken].
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The lock is held only between reading and writing, which may be slow.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.answer(r, body).Write(w)
}

func (s *Server) answer(r *http.Request, body []byte) simulate.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	to := parseRoute(r.Method, r.URL.Path)
	s.requests[to.kind]++

	if wait := s.meter.Take(s.options.Quota, now); wait > 0 {
		return throttled(wait, s.options.Quota.Hint, now)
	}
	if fault, ok := s.fault(r.URL.Path, to.kind); ok {
		return s.faulty(fault, now)
	}
	if to.kind == KindLogin {
		return s.login(r.Header.Get("Content-Type"), body, now)
	}
	if !s.authorized(r.Header, now) {
		return s.unauthorized("Token is missing or expired")
	}
	return s.serve(to, r.URL.Query(), body, now)
}

func (s *Server) serve(to route, query url.Values, body []byte, now time.Time) simulate.Answer {
	switch to.kind {
	case KindBalance, KindOffers, KindDetails:
		return s.subscriber(to, query, now)
	case KindListing, KindCursor:
		if to.value != s.customerID() {
			return s.failed(CodeNoCustomer)
		}
		if to.kind == KindListing {
			return s.listing(query, now)
		}
		return s.chunk(body, now)
	default:
		return s.unmapped(to.path)
	}
}

// route is a request's path taken apart.
type route struct {
	kind Kind
	path string
	by   string // the type of identifier of a subscriber
	// value is the identifier of a subscriber or the id of a customer.
	value string
	id    string // of an offer or balance
}

func parseRoute(method, path string) route {
	unmapped := route{kind: KindUnmapped, path: path}
	rest, ok := strings.CutPrefix(path, "/api/v2/")
	if !ok {
		return unmapped
	}
	part := strings.Split(rest, "/")
	for _, p := range part {
		if p == "" {
			return unmapped
		}
	}
	get, post := method == http.MethodGet, method == http.MethodPost
	switch n := len(part); {
	case post && rest == "auth/token":
		return route{kind: KindLogin, path: path}
	case get && n == 3 && part[0] == "subscriber":
		return route{kind: KindDetails, path: path, by: part[1], value: part[2]}
	case get && n == 4 && part[0] == "subscriber" && part[3] == "offer":
		return route{kind: KindOffers, path: path, by: part[1], value: part[2]}
	case get && n == 5 && part[0] == "subscriber" && part[3] == "balance":
		return route{kind: KindBalance, path: path, by: part[1], value: part[2], id: part[4]}
	case get && n == 3 && part[0] == "customer" && part[2] == "subscriber":
		return route{kind: KindListing, path: path, value: part[1]}
	case post && n == 3 && part[0] == "customer" && part[2] == "subscriber-all":
		return route{kind: KindCursor, path: path, value: part[1]}
	}
	return unmapped
}

func (s *Server) customerID() string {
	if s.options.CustomerID == "" {
		return DefaultCustomerID
	}
	return s.options.CustomerID
}

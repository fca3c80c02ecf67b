// Package yeastarsim simulates the Yeastar Partner Portal API as far as an
// account's balance needs it: the token endpoint and the balance endpoint.
//
// It is built from the provider's documentation and shares nothing with a
// client, so that a misreading on one side shows as a failure and not as an
// agreement. Where the documentation is silent, the behaviour is an option.
//
// Sources:
//   - https://help.yeastar.com/en/pp-ptr/developer-guide/query-account-balance.html
//   - https://help.yeastar.com/en/pp-ptr/developer-guide/request-access-token.html
//   - https://help.yeastar.com/en/pp-ptr/developer-guide/refresh-access-token.html
//   - https://help.yeastar.com/en/pp-ptr/developer-guide/authorization-rules.html
//   - https://help.yeastar.com/en/pp-ptr/developer-guide/response-results.html
package yeastarsim

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// The paths that the simulator serves; every other one is answered with 404.
const (
	TokenPath   = "/auth/openapi/v1/oauth/token"
	BalancePath = "/user/openapi/user/v1/client/account_balance"
)

// Lives of tokens where [Options] name none, from
// https://help.yeastar.com/en/pp-ptr/developer-guide/authorization-rules.html.
const (
	DefaultAccessLife  = 30 * time.Minute
	DefaultRefreshLife = 15 * 24 * time.Hour
)

// maxBody is the most that is read of a request, in bytes.
const maxBody = 1 << 20

// Options are the simulator's behaviour. The zero value is the documented one,
// with a demo balance. All of it can be changed while requests run, by
// [Server.Change].
type Options struct {
	// ClientID and ClientSecret are the credentials accepted; an empty one
	// accepts anything but an empty value.
	ClientID, ClientSecret string

	// AccessLife is the life of access tokens issued from now on; zero is
	// [DefaultAccessLife].
	AccessLife time.Duration
	// RefreshLife is the life of refresh tokens issued from now on; zero is
	// [DefaultRefreshLife].
	RefreshLife time.Duration
	// ExpiresIn is how a token answer tells the remaining life.
	ExpiresIn ExpiresIn
	// TokenHead is how a token answer writes the prefix for Authorization.
	TokenHead TokenHead
	// KeepRefreshToken leaves a refresh token valid after its use and hands
	// it out again. Otherwise each use replaces it.
	KeepRefreshToken bool
	// SingleToken makes a new access token void all older ones.
	SingleToken bool
	// ReuseToken answers a login with the access token of the last one while
	// that is valid, so that expiresIn shrinks.
	ReuseToken bool
	// RefuseRefresh refuses every refresh token.
	RefuseRefresh bool

	// Balance is the JSON text of accountBalance and is sent as it stands:
	// `675.24`, `-3`, or with quotes `"675.24"`. Empty is the demo balance,
	// which falls with time and is topped up every eight minutes.
	Balance string

	// ErrorForm and ErrorStatus shape every answer that is no success.
	ErrorForm   ErrorForm
	ErrorStatus ErrorStatus

	// Quota is enforced over all requests; the zero value allows everything.
	Quota simulate.Quota
}

// ExpiresIn is a way to write a token's remaining life, in whole seconds.
type ExpiresIn int

const (
	// ExpiresInString is the documented form, `"1800"`.
	ExpiresInString ExpiresIn = iota
	// ExpiresInNumber is `1800`.
	ExpiresInNumber
	// ExpiresInUnreadable is `"soon"`.
	ExpiresInUnreadable
	// ExpiresInSmall is `"1"`, whatever the token's real life.
	ExpiresInSmall
)

// TokenHead is a spelling of the prefix that a token answer names.
type TokenHead int

const (
	// TokenHeadSpace is "Bearer ", with a trailing space.
	TokenHeadSpace TokenHead = iota
	// TokenHeadBare is "Bearer".
	TokenHeadBare
	// TokenHeadEmpty is "".
	TokenHeadEmpty
)

// Counters are the requests received so far, refused ones included.
type Counters struct {
	// Logins are token requests with the grant pp_credentials.
	Logins int
	// Refreshes are token requests with the grant refresh_token.
	Refreshes int
	// BalanceReads are requests for the balance.
	BalanceReads int
	// Requests are all requests, to whatever path.
	Requests int
}

// Server is the simulator. It is safe for concurrent use; make it with [New].
type Server struct {
	start time.Time

	mu       sync.Mutex
	options  Options
	faults   map[string]Fault
	meter    simulate.Meter
	tokens   tokens
	counters Counters
}

// New returns a simulator without tokens or faults. The demo balance starts
// at this moment.
func New(options Options) *Server {
	return &Server{
		start:   time.Now(),
		options: options,
		faults:  map[string]Fault{},
		tokens:  newTokens(),
	}
}

// Change alters the behaviour between two requests. The function must not call
// the server.
func (s *Server) Change(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.options)
}

// Counters returns the requests received so far.
func (s *Server) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Violations returns how many requests came in excess of [Options.Quota].
func (s *Server) Violations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meter.Violations
}

// ExpireTokens makes every access token issued so far invalid.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.expireAccess()
}

// ExpireRefreshTokens makes every refresh token issued so far invalid.
func (s *Server) ExpireRefreshTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.expireRefresh()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The lock is held only between reading and writing, which may be slow.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.answer(r).Write(w)
}

func (s *Server) answer(r *http.Request) simulate.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	form, formErr := parseForm(r)
	s.count(r, form)

	if wait := s.meter.Take(s.options.Quota, now); wait > 0 {
		return s.throttled(wait, s.options.Quota.Hint, now)
	}
	if fault, ok := s.fault(r.URL.Path); ok {
		return s.faulty(fault, now)
	}
	// Go's client puts its own name where the caller names none, so that name
	// means a forgotten header just as an absent one does.
	if agent := r.UserAgent(); agent == "" || strings.HasPrefix(agent, "Go-http-client/") {
		return s.missing("User-Agent")
	}
	switch r.Method + " " + r.URL.Path {
	case http.MethodPost + " " + TokenPath:
		if formErr != nil {
			return s.failed(http.StatusBadRequest, "parameter_validation_failed", formErr.Error())
		}
		return s.token(form, now)
	case http.MethodGet + " " + BalancePath:
		return s.balance(r.Header.Get("Authorization"), now)
	}
	if r.URL.Path == TokenPath || r.URL.Path == BalancePath {
		return s.failed(http.StatusMethodNotAllowed, "method_not_allowed", "Request method is not supported")
	}
	return s.failed(http.StatusNotFound, "not_found", "No such interface")
}

func (s *Server) count(r *http.Request, form url.Values) {
	s.counters.Requests++
	switch {
	case r.URL.Path == BalancePath:
		s.counters.BalanceReads++
	case r.URL.Path == TokenPath && form.Get("grant_type") == grantLogin:
		s.counters.Logins++
	case r.URL.Path == TokenPath && form.Get("grant_type") == grantRefresh:
		s.counters.Refreshes++
	}
}

// parseForm returns the fields of a form or multipart body and nothing of the
// query, where a secret must not be. Another type of body, JSON for one, has
// no fields.
func parseForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, nil //nolint:nilerr // A type that cannot be read is like one that is not a form.
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case "multipart/form-data":
		err = r.ParseMultipartForm(maxBody)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the form: %w", err)
	}
	return r.PostForm, nil
}

func (s *Server) balance(authorization string, now time.Time) simulate.Answer {
	if authorization == "" {
		return s.failed(http.StatusUnauthorized, "unauthorized", "Access token is missing")
	}
	// Exactly one space: a client that joins the token head and a space of its
	// own must not pass.
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok || !s.tokens.valid(token, now) {
		return s.failed(http.StatusUnauthorized, "invalid_token", "Access token expired")
	}
	balance := s.options.Balance
	if balance == "" {
		balance = demoBalance(now.Sub(s.start))
	}
	return s.success(`{"accountBalance":` + balance + `}`)
}

package kit

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// maxMargin bounds how long before its end a token is renewed; of a short life
	// it is a fifth. It is longer than a request with the token takes.
	maxMargin = 2 * time.Minute
	// maxLife bounds the stated life of a token.
	maxLife = 24 * time.Hour
	// maxTokens is how many tokens one call of Do tries: the current one, a
	// refreshed one and one from a login.
	maxTokens = 3
	// loginPause is how long a refused login that does not block the account is the
	// answer to every caller, which may be a whole fleet.
	loginPause = time.Minute
)

// Token is a token as the provider issued it.
type Token struct {
	Access  string
	Refresh string // empty: none
	// ExpiresIn is the remaining life in seconds; 0 or less: the provider does not
	// say. Then the claims of a JWT count, then [TokenOptions.DefaultLife].
	ExpiresIn float64
}

// TokenOptions configure a [TokenSource]. HTTP, Login and DefaultLife are required, and
// Header for Do.
type TokenOptions struct {
	HTTP providers.HTTP
	// Secrets are what Login sends. A token is dropped when one of them changes.
	Secrets []*secret.Value
	// Login requests a token: with the refresh token unless it is empty, else with
	// Secrets. Its call has Login set. The call of a refresh is always Renewable,
	// because a login follows; the call of a login never.
	Login func(ctx context.Context, refresh string) (Token, error)
	// Header returns the header lines that carry a token.
	Header func(token string) http.Header
	// DefaultLife is the age at which a token of unknown life is renewed.
	DefaultLife time.Duration
	// RenewForbidden is for a provider that may answer a dead token with
	// ReasonForbidden, which may also be about what was asked for. A token that has
	// worked is then renewed. If the new one is forbidden too, ReasonForbidden does
	// not end a token again within DefaultLife.
	RenewForbidden bool
}

// TokenSource sends the requests of an account that logs in. All requests share
// one token and its renewal. It is safe for concurrent use.
type TokenSource struct {
	opts TokenOptions
	// renewing holds a value while a caller renews the token. It is no mutex,
	// because the wait for it ends with the context.
	renewing chan struct{}

	mu       sync.Mutex
	current  *token    // nil: none
	refresh  string    // of the newest token, until it is sent; may be empty
	last     *outcome  // of the last renewal; nil: none
	trust403 time.Time // until when ReasonForbidden does not end a token
}

// token is an issued token. worked is guarded by TokenSource.mu.
type token struct {
	access     string
	renewAt    time.Time
	end        time.Time // zero: not known
	generation uint64    // of the secrets
	byLogin    bool      // not by a refresh token
	worked     bool      // a request with it has succeeded
}

// outcome is how a renewal ended.
type outcome struct {
	err        error
	generation uint64    // of the secrets
	pauseUntil time.Time // until when no other login is tried with the same secrets
}

// NewTokenSource returns a source without a token. It sends nothing.
func NewTokenSource(opts TokenOptions) *TokenSource {
	return &TokenSource{opts: opts, renewing: make(chan struct{}, 1)}
}

// Do sends call with the token, and sets Authorize and Renewable. It logs in first
// if it has to; its error may be that of Login. A refused token is renewed unless
// it is fresh from a login and never worked: that refusal is final.
func (s *TokenSource) Do(ctx context.Context, call providers.Call) error {
	return s.DoWith(ctx, call, func(token string) (http.Header, error) { return s.opts.Header(token), nil })
}

// DoWith is Do with header lines of the call's own.
func (s *TokenSource) DoWith(ctx context.Context, call providers.Call, header func(token string) (http.Header, error)) error {
	for tries := 1; ; {
		if err := s.ready(ctx); err != nil {
			return err
		}
		var sent *token
		expired := false
		call.Authorize = func() (http.Header, error) {
			// The wait for the quota may have outlasted the token.
			if sent = s.usable(); sent == nil {
				expired = true
				return nil, providers.Errorf(providers.ReasonAuth, "the token expired before the request was sent: %w", providers.ErrNotAsked)
			}
			return header(sent.access)
		}
		call.Renewable = sync.OnceValue(func() bool { return s.answered(sent, providers.ReasonAuth, tries) })
		err := s.opts.HTTP.Do(ctx, call)
		again := false
		switch reason := reasonOf(err); {
		case expired && ctx.Err() == nil:
			continue
		case sent == nil || errors.Is(err, providers.ErrNotAsked):
		case reason == providers.ReasonAuth:
			again = call.Renewable()
		default:
			again = s.answered(sent, reason, tries)
		}
		if !again {
			return err
		}
		tries++
	}
}

// ready returns nil if there is a token that is not due for renewal. Otherwise it
// renews the token, or waits for the caller that does, and shares its outcome
// unless the context of that caller has ended.
func (s *TokenSource) ready(ctx context.Context) error {
	for _, v := range s.opts.Secrets {
		_, _ = v.Get() // notices a changed file; Login reports the error
	}
	generation := s.generation()
	s.mu.Lock()
	t, before := s.current, s.last
	s.mu.Unlock()
	switch {
	case t != nil && t.generation == generation && time.Now().Before(t.renewAt):
		return nil
	case before != nil && before.generation == generation && time.Now().Before(before.pauseUntil):
		return before.err
	}
	select {
	case s.renewing <- struct{}{}:
		defer func() { <-s.renewing }()
	case <-ctx.Done():
		return &providers.Error{
			Reason: providers.ReasonTimeout, Message: "waiting for another request to get a token",
			Err: errors.Join(providers.ErrNotAsked, context.Cause(ctx)),
		}
	}
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != before && last.generation == generation {
		return last.err
	}
	t, err := s.renew(ctx, generation)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.current = t
	case ctx.Err() != nil, errors.Is(err, providers.ErrNotAsked):
		return err // about this caller: the quota may allow the next one to log in
	}
	s.last = &outcome{err: err, generation: generation}
	switch reasonOf(err) {
	case providers.ReasonForbidden, providers.ReasonBadRequest, providers.ReasonNotFound:
		s.last.pauseUntil = time.Now().Add(loginPause)
	}
	return err
}

// renew gets a token with the refresh token if there is one, else by a login. A
// refresh token is sent once: the provider may have replaced it although its
// answer was lost.
func (s *TokenSource) renew(ctx context.Context, generation uint64) (*token, error) {
	s.mu.Lock()
	refresh := s.refresh
	s.refresh = ""
	current := s.last != nil && s.last.generation == generation
	s.mu.Unlock()
	if refresh != "" && current {
		t, err := s.request(ctx, refresh, generation)
		switch reasonOf(err) {
		case "", providers.ReasonTimeout, providers.ReasonUnavailable, providers.ReasonRateLimited, providers.ReasonTLS, providers.ReasonInternal:
			return t, err // says nothing about the refresh token
		}
	}
	return s.request(ctx, "", generation)
}

// request requests a token, masks it and checks it.
func (s *TokenSource) request(ctx context.Context, refresh string, generation uint64) (*token, error) {
	issued, err := s.opts.Login(ctx, refresh)
	access := strings.TrimSpace(issued.Access)
	if err == nil {
		s.opts.HTTP.Mask(access)
		s.opts.HTTP.Mask(issued.Refresh)
		if access == "" || strings.Contains(access, " ") || !isHeaderValue(access) {
			err = providers.Errorf(providers.ReasonBadResponse, "the answer has no token, or one that cannot be sent in a header")
		}
	}
	if err != nil {
		e := *providers.AsError(err)
		e.Message = "requesting a token: " + e.Message
		return nil, &e
	}
	s.mu.Lock()
	s.refresh = cmp.Or(issued.Refresh, refresh)
	s.mu.Unlock()
	now := time.Now()
	t := &token{access: access, generation: generation, byLogin: refresh == ""}
	seconds := issued.ExpiresIn
	if seconds <= 0 {
		seconds = jwtLife(access, now)
	}
	if seconds <= 0 {
		t.renewAt = now.Add(s.opts.DefaultLife)
		return t, nil
	}
	life := time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second))
	t.end = now.Add(life)
	t.renewAt = t.end.Add(-min(life/5, maxMargin))
	return t, nil
}

// usable returns the token for a request that is about to be sent, which may be
// due for renewal; nil if a new one is needed. A token that never worked is tried
// even after its end: otherwise tokens that live shorter than a request waits
// would be renewed forever, and none used.
func (s *TokenSource) usable() *token {
	generation := s.generation()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.current
	if t == nil || t.generation != generation || t.worked && !t.end.IsZero() && !time.Now().Before(t.end) {
		return nil
	}
	return t
}

// answered takes the reason of an answer to a request with t, empty for a success.
// It drops a refused token, and reports whether another one may be tried: a token
// that worked is replaced with its refresh token, a refreshed one that never worked
// by a login. A token from a login that never worked has no better successor.
func (s *TokenSource) answered(t *token, reason providers.Reason, tries int) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case reason == "":
		t.worked = true
		return false
	case reason == providers.ReasonAuth:
	case reason != providers.ReasonForbidden || !s.opts.RenewForbidden:
		return false
	case tries > 1:
		s.trust403 = time.Now().Add(s.opts.DefaultLife)
		return false
	case !t.worked || time.Now().Before(s.trust403):
		return false
	}
	if s.current == t {
		s.current = nil
		if !t.worked {
			s.refresh = ""
		}
	}
	return tries < maxTokens && (t.worked || !t.byLogin || s.current != nil)
}

// generation changes when a secret does. It does no I/O.
func (s *TokenSource) generation() (sum uint64) {
	for _, v := range s.opts.Secrets {
		sum += v.Generation()
	}
	return sum
}

// jwtLife returns the life in seconds of a JWT that states its end
// (https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4); 0 or less for any other
// token. It counts from the time of issue if stated, because the clocks may differ.
func jwtLife(token string, now time.Time) float64 {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	text, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	claims := struct{ Exp, Iat float64 }{Iat: float64(now.UnixMilli()) / 1000}
	if json.Unmarshal(text, &claims) != nil {
		return 0
	}
	return claims.Exp - claims.Iat
}

// reasonOf returns the reason of err, empty for nil.
func reasonOf(err error) providers.Reason {
	if err == nil {
		return ""
	}
	return providers.AsError(err).Reason
}

// isHeaderValue reports whether s is printable ASCII.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

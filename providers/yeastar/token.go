package yeastar

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

const tokenPath = "/auth/openapi/v1/oauth/token"

// Lives of tokens, in case an answer does not say or says too much:
// https://help.yeastar.com/en/pp-ptr/developer-guide/authorization-rules.html
const (
	accessLife  = 30 * time.Minute
	refreshLife = 15 * 24 * time.Hour
)

// maxMargin is how long before its end a token is renewed. It is longer than the
// requests that are sent with the token can take.
const maxMargin = 2 * time.Minute

// token is a pair of tokens as issued. It is not changed, except by tokens under
// its lock.
type token struct {
	access  string // empty: only refresh is left
	refresh string // empty: none

	renewAt    time.Time
	generation uint64 // of the client secret that it was got with
	byLogin    bool   // rather than by a refresh token
	worked     bool   // it has been used, and was not refused
}

// tokens has the newest pair of tokens of an account, and renews it: by its refresh
// token if there is one, else by a login. It is safe for concurrent use.
type tokens struct {
	http     providers.HTTP
	clientID string
	secret   *secret.Value

	// renewing holds a value while a caller renews the tokens. It is no mutex, for
	// a caller may stop waiting.
	renewing chan struct{}

	mu       sync.Mutex
	newest   *token // nil: none
	renewals int    // ended, for better or worse
	err      error  // of the last renewal
}

func newTokens(http providers.HTTP, clientID string, clientSecret *secret.Value) *tokens {
	return &tokens{http: http, clientID: clientID, secret: clientSecret, renewing: make(chan struct{}, 1)}
}

// get returns a token that has not been refused so far. Of several callers that
// need a new one, one gets it, and the others share the outcome; unless it gave up
// because its own context ended, then the next one tries.
func (s *tokens) get(ctx context.Context) (*token, error) {
	s.mu.Lock()
	t, renewals := s.newest, s.renewals
	s.mu.Unlock()
	generation := s.secret.Generation()
	if t != nil && t.access != "" && t.generation == generation && time.Now().Before(t.renewAt) {
		return t, nil
	}
	select {
	case s.renewing <- struct{}{}:
	case <-ctx.Done():
		return nil, providers.Errorf(providers.ReasonTimeout, "waiting for a token: %w", context.Cause(ctx))
	}
	defer func() { <-s.renewing }()
	if t, err := s.since(renewals); t != nil || err != nil {
		return t, err
	}

	t, err := s.renew(ctx, generation)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.newest = t
	}
	if err == nil || ctx.Err() == nil {
		s.renewals++
		s.err = err
	}
	return t, err
}

// since returns the outcome of a renewal that has ended after so many others. It
// returns neither token nor error if there was none, or if it has been refused.
func (s *tokens) since(renewals int) (*token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.renewals == renewals:
		return nil, nil
	case s.err != nil:
		return nil, s.err
	case s.newest == nil || s.newest.access == "":
		return nil, nil
	}
	return s.newest, nil
}

// accepted notes that a request with t was not refused.
func (s *tokens) accepted(t *token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.worked = true
}

// refused forgets t, and reports whether another token may be tried: one that has
// worked is replaced by way of its refresh token, one that never did by a login.
// After a fresh login there is nothing left to try.
func (s *tokens) refused(t *token) (another bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == t {
		s.newest = nil
		if t.worked {
			s.newest = &token{refresh: t.refresh, generation: t.generation}
		}
	}
	return t.worked || !t.byLogin
}

// renew sends for a new pair of tokens. A refresh token is tried once: the provider
// may have replaced it although its answer was lost.
func (s *tokens) renew(ctx context.Context, generation uint64) (*token, error) {
	s.mu.Lock()
	old := s.newest
	s.mu.Unlock()
	// Refresh tokens end with the secret that they were got with.
	if old != nil && old.refresh != "" && old.generation == generation {
		t, err := s.request(ctx, "refreshing the token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {old.refresh},
		})
		if err == nil {
			if t.refresh == "" {
				t.refresh = old.refresh
			}
			t.generation = generation
			return t, nil
		}
		if !errors.Is(err, providers.ErrNotAsked) {
			s.mu.Lock()
			s.newest = nil
			s.mu.Unlock()
		}
		if !isRefusal(err) {
			return nil, err
		}
	}

	clientSecret, err := s.secret.Get()
	if err != nil {
		return nil, providers.Errorf(providers.ReasonAuth, "client_secret: %w", err)
	}
	t, err := s.request(ctx, "requesting a token", url.Values{
		"grant_type":    {"pp_credentials"},
		"client_id":     {s.clientID},
		"client_secret": {clientSecret},
	})
	if err != nil {
		return nil, err
	}
	t.generation, t.byLogin = generation, true
	return t, nil
}

// isRefusal reports an answer that finds fault with what was sent, as opposed to a
// provider that is out of reach, out of order or too busy.
func isRefusal(err error) bool {
	switch providers.AsError(err).Reason {
	case providers.ReasonAuth, providers.ReasonForbidden, providers.ReasonBadRequest,
		providers.ReasonNotFound, providers.ReasonBadResponse:
		return true
	}
	return false
}

// request sends a form to the token endpoint:
// https://help.yeastar.com/en/pp-ptr/developer-guide/request-access-token.html
// https://help.yeastar.com/en/pp-ptr/developer-guide/refresh-access-token.html
func (s *tokens) request(ctx context.Context, what string, form url.Values) (*token, error) {
	var t *token
	err := send(ctx, s.http, what, providers.Call{
		Method: http.MethodPost,
		Path:   tokenPath,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		Body:   []byte(form.Encode()),
		Login:  true,
		Decode: func(body io.Reader) error {
			issued, err := decodeToken(body)
			if err != nil {
				return err
			}
			s.http.Mask(issued.access)
			s.http.Mask(issued.refresh)
			t = &token{
				access:  issued.access,
				refresh: issued.refresh,
				renewAt: time.Now().Add(issued.life - min(issued.life/5, maxMargin)),
			}
			return nil
		},
	})
	return t, err
}

package flolive

import (
	"bytes"
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
	loginPath = "/api/v2/auth/token"

	// maxMargin bounds how long before its end a token is renewed; of a short life
	// it is a tenth.
	maxMargin = time.Minute
	// maxLife bounds what is believed of a token's life.
	maxLife = 24 * time.Hour
	// pause is how long a login that was refused in a way that does not hold the
	// account is the answer to whoever else wants to log in, which may be all of a
	// fleet.
	pause = time.Minute
)

// credentials are how an account shows who it is. The page of the documentation
// about it is not public, and the portal has been moving to another way, so there
// are two: a [login] and a [staticToken].
type credentials interface {
	// token returns the token to send. It may have to log in first.
	token(ctx context.Context) (string, error)
	// newest returns the token to send at this moment; empty if that takes a new
	// login.
	newest() string
	// header returns the request header with a token.
	header(token string) http.Header
	// renew is told that a token was refused, and why, and reports whether there
	// is, or can be had, another one.
	renew(refused string, reason providers.Reason) bool
	// accepted is told that a request with a token had a good answer.
	accepted(token string)
	// fruitless is told how a request failed that had a renewed token.
	fruitless(reason providers.Reason)
}

func (s authSettings) header(token string) http.Header {
	return http.Header{http.CanonicalHeaderKey(s.Header): {s.Prefix + token}}
}

// checkHeader says what keeps s from being part of a header. It does not show s.
func checkHeader(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errors.New("it holds a line break or another character that a header cannot have")
	}
	return nil
}

// staticToken is a token from the configuration.
type staticToken struct {
	settings authSettings
	value    *secret.Value
}

// token returns the token as its file has it now.
func (s *staticToken) token(context.Context) (string, error) {
	token, err := s.value.Get()
	if err == nil {
		err = checkHeader(token)
	}
	if err != nil {
		return "", providers.Errorf(providers.ReasonAuth, "token: %w", err)
	}
	return token, nil
}

func (s *staticToken) newest() string {
	token, err := s.token(context.Background())
	if err != nil {
		return ""
	}
	return token
}

func (s *staticToken) header(token string) http.Header { return s.settings.header(token) }

// renew reports whether the file has another token by now.
func (s *staticToken) renew(refused string, reason providers.Reason) bool {
	if reason != providers.ReasonAuth && reason != providers.ReasonForbidden {
		return false
	}
	now, err := s.value.Get()
	return err == nil && now != refused
}

func (s *staticToken) accepted(string) {}

func (s *staticToken) fruitless(providers.Reason) {}

// login gets tokens for a user and a password, one for any number of callers.
type login struct {
	settings authSettings
	username string
	password *secret.Value
	http     providers.HTTP

	mu      sync.Mutex
	current granted
	flight  *flight // nil if nobody is logging in
	// trusted is until when HTTP 403 is not taken for the end of a token.
	trusted time.Time
}

// granted is a token that was got by a login; the zero value is none.
type granted struct {
	token      string
	generation uint64    // of the password
	renewal    time.Time // when there is to be another one
	end        time.Time // zero if it is not known
	worked     bool      // it was used, and not refused
}

// flight is one login and its outcome.
type flight struct {
	done       chan struct{} // closed when the rest is set
	granted    granted
	err        error
	generation uint64
	abandoned  bool // the caller went away, which says nothing about the login
	landed     time.Time
}

// token returns the current token, or logs in. Callers that come while somebody
// logs in share the outcome.
func (l *login) token(ctx context.Context) (string, error) {
	for {
		generation := l.password.Generation()
		l.mu.Lock()
		if c := l.current; c.generation == generation && time.Now().Before(c.renewal) {
			l.mu.Unlock()
			return c.token, nil
		}
		f, mine := l.flight, false
		if f == nil || !f.landed.IsZero() && (f.generation != generation || time.Since(f.landed) >= pause) {
			f, mine = &flight{done: make(chan struct{}), generation: generation, abandoned: true}, true
			l.flight = f
		}
		l.mu.Unlock()
		if mine {
			l.fly(ctx, f)
			return f.granted.token, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return "", &providers.Error{
				Reason: providers.ReasonTimeout, Message: "waiting for the login of another request",
				Err: providers.ErrNotAsked,
			}
		}
		if !f.abandoned {
			return f.granted.token, f.err
		}
	}
}

// newest returns the token of the last login, though it may be time for another one,
// unless it was given up or is over. One that never worked is worth a try even then:
// else tokens that live for less than a request waits would be got again and again,
// and nothing be read.
func (l *login) newest() string {
	generation := l.password.Generation()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.current
	if c.generation != generation || c.worked && !c.end.IsZero() && !time.Now().Before(c.end) {
		return ""
	}
	return c.token
}

// fly makes one login and tells its outcome, even if it panics.
func (l *login) fly(ctx context.Context, f *flight) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.flight, f.landed = nil, time.Now()
		switch {
		case f.abandoned:
		case f.err == nil:
			l.current = f.granted
		case isRefusal(f.err):
			l.flight = f // for a while
		}
		close(f.done)
	}()
	f.granted, f.err = l.login(ctx, f.generation)
	f.abandoned = f.err != nil && ctx.Err() != nil
}

// isRefusal reports an answer to a login that a person has to do something about.
// Credentials that are refused are not among these: they hold the account.
func isRefusal(err error) bool {
	switch providers.AsError(err).Reason {
	case providers.ReasonForbidden, providers.ReasonBadRequest, providers.ReasonNotFound:
		return true
	}
	return false
}

// login asks for a token. The request and the place of the token in the answer were
// seen in public code that runs against the service.
func (l *login) login(ctx context.Context, generation uint64) (granted, error) {
	password, err := l.password.Get()
	if err != nil {
		return granted{}, providers.Errorf(providers.ReasonAuth, "password: %w", err)
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	// A password that is sent as it is will be found, and masked, where a gateway
	// echoes it in quotes of its own.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]string{"username": l.username, "password": password}); err != nil {
		return granted{}, providers.Errorf(providers.ReasonInternal, "login: %w", err)
	}
	call := providers.Call{
		Method: http.MethodPost,
		Path:   loginPath,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   body.Bytes(),
		Login:  true,
	}
	var token string
	answered(&call, checkLogin, func(e envelope) (err error) {
		token, err = decodeToken(e)
		return err
	})
	err = send(ctx, l.http, call)
	if err != nil {
		return granted{}, err
	}
	l.http.Mask(token)
	now := time.Now()
	g := granted{token: token, generation: generation}
	if life, told := lifeOf(token, now); told {
		g.end = now.Add(life)
		g.renewal = g.end.Add(-min(life/10, maxMargin))
	} else {
		g.renewal = now.Add(time.Duration(l.settings.TokenLifetime))
	}
	return g, nil
}

// checkLogin is check for a login, where an unknown code with a good status can only
// be about the credentials.
func checkLogin(a providers.Answer, e envelope) *providers.Error {
	failure := check(a, e)
	if failure == nil {
		return nil
	}
	if failure.Reason == providers.ReasonBadResponse && e.code() != "" {
		failure.Reason = providers.ReasonAuth
	}
	failure.Message = "login: " + failure.Message
	return failure
}

// lifeOf returns how long a token lives, if it is a JWT that tells its end; told is
// false otherwise. With a time of issue the two clocks need not agree.
func lifeOf(token string, now time.Time) (life time.Duration, told bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, false
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return 0, false
	}
	var wire struct {
		Expiry   number `json:"exp"`
		IssuedAt number `json:"iat"`
	}
	if json.Unmarshal(claims, &wire) != nil || !wire.Expiry.ok {
		return 0, false
	}
	from := float64(now.UnixMilli()) / 1000
	if wire.IssuedAt.ok {
		from = wire.IssuedAt.value
	}
	seconds := min(wire.Expiry.value-from, maxLife.Seconds())
	life = time.Duration(seconds * float64(time.Second))
	if life <= 0 {
		return 0, false // the clocks disagree
	}
	return life, true
}

func (l *login) header(token string) http.Header { return l.settings.header(token) }

// renew gives a refused token up. One that is fresh from a login and was never
// accepted has no better successor. HTTP 403 may be about the subscriber and not the
// token, as for a suspended SIM card; so it is not believed for a while after a new
// token has met it too.
func (l *login) renew(refused string, reason providers.Reason) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case reason != providers.ReasonAuth && reason != providers.ReasonForbidden:
		return false
	case l.current.token != refused:
		return true // somebody was faster
	case reason == providers.ReasonForbidden && (!l.current.worked || time.Now().Before(l.trusted)):
		return false
	}
	worked := l.current.worked
	l.current = granted{}
	return worked
}

func (l *login) accepted(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.token == token {
		l.current.worked = true
	}
}

func (l *login) fruitless(reason providers.Reason) {
	if reason != providers.ReasonForbidden {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trusted = time.Now().Add(time.Duration(l.settings.TokenLifetime))
}
